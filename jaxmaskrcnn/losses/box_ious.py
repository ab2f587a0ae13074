"""Losses of boxes by their IoU with the objects, in place of those of deltas.

Shapes: [...] pairs of boxes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.boxes import box_area, generalised_iou
from jaxmaskrcnn.ops.paired_iou import complete_iou, distance_iou

Array = jax.Array


def iou_loss(predicted: Array, matched: Array) -> Array:
    """The negative logarithm of the IoU, which counts as 1e-6 where it is less.

    Source: Yu et al., 2016, "UnitBox"; MMDetection's ``IoULoss``.

    Args:
        predicted: [..., 4] XYXY.
        matched: [..., 4] XYXY, one for each of ``predicted``.

    Returns:
        [...].

    Example:
        >>> iou_loss(jnp.array([0.0, 0, 2, 2]), jnp.array([0.0, 0, 2, 4])).round(4)  # log 2
        Array(0.6931, dtype=float32)
    """
    sides = jnp.minimum(predicted[..., 2:], matched[..., 2:]) - jnp.maximum(
        predicted[..., :2], matched[..., :2]
    )
    overlap = jnp.maximum(sides, 0).prod(-1)
    union = jnp.maximum(box_area(predicted) + box_area(matched) - overlap, 1e-6)
    return -jnp.log(jnp.maximum(overlap / union, 1e-6))


def generalised_iou_loss(predicted: Array, matched: Array) -> Array:
    """1 minus the generalised IoU (Rezatofighi et al., 2019); arguments as of `iou_loss`."""
    return 1 - generalised_iou(predicted, matched)


def bounded_iou_loss(predicted: Array, matched: Array, beta: float = 0.2, epsilon: float = 1e-3) -> Array:
    """Smooth L1 of upper bounds of the IoU, by the centre's place and by the size on each axis.

    Source: Tychsen-Smith and Petersson, 2018, section 4; MMDetection's ``BoundedIoULoss``.

    Args:
        predicted: [..., 4] XYXY.
        matched: [..., 4] XYXY, one for each of ``predicted``.
        beta: Where it begins to be linear.
        epsilon: Added to the sides by which it divides.

    Returns:
        [...], the sum of the four.

    Example:
        >>> box = jnp.array([0.0, 0, 2, 2])
        >>> bool(bounded_iou_loss(box, box) < bounded_iou_loss(box, box + 1))
        True
    """
    side, own_side = (x[..., 2:] - x[..., :2] for x in (matched, predicted))
    moved = 2 * jnp.abs((matched[..., 2:] + matched[..., :2] - predicted[..., 2:] - predicted[..., :2]) / 2)
    centre = 1 - jnp.maximum((side - moved) / (side + moved + epsilon), 0)
    size = 1 - jnp.minimum(side / (own_side + epsilon), own_side / (side + epsilon))
    error = jnp.concatenate([centre, size], -1)
    return jnp.where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta).sum(-1)


def distance_iou_loss(predicted: Array, matched: Array) -> Array:
    """1 minus the distance IoU (`ops.paired_iou.distance_iou`); arguments as of `iou_loss`."""
    return 1 - distance_iou(predicted, matched)


def complete_iou_loss(predicted: Array, matched: Array) -> Array:
    """1 minus the complete IoU (`ops.paired_iou.complete_iou`); arguments as of `iou_loss`."""
    return 1 - complete_iou(predicted, matched)


# By `BoxHeadLossConfig.form`.
BOX_LOSSES = {
    "iou": iou_loss,
    "giou": generalised_iou_loss,
    "bounded_iou": bounded_iou_loss,
    "diou": distance_iou_loss,
    "ciou": complete_iou_loss,
}
