"""Average precision and recall, from what became of each detection.

The rules are those of ``COCOeval.accumulate`` and ``summarize``.

Shape legend: K classes, A size classes, T IoU thresholds, R recalls; M detections of one class.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.evaluation.matching import IOU_THRESHOLDS, RIGHT, SIZES, WRONG, Outcomes
from jaxmaskrcnn.evaluation.tables import STATS, Stat

RECALLS = np.linspace(0.0, 1.0, 101)
_IOUS = {"0.50": 0, "0.75": 5, "0.50:0.95": slice(None)}  # the places of the thresholds


class Curves(NamedTuple):
    """Precision and recall; NaN where a class has no object of a size class.

    Attributes:
        precision: float64 [T, R, K, A], the best precision at a recall or a higher one.
        recall: float64 [T, K, A, number of limits], recall with so many detections per image and class.
        limits: These numbers of detections.
    """

    precision: np.ndarray
    recall: np.ndarray
    limits: tuple[int, ...]


def accumulate(matched: Outcomes, stats: Sequence[Stat] = STATS) -> Curves:
    """Precision over recall of each class, from the detections of all images.

    Args:
        matched: From ``matching.match``.
        stats: The numbers that will be asked for.

    Returns:
        The curves.
    """
    num_classes, sizes = matched.counts.shape
    thresholds = len(IOU_THRESHOLDS)
    precision = np.full((thresholds, len(RECALLS), num_classes, sizes), np.nan)
    limits = tuple(dict.fromkeys(stat.limit for stat in stats))
    recall = np.full((thresholds, num_classes, sizes, len(limits)), np.nan)
    bounds = np.searchsorted(matched.labels, np.arange(num_classes + 1))
    for k, a in np.argwhere(matched.counts):
        of_class = slice(bounds[k], bounds[k + 1])
        outcomes, ranks = matched.outcomes[of_class, a].T, matched.ranks[of_class]
        right = outcomes == RIGHT
        for m, limit in enumerate(limits):
            recall[:, k, a, m] = right[:, ranks < limit].sum(1) / matched.counts[k, a]
        precision[:, :, k, a] = _precision(right, outcomes == WRONG, matched.counts[k, a])
    return Curves(precision, recall, limits)


def _precision(right: np.ndarray, wrong: np.ndarray, count: int) -> np.ndarray:
    """float64 [T, R], of bool [T, M] and the number of objects; 0 at recalls that are not reached."""
    found = right.cumsum(1, dtype=np.float64)
    values = found / (wrong.cumsum(1) + found + np.spacing(1))
    values = np.maximum.accumulate(values[:, ::-1], 1)[:, ::-1]
    values = np.pad(values, ((0, 0), (0, 1)))
    places = [np.searchsorted(row, RECALLS) for row in found / count]
    return np.take_along_axis(values, np.array(places), 1)


def summarize(
    curves: Curves, stats: Sequence[Stat] = STATS, groups: Mapping[str, np.ndarray] | None = None
) -> dict[str, float]:
    """The means of the curves that a table asks for.

    Args:
        curves: From `accumulate`.
        stats: The numbers.
        groups: bool [K] by the name of a group of classes, for numbers that are of one.

    Returns:
        The numbers by name; NaN without objects.
    """
    sizes, numbers = list(SIZES), {}
    for stat in stats:
        a = sizes.index(stat.area)
        chosen = (groups or {})[stat.group] if stat.group else slice(None)
        if stat.short == "AP":
            values = curves.precision[_IOUS[stat.iou], ..., a][..., chosen]
        else:
            values = curves.recall[_IOUS[stat.iou], :, a, curves.limits.index(stat.limit)][..., chosen]
        numbers[stat.name] = mean(values)
    return numbers


def class_precision(curves: Curves) -> list[float]:
    """The average precision of each of the K classes, of objects of all sizes; NaN without objects."""
    return [mean(curves.precision[:, :, k, 0]) for k in range(curves.precision.shape[2])]


def mean(values: np.ndarray) -> float:
    """The mean of those that are not NaN; NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
