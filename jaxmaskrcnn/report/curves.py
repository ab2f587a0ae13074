"""Precision and recall: COCO's curves and average precision, and values at score thresholds.

Shape legend: N detections, K classes, R = 101 recalls, T score thresholds.
"""

from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.matches import Pool

RECALLS = np.linspace(0, 1, 101)


def precision_at_recalls(scores: np.ndarray, correct: np.ndarray, count: int) -> np.ndarray:
    """The highest precision at or beyond each recall, as COCO interpolates it.

    Args:
        scores: float [N], scores of one class.
        correct: bool [N].
        count: Number of objects of the class, at least 1.

    Returns:
        float64 [R]; 0 where the recall is never reached. Its mean is the average precision.

    Example:
        >>> precision_at_recalls(np.array([0.9, 0.8]), np.array([False, True]), 1)[[0, 100]]
        array([0.5, 0.5])
    """
    hits = correct[np.argsort(-scores, kind="stable")]
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(true / count, RECALLS, side="left")
    return np.append(precision, 0.0)[index]


def class_curves(pool: Pool) -> np.ndarray:
    """``precision_at_recalls`` of every class.

    Args:
        pool: All detections, matched at one IoU threshold.

    Returns:
        float64 [K, R]; NaN for a class without objects.
    """
    curves = np.full((len(pool.counts), len(RECALLS)), np.nan)
    for k in np.flatnonzero(pool.counts):
        mine = pool.labels == k
        curves[k] = precision_at_recalls(pool.scores[mine], pool.correct[mine], pool.counts[k])
    return curves


def mean_over_classes(curves: np.ndarray) -> np.ndarray | None:
    """The mean curve [R] over the classes that have objects; None if none has."""
    known = curves[~np.isnan(curves[:, 0])]
    return known.mean(0) if len(known) else None


class Operation(NamedTuple):
    """Precision and recall of the detections above score thresholds, all classes together.

    Attributes:
        thresholds: float [T], ascending.
        precision: float [T], right detections among those kept; NaN where none is kept.
        recall: float [T], found objects among all objects; NaN where there are none.
        f1: float [T], harmonic mean of both; 0 where no detection is right.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def operation(pool: Pool, thresholds: np.ndarray) -> Operation:
    """Precision, recall and F1 over score thresholds.

    Args:
        pool: All detections, matched at one IoU threshold.
        thresholds: float [T], ascending.

    Returns:
        The curves.

    Example:
        >>> pool = Pool(np.array([0.9, 0.4]), np.zeros(2, int), np.array([True, False]), np.array([1]))
        >>> operation(pool, np.array([0.3, 0.5])).precision
        array([0.5, 1. ])
    """
    kept = _at_least(pool.scores, thresholds)
    true = _at_least(pool.scores[pool.correct], thresholds)
    objects = pool.counts.sum()
    with np.errstate(invalid="ignore"):
        precision = np.where(kept > 0, true / kept, np.nan)
        recall = true / objects if objects else np.full(len(thresholds), np.nan)
    f1 = 2 * true / np.maximum(kept + objects, 1)
    return Operation(thresholds, precision, recall, f1)


def _at_least(scores, thresholds) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def class_operation(pool: Pool, score_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of each class at one score threshold.

    Args:
        pool: All detections, matched at one IoU threshold.
        score_threshold: Detections with at least this score are kept.

    Returns:
        float64 [K] each; NaN where no detection is kept, or where there are no objects.
    """
    kept = pool.scores >= score_threshold
    total = np.bincount(pool.labels[kept], minlength=len(pool.counts))
    true = np.bincount(pool.labels[kept & pool.correct], minlength=len(pool.counts))
    with np.errstate(invalid="ignore"):
        return true / total, true / pool.counts
