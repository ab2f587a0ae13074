"""The losses of Mask Scoring R-CNN: that of the masks, and that of their predicted IoUs (Huang et al., 2019).

Shapes: Q mask slots, M the side of a mask, G objects, H and W the height and width of the canvas.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import MaskScoringConfig
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.heads import mask_head_targets, mask_terms
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import LossTerm, Targets

Array = jax.Array

_TINY = 1e-7


def mask_scoring_losses(
    logits: Array,
    ious: Array,
    regions: Regions,
    targets: Targets,
    width: int,
    image_size: Array,
    config: MaskScoringConfig,
) -> dict[str, LossTerm]:
    """The losses of the masks, as `mask_loss` has them, and the squared errors of their IoUs, of one image.

    Source: Mask Scoring R-CNN, sections 3.2 and 3.3; MMDetection ``MaskIoUHead.loss_and_target``.

    Args:
        logits: float [Q, M, M], for each region's own class.
        ious: float [Q], predicted for these masks.
        regions: The first Q of the sampled regions, which include all positive ones.
        targets: Ground truth with packed masks.
        width: Width of the canvas in pixels; packed masks are rounded up to whole bytes.
        image_size: int [2], the image without padding; its masks end there.
        config: Gives the rule of the mask targets, and the factors of the losses.

    Returns:
        The losses of `mask_loss`, and "loss_mask_iou", which counts the positive regions whose mask has a
        cell in common with the object.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), jnp.full((1, 8, 1), 0xF0, jnp.uint8), ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> loss = jax.jit(mask_scoring_losses, static_argnames=("width", "config"))
        >>> arrays = jnp.full((1, 2, 2), 9.0), jnp.zeros(1), regions, targets
        >>> terms = loss(*arrays, 8, jnp.array([8, 8]), MaskScoringConfig())  # its IoU is 0.5
        >>> round(float(terms["loss_mask_iou"].total), 3)
        0.125
    """
    shapes = {"boxes": (regions.boxes, "Q 4"), "logits": (logits, "Q M M"), "ious": (ious, "Q")}
    check_shapes("mask_scoring_losses", **shapes)
    expected = mask_head_targets(regions, targets, logits.shape[-1], width, image_size, config)
    packed = one_row_if_empty(targets).masks
    assert packed is not None, "the IoUs of masks are learned from masks"
    shares = share_in_boxes(packed[regions.matched], width, regions.boxes)
    true = mask_ious(jax.lax.stop_gradient(logits) > config.iou_threshold, expected, shares)
    counting = regions.positive & (true > 0)
    errors = jnp.square(ious - true.astype(ious.dtype))
    total = config.iou_loss_weight * jnp.where(counting, errors, 0).sum()
    return {
        **mask_terms(logits, expected, regions.positive, config),
        "loss_mask_iou": LossTerm(total, counting.sum().astype(logits.dtype)),
    }


def mask_ious(masks: Array, expected: Array, shares: Array) -> Array:
    """IoUs of predicted masks, which end with their boxes, and whole objects, which may not.

    Source: MMDetection ``MaskIoUHead.get_targets``; an object's size is that of its part in the box, divided
    by the share that this part is.

    Args:
        masks: bool [Q, M, M].
        expected: float [Q, M, M], the objects in the boxes.
        shares: float [Q], the share of each object that is in its box.

    Returns:
        float32 [Q]; 0 where both are empty.

    Example:
        >>> mask = jnp.ones((1, 2, 2), bool)
        >>> mask_ious(mask, mask * 1.0, jnp.array([0.5]))  # the other half of the object is elsewhere
        Array([0.5], dtype=float32)
    """
    found, whole = masks.astype(jnp.float32).sum((1, 2)), expected.sum((1, 2)) / (shares + _TINY)
    shared = jnp.where(masks, expected, 0).sum((1, 2))
    union = found + whole - shared
    return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 0)


def share_in_boxes(packed: Array, width: int, boxes: Array) -> Array:
    """The shares of objects' pixels that are in boxes, whose coordinates lose their fractions.

    Source: MMDetection ``MaskIoUHead._get_area_ratio`` and ``BitmapMasks.crop``.

    Args:
        packed: uint8 [Q, H, ceil(W / 8)], the mask of each box's object.
        width: W, static.
        boxes: [Q, 4], XYXY in pixels of the masks.

    Returns:
        float32 [Q] in 0 to 1; 0 for an empty mask.

    Example:
        >>> half = jnp.full((1, 8, 1), 0xF0, jnp.uint8)  # the left half of 8 x 8 pixels
        >>> share_in_boxes(half, 8, jnp.array([[2.9, 0, 8, 8]]))  # from column 2 on
        Array([0.5], dtype=float32)
    """
    height = packed.shape[1]
    sides = jnp.array([[width, height] * 2])
    corners = jnp.clip(jnp.trunc(jax.lax.stop_gradient(boxes)).astype(jnp.int32), 0, sides)
    first, last = corners[:, :2], jnp.maximum(corners[:, 2:], corners[:, :2] + 1)

    def inside(axis: int, size: int) -> Array:
        cells = jnp.arange(size)[None]
        return (cells >= first[:, axis, None]) & (cells < last[:, axis, None])

    # Eight pixels of a row are one byte, so that no mask is unpacked.
    columns = jnp.packbits(inside(0, width), axis=1)
    pixels = jax.lax.population_count(packed & columns[:, None]).astype(jnp.int32).sum(2)
    covered = jnp.where(inside(1, height), pixels, 0).sum(1)
    every = jax.lax.population_count(packed).astype(jnp.int32).sum((1, 2))
    return covered.astype(jnp.float32) / (every.astype(jnp.float32) + _TINY)
