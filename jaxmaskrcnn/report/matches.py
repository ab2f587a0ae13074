"""COCO's matching of detections and objects, as arrays that every part of a report uses.

Shape legend: D detections and G objects of one image; N detections of all images, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.evaluation.coco import GroundTruth

MAX_DETECTIONS = 100  # of one image and class, as in COCO's protocol


class Sample(NamedTuple):
    """One image. Detections are in descending order of score; labels number the classes from 0.

    Attributes:
        image_id: Id of the image in the annotations.
        found: int [D], each detection's index in the list of all detections.
        scores: float64 [D].
        labels: int [D].
        objects: int [G], each object's annotation id in the ``GroundTruth``.
        object_labels: int [G].
        crowd: bool [G], regions that hold many objects.
        ious: float64 [D, G] over all classes; with a crowd region, the share of the detection inside it.
    """

    image_id: int
    found: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    objects: np.ndarray
    object_labels: np.ndarray
    crowd: np.ndarray
    ious: np.ndarray


class Match(NamedTuple):
    """One image's detections at one IoU threshold.

    Attributes:
        partner: int [D], index of the object that a detection found; -1 if none.
        ignored: bool [D], detections inside a crowd region: neither right nor wrong.
    """

    partner: np.ndarray
    ignored: np.ndarray


class Pool(NamedTuple):
    """The detections of all images that are not ignored, in order of image id.

    Attributes:
        scores: float64 [N].
        labels: int [N].
        correct: bool [N].
        counts: int [K], objects of each class, without crowd regions.
    """

    scores: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    counts: np.ndarray


def make_samples(
    ground_truth: GroundTruth, detections: Sequence[dict[str, Any]], iou_type: str
) -> list[Sample]:
    """Sorts objects and detections by image and computes their overlaps.

    Args:
        ground_truth: The annotations.
        detections: COCO results whose image and category ids the annotations have.
        iou_type: ``"segm"`` or ``"bbox"``.

    Returns:
        A ``Sample`` for each image, in ascending order of its id.

    Example:
        >>> truth = {"images": [{"id": 1}], "categories": [{"id": 7}], "annotations": [
        ...     {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 4, 4]}]}
        >>> found = [{"image_id": 1, "category_id": 7, "score": 0.9, "bbox": [0, 0, 4, 2]}]
        >>> make_samples(GroundTruth(truth), found, "bbox")[0].ious
        array([[0.5]])
    """
    labels = {category.id: k for k, category in enumerate(ground_truth.categories)}
    key = {"segm": "segmentation", "bbox": "bbox"}[iou_type]
    by_image: dict[int, tuple[list, list]] = {i: ([], []) for i in sorted(ground_truth.image_ids)}
    for entry in ground_truth.objects(iou_type):
        if entry["category_id"] in labels:
            by_image[entry["image_id"]][0].append(entry)
    for i, entry in enumerate(detections):
        by_image[entry["image_id"]][1].append((i, entry))
    return [_sample(*item, labels, key) for item in by_image.items()]


def _sample(image_id, entries, labels, key) -> Sample:
    objects, found = entries
    classes = np.array([labels[d["category_id"]] for _, d in found], int)
    scores = np.array([d["score"] for _, d in found], np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[_rank_in_class(classes[order]) < MAX_DETECTIONS]
    crowd = np.array([o["iscrowd"] for o in objects], bool)
    ious = np.zeros((len(order), len(objects)))
    if ious.size:
        ious[:] = rle_codec.iou([found[i][1][key] for i in order], [o[key] for o in objects], crowd.tolist())
    return Sample(
        image_id,
        np.array([found[i][0] for i in order], int),
        scores[order],
        classes[order],
        np.array([o["id"] for o in objects], int),
        np.array([labels[o["category_id"]] for o in objects], int),
        crowd,
        ious,
    )


def _rank_in_class(labels) -> np.ndarray:
    """The number of entries with the same label before each one."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - first
    return rank


def match(sample: Sample, iou_threshold: float) -> Match:
    """COCO's greedy matching of one image.

    In descending order of score, each detection is matched with the free object of its class with which
    it overlaps most, if the overlap reaches the threshold. A detection without an object is ignored if
    its overlap with a crowd region of its class reaches the threshold.

    Args:
        sample: The image.
        iou_threshold: In 0..1.

    Returns:
        The partners. A detection's partner does not depend on detections with lower scores.
    """
    partner = np.full(len(sample.scores), -1)
    ignored = np.zeros(len(sample.scores), bool)
    # The rounding of pycocotools, so that an overlap of exactly 1 meets a threshold of 1.
    near = sample.ious >= min(iou_threshold, 1 - 1e-10)
    near &= sample.labels[:, None] == sample.object_labels[None]
    free = ~sample.crowd
    for d in np.flatnonzero(near.any(1)):
        candidates = np.flatnonzero(near[d] & free)
        if len(candidates):
            # Of equal overlaps pycocotools takes the last.
            best = candidates[::-1][np.argmax(sample.ious[d, candidates[::-1]])]
            partner[d] = best
            free[best] = False
        else:
            ignored[d] = (near[d] & sample.crowd).any()
    return Match(partner, ignored)


def pool(samples: Sequence[Sample], matches: Sequence[Match], num_classes: int) -> Pool:
    """Pools the detections of all images, without ignored ones.

    Args:
        samples: The images.
        matches: Matching of each image.
        num_classes: K.
    """
    kept = [~m.ignored for m in matches]

    def join(parts, dtype):
        return np.concatenate([np.zeros(0, dtype), *parts])

    objects = join([s.object_labels[~s.crowd] for s in samples], int)
    return Pool(
        join([s.scores[k] for s, k in zip(samples, kept, strict=True)], np.float64),
        join([s.labels[k] for s, k in zip(samples, kept, strict=True)], int),
        join([m.partner[k] >= 0 for m, k in zip(matches, kept, strict=True)], bool),
        np.bincount(objects, minlength=num_classes),
    )
