"""COCO box and mask average precision.

The numbers are computed by pycocotools. Annotations are read as in training (`parse_annotations`), so that a
model is scored on the same objects. This module converts them for pycocotools (with new ids, because
pycocotools treats a match with the id 0 as no match), and converts its arrays to a dictionary.
"""

import collections
import contextlib
import io
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.load import check_content, load_json
from jaxmaskrcnn.data.coco.packing import freed
from jaxmaskrcnn.data.coco.problems import FEW, AllProblems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.rle import box_counts
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.tables import PREFIXES, STATS
from jaxmaskrcnn.structures import Category

logger = logging.getLogger(__name__)


class GroundTruth:
    """COCO annotations, prepared once so that detections can be scored against them any number of times.

    They are read as in training, and objects that training leaves out are not scored. Annotations get new
    ids that begin at 1, because COCOeval treats a match with the id 0 as no match.

    Args:
        annotations: Path of a COCO-format json, or its content.
        on_error: "stop" refuses a mask of another size than its image; "skip" leaves the object out. All
            other objects that cannot be used are left out with a warning in both cases.
        folder: The image folder, from which sizes that the json lacks are read.
        reading: How crowd regions are treated, and whether all objects get one class.
        sizes: Height and width by image id; images that it lacks are not scored. None uses the json's.
        masks: Whether objects without a mask are left out.
        log: Whether to log what was left out and what was read in another spelling.

    Attributes:
        categories: All categories in ascending order of their ids.
        image_ids: Ids of the images that are scored.
        images: The images that are scored by id, with their objects and file names as they were found.
        has_masks: Whether any object has a mask.
        image_id: Gives the number of an image's id as it is written; None where the json has no such image.
        category_id: Gives the number of a category's id or name as it is written; None if it is unknown.
        notes: Sentences without a full stop about content that was read although it differs from COCO's form.

    Raises:
        UserError: The file is missing or holds no COCO annotations, or a mask has another size than
            its image.
    """

    def __init__(
        self,
        annotations: str | pathlib.Path | dict,
        on_error: str = "stop",
        *,
        folder: pathlib.Path | None = None,
        reading: Reading | None = None,
        sizes: Mapping[int, tuple[int, int]] | None = None,
        masks: bool = False,
        log: bool = True,
    ):
        if isinstance(annotations, dict):
            path = pathlib.Path("The annotations")
            content, consume = check_content({"categories": [], **annotations}, path), iter
        else:
            path = pathlib.Path(annotations)
            content, consume = load_json(path), freed
        problems, objects = _Scored(), []
        found = parse_annotations(
            content, path, folder, problems, masks=masks, reading=reading, sizes=sizes, scoring=True,
            consume=consume, each=lambda *entry: objects.append(entry),
        )  # fmt: skip
        self.categories, self.notes = found.categories, found.notes
        self.image_id, self.category_id = found.image_id, found.category_id
        self._images = [{"id": i.id, "height": i.height, "width": i.width} for i in found.images]
        self._categories = [c._asdict() for c in self.categories]
        self.images = {image.id: image for image in found.images}
        self.image_ids = frozenset(self.images)
        self._sizes = {i.id: (i.height, i.width) if i.height else (None, None) for i in found.images}
        places = sum(len(image.ignored) for image in found.images)
        self._refuse_or_log(problems, path, on_error, log, places)
        self.has_masks = any(item.rle for image in found.images for item in image.objects)
        boxes, masked = self._entries(objects, path)
        self._coco = {"bbox": self._index(boxes), "segm": self._index(masked)}

    @classmethod
    def of_source(cls, source) -> "GroundTruth":
        """The objects of the images in prepared data, read as they were when the data were prepared.

        Args:
            source: From ``data.records.coco_instances.prepare``.
        """
        sizes = dict(zip(map(int, source.image_ids), source.sizes.tolist(), strict=True))
        return cls(
            source.annotations,
            "skip",
            reading=source.reading,
            sizes=sizes,
            masks=source.has_masks,
            log=False,
        )

    def _entries(self, objects, path: pathlib.Path) -> tuple[list[dict], list[dict]]:
        boxes, masked, without = [], [], 0
        for image, item, box in objects:
            entry = {
                "id": len(boxes) + 1,
                "image_id": image.id,
                "category_id": self.categories[item.label].id,
                "iscrowd": int(item.crowd),
                "area": item.area,
            }
            boxes.append({**entry, "bbox": box})
            if not (self.has_masks and image.height):
                continue
            size = [image.height, image.width]
            if item.rle:
                masked.append({**entry, "segmentation": {"size": size, "counts": item.rle}})
            else:  # like what is left out: a mask there is neither right nor wrong
                without += 1
                counts = box_counts(item.bbox, *size)
                masked.append({**entry, "iscrowd": 1, "segmentation": {"size": size, "counts": counts}})
        if without:
            logger.warning(
                "%s: %d of %d objects have no mask; masks that are found in their boxes are not scored.",
                path, without, len(boxes),
            )  # fmt: skip
        return boxes, masked

    @staticmethod
    def _refuse_or_log(
        problems: AllProblems, path: pathlib.Path, on_error: str, log: bool, places: int
    ) -> None:
        for problem in problems.found:
            if problem.reason == "RLE size" and on_error == "stop":
                raise UserError(f"{problem.message}.")
        unused = [problem for problem in problems.found if problem.reason != "missing image"]
        if not log or not unused:
            return
        ids = [str(p.annotation_id or p.image_id) for p in unused]
        reasons = collections.Counter(problem.reason for problem in unused)
        logger.warning(
            "%s: %d images or annotations cannot be used and are not scored (%s; ids %s): %s. "
            "Nor are detections in the places of those whose class and place are known: %d.",
            path,
            len(ids),
            ", ".join(f"{reason}: {count}" for reason, count in reasons.items()),
            ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else ""),
            "; ".join(problem.message for problem in unused[:FEW]),
            places,
        )

    def _index(self, annotations) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": self._images,
            "categories": self._categories,
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    def objects(self, iou_type: str) -> list[dict[str, Any]]:
        """The annotations that are scored.

        Args:
            iou_type: ``"bbox"``, or ``"segm"`` for those with a mask.

        Returns:
            Entries with ``id`` (the new one, the same for both types), ``image_id``, ``category_id``,
            ``iscrowd``, ``area``, and ``bbox`` or ``segmentation`` (compressed RLE).
        """
        return self._coco[iou_type].dataset["annotations"]

    def score(self, detections: list[dict], iou_types: tuple[str, ...] = ("bbox", "segm")) -> dict[str, Any]:
        """Scores detections; see :func:`coco_metrics`."""
        detections = [
            d | {
                "image_id": self._numbered(self.image_id, d["image_id"]),
                "category_id": self._numbered(self.category_id, d["category_id"]),
            }
            for d in detections
        ]  # fmt: skip
        unknown = {d["image_id"] for d in detections} - self.image_ids
        if unknown:
            raise UserError(
                f"The detections name {len(unknown)} image ids that the annotations do not have "
                f"(for example {min(unknown, key=str)}); score them against the annotations they were made "
                "for."
            )
        metrics: dict[str, Any] = {}
        per_class: dict[str, dict] = {name: {} for name in unique_names(self.categories)}
        for iou_type in iou_types:
            prefix = PREFIXES[iou_type]
            evaluation = self._evaluate(detections, iou_type)
            for (name, *_), value in zip(STATS, evaluation.stats, strict=True):
                metrics[f"{prefix}_{name}"] = _number(value)
            # [IoU thresholds, recalls, classes, areas, limits] -> all areas, 100 detections
            precision = evaluation.eval["precision"][:, :, :, 0, -1]
            for k, row in enumerate(per_class.values()):
                values = precision[:, :, k]
                values = values[values > -1]
                row[f"{prefix}_AP"] = float(values.mean()) if values.size else None
        return {**metrics, "per_class": per_class}

    @staticmethod
    def _numbered(number: Callable[[Any], int | None], written: Any) -> Any:
        found = number(written)
        return written if found is None else found

    def _evaluate(self, detections, iou_type) -> COCOeval:
        results = []
        for number, d in enumerate(detections):
            entry = {k: d[k] for k in ("image_id", "category_id", "score")} | {"iscrowd": 0}
            # The size class of a detection follows from its mask if masks are scored. COCO's loadRes would
            # use the area of the box if there are both.
            if iou_type == "bbox":
                entry |= {"bbox": d["bbox"], "area": d["bbox"][2] * d["bbox"][3]}
            else:
                mask, size = d["segmentation"], self._sizes[d["image_id"]]
                if (other := _other_size(mask, size)) is not None:
                    raise UserError(
                        f"Detection {number} (from 0), of image {d['image_id']}, has an RLE of size {other} "
                        f"(height, width) for an image of {list(size)}; give masks at the size of the "
                        "annotations' images."
                    )
                entry |= {"segmentation": mask, "area": float(rle_codec.area(mask))}
            results.append(entry | {"id": len(results) + 1})
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco[iou_type], self._index(results), iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation


