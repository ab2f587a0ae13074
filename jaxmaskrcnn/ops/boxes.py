"""Box geometry: areas, overlaps, the regression code of Faster R-CNN, clipping.

Shape legend: N and M boxes; leading axes written ``...`` are free and broadcast.
Boxes are XYXY in pixels, in continuous coordinates (the width is ``x2 - x1``).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import Pair, check_shapes, shape_of, to_rank
from jaxmaskrcnn.ops.static import check_broadcast, check_numbers, float_if_whole

# Larger deltas would scale a 16-pixel anchor to more than 1000 pixels.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)
_LOG_SCALES = {"max": (None, MAX_LOG_SCALE), "both": (-MAX_LOG_SCALE, MAX_LOG_SCALE), "none": (None, None)}


def box_area(boxes: ArrayLike) -> Array:
    """Areas of boxes in continuous coordinates, without the older "+ 1" of Caffe2 and MMDetection 1.

    Args:
        boxes: [..., 4], XYXY in pixels.

    Returns:
        [...], ``(x2 - x1) * (y2 - y1)`` in square pixels, at least float32.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box_area(jnp.array([[0.0, 0, 2, 3]]))
        Array([6.], dtype=float32)
    """
    check_shapes("box_area", boxes=(boxes, "... 4"))
    return _area(boxes)


def _area(boxes):
    boxes = _at_least_float32(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(a: ArrayLike, b: ArrayLike, *, epsilon: float = 0.0) -> Array:
    """Intersection over union of every box of ``a`` with every box of ``b``.

    Rounds like torchvision's ``box_iou`` in float32. A pair whose union is empty, or that has a
    NaN, has the value 0, where torchvision gives NaN, so padded boxes are harmless.

    Args:
        a: [N, 4], XYXY in pixels.
        b: [M, 4].
        epsilon: Lower limit of the union in square pixels (MMDetection: 1e-6).

    Returns:
        [N, M] in 0 to 1.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box_iou(jnp.array([[0.0, 0, 2, 2]]), jnp.array([[1.0, 0, 3, 2]]))
        Array([[0.33333334]], dtype=float32)
    """
    check_shapes("box_iou", a=(a, "N 4"), b=(b, "M 4"))
    intersection = _intersection(a, b)
    union = rounded_product(_area(a))[..., :, None] + rounded_product(_area(b))[..., None, :] - intersection
    return _safe_ratio(intersection, jnp.maximum(union, epsilon))


def generalised_iou(a: ArrayLike, b: ArrayLike, *, epsilon: float = 1e-6) -> Array:
    """Generalised IoU of pairs of boxes: the IoU minus the share of the box around both that neither has.

    Source: Rezatofighi et al., 2019; MMDetection's ``bbox_overlaps`` with the mode "giou".

    Args:
        a: [..., 4] XYXY.
        b: [..., 4] XYXY, one for each of ``a``.
        epsilon: Smallest area of the union and of the box around both.

    Returns:
        [...], from -1 to 1.

    Example:
        >>> generalised_iou(jnp.array([0.0, 0, 2, 2]), jnp.array([2.0, 0, 4, 2]))
        Array(0., dtype=float32)
    """
    a, b = _at_least_float32(a), _at_least_float32(b)
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    inner = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    outer = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    overlap, around = (jnp.maximum(x, 0).prod(-1) for x in (inner, outer))
    union = jnp.maximum(areas[0] + areas[1] - overlap, epsilon)
    around = jnp.maximum(around, epsilon)
    return overlap / union - (around - union) / around


def exceeds(iou: Array, threshold: float | Array) -> Array:
    """``iou > threshold``, where a threshold that is a Python number is compared in float64.

    torchvision's NMS on a CPU compares a float32 with a float64. The float32 next to 0.3 is a little
    larger than 0.3, so boxes with an IoU of 3 / 10 exceed a threshold of 0.3 there, while those with
    5 / 10 do not exceed 0.5.

    Args:
        iou: [...], from :func:`box_iou`.
        threshold: A number, or a scalar array, which is compared in its own dtype. Within ``jit`` an
            argument is an array unless it is static.

    Returns:
        bool [...].

    Example:
        >>> iou = jnp.array([0.3, 0.5])
        >>> exceeds(iou, 0.3)[0], exceeds(iou, 0.5)[1]
        (Array(True, dtype=bool), Array(False, dtype=bool))
    """
    if isinstance(threshold, jax.Array):
        return iou > threshold
    # An IoU exceeds the threshold if it exceeds the largest number of its dtype that does not.
    last = np.asarray(threshold, iou.dtype)
    if float(last) > float(threshold):
        last = np.nextafter(last, np.asarray(-np.inf, iou.dtype))
    return iou > last


def box_iof(a: ArrayLike, b: ArrayLike) -> Array:
    """The share of every box of ``a`` that lies inside each box of ``b``.

    COCO scores a detection against a crowd region with this instead of the IoU.

    Args:
        a: [N, 4], XYXY in pixels.
        b: [M, 4].

    Returns:
        [N, M] in 0 to 1; 0 for an empty box of ``a``.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box_iof(jnp.array([[0.0, 0, 2, 2]]), jnp.array([[1.0, 0, 9, 9]]))
        Array([[0.5]], dtype=float32)
    """
    check_shapes("box_iof", a=(a, "N 4"), b=(b, "M 4"))
    return _safe_ratio(_intersection(a, b), _area(a)[..., :, None])


def encode_boxes(boxes: ArrayLike, targets: ArrayLike, weights: Sequence[float]) -> Array:
    """Deltas that turn ``boxes`` into ``targets`` (Faster R-CNN, equation 2).

    Args:
        boxes: [..., 4], anchors or proposals, XYXY in pixels.
        targets: [..., 4], the boxes to reach.
        weights: Four factors for (dx, dy, dw, dh); torchvision and Detectron2 use
            (10, 10, 5, 5) in the box head and ones in the RPN.

    Returns:
        [..., 4] deltas. A side of 0 (padding) counts as 1 pixel, so that values and gradients
        are finite; such a delta is meaningless and must be masked by the caller.

    Raises:
        ValueError: An array has another shape, the boxes and targets do not broadcast, or a weight is not
            above 0.

    Example:
        >>> encode_boxes(jnp.array([0.0, 0, 10, 10]), jnp.array([1.0, 0, 11, 10]), (10, 10, 5, 5))
        Array([1., 0., 0., 0.], dtype=float32)
    """
    check_shapes("encode_boxes", boxes=(boxes, "... 4"), targets=(targets, "... 4"), weights=(weights, "4"))
    check_broadcast("encode_boxes", boxes=boxes, targets=targets)
    check_numbers("encode_boxes", 0, above=True, weights=weights)
    x, y, w, h = _centre_form(boxes)
    target_x, target_y, target_w, target_h = _centre_form(targets)
    w, h, target_w, target_h = (jnp.where(side > 0, side, 1.0) for side in (w, h, target_w, target_h))
    return jnp.stack(
        [
            weights[0] * (target_x - x) / w,
            weights[1] * (target_y - y) / h,
            weights[2] * jnp.log(target_w / w),
            weights[3] * jnp.log(target_h / h),
        ],
        axis=-1,
    )


def decode_boxes(deltas: ArrayLike, boxes: ArrayLike, weights: Sequence[float], clamp: str = "max") -> Array:
    """Applies deltas to ``boxes``; the inverse of :func:`encode_boxes`.

    Args:
        deltas: [..., 4], (dx, dy, dw, dh). Class-specific deltas [R, K, 4] go with boxes
            [R, 1, 4]; the libraries' layout, [R, 4 K], must be reshaped first.
        boxes: [..., 4], anchors or proposals, XYXY in pixels.
        weights: Four factors, as in :func:`encode_boxes`.
        clamp: "max" limits dw and dh from above to log(1000 / 16) (torchvision, Detectron2);
            "both" also from below, to its negative (MMDetection); "none" does not limit them (matterport).

    Returns:
        [..., 4], XYXY in pixels, not clipped to the image.

    Raises:
        ValueError: An array has another shape, the deltas and boxes do not broadcast, a weight is not above
            0, or ``clamp`` is unknown.

    Example:
        >>> decode_boxes(jnp.array([1.0, 0, 0, 0]), jnp.array([0.0, 0, 10, 10]), (10, 10, 5, 5))
        Array([ 1.,  0., 11., 10.], dtype=float32)
    """
    if clamp not in _LOG_SCALES:
        raise ValueError(f'decode_boxes: clamp is {clamp!r}; choose "max", "both" or "none".')
    check_shapes("decode_boxes", deltas=(deltas, "... 4"), boxes=(boxes, "... 4"), weights=(weights, "4"))
    check_broadcast("decode_boxes", deltas=deltas, boxes=boxes)
    check_numbers("decode_boxes", 0, above=True, weights=weights)
    deltas = _at_least_float32(deltas)
    x, y, w, h = _centre_form(boxes)
    limits = _LOG_SCALES[clamp]
    new_x = deltas[..., 0] / weights[0] * w + x
    new_y = deltas[..., 1] / weights[1] * h + y
    half_w = 0.5 * (jnp.exp(jnp.clip(deltas[..., 2] / weights[2], *limits)) * w)
    half_h = 0.5 * (jnp.exp(jnp.clip(deltas[..., 3] / weights[3], *limits)) * h)
    return jnp.stack([new_x - half_w, new_y - half_h, new_x + half_w, new_y + half_h], axis=-1)


def clip_boxes(boxes: ArrayLike, image_size: Pair) -> Array:
    """Boxes with every corner moved into the image, as torchvision's ``clip_boxes_to_image`` does.

    Args:
        boxes: [..., 4], XYXY in pixels.
        image_size: (height, width) in pixels, numbers or traced scalars, or an array [2]; or an array [4],
            a window XYXY.

    Returns:
        [..., 4]; x in 0 to width, y in 0 to height (the far edge included), or in the window. Whole numbers
        become float32.

    Raises:
        ValueError: An array has another shape, or the image's size is negative.

    Example:
        >>> clip_boxes(jnp.array([-3.0, 2, 90, 40]), (30, 50))
        Array([ 0.,  2., 50., 30.], dtype=float32)
    """
    boxes = float_if_whole(boxes)  # the limits are given its type
    if shape_of(image_size) == (4,):
        check_shapes("clip_boxes", boxes=(boxes, "... 4"))
        window = jnp.asarray(image_size, boxes.dtype)
        low, high = (to_rank(jnp.tile(corner, 2), boxes.ndim) for corner in (window[:2], window[2:]))
        return jnp.clip(boxes, low, high)
    check_shapes("clip_boxes", boxes=(boxes, "... 4"), image_size=(image_size, "2"))
    check_numbers("clip_boxes", 0, image_size=image_size)
    height, width = image_size[0], image_size[1]
    limits = jnp.stack([jnp.asarray(side, boxes.dtype) for side in (width, height, width, height)])
    return jnp.clip(boxes, 0, to_rank(limits, boxes.ndim))


def _intersection(a, b):
    """Areas shared by every pair: [..., N, 4], [..., M, 4] -> [..., N, M]."""
    a, b = _at_least_float32(a), _at_least_float32(b)

    def shared(low, high):
        first = jnp.maximum(a[..., :, None, low], b[..., None, :, low])
        last = jnp.minimum(a[..., :, None, high], b[..., None, :, high])
        return jnp.maximum(last - first, 0)

    # Each side by itself: of an array [N, M, 2] a TPU computes 128 values for every pair.
    return rounded_product(shared(0, 2) * shared(1, 3))


def rounded_product(product):
    """Rounds a product to its dtype before something is added to it; 0 instead of NaN.

    XLA contracts a product and a sum into one fused multiply-add in some of the loops that an expression
    is copied into, and not in others. An IoU would then differ in the last bit from torchvision's and between
    copies of the expression, and an anchor would no longer be recognised as equal to the best one. XLA does
    not contract across a select.
    """
    return jnp.where(jnp.isnan(product), 0, product)


def _safe_ratio(numerator, denominator):
    # The inner where keeps 0 / 0 out of the gradient, the outer one out of the value.
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _centre_form(boxes):
    boxes = _at_least_float32(boxes)
    w = boxes[..., 2] - boxes[..., 0]
    h = boxes[..., 3] - boxes[..., 1]
    return boxes[..., 0] + 0.5 * w, boxes[..., 1] + 0.5 * h, w, h


def _at_least_float32(x):
    # bfloat16 is not precise enough for pixel coordinates: above 256 it has only even numbers.
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
