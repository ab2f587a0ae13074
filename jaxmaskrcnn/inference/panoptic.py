"""The panoptic segmentation of an image, at its own scale, from a model's detections and semantic logits.

Shape legend: H, W height and width of the image, N detections, h, w of the finest level, C its channels.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.config import SemanticConfig
from jaxmaskrcnn.ops.panoptic import Window, combine
from jaxmaskrcnn.ops.semantic import pixel_labels


def image_panoptic(
    logits: np.ndarray,
    masks: Sequence[Window],
    scores: np.ndarray,
    labels: np.ndarray,
    image_size: Sequence[int],
    original_size: Sequence[int],
    stride: int,
    config: SemanticConfig,
    things: Sequence[int],
    stuff: Sequence[int],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Combines the detections of an image with the classes of its pixels.

    Args:
        logits: float [h, w, C], semantic logits of the network's input.
        masks: Masks of the N detections in windows of the image.
        scores: [N].
        labels: int [N].
        image_size: Height and width of the resized image, without padding.
        original_size: Height and width of the image before it was resized.
        stride: Pixels of the network's input per cell of the logits.
        config: Gives the thresholds, and the channel of all things.
        things: Category id of each label.
        stuff: Category id of each class of stuff.

    Returns:
        int32 [H, W], the number of each pixel's segment, 0 for none. And the segments: dictionaries with
        "id", its number; "category", its category id; "isthing"; "score", of stuff None; and "area" in
        pixels.

    Example:
        >>> config = SemanticConfig(stuff=("sky",), stuff_area=1)
        >>> logits = np.zeros((2, 2, 2)) + [0, 1]
        >>> none = np.zeros(0)
        >>> panoptic, segments = image_panoptic(
        ...     logits, [], none, none, (8, 8), (4, 4), 4, config, things=[1], stuff=[9]
        ... )
        >>> panoptic.tolist() == np.ones((4, 4)).tolist(), segments
        (True, [{'id': 1, 'category': 9, 'isthing': False, 'score': None, 'area': 16}])
    """
    height, width = (int(side) for side in original_size)
    channel = pixel_labels(logits, (int(image_size[0]), int(image_size[1])), (height, width), stride)
    # 0 for all things, wherever their channel is.
    semantic = channel if config.things == "first" else (channel + 1) % config.channels
    panoptic, segments = combine(
        masks, scores, labels, semantic,
        score_threshold=config.score_threshold,
        overlap_threshold=config.overlap_threshold,
        stuff_area=config.stuff_area,
    )  # fmt: skip
    return panoptic, [
        {
            "id": s.id,
            "category": int((things if s.isthing else stuff)[s.label]),
            "isthing": s.isthing,
            "score": float(scores[s.instance]) if s.isthing else None,
            "area": s.area,
        }
        for s in segments
    ]


def only_categories(
    panoptic: np.ndarray, segments: list[dict[str, Any]], chosen: Collection[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Leaves out the segments of other categories; those that stay keep their numbers.

    Args:
        panoptic: int32 [H, W], from `image_panoptic`.
        segments: Its segments.
        chosen: Ids of the categories to keep.

    Example:
        >>> segments = [{"id": 1, "category": 5}, {"id": 2, "category": 7}]
        >>> panoptic, kept = only_categories(np.array([[1, 2]]), segments, {7})
        >>> panoptic.tolist(), kept
        ([[0, 2]], [{'id': 2, 'category': 7}])
    """
    kept = [segment for segment in segments if segment["category"] in chosen]
    numbers = [segment["id"] for segment in kept]
    return np.where(np.isin(panoptic, numbers), panoptic, 0).astype(panoptic.dtype), kept
