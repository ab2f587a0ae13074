"""Box losses of sampled regions in training, and final boxes from proposals in a prediction.

Faster R-CNN has one stage: proposals are classified and refined once. A cascade (Cai and Vasconcelos, 2018)
has several, each with a box head of its own, and each refines the boxes of the stage before.

Shapes: B images, P proposal slots, R sampled regions, K object classes, D detection slots, S stages.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import BoxConfig, Classes, ModelConfig
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.box import BoxHead, box_channels
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.returned import check_box_outputs
from jaxmaskrcnn.ops.boxes import clip_boxes, decode_boxes
from jaxmaskrcnn.structures import Detections, LossTerm, Proposals, Targets

Array = jax.Array


class TrainedStage(NamedTuple):
    """What one stage was trained on.

    Attributes:
        regions: Its regions, with a leading B.
        features: [B * R, s, s, C], their features.
        positives: Number of the first slots among which all positive regions are.

    Example:
        >>> TrainedStage._fields
        ('regions', 'features', 'positives')
    """

    regions: losses.Regions
    features: Array
    positives: int


def build_box_head(config: ModelConfig, rngs: nnx.Rngs) -> BoxHead | nnx.List:
    """Build the box head, or a list of one for each stage of a cascade.

    Args:
        config: Configuration of the model.
        rngs: Random keys of the initial weights.

    Example:
        >>> head = nnx.eval_shape(lambda: build_box_head(model.config, nnx.Rngs(0)))
        >>> type(head).__name__
        'BoxHead'
    """
    side = config.region_side(config.box.pool)
    heads = [
        BoxHead(
            config.box, config.region_channels, side, config.classes, dtype=config.compute.dtype, rngs=rngs
        )
        for _ in config.box.stages
    ]
    return heads[0] if len(heads) == 1 else nnx.List(heads)


def box_loss_terms(
    head: Any,
    pooler: Pooler,
    regions: losses.Regions,
    config: ModelConfig,
    pass_: Pass,
    keys: Array | None,
    first: Array | None = None,
) -> tuple[dict[str, LossTerm], list[TrainedStage]]:
    """Compute the losses of the box head, image by image.

    Args:
        head: The box head, or an nnx.List of one for each stage.
        pooler: Features of the batch, which has targets.
        regions: R regions of the first stage, with a leading B.
        config: Configuration of the model.
        pass_: See `Pass`.
        keys: Keys [B] of the samplers of later stages and of a federated loss's draws; None takes the lowest
            indices and the most frequent classes first.
        first: [B * R, S, S, C], what is pooled of the first stage's regions, if it is already.

    Returns:
        The losses of `losses.box_losses` by name, with totals and counts [B]; of several stages with
        "_stage0", ... at the end of their names. And what each stage was trained on.
    """
    terms, trained, targets = {}, [], pooler.batch.targets
    assert targets is not None
    heads = _heads(head)
    slots = config.regions.positive_slots
    sampled = config.regions.later_stages == "sample"
    for stage, own in enumerate(heads):
        known = {} if first is None or stage else {"pooled": first}  # poolers of one's own may not take it
        pooled = pooler(regions.boxes, config.box.pool, regions.valid, **known)
        scaled = pooled
        if config.box.stage_gradient == "divided" and len(heads) > 1:
            scaled = _scale_gradient(pooled, 1 / len(heads))
        found = own(scaled, regions.valid.reshape(-1, 1, 1, 1), pass_.train)
        count = regions.valid.shape
        logits, deltas = _of_images(own, found, count, config)
        loss = functools.partial(losses.box_losses, classes=config.classes, config=config.box, stage=stage)
        suffix = f"_stage{stage}" if len(heads) > 1 else ""
        drawn = None
        if config.box.federated is not None and keys is not None:
            number = len(heads) + stage  # which no other stage, and no sampler of one, has
            drawn = jax.vmap(lambda key, i=number: jax.random.fold_in(key, i))(keys)
        if (seen := getattr(own, "seen", None)) is not None:
            loss = functools.partial(loss, counts=seen(regions, pooler.batch.valid, pass_.train))
        found = jax.vmap(loss)(logits, deltas, regions, targets, key=drawn)
        terms |= {f"{name}{suffix}": term for name, term in found.items()}
        positives = slots if stage == 0 or sampled else count[1]
        if config.regions.head_boxes == "predicted":
            predict = functools.partial(predicted_regions, classes=config.classes, box=config.box)
            regions = jax.vmap(predict)(regions, deltas)
        trained.append(TrainedStage(regions, pooled, positives))
        if stage + 1 < len(heads):
            follow = functools.partial(_next_regions, stage=stage + 1, config=config)
            own_keys = None if keys is None else jax.vmap(lambda k, i=stage: jax.random.fold_in(k, i))(keys)
            regions = jax.vmap(follow)(regions, logits, deltas, targets, pooler.limits, own_keys)
    return terms, trained


def detect_boxes(head: Any, pooler: Pooler, proposals: Proposals, config: ModelConfig) -> Detections:
    """Classify the proposals, refine their boxes and select the detections.

    Args:
        head: The box head, or an nnx.List of one for each stage. Each stage classifies the boxes that the
            one before has refined; the last one's boxes count, and the mean of all stages' scores.
        pooler: Features of the batch.
        proposals: Proposals with a leading B.
        config: Configuration of the model.

    Returns:
        Detections with a leading B and ``masks=None``, in the network's coordinates (`models/frames.py`).
    """
    heads, count, scores = _heads(head), proposals.valid.shape, []
    for stage, own in enumerate(heads):
        found = own(pooler(proposals.boxes, config.box.pool))
        logits, deltas = _of_images(own, found, count, config)
        scores.append(logits)
        if stage + 1 < len(heads):
            refine = functools.partial(refine_boxes, stage=stage, classes=config.classes, box=config.box)
            boxes, finite = jax.vmap(refine)(proposals.boxes, logits, deltas, pooler.limits)
            # Boxes without an area keep their slots, so that the scores of all stages belong together.
            proposals = proposals._replace(boxes=boxes, valid=proposals.valid & finite)
    select = functools.partial(
        select_detections, classes=config.classes, box=config.box, config=config.detections
    )
    logits = scores[0] if len(scores) == 1 else jnp.stack(scores, 1)
    return jax.vmap(select)(logits, deltas, proposals, pooler.limits)


def refine_boxes(
    boxes: Array,
    logits: Array,
    deltas: Array,
    limits: Array,
    labels: Array | None = None,
    *,
    stage: int,
    classes: Classes,
    box: BoxConfig,
) -> tuple[Array, Array]:
    """Apply a stage's deltas to the boxes of one image.

    Args:
        boxes: [R, 4], XYXY in the network's coordinates.
        logits: [R, K + 1].
        deltas: [R, box channels, 4].
        limits: int [2], the image without padding, to which boxes are clipped; or a window, [4] XYXY.
        labels: int [R], the classes whose deltas are taken; None takes each box's most probable class. Not
            used if there is one box for all classes.
        stage: The stage, from 0.
        classes: Gives the number of classes and the position of the background.
        box: Gives the rules by which deltas are decoded.

    Returns:
        [R, 4], zeros where they would not be finite; and bool [R], where they are. No gradient flows through
        them.
    """
    boxes, logits, deltas = jax.lax.stop_gradient((boxes, logits, deltas))
    if box.class_agnostic:
        own = deltas[:, 0]
    else:
        labels = best_labels(logits, classes) if labels is None else labels
        own = jnp.take_along_axis(deltas, (labels + classes.offset)[:, None, None], 1)[:, 0]
    refined = decode_boxes(own, boxes, box.stages[stage].box_weights, box.delta_clamp)
    finite = (jnp.isfinite(refined) & jnp.isfinite(own)).all(-1)
    return clip_boxes(jnp.where(finite[:, None], refined, 0), limits), finite


def predicted_regions(
    regions: losses.Regions, deltas: Array, *, classes: Classes, box: BoxConfig
) -> losses.Regions:
    """Move the regions of one image to the boxes that the box head makes of them for their objects' classes.

    Source: Detectron2 ``predict_boxes_for_gt_classes`` (``TRAIN_ON_PRED_BOXES``), which does not clip them.

    Args:
        regions: R regions.
        deltas: [R, box channels, 4].
        classes: Gives the number of classes and the position of the background.
        box: Gives the rules by which deltas are decoded.

    Returns:
        The regions; no gradient flows through their boxes.
    """
    boxes, deltas = jax.lax.stop_gradient((regions.boxes, deltas))
    slot = jnp.zeros_like(regions.labels) if box.class_agnostic else regions.labels + classes.offset
    own = jnp.take_along_axis(deltas, slot[:, None, None], 1)[:, 0]
    return regions._replace(boxes=decode_boxes(own, boxes, box.stages[0].box_weights, box.delta_clamp))


def best_labels(logits: Array, classes: Classes) -> Array:
    """Return the most probable object class of each box, int [R], from logits [R, K + 1]."""
    return jnp.argmax(logits[:, classes.offset : classes.offset + classes.count], axis=1)


def _next_regions(
    regions: losses.Regions,
    logits: Array,
    deltas: Array,
    targets: Targets,
    limits: Array,
    key: Array | None,
    *,
    stage: int,
    config: ModelConfig,
) -> losses.Regions:
    """Return the regions of one image that a stage learns from, from what the stage before made of its own.

    With "match" all of its boxes are regions again, with "sample" they are proposals for a new sample.
    Objects among the regions of the stage before are left out then, because they are added anew.
    """
    labels = jnp.where(regions.positive, regions.labels, best_labels(logits, config.classes))
    boxes, finite = refine_boxes(
        regions.boxes, logits, deltas, limits, labels, stage=stage - 1, classes=config.classes, box=config.box
    )
    valid = regions.valid & finite
    if config.regions.empty_boxes == "drop":
        valid &= (boxes[:, 2:] > boxes[:, :2]).all(-1)
    foreground = config.box.stages[stage].foreground_iou
    if config.regions.later_stages == "match":
        return losses.match_regions(boxes, valid, targets, config.regions, foreground)
    assert regions.ground_truth is not None  # both functions that make regions say it
    proposals = Proposals(boxes, jnp.zeros(valid.shape), valid & ~(regions.ground_truth & regions.positive))
    return losses.sample_regions(proposals, targets, config.regions, foreground, key)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scale_gradient(x: Array, factor: float) -> Array:
    """Return ``x``, whose gradient is multiplied by a factor."""
    return x


_scale_gradient.defvjp(lambda x, factor: (x, None), lambda factor, _, gradient: (gradient * factor,))


def _of_images(head: Any, found: Any, count: tuple[int, ...], config: ModelConfig) -> tuple[Array, Array]:
    """Logits [B, R, K + 1] and deltas [B, R, boxes, 4], of what a head returned for all regions."""
    boxes = box_channels(config.box, config.classes)
    check_box_outputs(head, found, count[0] * count[1], config.classes, boxes)
    logits, deltas = found
    return logits.reshape(*count, -1), deltas.reshape(*count, -1, 4)


def _heads(head: Any) -> tuple[Any, ...]:
    return tuple(head) if isinstance(head, nnx.List) else (head,)
