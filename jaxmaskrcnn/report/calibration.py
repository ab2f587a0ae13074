"""Calibration: whether eight of ten detections with a score of 0.8 are right.

Shape legend: N detections, B bins.
"""

from typing import NamedTuple

import numpy as np

BINS = 10


class Reliability(NamedTuple):
    """Detections in bins of their scores.

    Attributes:
        counts: int [B], detections of each bin.
        scores: float [B], their mean score; NaN where there are none.
        precision: float [B], share of right detections; NaN where there are none.
        error: Expected calibration error; None if there are no detections.
    """

    counts: np.ndarray
    scores: np.ndarray
    precision: np.ndarray
    error: float | None


def reliability(scores: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Sorts detections by score into bins of equal width over 0..1.

    The expected calibration error is the mean of |precision - mean score| over the bins, weighted
    by their detections (Guo et al. 2017, "On Calibration of Modern Neural Networks",
    https://arxiv.org/abs/1706.04599, equation 3).

    Args:
        scores: float [N] in 0..1.
        correct: bool [N].
        bins: B. A bin includes its lower edge; the last one also includes 1.

    Returns:
        The bins and the error.

    Example:
        >>> round(reliability(np.array([0.85, 0.85]), np.array([True, False])).error, 2)
        0.35
    """
    index = np.minimum((scores * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, scores, minlength=bins) / counts
        precision = np.bincount(index, correct, minlength=bins) / counts
    if not len(scores):
        return Reliability(counts, mean, precision, None)
    gaps = np.nan_to_num(np.abs(precision - mean))
    return Reliability(counts, mean, precision, float(np.sum(gaps * counts) / len(scores)))
