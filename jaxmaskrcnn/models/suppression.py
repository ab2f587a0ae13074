"""What becomes of detections that overlap better ones, by `detections.nms_method`.

Shapes: N boxes, D detection slots.
"""

from collections.abc import Callable

import jax

from jaxmaskrcnn.config import DetectionConfig
from jaxmaskrcnn.ops.nms import limited_nms
from jaxmaskrcnn.ops.soft_nms import DECAYS, soft_nms

Array = jax.Array


def _greedy(
    boxes: Array, scores: Array, groups: Array, valid: Array, config: DetectionConfig
) -> tuple[Array, Array, Array]:
    index, found = limited_nms(boxes, scores, groups, config.nms_threshold, config.per_image, valid)
    return index, scores[index], found


def _soft(
    boxes: Array, scores: Array, groups: Array, valid: Array, config: DetectionConfig
) -> tuple[Array, Array, Array]:
    return soft_nms(
        boxes, scores, groups, config.nms_threshold, config.per_image, valid,
        decay=config.nms_method, sigma=config.nms_sigma, min_score=config.nms_min_score,
    )  # fmt: skip


# Each chooses the D best boxes of one image, of boxes [N, 4], scores [N], groups within which boxes compete,
# int [N], and bool [N], the boxes that count. It returns their index int [D], their scores [D], which it may
# have changed, and bool [D], where there is a box.
SUPPRESSION: dict[str, Callable[..., tuple[Array, Array, Array]]] = {
    "greedy": _greedy,
    **dict.fromkeys(DECAYS, _soft),
}
