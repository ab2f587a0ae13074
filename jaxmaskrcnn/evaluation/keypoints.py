"""COCO's average precision of keypoints, by their object keypoint similarity (OKS).

pycocotools computes it. Its evaluation prints and keeps what it finds in dictionaries, but keypoints are few.

Shape legend: K keypoints.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.regions import Detected
from jaxmaskrcnn.evaluation.tables import KEYPOINT_STATS
from jaxmaskrcnn.utils.json_values import is_finite

_AREA = 0  # the place of "all" among pycocotools' areas


def annotated_keypoints(
    objects: Sequence[Any], count: int, places: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Makes the objects that keypoints are scored against.

    Args:
        objects: An image, an object and its box x, y, width, height of each.
        count: K.
        places: The place of each image, by id.

    Returns:
        COCO annotations whose ``image_id`` is the place of the image, and whose ``category_id`` is the label.
        ``num_keypoints`` is counted: objects without keypoints are neither right nor wrong.
    """
    entries = []
    for number, (image, item, box) in enumerate(objects, 1):
        keypoints = json.loads(item.keypoints) if item.keypoints else [0] * 3 * count
        entries.append(
            {
                "id": number,
                "image_id": places[image.id],
                "category_id": item.label,
                "iscrowd": int(item.crowd),
                "area": float(item.area),
                "bbox": list(map(float, box)),
                "keypoints": keypoints,
                "num_keypoints": sum(value > 0 for value in keypoints[2::3]),
            }
        )
    return entries


def keypoint_metrics(
    annotated: list[dict[str, Any]], found: Detected, classes: int, count: int, sigmas: Sequence[float]
) -> tuple[dict[str, float | None], list[float | None]]:
    """Scores the keypoints of detections.

    Args:
        annotated: From `annotated_keypoints`.
        found: The detections; those of unknown classes are left out.
        classes: Number of classes.
        count: K.
        sigmas: Of each keypoint.

    Returns:
        The numbers of `KEYPOINT_STATS` with the prefix "keypoint_", and the AP of each class. None where
        there is nothing to score against.

    Raises:
        UserError: A detection has no list of K keypoints.
    """
    results = []
    for number, (entry, image, label) in enumerate(
        zip(found.entries, found.images, found.labels, strict=True)
    ):
        keypoints = entry.get("keypoints")
        if (
            not isinstance(keypoints, list)
            or len(keypoints) != 3 * count
            or not all(map(is_finite, keypoints))
        ):
            raise UserError(
                f"Detection {number} (from 0), of image {entry.get('image_id')!r}, has no list of {count} "
                "keypoints, x, y, score, ...; give results of a model that finds them."
            )
        if label >= 0:
            width, height = entry["bbox"][2:]
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": int(image),
                    "category_id": int(label),
                    "score": float(entry["score"]),
                    "bbox": entry["bbox"],
                    "area": float(width * height),
                    "keypoints": keypoints,
                    "iscrowd": 0,
                }
            )
    images = sorted({entry["image_id"] for entry in (*annotated, *results)})
    with contextlib.redirect_stdout(None):  # pycocotools prints its progress
        evaluation = COCOeval(
            _index(annotated, images, classes), _index(results, images, classes), "keypoints"
        )
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][..., _AREA, 0]  # [thresholds, recalls, classes]
    per_class = [_mean(precision[:, :, label]) for label in range(classes)]
    stats = {
        f"keypoint_{name}": _number(value)
        for (name, *_), value in zip(KEYPOINT_STATS, evaluation.stats, strict=True)
    }
    return stats, per_class


def _index(entries: list[dict[str, Any]], images: list[int], classes: int) -> COCO:
    content = COCO()
    content.dataset = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": [dict(entry) for entry in entries],  # pycocotools writes into them
    }
    content.createIndex()
    return content


def _mean(precision: np.ndarray) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _number(value: float) -> float | None:
    return None if value < 0 else float(value)
