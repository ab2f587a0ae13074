"""Counted against annotated: how many objects a model counts in an image, whether or not they are in their
places.

Shape legend: I images, K classes.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.html import figure, number, table
from jaxmaskrcnn.report.matches import Match, Sample
from jaxmaskrcnn.report.svg import Plot


class Counts(NamedTuple):
    """Objects of each image and class.

    Attributes:
        annotated: int [I, K], without crowd regions.
        counted: int [I, K], detections with the score threshold or more, without those in crowd regions.
    """

    annotated: np.ndarray
    counted: np.ndarray


def count_objects(
    samples: Sequence[Sample], matches: Sequence[Match], num_classes: int, score_threshold: float
) -> Counts:
    """Counts the objects and detections of every image.

    Args:
        samples: The I images.
        matches: Their matching at the IoU 0.5.
        num_classes: K.
        score_threshold: Detections with a lower score do not count.
    """
    annotated, counted = (np.zeros((len(samples), num_classes), int) for _ in range(2))
    for i, (sample, match) in enumerate(zip(samples, matches, strict=True)):
        kept = (sample.scores >= score_threshold) & ~match.ignored
        annotated[i] = np.bincount(sample.object_labels[~sample.crowd], minlength=num_classes)
        counted[i] = np.bincount(sample.labels[kept], minlength=num_classes)
    return Counts(annotated, counted)


def explained(annotated: np.ndarray, counted: np.ndarray) -> float | None:
    """The share of the variance of the annotated counts that the counted ones explain, R².

    Args:
        annotated: int [I].
        counted: int [I].

    Returns:
        At most 1; None if all annotated counts are equal.

    Example:
        >>> explained(np.array([1, 2, 3]), np.array([1, 2, 4]))
        0.5
    """
    spread = float(((annotated - annotated.mean()) ** 2).sum()) if len(annotated) else 0.0
    return 1 - float(((counted - annotated) ** 2).sum()) / spread if spread else None


def count_section(counts: Counts, names: Sequence[str], score_threshold: float) -> str:
    """A table by class and a plot of the images, as HTML.

    Args:
        counts: From `count_objects`.
        names: Names of the K classes.
        score_threshold: For the text.
    """
    both = Counts(counts.annotated.sum(1), counts.counted.sum(1))
    rows = [_row("all classes", *both)] if len(names) > 1 else []
    rows += [
        _row(escape(name), counts.annotated[:, k], counts.counted[:, k])
        for k, name in enumerate(names)
        if counts.annotated[:, k].any() or counts.counted[:, k].any()
    ]
    text = (
        f"<p>Detections with scores of {score_threshold:g} or more against the annotated objects of each "
        "image, whether or not they are in their places; crowd regions are left out.</p>\n"
    )
    head = ("class", "annotated", "counted", "difference", "mean error of an image", "R²")
    return text + figure(_scatter(both)) + table("Sums of all images", head, rows)


def _row(name: str, annotated: np.ndarray, counted: np.ndarray) -> tuple[str, ...]:
    total, found = int(annotated.sum()), int(counted.sum())
    share = f" ({100 * (found - total) / total:+.0f} %)" if total else ""
    error = float(np.abs(counted - annotated).mean()) if len(annotated) else None
    return (
        name,
        f"{total:,}",
        f"{found:,}",
        f"{found - total:+,}{share}",
        number(error, 2),
        number(explained(annotated, counted), 2),
    )


def _scatter(both: Counts) -> str:
    most = max(1, int(both.annotated.max(initial=0)), int(both.counted.max(initial=0)))
    limits = (0.0, most * 1.05)
    plot = Plot(
        "Counted over annotated objects of each image", "annotated in an image", "counted", x=limits, y=limits
    )
    plot.line(limits, limits, "plain", dashed=True)
    places, repeats = np.unique(np.stack(both, 1), axis=0, return_counts=True)
    for (annotated, counted), times in zip(places.tolist(), repeats.tolist(), strict=True):
        images = f"{times} image{'s' * (times > 1)}"
        plot.dot(
            annotated,
            counted,
            2.5 + 1.5 * np.sqrt(times),
            "c0",
            f"{images}: {annotated} annotated, {counted} counted",
        )
    return plot.svg()
