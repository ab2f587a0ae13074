"""COCO results: the entries that detections are written as, and those of them that are scored."""

import collections
from typing import Any

import numpy as np

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.inference.keypoints import coco_keypoints

_MOST_NUMBERS = 64  # of an object, that a json of results has of what further heads predict


def coco_results(
    out: dict[str, Any], image_id: int, keypoints: KeypointConfig | None = None
) -> list[dict[str, Any]]:
    """Makes the COCO result entries of one image.

    Args:
        out: Boxes, scores, labels and RLE masks, as returned by ``postprocess(..., masks="rle")``.
        image_id: Id of the image in the annotations.
        keypoints: The model's keypoint head, or None.

    Returns:
        One dictionary per detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width,
        height in pixels), ``score`` and, where there are any, ``segmentation``, ``keypoints`` and ``extra``:
        what further heads predict, unless it is more than 64 numbers an object.
    """
    corners = out["boxes"].astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    results = []
    for i, (box, label, score) in enumerate(zip(boxes, out["labels"], out["scores"], strict=True)):
        entry = {"image_id": image_id, "category_id": int(label), "bbox": box, "score": float(score)}
        if "masks" in out:
            entry["segmentation"] = out["masks"][i]
        if keypoints is not None and "keypoints" in out:
            entry["keypoints"] = coco_keypoints(out["keypoints"][i], keypoints)
        if "extra" in out:
            small = {name: x[i].tolist() for name, x in out["extra"].items() if x[i].size <= _MOST_NUMBERS}
            entry["extra"] = small
        results.append(entry)
    return results


def best_of_each_image(detections: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The first so many COCO results of each image, where they are in descending order of score.

    Example:
        >>> best_of_each_image([{"image_id": 1, "score": 0.9}, {"image_id": 1, "score": 0.8}], 1)
        [{'image_id': 1, 'score': 0.9}]
    """
    seen: collections.Counter = collections.Counter()
    kept = []
    for entry in detections:
        seen[entry["image_id"]] += 1
        if seen[entry["image_id"]] <= limit:
            kept.append(entry)
    return kept
