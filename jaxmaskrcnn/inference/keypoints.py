"""Keypoints of detections: at the scale of the image, and in COCO's form.

Shape legend: N detections of an image, K keypoints, S the side of a heat-map.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.ops.keypoints import decode_keypoints

_SEEN = 2  # COCO's visibility of what a model finds, which does not tell hidden keypoints


def image_keypoints(
    logits: np.ndarray,
    boxes: np.ndarray,
    image_size: Sequence[int],
    original_size: Sequence[int],
    config: KeypointConfig,
) -> np.ndarray:
    """Finds the keypoints of an image's detections.

    Args:
        logits: float [N, K, S, S], heat-maps.
        boxes: float32 [N, 4], XYXY in pixels of the network's input: what the heat-maps cover.
        image_size: Height and width of the resized image, without padding.
        original_size: Height and width of the image before it was resized.
        config: Gives the rule of the score.

    Returns:
        float32 [N, K, 3]: x and y in pixels of the original image, not clipped to it, and the score.

    Example:
        >>> logits = np.zeros((1, 1, 4, 4))
        >>> logits[0, 0, 1, 2] = 8.0
        >>> box, config = np.float32([[10, 20, 18, 28]]), KeypointConfig(points=("tip",))
        >>> image_keypoints(logits, box, (100, 100), (50, 200), config)[0, 0, :2].tolist()
        [29.0, 11.25]
    """
    found = decode_keypoints(logits, boxes, config.score)
    # Each axis by its own ratio (torchvision `resize_keypoints`, Detectron2 `detector_postprocess`).
    ratio = np.asarray(original_size, np.float64) / np.asarray(image_size, np.float64)
    found[..., :2] *= ratio[::-1].astype(np.float32)
    return found


def coco_keypoints(points: np.ndarray, config: KeypointConfig, *, annotated: bool = False) -> list[float]:
    """Makes COCO's flat list of one object's keypoints.

    Args:
        points: float [K, 3], x, y and score, as ``Predictor`` returns them.
        config: Gives the offset of the model's coordinates from COCO's, which is subtracted (Detectron2).
        annotated: Whether the third number is a visibility, as in annotations, in place of the score, as in
            results.

    Returns:
        ``x, y, score, x, ...``

    Example:
        >>> config = KeypointConfig(points=("tip",), offset=0.5)
        >>> coco_keypoints(np.array([[3.0, 4.5, 0.25]]), config)
        [2.5, 4.0, 0.25]
    """
    rows = np.asarray(points, np.float64) - [config.offset, config.offset, 0]
    if annotated:
        rows[:, 2] = _SEEN
    return rows.ravel().tolist()


def category_entries(categories: Sequence[Any], config: KeypointConfig | None) -> list[dict[str, Any]]:
    """Makes the categories of a COCO json, with the keypoints that all of them have.

    Args:
        categories: The model's categories.
        config: The model's keypoint head, or None.

    Example:
        >>> config = KeypointConfig(points=("head", "foot"), skeleton=((0, 1),))
        >>> category_entries([jmr.Category(1, "person")], config)
        [{'id': 1, 'name': 'person', 'keypoints': ['head', 'foot'], 'skeleton': [[1, 2]]}]
    """
    own: dict[str, Any] = {}
    if config is not None:
        own = {
            "keypoints": list(config.points),
            "skeleton": [[first + 1, last + 1] for first, last in config.lines],
        }
    return [{**category._asdict(), **own} for category in categories]
