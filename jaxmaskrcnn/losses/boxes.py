"""The loss of the box head's boxes, region by region.

Shapes: R regions.
"""

import jax

from jaxmaskrcnn.config import BoxConfig
from jaxmaskrcnn.losses.box_ious import BOX_LOSSES
from jaxmaskrcnn.losses.terms import smooth_l1
from jaxmaskrcnn.ops.boxes import decode_boxes, encode_boxes

Array = jax.Array


def box_errors(deltas: Array, boxes: Array, objects: Array, config: BoxConfig, stage: int = 0) -> Array:
    """The loss of each region's box.

    Source: Fast R-CNN, equation 3; MMDetection's ``reg_decoded_bbox`` for the forms of IoU.

    Args:
        deltas: float [R, 4], those of each region's class.
        boxes: float [R, 4], the regions.
        objects: float [R, 4], their objects' boxes.
        config: Gives the form of the loss and the stage's box weights.
        stage: The stage of a cascade, from 0.

    Returns:
        float [R], without the factor of the loss.

    Example:
        >>> box = jnp.array([[0.0, 0, 8, 8]])
        >>> box_errors(jnp.zeros((1, 4)), box, box, BoxConfig())
        Array([0.], dtype=float32)
    """
    weights = config.stages[stage].box_weights
    if config.loss.form in BOX_LOSSES:
        predicted = decode_boxes(deltas, boxes, weights, config.delta_clamp)
        return BOX_LOSSES[config.loss.form](predicted, objects)
    return smooth_l1(deltas - encode_boxes(boxes, objects, weights), config.loss.beta).sum(-1)
