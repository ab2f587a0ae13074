"""The loss of PointRend's point head, of one image.

Shapes: Q mask slots (the largest possible number of positive regions), P points of a region.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.terms import binary_cross_entropy
from jaxmaskrcnn.ops.points import points_in_boxes, sample_masks
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import LossTerm, Targets

Array = jax.Array


def point_loss(
    logits: Array, points: Array, regions: Regions, targets: Targets, width: int, image_size: Array
) -> dict[str, LossTerm]:
    """Mean binary cross entropy over the points of the positive regions, one image.

    The target of a point is the value of its object's mask there, between 0 and 1 near the mask's edge.

    Source: Kirillov et al., 2019, section 3.3; Detectron2 ``roi_mask_point_loss``.

    Args:
        logits: float [Q, P], of each region's own class.
        points: float [Q, P, 2], from 0 to 1.
        regions: The first Q of the regions, which include all positive ones.
        targets: Ground truth with packed masks.
        width: Width of the canvas in pixels; packed masks are rounded up to whole bytes.
        image_size: int [2], the image without padding; its masks end there.

    Returns:
        "loss_mask_point", counted in points.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), jnp.full((1, 8, 1), 0xF0, jnp.uint8), ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> points = jnp.array([[[0.25, 0.5], [0.75, 0.5]]])  # in the mask, and beside it
        >>> loss = jax.jit(point_loss, static_argnames="width")
        >>> terms = loss(jnp.array([[9.0, -9.0]]), points, regions, targets, 8, jnp.array([8, 8]))
        >>> round(float(terms["loss_mask_point"].total), 4)
        0.0002
    """
    check_shapes("point_loss", boxes=(regions.boxes, "Q 4"), logits=(logits, "Q P"), points=(points, "Q P 2"))
    targets = one_row_if_empty(targets)
    assert targets.masks is not None, "the targets of PointRend's mask head need masks"
    places = points_in_boxes(points, regions.boxes)
    expected = sample_masks(targets.masks, width, regions.matched, places, image_size)
    bce = binary_cross_entropy(logits, jax.lax.stop_gradient(expected).astype(logits.dtype))
    total = jnp.where(regions.positive[:, None], bce, 0).sum()
    return {"loss_mask_point": LossTerm(total, regions.positive.sum().astype(bce.dtype) * logits.shape[1])}
