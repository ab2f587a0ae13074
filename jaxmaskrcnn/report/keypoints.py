"""What goes wrong with the keypoints of objects that were found, keypoint by keypoint.

The types of errors are those of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation" (2017, https://arxiv.org/abs/1707.05388), section 3.1, told apart by COCO's similarity of one
keypoint, exp(-d² / (2 area (2 sigma)²)).

Shape legend: K keypoints.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.report.errors import FOREGROUND
from jaxmaskrcnn.report.html import number, table
from jaxmaskrcnn.report.matches import Match, Sample

GOOD, NEAR = 0.85, 0.5  # similarities from which a keypoint is right, and from which it is near
KINDS = ("good", "jitter", "inversion", "swap", "miss")

_METRICS = (
    ("AP", "mean over OKS 0.50 to 0.95"),
    ("AP50", "OKS 0.50"),
    ("AP75", "OKS 0.75"),
    ("AP_medium", "objects of 32² to 96² pixels"),
    ("AP_large", "objects above 96² pixels"),
    ("AR", "20 detections per image and class"),
    ("AR50", "OKS 0.50"),
    ("AR75", "OKS 0.75"),
    ("AR_medium", "objects of 32² to 96² pixels"),
    ("AR_large", "objects above 96² pixels"),
)


class KeypointErrors(NamedTuple):
    """The keypoints of the objects that were found.

    Attributes:
        names: K names.
        sigmas: By how much the place of each may vary.
        counts: int [K, 5], annotated keypoints by ``KINDS``.
        distances: float [K], the median distance to the annotated place in pixels; NaN without any.
    """

    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    counts: np.ndarray
    distances: np.ndarray


def similarity(distances: np.ndarray, area: float, sigmas: np.ndarray) -> np.ndarray:
    """COCO's similarity of keypoints, in 0..1.

    Args:
        distances: To the annotated place, in pixels.
        area: Of the object, in square pixels.
        sigmas: Of the annotated keypoints; the last axis.

    Example:
        >>> similarity(np.array([0.0, 5.0]), 100.0, np.array([0.25, 0.25])).round(3).tolist()
        [1.0, 0.607]
    """
    return np.exp(-(distances**2) / (2 * (area + np.spacing(1)) * (2 * sigmas) ** 2))


def error_kinds(
    found: np.ndarray, own: np.ndarray, others: Sequence[np.ndarray], area: float, sigmas: np.ndarray
) -> np.ndarray:
    """Which error each keypoint of an object is.

    The first that applies: good, from a similarity of 0.85 on; jitter, from 0.5 on; inversion, at least 0.5
    with another keypoint of the same object; swap, at least 0.5 with this keypoint of another object; miss.

    Args:
        found: float [K, 2], x and y of the detection.
        own: float [K, 3], x, y and visibility of the object.
        others: The same of the other objects in the image.
        area: Of the object, in square pixels.
        sigmas: float [K].

    Returns:
        int [K], indices of ``KINDS``; -1 for keypoints that are not annotated.

    Example:
        >>> own = np.array([[2.0, 2, 2], [30, 2, 2], [9, 9, 0]])
        >>> error_kinds(np.array([[2.0, 3], [3, 2], [9, 9]]), own, [], 400.0, np.full(3, 0.1)).tolist()
        [0, 2, -1]
    """

    def similar(points):
        """[K, K]: each found keypoint with each annotated one."""
        distances = np.linalg.norm(found[:, None, :2] - points[None, :, :2], axis=-1)
        return np.where(points[:, 2] > 0, similarity(distances, area, sigmas), 0.0)

    mine = similar(own)
    right = np.diagonal(mine)
    elsewhere = np.where(np.eye(len(own), dtype=bool), 0.0, mine).max(1, initial=0.0)
    swapped = np.max([np.diagonal(similar(points)) for points in others], 0, initial=0.0)
    kinds = np.select([right >= GOOD, right >= NEAR, elsewhere >= NEAR, swapped >= NEAR], range(4), default=4)
    return np.where(own[:, 2] > 0, kinds, -1)


def keypoint_errors(
    samples: Sequence[Sample],
    matches: Sequence[Match],
    objects: Mapping[int, Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    sigmas: Sequence[float],
    score_threshold: float,
) -> KeypointErrors:
    """Counts the errors of all keypoints of objects that were found.

    Args:
        samples: The images.
        matches: Matching of each image.
        objects: By annotation id, ``keypoints`` (x, y, visibility, ...) and ``area``.
        detections: All detections, with ``keypoints`` (x, y, score, ...).
        names: K names.
        sigmas: K numbers.
        score_threshold: Detections with a lower score count as absent.
    """
    spread = np.asarray(sigmas, np.float64)
    counts = np.zeros((len(names), len(KINDS)), int)
    distances: list[list[float]] = [[] for _ in names]
    for sample, match in zip(samples, matches, strict=True):
        points = {
            int(g): np.reshape(objects[int(g)]["keypoints"], (-1, 3)).astype(float) for g in sample.objects
        }
        counted = [int(g) for g, crowd in zip(sample.objects, sample.crowd, strict=True) if not crowd]
        for d in np.flatnonzero((sample.scores >= score_threshold) & (match.partner >= 0)):
            identity = int(sample.objects[match.partner[d]])
            own = points[identity]
            found = np.reshape(detections[sample.found[d]]["keypoints"], (-1, 3))[:, :2].astype(float)
            others = [points[g] for g in counted if g != identity]
            kinds = error_kinds(found, own, others, objects[identity]["area"], spread)
            for k in np.flatnonzero(kinds >= 0):
                counts[k, kinds[k]] += 1
                distances[k].append(float(np.hypot(*(found[k] - own[k, :2]))))
    medians = np.array([np.median(own) if own else np.nan for own in distances])
    return KeypointErrors(tuple(names), tuple(sigmas), counts, medians)


def keypoint_section(
    errors: KeypointErrors | None, metrics: Mapping[str, Any], score_threshold: float
) -> str:
    """The section of a page about keypoints.

    Args:
        errors: From `keypoint_errors`; None where keypoints are not measured.
        metrics: As ``evaluation.coco.coco_metrics`` returns them.
        score_threshold: That of the errors.
    """
    if errors is None:
        return ""
    rows = [
        (name.replace("_", " "), number(metrics[f"keypoint_{name}"]), meaning) for name, meaning in _METRICS
    ]
    text = table(
        "COCO's ten numbers for keypoints, from 0 to 1, by object keypoint similarity (OKS)",
        ("", "keypoints", "of"), rows, words=(2,),
    )  # fmt: skip
    total = errors.counts.sum(0)
    rows = [
        _row(escape(name), counts, number(distance, 1), f"{sigma:g}")
        for name, counts, distance, sigma in zip(
            errors.names, errors.counts, errors.distances.tolist(), errors.sigmas, strict=True
        )
    ]
    rows.append(_row("all", total, "", ""))
    caption = (
        f"Annotated keypoints of the objects that were found, at IoU {FOREGROUND} and the score "
        f"{score_threshold:g}: the share of each kind, and the median distance in pixels"
    )
    head = ("keypoint", "annotated", *KINDS, "distance", "sigma")
    return (
        text
        + "<h3>Errors by keypoint</h3>\n"
        + f"<p>A keypoint is good if its similarity with the annotated one is {GOOD} or more, and jitters "
        f"from {NEAR} on. Otherwise it is an inversion near another keypoint of its object, a swap near the "
        "same keypoint of another object, and else a miss.</p>\n"
        + table(caption, head, rows)
        + '<p class="muted">The types are those of Ronchi and Perona 2017, '
        '<a href="https://arxiv.org/abs/1707.05388">arXiv:1707.05388</a>.</p>\n'
    )


def _row(name: str, counts: np.ndarray, distance: str, sigma: str) -> tuple[str, ...]:
    annotated = int(counts.sum())
    shares = [number(count / annotated if annotated else None, 2) for count in counts.tolist()]
    return (name, f"{annotated:,}", *shares, distance, sigma)
