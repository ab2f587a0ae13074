"""The confusion matrix: which classes are mistaken for each other.

Shape legend: D detections and G objects of one image, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.matches import Match, Sample


def confusion_matrix(
    samples: Sequence[Sample],
    matches: Sequence[Match],
    num_classes: int,
    *,
    iou_threshold: float,
    score_threshold: float,
) -> np.ndarray:
    """Counts objects by their class and by the class they were detected as.

    Pairs of the matching within classes are on the diagonal. Then, in descending order of score, each
    remaining detection is paired with the free object of any class with which it overlaps most, if
    the overlap reaches the threshold. Remaining objects are missed and remaining detections are false:
    they are paired with the background.

    Args:
        samples: The images.
        matches: Matching of each image, at the same IoU threshold.
        num_classes: K.
        iou_threshold: IoU threshold of the matching, in 0..1.
        score_threshold: Detections below it do not count.

    Returns:
        int [K + 1, K + 1], the true class by row and the detected one by column; the last row and
        column are the background. Crowd regions and detections in them do not count.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for sample, match in zip(samples, matches, strict=True):
        counted = (sample.scores >= score_threshold) & ~match.ignored
        partner = np.where(counted, match.partner, -1)
        free = ~sample.crowd
        free[partner[partner >= 0]] = False
        for d in np.flatnonzero(counted & (partner < 0)):
            overlaps = np.where(free, sample.ious[d], 0.0)
            if overlaps.max(initial=0.0) >= iou_threshold:
                partner[d] = overlaps.argmax()
                free[partner[d]] = False
        paired = counted & (partner >= 0)
        np.add.at(matrix, (sample.object_labels[partner[paired]], sample.labels[paired]), 1)
        np.add.at(matrix, (num_classes, sample.labels[counted & ~paired]), 1)
        np.add.at(matrix, (sample.object_labels[free], num_classes), 1)
    return matrix


class Confusion(NamedTuple):
    """One mistake between two classes; labels number them from 0."""

    true: int
    detected: int
    count: int


def most_confused(matrix: np.ndarray, limit: int) -> list[Confusion]:
    """The most frequent mistakes between two classes, without the background.

    Args:
        matrix: int [K + 1, K + 1], from ``confusion_matrix``.
        limit: Largest number of mistakes.

    Returns:
        The mistakes in descending order of count.

    Example:
        >>> most_confused(np.array([[5, 2, 1], [0, 4, 0], [3, 0, 0]]), 5)
        [Confusion(true=0, detected=1, count=2)]
    """
    between = matrix[:-1, :-1] * ~np.eye(len(matrix) - 1, dtype=bool)
    order = np.argsort(-between, axis=None, kind="stable")[:limit]
    pairs = zip(*np.unravel_index(order, between.shape), strict=True)
    return [Confusion(int(i), int(j), int(between[i, j])) for i, j in pairs if between[i, j]]
