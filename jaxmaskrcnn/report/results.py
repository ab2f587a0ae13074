"""Computes all numbers of a report, between reading the files and writing the page.

Shape legend: K classes, R = 101 recalls, I images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.evaluation.coco import GroundTruth, unique_names
from jaxmaskrcnn.evaluation.tables import PREFIXES
from jaxmaskrcnn.report.calibration import Reliability, reliability
from jaxmaskrcnn.report.confusion import confusion_matrix
from jaxmaskrcnn.report.counts import Counts, count_objects
from jaxmaskrcnn.report.curves import Operation, class_curves, class_operation, operation
from jaxmaskrcnn.report.errors import FOREGROUND, ErrorRow, ImageErrors, classify, error_table
from jaxmaskrcnn.report.keypoints import KeypointErrors, keypoint_errors
from jaxmaskrcnn.report.matches import Match, Sample, make_samples, match, pool
from jaxmaskrcnn.report.ranking import Outcome, outcome
from jaxmaskrcnn.report.segments import Quality, not_measured

THRESHOLDS = np.linspace(0, 1, 101)  # score thresholds at which precision and recall are computed


class Results(NamedTuple):
    """The numbers of a page.

    Attributes:
        names: K names; the id if two classes share a name.
        iou_type: ``"segm"`` if objects and detections have masks, else ``"bbox"``; all numbers except
            ``metrics`` refer to it.
        score_threshold: Threshold of ``precision``, ``recall``, ``confusion`` and ``outcomes``.
        metrics: As ``evaluation.coco.coco_metrics`` returns them.
        num_detections: Number of detections in all images.
        counts: int [K], objects of each class.
        crowds: Number of crowd regions.
        curves50: float [K, R], precision over recall at IoU 0.5; NaN without objects.
        curves75: The same at 0.75.
        precision: float [K], at the score threshold and IoU 0.5.
        recall: float [K].
        operation: Precision and recall of all classes over the score thresholds.
        reliability: Scores against the share of right detections.
        confusion: int [K + 1, K + 1].
        errors: A row for each type of error.
        samples: The I images.
        matches: Matching of each image, at IoU 0.5.
        image_errors: Errors of each image.
        outcomes: Rating of each image.
        object_counts: Objects and detections of each image and class.
        keypoints: Errors by keypoint; None where keypoints are not measured.
        quality: Panoptic quality; None where it is not measured.
        not_measured: Sentences about what is there and not measured.
    """

    names: list[str]
    iou_type: str
    score_threshold: float
    metrics: dict[str, Any]
    num_detections: int
    counts: np.ndarray
    crowds: int
    curves50: np.ndarray
    curves75: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    operation: Operation
    reliability: Reliability
    confusion: np.ndarray
    errors: list[ErrorRow]
    samples: list[Sample]
    matches: list[Match]
    image_errors: list[ImageErrors]
    outcomes: list[Outcome]
    object_counts: Counts
    keypoints: KeypointErrors | None = None
    quality: Quality | None = None
    not_measured: str = ""

    @property
    def prefix(self) -> str:
        """``"mask"`` or ``"box"``, to which all numbers except ``metrics`` refer."""
        return PREFIXES[self.iou_type]

    @property
    def noun(self) -> str:
        """ "Masks" or "Boxes", the first word of sentences about the numbers."""
        return "Masks" if self.iou_type == "segm" else "Boxes"

    def by_ap(self) -> np.ndarray:
        """int [K]: the classes in ascending order of AP; those without objects come last."""
        per_class = (self.metrics["per_class"][name][f"{self.prefix}_AP"] for name in self.names)
        return np.argsort([np.inf if ap is None else ap for ap in per_class], kind="stable")


def compute(
    ground_truth: GroundTruth,
    detections: list[dict],
    score_threshold: float,
    quality: Quality | None = None,
    sigmas: Sequence[float] = (),
) -> Results:
    """Computes a report.

    Args:
        ground_truth: The annotations.
        detections: COCO results, checked; all with masks or all without.
        score_threshold: Detections with a lower score are left out where a threshold is needed.
        quality: Panoptic quality, from `segments.read_quality`, or None.
        sigmas: By how much the place of each keypoint may vary; () takes COCO's for a person's, and 0.05 for
            others.

    Returns:
        The results. Without detections they refer to masks if the objects have any.
    """
    masks = ground_truth.has_masks and all(d.get("segmentation") is not None for d in detections)
    iou_types = ("bbox", "segm") if masks else ("bbox",)
    names, count = unique_names(ground_truth.categories), len(ground_truth.categories)
    samples = make_samples(ground_truth, detections, iou_types[-1])
    matches = [match(sample, FOREGROUND) for sample in samples]
    strict = [match(sample, 0.75) for sample in samples]
    errors = [classify(*pair) for pair in zip(samples, matches, strict=True)]
    found = pool(samples, matches, count)
    precision, recall = class_operation(found, score_threshold)
    points = None
    if ground_truth.skeleton is not None and all("keypoints" in entry for entry in detections):
        names_of_points = ground_truth.skeleton.points
        points = keypoint_errors(
            samples, matches, ground_truth.keypoints(), detections, names_of_points,
            sigmas or KeypointConfig(points=names_of_points).known_sigmas, score_threshold,
        )  # fmt: skip
    measured = (*iou_types, "keypoints") if points is not None else iou_types
    return Results(
        names=names,
        iou_type=iou_types[-1],
        score_threshold=score_threshold,
        metrics=ground_truth.score(detections, measured, sigmas),
        num_detections=len(detections),
        counts=found.counts,
        crowds=int(sum(sample.crowd.sum() for sample in samples)),
        curves50=class_curves(found),
        curves75=class_curves(pool(samples, strict, count)),
        precision=precision,
        recall=recall,
        operation=operation(found, THRESHOLDS),
        reliability=reliability(found.scores, found.correct),
        confusion=confusion_matrix(
            samples, matches, count, iou_threshold=FOREGROUND, score_threshold=score_threshold
        ),
        errors=error_table(samples, matches, errors, count),
        samples=samples,
        matches=matches,
        image_errors=errors,
        outcomes=[outcome(*pair, score_threshold) for pair in zip(samples, matches, strict=True)],
        object_counts=count_objects(samples, matches, count, score_threshold),
        keypoints=points,
        quality=quality,
        not_measured=not_measured(ground_truth, quality, points is not None, detections),
    )
