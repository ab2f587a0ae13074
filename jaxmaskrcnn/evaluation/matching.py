"""COCO's matching of detections and objects, of one image and class at a time.

The overlaps are pycocotools'; they are dropped once the detections of an image and class are matched, and
only what becomes of each detection is kept. The rules are those of ``COCOeval.evaluateImg``, which
loops over thresholds, size classes and objects in Python; here these are axes of arrays.

Shape legend: N detections of all images, M of them that count; K classes, A size classes, T IoU thresholds;
D detections and G objects of one image and class.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.evaluation.regions import Regions

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# The names and limits of COCO's size classes, in square pixels; a region on a limit is in both.
SIZES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MAX_DETECTIONS = 100  # of one image and class
WRONG, RIGHT, IGNORED = 0, 1, 2

# Objects that overlap completely meet every threshold in spite of rounding.
_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]


class Outcomes(NamedTuple):
    """What becomes of the detections that count.

    Attributes:
        labels: int [M], ascending; detections of one class are in descending order of score, and those of
            one score in the order of images.
        ranks: int [M], the number of better detections in the same image and class.
        outcomes: int8 [M, A, T], ``WRONG``, ``RIGHT`` or ``IGNORED``.
        counts: int [K, A], objects that are to be found.
        scores: float64 [M].
    """

    labels: np.ndarray
    ranks: np.ndarray
    outcomes: np.ndarray
    counts: np.ndarray
    scores: np.ndarray


def match(
    objects: Regions,
    crowd: np.ndarray,
    detections: Regions,
    scores: np.ndarray,
    num_classes: int,
    *,
    ignored: np.ndarray | None = None,
    doubtful: np.ndarray | None = None,
    limit: int = MAX_DETECTIONS,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> Outcomes:
    """Matches the detections of all images.

    In descending order of score, each detection is matched with the free object of its class and image with
    which it overlaps most, if the overlap reaches the threshold. Objects of another size class and crowd
    regions come after all others, and a detection that is matched with one of them is ignored; so is a
    detection of another size class without a match. A crowd region takes any number of detections.

    Args:
        objects: The objects.
        crowd: bool [number of objects], crowd regions.
        detections: The N detections; those with the label -1 are left out.
        scores: float64 [N].
        num_classes: K.
        ignored: bool [number of objects], further objects that nobody has to find; other than crowd regions
            they take one detection each. None for none.
        doubtful: bool [N], detections that are ignored without a match, because an object may be there that
            is not annotated. None for none.
        limit: Detections of one image and class that count.
        sizes: The limits of the A size classes in square pixels.

    Returns:
        The outcomes.

    Example:
        >>> boxes = np.array([[0.0, 0, 40, 40]])
        >>> one = Regions(np.array([0]), np.array([0]), np.array([1600.0]), boxes)
        >>> match(one, np.array([False]), one, np.array([0.9]), 1).outcomes[0, :, 0]
        array([1, 2, 1, 2], dtype=int8)
    """
    to_ignore = crowd if ignored is None else crowd | ignored
    limits = np.array(list(sizes.values()), np.float64)
    ignored = to_ignore[:, None] | _outside(objects.areas, limits)  # [objects, A]
    counts = np.zeros((num_classes, len(limits)), int)
    np.add.at(counts, objects.labels, ~ignored)

    # Detections and objects in the order of image and class, a group after the other.
    keys = detections.images * num_classes + detections.labels
    rows = np.lexsort((-scores, keys))
    rows = rows[detections.labels[rows] >= 0]
    ranks = _ranks(keys[rows])
    rows, ranks = rows[ranks < limit], ranks[ranks < limit]
    object_keys = objects.images * num_classes + objects.labels
    # The last of equal overlaps is taken, so the last object is the first here.
    object_rows = np.lexsort((-np.arange(len(object_keys)), object_keys))

    lenient = _outside(detections.areas[rows], limits)
    if doubtful is not None:
        lenient |= doubtful[rows, None]
    outcomes = np.where(lenient, np.int8(IGNORED), np.int8(WRONG))
    outcomes = np.repeat(outcomes[:, :, None], len(IOU_THRESHOLDS), 2)
    for found, wanted in _groups(keys[rows], object_keys[object_rows]):
        group = object_rows[wanted]
        ious = rle_codec.iou(
            detections.shapes_of(rows[found]), objects.shapes_of(group), crowd[group].tolist()
        )
        _match_group(ious, crowd[group], ignored[group].T, outcomes[found])

    order = np.lexsort((detections.images[rows], -scores[rows], detections.labels[rows]))
    rows, ranks, outcomes = rows[order], ranks[order], outcomes[order]
    return Outcomes(detections.labels[rows], ranks, outcomes, counts, scores[rows])


def _outside(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """bool [N, A]: regions that are not of a size class."""
    return (areas[:, None] < limits[:, 0]) | (areas[:, None] > limits[:, 1])


def _ranks(keys: np.ndarray) -> np.ndarray:
    """The number of entries with the same key before each one; keys ascend."""
    return np.arange(len(keys)) - np.searchsorted(keys, keys)


def _groups(keys: np.ndarray, others: np.ndarray) -> list[tuple[slice, slice]]:
    """The slices of two ascending columns of keys for each key that is in both."""
    both = np.intersect1d(keys, others)
    bounds = [np.searchsorted(column, both, side) for column in (keys, others) for side in ("left", "right")]
    return [(slice(a, b), slice(c, d)) for a, b, c, d in np.stack(bounds, 1).tolist()]


def _match_group(ious: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, outcomes: np.ndarray) -> None:
    """Matches the detections of one image and class.

    Args:
        ious: float64 [D, G], detections in descending order of score.
        crowd: bool [G].
        ignored: bool [A, G], objects that nobody has to find.
        outcomes: int8 [D, A, T], of detections without a match; those of the others are written into it.
    """
    free = np.ones((len(ignored), len(_THRESHOLDS), len(crowd)), bool)
    near = ious >= _THRESHOLDS[0]
    for d in np.flatnonzero(near.any(1)):
        g = np.flatnonzero(near[d])  # the few objects that come into question
        candidates = free[:, :, g] & (ious[d, g] >= _THRESHOLDS)
        wanted = candidates & ~ignored[:, None, g]
        candidates = np.where(wanted.any(2, keepdims=True), wanted, candidates)
        best = g[np.where(candidates, ious[d, g], -1.0).argmax(2)]  # [A, T]
        size, threshold = np.nonzero(candidates.any(2))
        best = best[size, threshold]
        free[size, threshold, best] = crowd[best]
        outcomes[d, size, threshold] = np.where(ignored[size, best], IGNORED, RIGHT)