def coco_metrics(
    annotations: str | pathlib.Path | dict | GroundTruth,
    detections: list[dict],
    iou_types: tuple[str, ...] = ("bbox", "segm"),
) -> dict[str, Any]:
    """COCO average precision and recall of detections.

    Args:
        annotations: Path of a COCO-format json, its content, or a ``GroundTruth``.
        detections: COCO results: ``image_id``, ``category_id``, ``score``, ``bbox`` (x, y,
            width, height in pixels of the original image) and, for masks, ``segmentation``
            (RLE). At most 100 per image and class count, as in the COCO protocol. May be empty.
        iou_types: ``"bbox"`` and / or ``"segm"``.

    Returns:
        ``box_AP`` (mean over IoU 0.50 to 0.95), ``box_AP50``, ``box_AP75``, ``box_AP_small``,
        ``_medium``, ``_large``, ``box_AR1``, ``box_AR10``, ``box_AR100``, ``box_AR_small``,
        ``_medium``, ``_large``, the same with ``mask_``, and ``per_class``, which maps the name of a
        category (its id if two categories share a name) to ``{"box_AP": ..., "mask_AP": ...}``. All
        are in 0..1, or None if there is no ground truth to score against.

    Raises:
        UserError: The annotations cannot be read, a detection names an unknown image, or a mask has
            another size than its image.

    Example:
        >>> found = json.load(open("detections.json"))  # doctest: +SKIP
        >>> print(format_metrics(coco_metrics("instances.json", found)))  # doctest: +SKIP
    """
    if not isinstance(annotations, GroundTruth):
        annotations = GroundTruth(annotations)
    return annotations.score(detections, iou_types)


def _other_size(segmentation, size):
    """The size of an RLE if it differs from the image's; pycocotools would find no overlap then."""
    if not isinstance(segmentation, dict) or size is None or None in size:
        return None
    own = segmentation.get("size")
    return None if own is None or np.array_equal(own, size) else own


class _Scored(AllProblems):
    """Problems of annotations that are scored; a problem of the whole file is refused."""

    def __init__(self):
        super().__init__()
        self.leaves_out = True

    def refuse(self, reason, message):
        raise UserError(f"{message}.")


def unique_names(categories: Sequence[Category]) -> list[str]:
    """A unique name for each category: its own, or its id if two categories share a name."""
    names = [c.name for c in categories]
    return [c.name if names.count(c.name) == 1 else str(c.id) for c in categories]


def _number(value) -> float | None:
    return float(value) if np.isfinite(value) and value > -1 else None
