"""Panoptic quality of segments in COCO's format: read, measured, and as a section of a page.

Format: https://cocodataset.org/#format-results (panoptic segmentation).
"""

import logging
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.panoptic import picture_folder, segment_numbers
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth, unique_names
from jaxmaskrcnn.evaluation.panoptic import PQ_NAMES, PanopticCounts, PanopticTruth, panoptic_metrics
from jaxmaskrcnn.report.html import number, table
from jaxmaskrcnn.utils.json_values import parse_json
from jaxmaskrcnn.utils.texts import is_text

log = logging.getLogger(__name__)


class Quality(NamedTuple):
    """Panoptic quality of a data set.

    Attributes:
        names: The classes of things and then of stuff; the id if two share a name.
        things: Number of things.
        metrics: As `panoptic_metrics` returns them.
        counts: What they were computed of.
    """

    names: list[str]
    things: int
    metrics: dict[str, Any]
    counts: PanopticCounts


def read_quality(path: str | os.PathLike, truth: GroundTruth, annotations: str | os.PathLike) -> Quality:
    """Measures the segments of a json and of its pictures.

    Args:
        path: The json, with the folder of its pictures beside it, as ``evaluate --output`` writes them.
        truth: The annotations, with segments.
        annotations: Their path, for messages.

    Raises:
        UserError: The annotations have no segments, or the json or a picture cannot be used.
    """
    panoptic = truth.panoptic
    if panoptic is None:
        raise UserError(
            f"{annotations} has no segments to measure those of {path} with; give a panoptic json, or the "
            "stuff by --stuff."
        )
    path = Path(path)
    entries, folder = _read_entries(path), picture_folder(path)
    keys = panoptic.keys()
    known = {category.id for category in panoptic.categories}
    found: dict[int, PanopticCounts] = {}
    for i, entry in enumerate(entries):
        place = f"{path}: the entry {i} of 'annotations'"
        image_id = truth.image_id(entry.get("image_id"))
        if image_id not in keys or image_id not in truth.images:
            raise UserError(
                f"{place} is of the image {entry.get('image_id')!r}, which {annotations} does not have; give "
                "the annotations that the segments were made for."
            )
        if image_id in found:
            raise UserError(f"{place} is the second one of image {image_id}; leave one of them.")
        found[image_id] = _count(
            entry, place, folder, truth.images[image_id], keys[image_id], panoptic, known
        )
    missing = [image_id for image_id in truth.images if image_id in keys and image_id not in found]
    if missing:
        log.warning(
            "%s: images without an entry, in which no segment counts as found: %d (the first: image %s).",
            path, len(missing), missing[0],
        )  # fmt: skip
    total = PanopticCounts.none(len(panoptic.categories))
    for counts in found.values():
        total += counts
    for image_id in missing:
        image = panoptic.segments.images[keys[image_id]]
        total += panoptic.count(keys[image_id], np.zeros_like(image.numbers()), [])
    metrics = panoptic_metrics(total, panoptic.categories, len(panoptic.things))
    return Quality(unique_names(panoptic.categories), len(panoptic.things), metrics, total)


def names_of_stuff(path: str | os.PathLike) -> tuple[str, ...]:
    """The names of a json's classes of stuff in the order of their labels; () where it does not list any.

    Args:
        path: The json.

    Raises:
        UserError: It cannot be read.
    """
    content = _read(Path(path))
    listed = content.get("categories") if isinstance(content, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    names = [entry.get("name") for entry in entries if entry.get("isthing") == 0]
    return tuple(name for name in names if isinstance(name, str) and is_text(name))


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"the segments {path} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid json ({error}); write the segments again.") from error


def _read_entries(path: Path) -> list[dict[str, Any]]:
    content = _read(path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"{path} has no list 'annotations' of objects; give the segments.json that evaluate --output "
            "writes for a panoptic model, or another json in COCO's format of panoptic results."
        )
    return entries


def _count(
    entry: Mapping[str, Any],
    place: str,
    folder: Path,
    image: Any,
    key: Any,
    panoptic: PanopticTruth,
    known: set[int],
) -> PanopticCounts:
    file, segments = entry.get("file_name"), entry.get("segments_info")
    if not isinstance(file, str) or not file:
        raise UserError(f"{place} has no file_name; give the name of its picture in {folder}.")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise UserError(f"{place} has no list 'segments_info'; write the segments again.")
    classes: dict[int, int] = {}
    for segment in segments:
        identity, category = whole_number(segment.get("id")), whole_number(segment.get("category_id"))
        if identity is None or identity <= 0 or identity in classes:
            raise UserError(
                f"{place} has the segment {segment.get('id')!r}; give each a number of its own from 1 on."
            )
        if category is None or category not in known:
            raise UserError(
                f"{place} has the segment {identity} with the category_id {segment.get('category_id')!r}, "
                "which the annotations do not have; give those that the segments were made for."
            )
        classes[identity] = category
    picture = folder / Path(file.replace("\\", "/")).name
    numbers = segment_numbers(picture, place, (image.height, image.width) if image.height else None)
    if unknown := sorted(set(np.unique(numbers).tolist()) - {0} - classes.keys()):
        raise UserError(
            f"{picture} has pixels of the segment {unknown[0]}, which {place} does not list; give the "
            "picture of this image."
        )
    return panoptic.count(key, numbers, [{"id": i, "category": c} for i, c in classes.items()])


def quality_section(quality: Quality | None) -> str:
    """The section of a page about panoptic quality.

    Args:
        quality: From `read_quality`; None where it is not measured.
    """
    if quality is None:
        return ""
    metrics, counts = quality.metrics, quality.counts
    rows = [
        (title, *(number(metrics[name + suffix]) for name in PQ_NAMES))
        for title, suffix in (("all classes", ""), ("things", "_things"), ("stuff", "_stuff"))
    ]
    text = (
        "<p>Panoptic quality (PQ) is the product of segmentation quality (SQ), the mean IoU of matched "
        "segments, and recognition quality (RQ), the share of segments that are matched, in which the "
        "others count half.</p>\n"
    )
    text += table("Means over the classes", ("", *PQ_NAMES), rows)
    order = sorted(
        range(len(quality.names)),
        key=lambda k: (metrics["per_class"][k]["PQ"] is None, metrics["per_class"][k]["PQ"] or 0.0),
    )
    rows = [
        (
            escape(quality.names[k]),
            "thing" if k < quality.things else "stuff",
            *(number(metrics["per_class"][k][name]) for name in PQ_NAMES),
            *(f"{int(column[k]):,}" for column in (counts.matched, counts.wrong, counts.missed)),
        )
        for k in order
    ]
    head = ("class", "kind", *PQ_NAMES, "matched", "wrong", "missed")
    return text + table("The lowest PQ first, with the numbers of segments", head, rows, words=(1,))


def not_measured(
    truth: GroundTruth, quality: Quality | None, keypoints: bool, found: Sequence[Mapping]
) -> str:
    """Sentences about what the annotations or the detections have and the page does not measure; or "".

    Args:
        truth: The annotations.
        quality: Panoptic quality, or None.
        keypoints: Whether keypoints are measured.
        found: The detections.
    """
    sentences = []
    if truth.panoptic is not None and quality is None:
        sentences.append(
            "Panoptic quality is not measured: the annotations have segments, but --segments was not given."
        )
    if not keypoints and any("keypoints" in entry for entry in found):
        sentences.append("Keypoints are not measured: the annotations have none.")
    elif not keypoints and truth.names_keypoints and found:
        sentences.append("Keypoints are not measured: the detections have none.")
    return " ".join(sentences)
