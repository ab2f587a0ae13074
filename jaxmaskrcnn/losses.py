"""The five losses of Mask R-CNN, each a pure function of one image.

A loss is returned as a sum and a count (`LossTerm`), so that images, devices and slices of a
batch add up before the division. Which anchor or proposal learns what (matching, sampling) is
decided here as well, because the libraries' conventions meet in it.

Shapes: N anchors, P proposal slots, G ground-truth slots, R sampled regions, Q mask slots (the
largest possible number of positive regions), M the side of a mask, K object classes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.ops.boxes import box_iof, box_iou, encode_boxes
from jaxmaskrcnn.ops.masks import mask_targets
from jaxmaskrcnn.ops.matching import match
from jaxmaskrcnn.ops.polygons import polygon_targets
from jaxmaskrcnn.ops.sampling import index_priority, random_priority, sample
from jaxmaskrcnn.structures import Anchors, LossTerm, Proposals, Targets

Array = jax.Array

LOSS_NAMES = (
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
)


class Regions(NamedTuple):
    """Sampled regions of one image; the positive ones come first.

    Attributes:
        boxes: float32 [R, 4].
        labels: int32 [R], 0 to K - 1; meaningless where not positive.
        matched: int32 [R], the ground-truth slot a positive region learns.
        positive: bool [R].
        valid: bool [R], False in slots that sampling could not fill.

    Example:
        >>> slots = [jnp.zeros(4, kind) for kind in (int, int, bool, bool)]
        >>> Regions(jnp.zeros((4, 4)), *slots).positive.sum()
        Array(0, dtype=int32)
    """

    boxes: Array
    labels: Array
    matched: Array
    positive: Array
    valid: Array


def smooth_l1(error: Array, beta: float) -> Array:
    """Huber-like loss: ``0.5 e^2 / beta`` below ``beta``, ``|e| - 0.5 beta`` above; L1 for beta 0.

    Source: Fast R-CNN, equation 3, with torchvision's and Detectron2's ``beta``.

    Args:
        error: [...], differences.
        beta: Where the square ends, at least 0.

    Returns:
        [...], elementwise.

    Example:
        >>> smooth_l1(jnp.array([0.5, -2.0]), 1.0).tolist()
        [0.125, 1.5]
    """
    size = jnp.abs(error)
    if beta == 0:
        return size
    return jnp.where(size < beta, 0.5 * error * error / beta, size - 0.5 * beta)


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """Cross entropy with logits (Mask R-CNN, section 3), in the form that does not overflow.

    Args:
        logits: [...].
        targets: [...] in 0 to 1.

    Returns:
        [...], elementwise.

    Example:
        >>> binary_cross_entropy(jnp.array([-1000.0, 1000.0]), jnp.array([1.0, 1.0])).tolist()
        [1000.0, 0.0]
    """
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def sort_targets(targets: Targets) -> tuple[Targets, Array]:
    """Ground truth in an order of its own, so that the order in a file changes nothing.

    Ties in matching go to the first object and sampling may cut the list; both would otherwise
    depend on the order. Padded slots go last. Masks stay where they are (they are large).

    Args:
        targets: Of one image.

    Returns:
        Targets with ``masks=None``, and int [G]: the original slot of each sorted one.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 4, 3]])
        >>> valid = jnp.array([True, False, True])
        >>> sort_targets(Targets(boxes, jnp.zeros(3, int), None, ~valid, valid))[1].tolist()
        [2, 0, 1]
    """
    boxes = targets.boxes
    keys = (targets.labels, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], ~targets.valid)
    order = jnp.lexsort(keys)
    return (
        Targets(boxes[order], targets.labels[order], None, targets.crowd[order], targets.valid[order]),
        order,
    )


def match_boxes(
    boxes: Array, valid: Array, targets: Targets, config: ModelConfig, **rules: Any
) -> tuple[Array, Array]:
    """Match anchors or proposals to the objects of one image, crowd regions set aside.

    A box that would be background but lies in a crowd region to ``crowd_overlap`` of its own
    area is neither positive nor negative. torchvision, Detectron2 and MMDetection drop crowd regions.

    Args:
        boxes: float [N, 4].
        valid: bool [N]; the others get the label -1.
        targets: Of one image.
        config: Crowd rule and ``iou_epsilon``.
        **rules: Thresholds and low-quality rule of `jaxmaskrcnn.ops.matching.match`.

    Returns:
        int32 [N] matched slot, int32 [N] label (1 object, 0 background, -1 ignored).

    Example:
        >>> crowd = jnp.array([False, True])
        >>> objects = jnp.array([[0.0, 0, 8, 8], [20, 0, 40, 8]])
        >>> targets = Targets(objects, jnp.zeros(2, int), None, crowd, ~crowd | crowd)
        >>> boxes = jnp.array([[0.0, 0, 8, 8], [22, 0, 30, 8], [50, 50, 60, 60]])
        >>> valid = jnp.ones(3, bool)
        >>> rules = {"foreground_iou": 0.5, "background_iou": 0.5}
        >>> match = jax.jit(lambda *arrays: match_boxes(*arrays, ModelConfig(), **rules))
        >>> match(boxes, valid, targets)[1].tolist()
        [1, -1, 0]
    """
    objects = targets.valid & ~targets.crowd
    iou = box_iou(targets.boxes, boxes, epsilon=config.iou_epsilon)
    # A box that does not exist must not be any object's best one.
    iou = jnp.where(valid[None, :], iou, -1)
    matched, label = match(iou, objects, **rules)
    if config.crowd_regions == "ignore":
        inside = box_iof(boxes, targets.boxes)  # [N, G]
        inside = jnp.where((targets.valid & targets.crowd)[None, :], inside, 0).max(-1)
        label = jnp.where((label == 0) & (inside >= config.crowd_overlap), -1, label)
    return matched, jnp.where(valid, label, -1)


def rpn_losses(
    objectness: Array,
    deltas: Array,
    anchors: Anchors,
    targets: Targets,
    config: ModelConfig,
    rng: Array | None,
) -> dict[str, LossTerm]:
    """Objectness and box regression of the region proposal network, one image.

    Source: Faster R-CNN, section 3.1.2.

    Args:
        objectness: float [N] logits.
        deltas: float [N, 4].
        anchors: N anchors.
        targets: Ground truth.
        config: Thresholds, sample size, loss and normaliser.
        rng: Key of the sampler, a scalar; None takes the lowest indices.

    Returns:
        "loss_objectness" and "loss_rpn_box_reg".

    Example:
        >>> boxes, one = jnp.array([[0.0, 0, 8, 8], [50, 50, 60, 60]]), jnp.ones(1, bool)
        >>> targets = Targets(boxes[:1], jnp.zeros(1, int), None, ~one, one)
        >>> anchors = Anchors(boxes, jnp.ones(2, bool))
        >>> losses = jax.jit(rpn_losses, static_argnames="config")
        >>> terms = losses(jnp.zeros(2), jnp.zeros((2, 4)), anchors, targets, ModelConfig(), None)
        >>> terms["loss_objectness"].count, terms["loss_rpn_box_reg"].total  # the first anchor fits exactly
        (Array(2., dtype=float32), Array(0., dtype=float32))
    """
    targets, _ = sort_targets(targets)
    matched, label = match_boxes(
        anchors.boxes,
        anchors.valid,
        targets,
        config,
        foreground_iou=config.rpn_foreground_iou,
        background_iou=config.rpn_background_iou,
        low_quality=config.rpn_low_quality,
        low_quality_min_iou=config.rpn_low_quality_min_iou,
    )
    n = label.shape[0]
    priority = index_priority(n) if rng is None else random_priority(rng, n)
    chosen = sample(label, priority, config.rpn_batch_size, config.rpn_positive_fraction)

    bce = binary_cross_entropy(objectness[chosen.index], chosen.positive.astype(objectness.dtype))
    goal = encode_boxes(
        anchors.boxes[chosen.index], targets.boxes[matched[chosen.index]], (1.0, 1.0, 1.0, 1.0)
    )
    error = smooth_l1(deltas[chosen.index] - goal, config.smooth_l1_beta).sum(-1)
    count = (
        chosen.valid.sum().astype(bce.dtype)
        if config.rpn_loss_count == "sampled"
        else jnp.asarray(config.rpn_batch_size, bce.dtype)
    )
    return {
        "loss_objectness": LossTerm(jnp.where(chosen.valid, bce, 0).sum(), count),
        "loss_rpn_box_reg": LossTerm(jnp.where(chosen.positive, error, 0).sum(), count),
    }


def sample_regions(proposals: Proposals, targets: Targets, config: ModelConfig, rng: Array | None) -> Regions:
    """Add the ground truth to the proposals, match them, and sample what the heads learn from.

    Source: Mask R-CNN, section 3.1 (training); torchvision ``select_training_samples``, Detectron2
    ``label_and_sample_proposals``.

    Args:
        proposals: Of one image.
        targets: Of the same image.
        config: Thresholds, sample size and conventions.
        rng: Key of the sampler, a scalar; None takes the lowest indices. The draw of a proposal does not
            depend on how many padded slots follow it.

    Returns:
        Regions, R = ``roi_batch_size``.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> proposals = Proposals(box + 20, jnp.zeros(1), one)
        >>> choose = jax.jit(sample_regions, static_argnames="config")
        >>> regions = choose(proposals, targets, ModelConfig(roi_batch_size=4), None)
        >>> regions.positive.tolist(), regions.valid.tolist(), regions.labels.tolist()[0]
        ([True, False, False, False], [True, True, False, False], 2)
    """
    targets, order = sort_targets(targets)
    objects = targets.valid & ~targets.crowd
    if rng is None:
        priority = index_priority(proposals.valid.shape[0] + objects.shape[0])
    else:
        keys = jax.random.split(rng)
        parts = (
            random_priority(keys[0], proposals.valid.shape[0]),
            random_priority(keys[1], objects.shape[0]),
        )
        priority = jnp.concatenate(parts if config.ground_truth_proposals == "append" else parts[::-1])
    boxes, valid = (proposals.boxes, targets.boxes), (proposals.valid, objects)
    if config.ground_truth_proposals == "prepend":
        boxes, valid = boxes[::-1], valid[::-1]
    boxes, valid = jax.lax.stop_gradient(jnp.concatenate(boxes)), jnp.concatenate(valid)
    matched, label = match_boxes(
        boxes,
        valid,
        targets,
        config,
        foreground_iou=config.roi_foreground_iou,
        background_iou=config.roi_foreground_iou,
        low_quality=config.rpn_low_quality if config.roi_low_quality else None,
        low_quality_min_iou=config.roi_foreground_iou,
    )
    chosen = sample(label, priority, config.roi_batch_size, config.roi_positive_fraction)
    matched = matched[chosen.index]
    return Regions(
        boxes=jnp.where(chosen.valid[:, None], boxes[chosen.index], 0),
        labels=targets.labels[matched],
        matched=order[matched],
        positive=chosen.positive,
        valid=chosen.valid,
    )


def box_losses(
    logits: Array, deltas: Array, regions: Regions, targets: Targets, config: ModelConfig
) -> dict[str, LossTerm]:
    """Classification and box regression of the box head, one image.

    Source: Fast R-CNN, section 2.3 and equation 1.

    Args:
        logits: float [R, K + 1].
        deltas: float [R, box channels, 4].
        regions: R sampled regions.
        targets: Ground truth, in its original order.
        config: Place of the background, box weights, loss.

    Returns:
        "loss_classifier" and "loss_box_reg"; both count the sampled regions.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> losses = jax.jit(box_losses, static_argnames="config")
        >>> config = ModelConfig(num_classes=3)
        >>> terms = losses(jnp.zeros((1, 4)), jnp.zeros((1, 4, 4)), regions, targets, config)
        >>> round(float(terms["loss_classifier"].total), 3)  # four equal logits
        1.386
    """
    background = 0 if config.background == "first" else config.num_classes
    channel = regions.labels + config.foreground_offset
    goal = jnp.where(regions.positive, channel, background)
    log_probability = jax.nn.log_softmax(logits)
    entropy = -jnp.take_along_axis(log_probability, goal[:, None], axis=1)[:, 0]

    slot = jnp.zeros_like(channel) if config.class_agnostic_boxes else channel
    own = jnp.take_along_axis(deltas, slot[:, None, None], axis=1)[:, 0]  # [R, 4]
    wanted = encode_boxes(regions.boxes, targets.boxes[regions.matched], config.box_weights)
    error = smooth_l1(own - wanted, config.smooth_l1_beta).sum(-1)
    count = regions.valid.sum().astype(entropy.dtype)
    return {
        "loss_classifier": LossTerm(jnp.where(regions.valid, entropy, 0).sum(), count),
        "loss_box_reg": LossTerm(jnp.where(regions.positive, error, 0).sum(), count),
    }


def wanted_masks(
    regions: Regions, targets: Targets, side: int, width: int, image_size: Array, config: ModelConfig
) -> Array:
    """What the mask head should predict, by the rule of torchvision, Detectron2 or MMDetection, one image.

    Args:
        regions: Q regions.
        targets: Ground truth with masks or polygons or both.
        side: M, static.
        width: Width of the canvas in pixels.
        image_size: int [2], the image without padding.
        config: Rule of the mask targets. Under "polygon" an object without polygons has the target
            of "threshold", as Detectron2 treats bitmaps.

    Returns:
        float [Q, M, M] in 0 to 1.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> masks = jnp.full((1, 8, 1), 0xF0, jnp.uint8)  # the left half
        >>> targets = Targets(box, jnp.array([2]), masks, ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> config = ModelConfig(mask_targets="threshold")
        >>> wanted = jax.jit(wanted_masks, static_argnames=("side", "width", "config"))
        >>> wanted(regions, targets, 2, 8, jnp.array([8, 8]), config)[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    drawn = config.mask_targets == "polygon" and targets.polygons is not None
    if drawn:
        polygons = (targets.polygons, targets.polygon_parts)
        from_polygons = polygon_targets(*polygons, regions.matched, regions.boxes, side)
        if targets.masks is None:
            return from_polygons
    pooled = mask_targets(
        targets.masks,
        width,
        regions.matched,
        regions.boxes,
        side,
        rule="soft" if config.mask_targets == "soft" else "threshold",
        image_size=image_size,
    )
    if not drawn:
        return pooled
    has_polygons = (targets.polygon_parts >= 0).any(-1)[regions.matched]
    return jnp.where(has_polygons[:, None, None], from_polygons, pooled)


def mask_loss(
    logits: Array,
    regions: Regions,
    targets: Targets,
    width: int,
    image_size: Array,
    config: ModelConfig,
) -> dict[str, LossTerm]:
    """Mean binary cross entropy over the positive regions' masks, one image.

    Source: Mask R-CNN, section 3.

    Args:
        logits: float [Q, M, M], of the regions' own classes.
        regions: The first Q of the sampled regions, among them all positive ones.
        targets: Ground truth with packed masks or polygons.
        width: Width of the canvas in pixels, which packed masks round up.
        image_size: int [2], the image without padding; its masks end there.
        config: Rule of the mask targets.

    Returns:
        "loss_mask", counted in mask pixels.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), jnp.full((1, 8, 1), 0xF0, jnp.uint8), ~one, one)
        >>> regions = Regions(box, jnp.array([2]), jnp.array([0]), one, one)
        >>> loss = jax.jit(mask_loss, static_argnames=("width", "config"))
        >>> size = jnp.array([8, 8])
        >>> loss(jnp.zeros((1, 2, 2)), regions, targets, 8, size, ModelConfig())["loss_mask"].count
        Array(4., dtype=float32)
    """
    side = logits.shape[-1]
    wanted = wanted_masks(regions, targets, side, width, image_size, config)
    bce = binary_cross_entropy(logits, jax.lax.stop_gradient(wanted).astype(logits.dtype))
    total = jnp.where(regions.positive[:, None, None], bce, 0).sum()
    return {"loss_mask": LossTerm(total, regions.positive.sum().astype(bce.dtype) * side * side)}


def reduce_terms(terms: dict[str, LossTerm], axis_name: str | None = None) -> dict[str, Array]:
    """Scalars from sums and counts, over all devices of an axis.

    Args:
        terms: Scalar totals and counts.
        axis_name: Name of a mapped axis to add over, or None.

    Returns:
        ``total / count`` by name, scalars; 0 where nothing was counted.

    Example:
        >>> reduce_terms({"loss_mask": LossTerm(6.0, 4.0)})["loss_mask"].item()
        1.5
    """
    if axis_name is not None:
        terms = jax.lax.psum(terms, axis_name)
    return {name: term.total / jnp.maximum(term.count, 1) for name, term in terms.items()}
