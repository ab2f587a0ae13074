"""Average precision and recall, from what became of each detection.

The rules are those of ``COCOeval.accumulate`` and ``summarize``.

Shape legend: K classes, A size classes, T IoU thresholds, R recalls; M detections of one class.
"""

from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.evaluation.matching import IOU_THRESHOLDS, MAX_DETECTIONS, RIGHT, SIZES, WRONG, Outcomes
from jaxmaskrcnn.evaluation.tables import STATS

RECALLS = np.linspace(0.0, 1.0, 101)
_LIMITS = tuple(dict.fromkeys(limit for *_, limit in STATS))  # detections of one image and class
_IOUS = {"0.50": 0, "0.75": 5, "0.50:0.95": slice(None)}  # the places of the thresholds


class Curves(NamedTuple):
    """Precision and recall; NaN where a class has no object of a size class.

    Attributes:
        precision: float64 [T, R, K, A], the best precision at a recall or a higher one.
        recall: float64 [T, K, A, number of limits], recall with so many detections per image and class.
    """

    precision: np.ndarray
    recall: np.ndarray


def accumulate(matched: Outcomes) -> Curves:
    """Precision over recall of each class, from the detections of all images.

    Args:
        matched: From ``matching.match``.

    Returns:
        The curves.
    """
    num_classes, sizes = matched.counts.shape
    thresholds = len(IOU_THRESHOLDS)
    precision = np.full((thresholds, len(RECALLS), num_classes, sizes), np.nan)
    recall = np.full((thresholds, num_classes, sizes, len(_LIMITS)), np.nan)
    bounds = np.searchsorted(matched.labels, np.arange(num_classes + 1))
    for k, a in np.argwhere(matched.counts):
        of_class = slice(bounds[k], bounds[k + 1])
        outcomes, ranks = matched.outcomes[of_class, a].T, matched.ranks[of_class]
        right = outcomes == RIGHT
        for m, limit in enumerate(_LIMITS):
            recall[:, k, a, m] = right[:, ranks < limit].sum(1) / matched.counts[k, a]
        precision[:, :, k, a] = _precision(right, outcomes == WRONG, matched.counts[k, a])
    return Curves(precision, recall)


def _precision(right: np.ndarray, wrong: np.ndarray, count: int) -> np.ndarray:
    """float64 [T, R], of bool [T, M] and the number of objects; 0 at recalls that are not reached."""
    found = right.cumsum(1, dtype=np.float64)
    values = found / (wrong.cumsum(1) + found + np.spacing(1))
    values = np.maximum.accumulate(values[:, ::-1], 1)[:, ::-1]
    values = np.pad(values, ((0, 0), (0, 1)))
    places = [np.searchsorted(row, RECALLS) for row in found / count]
    return np.take_along_axis(values, np.array(places), 1)


def summarize(curves: Curves) -> dict[str, float]:
    """COCO's twelve numbers by the names of ``tables.STATS``; NaN without objects."""
    sizes, numbers = list(SIZES), {}
    for name, _, short, iou, area, limit in STATS:
        a = sizes.index(area)
        if short == "AP":
            assert limit == MAX_DETECTIONS
            values = curves.precision[_IOUS[iou], ..., a]
        else:
            values = curves.recall[_IOUS[iou], :, a, _LIMITS.index(limit)]
        numbers[name] = mean(values)
    return numbers


def class_precision(curves: Curves) -> list[float]:
    """The average precision of each of the K classes, of objects of all sizes; NaN without objects."""
    return [mean(curves.precision[:, :, k, 0]) for k in range(curves.precision.shape[2])]


def mean(values: np.ndarray) -> float:
    """The mean of those that are not NaN; NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
