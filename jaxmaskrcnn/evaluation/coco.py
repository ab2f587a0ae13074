"""COCO box, mask and keypoint average precision.

Annotations are read as in training (`parse_annotations`), so that a model is scored on the same objects.
`regions` makes columns of them and of the detections, `matching` says which detections are right, with
overlaps that pycocotools computes, and `accumulate` makes COCO's numbers of that; they are pycocotools' own.
"""

import copy
import logging
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.load import check_content, load_texts
from jaxmaskrcnn.data.coco.packing import freed
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.skeleton import has_keypoints
from jaxmaskrcnn.data.rle import box_counts
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.keypoints import annotated_keypoints, keypoint_metrics
from jaxmaskrcnn.evaluation.matching import MAX_DETECTIONS, SIZES, Outcomes, match
from jaxmaskrcnn.evaluation.panoptic import PanopticTruth
from jaxmaskrcnn.evaluation.protocols import Scored, choose
from jaxmaskrcnn.evaluation.regions import Regions, box_regions, detected, mask_regions
from jaxmaskrcnn.evaluation.tables import PREFIXES
from jaxmaskrcnn.evaluation.unused import ScoredProblems, refuse_or_log
from jaxmaskrcnn.structures import Category

logger = logging.getLogger(__name__)


class GroundTruth:
    """COCO annotations, prepared once so that detections can be scored against them any number of times.

    They are read as in training, and objects that training leaves out are not scored. Annotations get new
    ids that begin at 1: those of the json may be the same for two objects.

    Args:
        annotations: Path of a COCO-format json, or its content.
        on_error: "stop" refuses a mask of another size than its image; "skip" leaves the object out. All
            other objects that cannot be used are left out with a warning in both cases.
        folder: The image folder, from which sizes that the json lacks are read.
        reading: How crowd regions are treated, and whether all objects get one class.
        sizes: Height and width by image id; images that it lacks are not scored. None uses the json's.
        masks: Whether objects without a mask are left out.
        keypoints: Whether keypoints are read.
        log: Whether to log what was left out and what was read in another spelling.
        protocol: How detections are scored, one of `protocols.PROTOCOLS`.

    Attributes:
        protocol: The rules by which detections are scored, see `protocols.choose`.
        categories: All categories in ascending order of their ids.
        listed: The same categories in the order of the json's list.
        image_ids: Ids of the images that are scored.
        images: The images that are scored by id, with their objects and file names as they were found.
        has_masks: Whether any object has a mask.
        skeleton: The keypoints that objects have, or None.
        names_keypoints: Whether the json has keypoints, read or not.
        panoptic: The segments of a panoptic json or of stuff that is apart, or None.
        image_id: Gives the number of an image's id as it is written; None where the json has no such image.
        category_id: Gives the number of a category's id or name as it is written; None if it is unknown.
        notes: Sentences without a full stop about content that was read although it differs from COCO's form.

    Raises:
        UserError: The file is missing or holds no COCO annotations, a mask has another size than its image,
            or the annotations lack what the protocol needs.
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
        keypoints: bool = False,
        log: bool = True,
        protocol: str = "auto",
    ):
        if isinstance(annotations, dict):
            path = pathlib.Path("The annotations")
            content, consume = check_content({"categories": [], **annotations}, path), iter
        else:
            path = pathlib.Path(annotations)
            content, consume = load_texts(path), freed
        self.names_keypoints = has_keypoints(content)
        problems, objects = ScoredProblems(), []
        found = parse_annotations(
            content, path, folder, problems, masks=masks, keypoints=keypoints, reading=reading, sizes=sizes,
            scoring=True, consume=consume, each=lambda *entry: objects.append(entry),
        )  # fmt: skip
        self.protocol = choose(protocol, content, found, path, reading or Reading())
        self.categories, self.listed, self.notes = found.categories, found.listed, found.notes
        self.image_id, self.category_id = found.image_id, found.category_id
        self.images = {image.id: image for image in found.images}
        self.image_ids = frozenset(self.images)
        self._sizes = {i.id: (i.height, i.width) if i.height else (None, None) for i in found.images}
        places = sum(len(image.ignored) for image in found.images)
        refuse_or_log(problems, path, on_error, log, places)
        self.has_masks = any(item.rle for image in found.images for item in image.objects)
        self._places = {image.id: place for place, image in enumerate(found.images)}
        self.panoptic = None
        if found.panoptic is not None:
            labels = {category.id: k for k, category in enumerate(found.categories)}
            self.panoptic = PanopticTruth(
                found.panoptic,
                found.categories,
                lambda identity: labels.get(found.category_id(identity)),
                found.image_id,
            )
        self.skeleton = found.skeleton
        if self.skeleton is not None:
            self._annotated = annotated_keypoints(objects, len(self.skeleton.points), self._places)
        self._scored = {"bbox": self._boxes(objects), "segm": self._masks(objects, path)}

    @classmethod
    def of_source(cls, source, protocol: str = "auto") -> "GroundTruth":
        """The objects of the images in prepared data, read as they were when the data were prepared.

        Args:
            source: From ``data.records.prepare.prepare``.
            protocol: How detections are scored.
        """
        sizes = dict(zip(map(int, source.image_ids), source.sizes.tolist(), strict=True))
        return cls(
            source.annotations,
            "skip",
            reading=source.reading,
            sizes=sizes,
            masks=source.has_masks,
            keypoints=source.skeleton is not None,
            log=False,
            protocol=protocol,
        )

    def _boxes(self, objects) -> Scored:
        boxes = np.array([box for *_, box in objects], np.float64).reshape(-1, 4)
        crowd = np.array([item.crowd for _, item, _ in objects], bool)
        return Scored(np.arange(1, len(objects) + 1), crowd, self._columns(objects, boxes))

    def _masks(self, objects, path: pathlib.Path) -> Scored:
        """The objects of images whose size is known, if any object has a mask."""
        ids = [n for n, (image, *_) in enumerate(objects, 1) if self.has_masks and image.height]
        chosen = [objects[n - 1] for n in ids]
        masks = [
            {"size": [i.height, i.width], "counts": item.rle or box_counts(item.bbox, i.height, i.width)}
            for i, item, _ in chosen
        ]
        # An object without a mask is like what is left out: a mask there is neither right nor wrong.
        without = sum(not item.rle for _, item, _ in chosen)
        if without:
            logger.warning(
                "%s: %d of %d objects have no mask; masks that are found in their boxes are not scored.",
                path, without, len(objects),
            )  # fmt: skip
        crowd = np.array([item.crowd or not item.rle for _, item, _ in chosen], bool)
        return Scored(np.array(ids, int), crowd, self._columns(chosen, masks))

    def _columns(self, objects, shapes) -> Regions:
        return Regions(
            np.array([self._places[image.id] for image, *_ in objects], int),
            np.array([item.label for _, item, _ in objects], int),
            np.array([item.area for _, item, _ in objects], np.float64),
            shapes,
        )

    def objects(self, iou_type: str) -> list[dict[str, Any]]:
        """The annotations that are scored.

        Args:
            iou_type: ``"bbox"``, or ``"segm"`` for those with a mask.

        Returns:
            Entries with ``id`` (the new one, the same for both types), ``image_id``, ``category_id``,
            ``iscrowd``, ``area``, and ``bbox`` or ``segmentation`` (compressed RLE).
        """
        ids, crowd, regions = self._scored[iou_type]
        image_ids, name = list(self._places), {"bbox": "bbox", "segm": "segmentation"}[iou_type]
        shapes = regions.shapes.tolist() if isinstance(regions.shapes, np.ndarray) else regions.shapes
        columns = (ids.tolist(), regions.images.tolist(), regions.labels.tolist(), crowd.tolist())
        return [
            {
                "id": identity,
                "image_id": image_ids[image],
                "category_id": self.categories[label].id,
                "iscrowd": int(crowd),
                "area": area,
                name: shape,
            }
            for identity, image, label, crowd, area, shape in zip(
                *columns, regions.areas.tolist(), shapes, strict=True
            )
        ]

    def keypoints(self) -> dict[int, dict[str, Any]]:
        """The keypoints of the objects, by the new id of `objects`.

        Returns:
            Entries with ``keypoints`` (x, y, visibility, ...), ``num_keypoints`` and ``area``, among others;
            {} where no keypoints were read.
        """
        return {} if self.skeleton is None else {entry["id"]: entry for entry in self._annotated}

    def of_classes(self, ids: Collection[int]) -> "GroundTruth":
        """The same annotations with some of their categories alone.

        Args:
            ids: Ids of the categories to keep.

        Returns:
            Annotations that score nothing of other categories, neither objects nor detections.

        Raises:
            UserError: The protocol is not COCO's, whose numbers alone are those of each class by itself.
        """
        if self.protocol.name != "coco":
            raise UserError(
                f"Some classes alone cannot be scored by the protocol {self.protocol.name!r}; give the "
                "protocol 'coco', or score all classes."
            )
        some = copy.copy(self)
        kept = np.array([category.id in ids for category in self.categories])
        some.categories = tuple(c for c in self.categories if c.id in ids)
        some.listed = tuple(c for c in self.listed if c.id in ids)
        labels = np.cumsum(kept) - 1  # the new label of each old one that is kept
        some._scored = {}
        for iou_type, (numbers, crowd, regions) in self._scored.items():
            rows = np.flatnonzero(kept[regions.labels])
            own = Regions(
                regions.images[rows],
                labels[regions.labels[rows]],
                regions.areas[rows],
                regions.shapes_of(rows),
            )
            some._scored[iou_type] = Scored(numbers[rows], crowd[rows], own)
        if self.skeleton is not None:
            some._annotated = [
                {**entry, "category_id": int(labels[entry["category_id"]])}
                for entry in self._annotated
                if kept[entry["category_id"]]
            ]
        return some

    def outcomes(
        self,
        detections: list[dict],
        iou_type: str,
        *,
        limit: int = MAX_DETECTIONS,
        sizes: Mapping[str, tuple[float, float]] = SIZES,
    ) -> Outcomes:
        """What becomes of each detection by COCO's rules, or with limits of one's own.

        Args:
            detections: COCO results.
            iou_type: ``"bbox"`` or ``"segm"``.
            limit: Detections of one image and class that count.
            sizes: Limits of the size classes in square pixels.

        Returns:
            As from `matching.match`.
        """
        labels = {category.id: k for k, category in enumerate(self.categories)}
        found = detected(detections, self.image_id, self.category_id, self._places, labels)
        regions = box_regions(found) if iou_type == "bbox" else mask_regions(found, self._sizes)
        _, crowd, objects = self._scored[iou_type]
        return match(objects, crowd, regions, found.scores, len(labels), limit=limit, sizes=sizes)

    def score(
        self,
        detections: list[dict],
        iou_types: tuple[str, ...] = ("bbox", "segm"),
        sigmas: Sequence[float] = (),
    ) -> dict[str, Any]:
        """Scores detections; see :func:`coco_metrics`."""
        rules = self.protocol
        labels = {category.id: k for k, category in enumerate(self.categories)}
        found = detected(detections, self.image_id, self.category_id, self._places, labels)
        metrics: dict[str, Any] = {}
        per_class: dict[str, dict] = {name: {} for name in unique_names(self.categories)}
        for iou_type in iou_types:
            prefix = PREFIXES[iou_type]
            if iou_type == "keypoints":
                scores, of_classes = self._keypoint_scores(found, sigmas)
                metrics |= scores
                for row, value in zip(per_class.values(), of_classes, strict=True):
                    row[f"{prefix}_AP"] = value
                continue
            if iou_type not in rules.iou_types:
                continue
            regions = box_regions(found) if iou_type == "bbox" else mask_regions(found, self._sizes)
            _, crowd, objects = self._scored[iou_type]
            numbers, rows = rules.measure(objects, crowd, regions, found.scores, len(labels))
            metrics |= _named(prefix, numbers)
            for row, own in zip(per_class.values(), rows, strict=True):
                row.update(_named(prefix, own))
        if not metrics:
            raise UserError(
                f"The protocol {rules.name!r} measures masks alone; give detections with masks, or the "
                "protocol 'coco'."
            )
        protocol = {} if rules.name == "coco" else {"protocol": rules.name}
        return {**metrics, **protocol, "per_class": per_class}

    def _keypoint_scores(self, found, sigmas: Sequence[float]) -> tuple[dict[str, Any], list[Any]]:
        if self.skeleton is None:
            raise UserError("The annotations have no keypoints to score against; give annotations with some.")
        count = len(self.skeleton.points)
        sigmas = sigmas or KeypointConfig(points=self.skeleton.points).known_sigmas
        return keypoint_metrics(self._annotated, found, len(self.categories), count, sigmas)


def coco_metrics(
    annotations: str | pathlib.Path | dict | GroundTruth,
    detections: list[dict],
    iou_types: tuple[str, ...] = ("bbox", "segm"),
    sigmas: Sequence[float] = (),
    *,
    protocol: str = "auto",
) -> dict[str, Any]:
    """Average precision and recall of detections, by COCO's protocol or another one.

    Args:
        annotations: Path of a COCO-format json, its content, or a ``GroundTruth``.
        detections: COCO results: ``image_id``, ``category_id``, ``score``, ``bbox`` (x, y,
            width, height in pixels of the original image) and, for masks, ``segmentation``
            (RLE) or ``keypoints`` (x, y, score, ...). At most 100 per image and class count, of keypoints
            20, as in the COCO protocol. May be empty.
        iou_types: Some of ``"bbox"``, ``"segm"`` and ``"keypoints"``.
        sigmas: Of the keypoints; () takes COCO's for a person's, and 0.05 for others.
        protocol: "coco", "lvis" or "cityscapes"; "auto" takes LVIS' for a json of LVIS, which its categories'
            ``frequency`` and its images' ``neg_category_ids`` tell, and else COCO's. Not used for a
            ``GroundTruth``, which has its own.

    Returns:
        Of COCO's protocol
        ``box_AP`` (mean over IoU 0.50 to 0.95), ``box_AP50``, ``box_AP75``, ``box_AP_small``,
        ``_medium``, ``_large``, ``box_AR1``, ``box_AR10``, ``box_AR100``, ``box_AR_small``,
        ``_medium``, ``_large``, the same with ``mask_``, the names of
        `tables.KEYPOINT_STATS` with ``keypoint_``, and ``per_class``, which maps the name of a
        category (its id if two categories share a name) to ``{"box_AP": ..., "mask_AP": ...}``. All
        are in 0..1, or None if there is no ground truth to score against. Of the others the names in
        `tables.LVIS_STATS` and `tables.CITYSCAPES_STATS`, and ``protocol``, its name.

    Raises:
        UserError: The annotations cannot be read, a detection names an unknown image, or a mask has
            another size than its image.

    Example:
        >>> found = json.load(open("detections.json"))  # doctest: +SKIP
        >>> print(format_metrics(coco_metrics("instances.json", found)))  # doctest: +SKIP
    """
    if not isinstance(annotations, GroundTruth):
        annotations = GroundTruth(annotations, keypoints="keypoints" in iou_types, protocol=protocol)
    return annotations.score(detections, iou_types, sigmas)


def unique_names(categories: Sequence[Category]) -> list[str]:
    """A unique name for each category: its own, or its id if two categories share a name."""
    names = [c.name for c in categories]
    return [c.name if names.count(c.name) == 1 else str(c.id) for c in categories]


def _named(prefix: str, numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers with a prefix to their names; None where there is nothing to score against."""
    return {f"{prefix}_{name}": None if np.isnan(v) else v for name, v in numbers.items()}
