"""The two losses of the region proposal network, of one image.

Shapes: N anchors, S of them sampled.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import RPNConfig
from jaxmaskrcnn.losses.assignment import match_boxes, sort_targets
from jaxmaskrcnn.losses.box_ious import BOX_LOSSES
from jaxmaskrcnn.losses.focal import sigmoid_focal
from jaxmaskrcnn.losses.terms import binary_cross_entropy, smooth_l1
from jaxmaskrcnn.ops.boxes import decode_boxes, encode_boxes
from jaxmaskrcnn.ops.sampling import index_priority, random_priority, sample
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import Anchors, LossTerm, Targets

Array = jax.Array


def rpn_losses(
    objectness: Array,
    deltas: Array,
    anchors: Anchors,
    targets: Targets,
    config: RPNConfig,
    rng: Array | None,
    image_size: Array | None = None,
) -> dict[str, LossTerm]:
    """Objectness and box regression of the region proposal network, one image.

    Source: Faster R-CNN, section 3.1.2; RetinaNet for the form "focal" of the objectness, and MMDetection's
    ``reg_decoded_bbox`` for the losses of IoU.

    Args:
        objectness: float [N] logits.
        deltas: float [N, 4].
        anchors: N anchors.
        targets: Ground truth.
        config: Gives the thresholds, sample size, loss and normaliser.
        rng: Key of the sampler, a scalar; None takes the lowest indices.
        image_size: int [2], the image without padding, or a window, [4] XYXY; only used with
            ``config.border``, which keeps anchors at the border from being matched.

    Returns:
        "loss_objectness" and "loss_rpn_box_reg".

    Raises:
        ValueError: An array has another shape, or ``config.border`` is set without an ``image_size``.

    Example:
        >>> boxes, one = jnp.array([[0.0, 0, 8, 8], [50, 50, 60, 60]]), jnp.ones(1, bool)
        >>> targets = Targets(boxes[:1], jnp.zeros(1, int), None, ~one, one)
        >>> anchors = Anchors(boxes, jnp.ones(2, bool))
        >>> losses = jax.jit(rpn_losses, static_argnames="config")
        >>> terms = losses(jnp.zeros(2), jnp.zeros((2, 4)), anchors, targets, RPNConfig(), None)
        >>> terms["loss_objectness"].count, terms["loss_rpn_box_reg"].total  # the first anchor fits exactly
        (Array(2., dtype=float32), Array(0., dtype=float32))
    """
    check_shapes(
        "rpn_losses",
        objectness=(objectness, "N"),
        deltas=(deltas, "N 4"),
        boxes=(anchors.boxes, "N 4"),
        valid=(anchors.valid, "N"),
    )
    objectness, deltas = one_row_if_empty((objectness, deltas))
    sampled = sample_anchors(anchors, targets, config, rng, image_size)
    return sampled_rpn_losses(objectness[sampled.index], deltas[sampled.index], sampled, config)


class SampledAnchors(NamedTuple):
    """The anchors of one image that the losses are computed on.

    Attributes:
        index: int32 [S], into the anchors; 0 in an unused slot.
        positive: bool [S], True for an anchor that is matched to an object.
        valid: bool [S], False in an unused slot.
        boxes: float [S, 4], the anchors.
        objects: float [S, 4], the boxes of the objects that they are matched to or overlap most.
    """

    index: Array
    positive: Array
    valid: Array
    boxes: Array
    objects: Array


def sample_anchors(
    anchors: Anchors, targets: Targets, config: RPNConfig, rng: Array | None, image_size: Array | None = None
) -> SampledAnchors:
    """Match the anchors of one image to its objects, and sample those that are learnt from.

    Source: Faster R-CNN, section 3.1.2.

    Args:
        anchors: N anchors.
        targets: Ground truth.
        config: As of `rpn_losses`.
        rng: Likewise, a scalar or None.
        image_size: Likewise, int [2] or [4].

    Returns:
        ``config.batch_size`` anchors.

    Raises:
        ValueError: ``config.border`` is set without an ``image_size``.
    """
    anchors, targets = one_row_if_empty((anchors, targets))
    if config.border >= 0:
        if image_size is None:
            raise ValueError("rpn_losses: config.border is set but image_size is not; give the image's size.")
        anchors = anchors._replace(valid=anchors.valid & inside(anchors.boxes, image_size, config.border))
    targets, _ = sort_targets(targets)
    matched, label = match_boxes(
        anchors.boxes,
        anchors.valid,
        targets,
        config,
        foreground_iou=config.foreground_iou,
        background_iou=config.background_iou,
        low_quality=config.low_quality,
        low_quality_min_iou=config.low_quality_min_iou,
    )
    n = label.shape[0]
    priority = index_priority(n) if rng is None else random_priority(rng, n)
    chosen = sample(label, priority, config.batch_size, config.positive_fraction)
    objects = targets.boxes[matched[chosen.index]]
    return SampledAnchors(*chosen, boxes=anchors.boxes[chosen.index], objects=objects)


def sampled_rpn_losses(
    logits: Array, deltas: Array, sampled: SampledAnchors, config: RPNConfig
) -> dict[str, LossTerm]:
    """Compute the losses of one image from the predictions for its sampled anchors.

    Source: As of `rpn_losses`.

    Args:
        logits: float [S].
        deltas: float [S, 4].
        sampled: S anchors.
        config: As of `rpn_losses`.

    Returns:
        As `rpn_losses`.
    """
    loss = config.loss
    wanted = sampled.positive.astype(logits.dtype)
    if loss.objectness == "focal":
        entropy = sigmoid_focal(logits, wanted, loss.alpha, loss.gamma)
    else:
        entropy = binary_cross_entropy(logits, wanted)
    if loss.form in BOX_LOSSES:
        predicted = decode_boxes(deltas, sampled.boxes, config.box_weights, config.delta_clamp)
        error = BOX_LOSSES[loss.form](predicted, sampled.objects)
    else:
        target = encode_boxes(sampled.boxes, sampled.objects, config.box_weights)
        error = smooth_l1(deltas - target, loss.beta).sum(-1)
    count = (
        sampled.valid.sum().astype(entropy.dtype)
        if config.loss_count == "sampled"
        else jnp.asarray(config.batch_size, entropy.dtype)
    )
    of_objectness = jnp.where(sampled.valid, entropy, 0).sum()
    of_boxes = jnp.where(sampled.positive, error, 0).sum()
    if loss.objectness_weight != 1:
        of_objectness = loss.objectness_weight * of_objectness
    if loss.weight != 1:
        of_boxes = loss.weight * of_boxes
    return {
        "loss_objectness": LossTerm(of_objectness, count),
        "loss_rpn_box_reg": LossTerm(of_boxes, count),
    }


def inside(boxes: Array, image_size: Array, border: int) -> Array:
    """Whether boxes lie in the image, or cross its border by less than some pixels.

    Source: Faster R-CNN, section 3.3; MMDetection ``anchor_inside_flags``, whose far edges are exclusive.

    Args:
        boxes: float [N, 4].
        image_size: int [2], or a window, [4] XYXY.
        border: Pixels that may be outside.

    Returns:
        bool [N].

    Example:
        >>> inside(jnp.array([[0.0, 0, 7, 7], [0, 0, 8, 7], [-1, 0, 7, 7]]), jnp.array([9, 8]), 0)
        Array([ True, False, False], dtype=bool)
    """
    window = jnp.asarray(image_size, boxes.dtype)
    if window.shape == (2,):
        window = jnp.concatenate([jnp.zeros_like(window), window[::-1]])
    window = window[None]  # [1, 4]
    return (boxes[:, :2] >= window[:, :2] - border).all(-1) & (boxes[:, 2:] < window[:, 2:] + border).all(-1)
