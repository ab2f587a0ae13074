"""The losses of the box head and of the mask head, of one image.

Shapes: R sampled regions, Q mask slots (the largest possible number of positive regions), M the
side of a mask, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes, MaskConfig, MaskLossConfig, PointRendConfig
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.boxes import box_errors
from jaxmaskrcnn.losses.class_scores import class_scores
from jaxmaskrcnn.losses.classes import class_losses
from jaxmaskrcnn.losses.masks import MASK_LOSSES
from jaxmaskrcnn.losses.terms import binary_cross_entropy
from jaxmaskrcnn.ops.boxes import decode_boxes
from jaxmaskrcnn.ops.masks import mask_targets
from jaxmaskrcnn.ops.paired_iou import paired_iou
from jaxmaskrcnn.ops.polygons import polygon_targets
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import LossTerm, Targets

Array = jax.Array


def box_losses(
    logits: Array,
    deltas: Array,
    regions: Regions,
    targets: Targets,
    classes: Classes,
    config: BoxConfig,
    stage: int = 0,
    key: Array | None = None,
    counts: Array | None = None,
) -> dict[str, LossTerm]:
    """Classification and box regression of the box head, one image.

    Source: Fast R-CNN, section 2.3 and equation 1. The losses of each region are in `classes` and `boxes`.

    Args:
        logits: float [R, K + 1].
        deltas: float [R, box channels, 4].
        regions: R sampled regions.
        targets: Ground truth, in its original order.
        classes: Gives the number of classes and the position of the background.
        config: Gives the loss, and the stage's box weights and weight.
        stage: The stage of a cascade, from 0.
        key: Key of the draw of a federated loss, a scalar; None takes the most frequent classes.
        counts: float [K + 1], for scores that have a state: what that returned (`BoxHead.seen`).

    Returns:
        "loss_classifier" and "loss_box_reg", times the stage's weight; both count the sampled regions. Scores
        with further losses have these too, likewise, as "loss_classifier_objectness" (`losses/seesaw.py`).

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> losses = jax.jit(box_losses, static_argnames=("classes", "config"))
        >>> options = dict(classes=Classes(3, "first"), config=BoxConfig())
        >>> terms = losses(jnp.zeros((1, 4)), jnp.zeros((1, 4, 4)), regions, targets, **options)
        >>> round(float(terms["loss_classifier"].total), 3)  # four equal logits
        1.386
    """
    check_shapes(
        "box_losses",
        boxes=(regions.boxes, "R 4"),
        logits=(logits, f"R {classes.logits}"),
        deltas=(deltas, f"R {1 if config.class_agnostic else classes.count + classes.offset} 4"),
    )
    targets = one_row_if_empty(targets)
    own, matched = own_deltas(deltas, regions, classes, config), targets.boxes[regions.matched]
    entropy = region_class_losses(logits, deltas, regions, targets, classes, config, stage, key, counts)
    error = box_errors(own, regions.boxes, matched, config, stage)
    count, weight = regions.valid.sum().astype(entropy.dtype), config.stages[stage].loss_weight
    of_classes = weight * config.class_loss.weight
    terms = {"loss_classifier": LossTerm(of_classes * jnp.where(regions.valid, entropy, 0).sum(), count)}
    for name, further in class_scores(config.scores).further_losses(logits, regions).items():
        total = jnp.where(regions.valid, further, 0).sum()
        terms[f"loss_classifier_{name}"] = LossTerm(of_classes * total, count)
    of_boxes = jnp.where(regions.positive, error, 0).sum()
    return {**terms, "loss_box_reg": LossTerm(weight * config.loss.weight * of_boxes, count)}


def own_deltas(deltas: Array, regions: Regions, classes: Classes, config: BoxConfig) -> Array:
    """The deltas of each region's own class, [R, 4], from [R, box channels, 4]."""
    slot = jnp.zeros_like(regions.labels) if config.class_agnostic else regions.labels + classes.offset
    return jnp.take_along_axis(deltas, slot[:, None, None], axis=1)[:, 0]


def region_class_losses(
    logits: Array,
    deltas: Array,
    regions: Regions,
    targets: Targets,
    classes: Classes,
    config: BoxConfig,
    stage: int = 0,
    key: Array | None = None,
    counts: Array | None = None,
) -> Array:
    """The loss of each region's class, which the form "quality_focal" takes the predicted box for.

    Source: Fast R-CNN, section 2.3; for the quality Li et al., "Generalized Focal Loss", 2020.

    Args:
        logits: float [R, K + 1].
        deltas: float [R, box channels, 4].
        regions: R regions.
        targets: Ground truth, in its original order.
        classes: Gives the number of classes and the position of the background.
        config: Gives the loss, and the stage's box weights.
        stage: The stage of a cascade, from 0.
        key: As in `box_losses`, a scalar.
        counts: float [K + 1], as in `box_losses`.

    Returns:
        float [R], without the factors of the loss and of the stage; see `classes.class_losses`.

    Raises:
        ConfigError: The number of weights of classes is not the number of classes.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> options = dict(classes=Classes(3, "first"), config=BoxConfig())
        >>> found = region_class_losses(jnp.zeros((1, 4)), jnp.zeros((1, 4, 4)), regions, targets, **options)
        >>> round(float(found[0]), 3)  # four equal logits
        1.386
    """
    targets, quality = one_row_if_empty(targets), None
    if config.class_loss.form == "quality_focal":
        own, box_weights = own_deltas(deltas, regions, classes, config), config.stages[stage].box_weights
        predicted = decode_boxes(own, regions.boxes, box_weights, config.delta_clamp)
        quality = jax.lax.stop_gradient(paired_iou(predicted, targets.boxes[regions.matched]))
    return class_losses(logits, regions, classes, config, quality, key, counts)


