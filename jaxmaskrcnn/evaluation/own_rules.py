"""Numbers by one's own rules, which stand beside those of COCO's protocol and never in their place.

They are what COCO's fixed limits hide: more than 100 detections of an image and class in crowded pictures,
other limits between small, medium and large objects, and what a model does at the one score threshold it is
used with.

Shape legend: K classes; M detections that count, of all classes or of one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.evaluation.accumulate import accumulate, summarize
from jaxmaskrcnn.evaluation.coco import GroundTruth, unique_names
from jaxmaskrcnn.evaluation.matching import IGNORED, MAX_DETECTIONS, RIGHT, SIZES, Outcomes
from jaxmaskrcnn.evaluation.tables import PREFIXES, STATS, Stat

IOU = 0.5  # at which precision, recall and F1 are counted


class Limits(NamedTuple):
    """Limits of one's own.

    Attributes:
        max_detections: Detections of an image and class that count; None for COCO's 100.
        areas: Square pixels that separate small from medium and medium from large objects; None for COCO's.
    """

    max_detections: int | None = None
    areas: tuple[float, float] | None = None

    @property
    def sizes(self) -> dict[str, tuple[float, float]]:
        """The limits of the size classes, in square pixels."""
        if self.areas is None:
            return dict(SIZES)
        low, high = self.areas
        most = SIZES["all"][1]
        return {"all": SIZES["all"], "small": (0, low), "medium": (low, high), "large": (high, most)}

    @property
    def stats(self) -> tuple[Stat, ...]:
        """The numbers that are measured: COCO's with this many detections."""
        limit = self.max_detections or MAX_DETECTIONS
        return tuple(
            stat._replace(limit=limit, name=f"AR{limit}" if stat.name == "AR100" else stat.name)
            for stat in STATS
            if stat.limit == MAX_DETECTIONS
        )


def limited_metrics(
    truth: GroundTruth, detections: list[dict], iou_types: Sequence[str], limits: Limits
) -> dict[str, Any]:
    """COCO's average precision and recall with other limits.

    Args:
        truth: The annotations.
        detections: COCO results.
        iou_types: Some of ``"bbox"`` and ``"segm"``.
        limits: The limits.

    Returns:
        ``max_detections``, ``areas`` (two numbers), and for ``box_`` and ``mask_`` COCO's numbers, of which
        the recall of all sizes is named by its limit, such as ``mask_AR300``. None where there are no
        objects.
    """
    numbers: dict[str, Any] = {
        "max_detections": limits.max_detections or MAX_DETECTIONS,
        "areas": list(limits.areas or SIZES["medium"]),
    }
    for iou_type in iou_types:
        matched = truth.outcomes(detections, iou_type, limit=numbers["max_detections"], sizes=limits.sizes)
        for name, value in summarize(accumulate(matched, limits.stats), limits.stats).items():
            numbers[f"{PREFIXES[iou_type]}_{name}"] = None if np.isnan(value) else value
    return numbers


def metrics_at_score(
    truth: GroundTruth, detections: list[dict], iou_types: Sequence[str], score: float
) -> dict[str, Any]:
    """What is left of a model when it is used with a score threshold.

    Args:
        truth: The annotations.
        detections: COCO results; those that do not score higher are left out, as by ``predict``.
        iou_types: Some of ``"bbox"`` and ``"segm"``.
        score: The threshold.

    Returns:
        ``score``, and for ``box_`` and ``mask_``: ``AP`` and ``AR100`` as in COCO's protocol, and at IoU 0.5
        ``precision``, ``recall`` and ``f1`` of the detections of all classes together; ``per_class`` has
        these three of each class. None where it would be a division by zero.
    """
    kept = [entry for entry in detections if entry["score"] > score]
    names = unique_names(truth.categories)
    numbers: dict[str, Any] = {"score": score, "per_class": {name: {} for name in names}}
    for iou_type in iou_types:
        prefix, matched = PREFIXES[iou_type], truth.outcomes(kept, iou_type)
        means = summarize(accumulate(matched))
        for name in ("AP", "AR100"):
            numbers[f"{prefix}_{name}"] = None if np.isnan(means[name]) else means[name]
        right, counted = _right_and_counted(matched)
        numbers |= _rates(prefix, right.sum(), counted.sum(), matched.counts[:, 0].sum())
        for k, name in enumerate(names):
            own = matched.labels == k
            rates = _rates(prefix, right[own].sum(), counted[own].sum(), matched.counts[k, 0])
            numbers["per_class"][name].update(rates)
    return numbers


def best_thresholds(truth: GroundTruth, detections: list[dict], iou_type: str) -> dict[str, Any]:
    """The score threshold with the highest F1 at IoU 0.5, of all classes together and of each.

    Args:
        truth: The annotations.
        detections: COCO results.
        iou_type: ``"bbox"`` or ``"segm"``.

    Returns:
        ``of`` ("box" or "mask"), ``all``, and ``classes`` by category id, each with ``threshold``, ``f1``,
        ``precision``, ``recall`` and ``objects``; of classes the ``name`` too. Detections must score higher
        than a threshold, which lies in the middle between the last score that is kept and the next one.
        Where no detection is right, there is no threshold, which is None.
    """
    matched = truth.outcomes(detections, iou_type)
    right, counted = _right_and_counted(matched)

    def best(rows, objects):
        return best_threshold(matched.scores[rows], right[rows], int(objects))

    return {
        "of": PREFIXES[iou_type],
        "all": best(counted, matched.counts[:, 0].sum()),
        "classes": {
            category.id: {
                "name": category.name,
                **best(counted & (matched.labels == k), matched.counts[k, 0]),
            }
            for k, category in enumerate(truth.categories)
        },
    }


def best_threshold(scores: np.ndarray, right: np.ndarray, objects: int) -> dict[str, Any]:
    """The score threshold with the highest F1, of equal ones the highest.

    Args:
        scores: float [M].
        right: bool [M], whether each detection is right.
        objects: Objects that are to be found.

    Returns:
        See `best_thresholds`.

    Example:
        >>> best = best_threshold(np.array([0.9, 0.6, 0.2]), np.array([True, True, False]), 2)
        >>> best["threshold"], best["f1"]
        (0.4, 1.0)
    """
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    if not len(found) or not found[-1]:
        return {"threshold": None, "f1": None, "precision": None, "recall": None, "objects": objects}
    following = np.append(scores[1:], 0.0)
    f1 = 2 * found / (np.arange(1, len(found) + 1) + objects)
    last = int(np.argmax(np.where(scores > following, f1, -1)))  # equal scores are kept or dropped together
    return {
        "threshold": float((scores[last] + following[last]) / 2),
        "f1": float(f1[last]),
        "precision": float(found[last] / (last + 1)),
        "recall": float(found[last] / objects),
        "objects": objects,
    }


def _right_and_counted(matched: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """bool [M] twice, at IoU 0.5 and of objects of all sizes: right detections, and those not ignored."""
    outcomes = matched.outcomes[:, 0, 0]
    return outcomes == RIGHT, outcomes != IGNORED


def _rates(prefix: str, right, found, objects) -> dict[str, float | None]:
    return {
        f"{prefix}_precision": float(right / found) if found else None,
        f"{prefix}_recall": float(right / objects) if objects else None,
        f"{prefix}_f1": float(2 * right / (found + objects)) if found + objects else None,
    }
