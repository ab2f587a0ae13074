"""IoUs of pairs of boxes with terms for what an IoU does not see: the distance of their centres, their shape.

Shape legend: leading axes written ``...`` are free and broadcast. Boxes are XYXY in pixels.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

_EPSILON = 1e-7  # smallest divisor, as in torchvision


def paired_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """IoU of each box of ``a`` with the box of ``b`` in its place.

    Args:
        a: [..., 4] XYXY.
        b: [..., 4].

    Returns:
        [...], 0 where both are empty.

    Example:
        >>> paired_iou(jnp.array([0.0, 0, 2, 2]), jnp.array([1.0, 0, 3, 2]))
        Array(0.33333334, dtype=float32)
    """
    a, b = _float(a), _float(b)
    shared = _sides(jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])).prod(-1)
    union = sum((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)) - shared
    return shared / jnp.maximum(union, _EPSILON)


def distance_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """The IoU minus the squared distance of the centres, relative to the squared diagonal around both boxes.

    Source: Zheng et al., "Distance-IoU Loss", 2020, equation 7; torchvision's ``distance_box_iou_loss``,
    which is 1 minus it.

    Args:
        a: [..., 4] XYXY.
        b: [..., 4].

    Returns:
        [...], from -1 to 1.

    Example:
        >>> distance_iou(jnp.array([0.0, 0, 2, 2]), jnp.array([2.0, 0, 4, 2]))  # 4 of 20
        Array(-0.2, dtype=float32)
    """
    a, b = _float(a), _float(b)
    around = _sides(jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:]))
    distance = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diagonal = jnp.maximum((around**2).sum(-1), _EPSILON)
    return paired_iou(a, b) - (distance**2).sum(-1) / diagonal


def complete_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """The distance IoU minus a term for the difference of the aspect ratios.

    Source: Zheng et al., 2020, equation 10; torchvision's ``complete_box_iou_loss``, which is 1 minus it. No
    gradient flows through the factor of the term. MMDetection's ``CIoULoss`` leaves the term out where the
    IoU is at most 0.5.

    Args:
        a: [..., 4] XYXY.
        b: [..., 4].

    Returns:
        [...].

    Example:
        >>> complete_iou(jnp.array([0.0, 0, 2, 2]), jnp.array([2.0, 0, 4, 2]))  # two squares
        Array(-0.2, dtype=float32)
    """
    a, b = _float(a), _float(b)
    angle_a, angle_b = (
        jnp.arctan((x[..., 2] - x[..., 0]) / jnp.maximum(x[..., 3] - x[..., 1], _EPSILON)) for x in (a, b)
    )
    shape = 4 / math.pi**2 * (angle_b - angle_a) ** 2
    factor = jax.lax.stop_gradient(shape / (1 - paired_iou(a, b) + shape + _EPSILON))
    return distance_iou(a, b) - factor * shape


def _sides(low: Array, high: Array) -> Array:
    return jnp.maximum(high - low, 0)


def _float(boxes: ArrayLike) -> Array:
    boxes = jnp.asarray(boxes)
    return boxes.astype(jnp.promote_types(boxes.dtype, jnp.float32))
