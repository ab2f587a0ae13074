"""Cityscapes' average precision of masks.

An object of at least 100 pixels is found by a mask whose IoU with it is above the threshold. Of several such
masks the best one is right and the others are wrong. A mask that finds nothing is wrong, unless the greater
part of it, a share above the threshold, lies on void, on groups of objects or on smaller objects. Precision
is summed over the steps in recall between the distinct scores, without COCO's 101 recalls and its envelope.

Equal to ``evalInstanceLevelSemanticLabeling.py`` of the package ``cityscapesscripts`` 2.3.0, without its
numbers by distance.

Shape legend: D detections and G objects of one image and class, E entries of a class's list.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.void import void_message, void_problem
from jaxmaskrcnn.data.rle import mask_areas
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.regions import Regions

THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # the package's own numbers, some a rounding error off
SMALLEST = 100  # pixels of an object that has to be found


class _Pair(NamedTuple):
    """The detections and objects of one image and class, masks with a pixel alone.

    Attributes:
        scores: float64 [D].
        overlaps: float64 [D, G], IoU.
        ignored: float64 [D], the share of each detection on what is neither right nor wrong.
        wanted: bool [G], objects that have to be found.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    ignored: np.ndarray
    wanted: np.ndarray


class Cityscapes:
    """Cityscapes' protocol, see `protocols.Rules`.

    Args:
        void: The void region of each image that is scored, as compressed RLE, in the order of their places.
    """

    name, iou_types, reason = "cityscapes", ("segm",), "it was chosen"

    def __init__(self, void: Sequence[dict[str, Any]]):
        self._void = void

    def measure(
        self, objects: Regions, crowd: np.ndarray, detections: Regions, scores: np.ndarray, num_classes: int
    ) -> tuple[dict[str, float], list[dict[str, float]]]:
        """See `protocols.Rules.measure`; ``crowd`` are groups of objects."""
        areas, found_areas = (mask_areas(list(x.shapes)).astype(np.int64) for x in (objects, detections))
        table = np.full((num_classes, len(THRESHOLDS)), np.nan)
        for label in range(num_classes):
            own = np.flatnonzero(objects.labels == label)
            found = np.flatnonzero((detections.labels == label) & (found_areas > 0))
            pairs = []
            for image in np.union1d(objects.images[own], detections.images[found]):
                rows = found[detections.images[found] == image]
                group = own[objects.images[own] == image]
                pairs.append(
                    _pair(
                        detections.shapes_of(rows), scores[rows], found_areas[rows],
                        objects.shapes_of(group), areas[group], crowd[group], self._void[image],
                    )
                )  # fmt: skip
            if any(pair.wanted.any() for pair in pairs):
                table[label] = [average_precision(*_entries(pairs, t)) for t in THRESHOLDS]
        numbers = {"AP": _mean(table), "AP50": _mean(table[:, 0])}
        rows = zip(table.mean(1).tolist(), table[:, 0].tolist(), strict=True)
        return numbers, [{"AP": ap, "AP50": ap50} for ap, ap50 in rows]


def _pair(
    masks: Any,
    scores: np.ndarray,
    sizes: np.ndarray,
    objects: Any,
    areas: np.ndarray,
    group: np.ndarray,
    void: dict[str, Any],
) -> _Pair:
    """The overlaps of one image and class; ``sizes`` and ``areas`` are the masks' and objects' pixels."""
    common = _common_pixels(masks, objects, sizes)
    overlaps = common / np.maximum(areas[None] + sizes[:, None] - common, 1)
    # The pixels of a small group count twice, as they do in the package.
    weights = group.astype(float) + (areas < SMALLEST)
    ignored = common @ weights + _common_pixels(masks, [void], sizes)[:, 0]
    return _Pair(scores, overlaps, ignored / sizes, ~group & (areas >= SMALLEST))


def _common_pixels(masks: Any, others: Any, sizes: np.ndarray) -> np.ndarray:
    """float64 [D, G], the number of pixels in both of two masks, D of which have these sizes."""
    if not len(masks) or not len(others):
        return np.zeros((len(masks), len(others)))
    # The overlap with a crowd region is the share of the mask that lies in it.
    return np.rint(rle_codec.iou(list(masks), list(others), [1] * len(others)) * sizes[:, None])


def _entries(pairs: Sequence[_Pair], threshold: float) -> tuple[np.ndarray, np.ndarray, int]:
    """The entries of a class: whether each is right, its score, and the number of objects missed."""
    right, scores, missed = [], [], 0
    for pair in pairs:
        over = pair.overlaps > threshold
        for g in np.flatnonzero(pair.wanted):
            of_object = sorted(pair.scores[over[:, g]], reverse=True)
            missed += not of_object
            right += [place == 0 for place in range(len(of_object))]
            scores += of_object
        wrong = ~over.any(1) & (pair.ignored <= threshold)
        right += [False] * int(wrong.sum())
        scores += pair.scores[wrong].tolist()
    return np.array(right, bool), np.array(scores, float), missed


def average_precision(right: np.ndarray, scores: np.ndarray, missed: int) -> float:
    """Precision summed over the steps in recall between the distinct scores.

    Args:
        right: bool [E].
        scores: float64 [E].
        missed: Objects that no entry is right for.

    Returns:
        0 without entries.

    Example:
        >>> average_precision(np.array([False, True]), np.array([0.9, 0.4]), 0)
        0.25
    """
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    # Entries with at least each of the distinct scores, which ascend, and how many of these are right.
    first = np.unique(scores[order], return_index=True)[1]
    kept = len(order) - first
    hits = right[order][::-1].cumsum()[::-1][first]
    precision = np.append(hits / kept, 1.0)
    recall = np.append(hits / max(right.sum() + missed, 1), 0.0)
    steps = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0, 0.5], "valid")
    return float(precision @ steps)


def void_regions(content: Mapping[str, Any], found: Annotations, path: Path) -> list[dict[str, Any]]:
    """The void region of each image, in the order of their places.

    Args:
        content: The json, whose images have a ``void`` as ``import --format=cityscapes`` writes it.
        found: The same, checked.
        path: Its path, for messages.

    Raises:
        UserError: An image has none, or it is no mask of the image.
    """
    entries = {found.image_id(entry.get("id")): entry.get("void") for entry in content["images"]}
    regions = []
    for image in found.images:
        void, size = entries[image.id], [image.height, image.width]
        if void is None:
            raise UserError(
                f"{path} cannot be scored as Cityscapes, because image {image.id} ({image.file_name}) has no "
                "'void', the region that is left out there; make the json with import --format=cityscapes."
            )
        if wrong := void_problem(void, *size):
            raise UserError(f"{void_message(path, image.id, wrong)}.")
        regions.append(void)
    return regions


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
