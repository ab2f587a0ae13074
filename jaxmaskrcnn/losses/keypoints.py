"""The loss of the keypoint head, of one image.

Shapes: Q region slots (the largest possible number of positive regions), K keypoints, S the side of a
heat-map, G ground-truth slots.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config.keypoints import KeypointConfig
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.ops.keypoints import keypoint_cells
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import LossTerm, Targets

Array = jax.Array


def keypoint_loss(
    logits: Array, regions: Regions, targets: Targets, config: KeypointConfig
) -> dict[str, LossTerm]:
    """Cross entropy over the cells of each keypoint's heat-map, one image.

    Source: Mask R-CNN, section 5; torchvision ``keypointrcnn_loss``, Detectron2 ``keypoint_rcnn_loss``. Only
    keypoints that are annotated and in their region are learned, whether they can be seen or not. Detectron2
    leaves out regions without any, which changes no number.

    Args:
        logits: float [Q, S, S, K].
        regions: The first Q of the sampled regions, which include all positive ones.
        targets: Ground truth with keypoints.
        config: Gives the count that the sum is divided by, and the loss's weight. "visible" counts the
            keypoints that are learned, "constant" K for each of the Q slots.

    Returns:
        "loss_keypoint".

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> points = jnp.array([[[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]])
        >>> targets = Targets(box, jnp.array([0]), None, ~one, one, keypoints=points)
        >>> regions = Regions(box, jnp.array([0]), jnp.array([0]), one, one)
        >>> config = KeypointConfig(points=("head", "foot"))
        >>> loss = jax.jit(keypoint_loss, static_argnames="config")
        >>> term = loss(jnp.zeros((1, 4, 4, 2)), regions, targets, config=config)["loss_keypoint"]
        >>> round(float(term.total), 3), float(term.count)  # one keypoint, sixteen equal logits
        (2.773, 1.0)
    """
    assert targets.keypoints is not None, "the targets of a keypoint head need keypoints"
    count, side = len(config.points), logits.shape[1]
    check_shapes(
        "keypoint_loss",
        boxes=(regions.boxes, "Q 4"),
        logits=(logits, f"Q S S {count}"),
        keypoints=(targets.keypoints, f"G {count} 3"),
    )
    points = one_row_if_empty(targets).keypoints
    assert points is not None
    cells, inside = keypoint_cells(points[regions.matched], regions.boxes, side)
    learned = inside & regions.positive[:, None]
    values = logits.reshape(len(logits), side * side, count)
    log_probability = jax.nn.log_softmax(values.astype(jnp.promote_types(values.dtype, jnp.float32)), axis=1)
    entropy = -jnp.take_along_axis(log_probability, cells[:, None], axis=1)[:, 0]
    total = jnp.where(learned, entropy, 0).sum() * config.loss_weight
    number = learned.sum() if config.loss_count == "visible" else jnp.asarray(learned.size)
    return {"loss_keypoint": LossTerm(total, number.astype(total.dtype))}