def mask_head_targets(
    regions: Regions,
    targets: Targets,
    side: int,
    width: int,
    image_size: Array,
    config: MaskConfig | PointRendConfig,
) -> Array:
    """Targets of the mask head in one image, by the rule of torchvision, Detectron2 or MMDetection.

    Args:
        regions: Q regions.
        targets: Ground truth with masks or polygons or both.
        side: M, static.
        width: Width of the canvas in pixels.
        image_size: int [2], the image without padding.
        config: Gives the rule of the mask targets. With "polygon", an object without polygons has the
            target of "threshold", as Detectron2 treats bitmaps.

    Returns:
        float [Q, M, M] in 0 to 1.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> masks = jnp.full((1, 8, 1), 0xF0, jnp.uint8)  # the left half
        >>> targets = Targets(box, jnp.array([2]), masks, ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> config = MaskConfig(targets="threshold")
        >>> make_targets = jax.jit(mask_head_targets, static_argnames=("side", "width", "config"))
        >>> make_targets(regions, targets, 2, 8, jnp.array([8, 8]), config)[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    targets = one_row_if_empty(targets)
    polygons, parts, from_polygons = targets.polygons, targets.polygon_parts, None
    if config.targets == "polygon" and polygons is not None:
        assert parts is not None  # it comes with the polygons
        from_polygons = polygon_targets(polygons, parts, regions.matched, regions.boxes, side)
        if targets.masks is None:
            return from_polygons
    assert targets.masks is not None, "the targets of a mask head need masks or polygons"
    pooled = mask_targets(
        targets.masks,
        width,
        regions.matched,
        regions.boxes,
        side,
        rule="soft" if config.targets == "soft" else "threshold",
        image_size=image_size,
    )
    if from_polygons is None or parts is None:
        return pooled
    has_polygons = (parts >= 0).any(-1)[regions.matched]
    return jnp.where(has_polygons[:, None, None], from_polygons, pooled)


def mask_loss(
    logits: Array,
    regions: Regions,
    targets: Targets,
    width: int,
    image_size: Array,
    config: MaskConfig | PointRendConfig,
) -> dict[str, LossTerm]:
    """Mean binary cross entropy over the positive regions' masks, one image, and what `masks` has beside it.

    Source: Mask R-CNN, section 3.

    Args:
        logits: float [Q, M, M], for each region's own class.
        regions: The first Q of the sampled regions, which include all positive ones.
        targets: Ground truth with packed masks or polygons.
        width: Width of the canvas in pixels; packed masks are rounded up to whole bytes.
        image_size: int [2], the image without padding; its masks end there.
        config: Gives the rule of the mask targets, and the factors of the losses.

    Returns:
        "loss_mask", counted in mask pixels; with a factor in ``config.loss`` also "loss_mask_dice" and
        "loss_mask_boundary", counted in masks.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), jnp.full((1, 8, 1), 0xF0, jnp.uint8), ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> loss = jax.jit(mask_loss, static_argnames=("width", "config"))
        >>> size = jnp.array([8, 8])
        >>> loss(jnp.zeros((1, 2, 2)), regions, targets, 8, size, MaskConfig())["loss_mask"].count
        Array(4., dtype=float32)
    """
    check_shapes("mask_loss", boxes=(regions.boxes, "Q 4"), logits=(logits, "Q M M"))
    expected = mask_head_targets(regions, targets, logits.shape[-1], width, image_size, config)
    return mask_terms(logits, expected, regions.positive, config)


def mask_terms(
    logits: Array, expected: Array, positive: Array, config: MaskConfig | PointRendConfig
) -> dict[str, LossTerm]:
    """The losses of `mask_loss`, for targets that are known.

    Source: Mask R-CNN, section 3.

    Args:
        logits: float [Q, M, M].
        expected: float [Q, M, M], from `mask_head_targets`.
        positive: bool [Q], the regions that count.
        config: Gives the factors of the losses.

    Returns:
        As `mask_loss`.

    Example:
        >>> one = jnp.ones(1, bool)
        >>> mask_terms(jnp.zeros((1, 2, 2)), jnp.ones((1, 2, 2)), one, MaskConfig())["loss_mask"].count
        Array(4., dtype=float32)
    """
    side = logits.shape[-1]
    expected = jax.lax.stop_gradient(expected).astype(logits.dtype)
    factors = config.loss if isinstance(config, MaskConfig) else MaskLossConfig()
    masks = positive.sum().astype(logits.dtype)
    terms = {}
    if factors.cross_entropy:
        bce = binary_cross_entropy(logits, expected)
        total = factors.cross_entropy * jnp.where(positive[:, None, None], bce, 0).sum()
        terms["loss_mask"] = LossTerm(total, masks * side * side)
    for name, loss in MASK_LOSSES.items():
        if factor := getattr(factors, name):
            total = factor * jnp.where(positive, loss(logits, expected), 0).sum()
            terms[f"loss_mask_{name}"] = LossTerm(total, masks)
    return terms
