"""The region proposal network in a training step: its losses, and the proposals for the heads.

The losses read the predictions of the few hundred anchors that are sampled, and the proposals those of the
best few thousand, without a gradient. For a plain `RPNHead` both are one operation with its own gradient. So
every platform can keep the predictions in its own order: TPUs with the cells last, the others anchor by
anchor.

Shapes: B images, L levels, N anchors of an image, S of them sampled.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.losses.rpn import rpn_losses, sample_anchors, sampled_rpn_losses
from jaxmaskrcnn.models import proposals_tpu, sampled_predictions_tpu
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.frames import proposal_limits
from jaxmaskrcnn.models.proposals_tpu import Predictors
from jaxmaskrcnn.models.rpn import batch_anchors, by_anchor, in_own_padding, select_proposals
from jaxmaskrcnn.ops.convolution import convolution
from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.structures import Anchors, Batch, LossTerm, Proposals

Array = jax.Array

_MOST_SAMPLES = 1024  # whose rows of predictions are looked up; of more anchors all are read


def rpn_terms_and_proposals(
    model: Any,
    batch: Batch,
    levels: Sequence[Array],
    pass_: Pass,
    rng: Array | None,
    limits: Array,
    own_propose: bool,
) -> tuple[dict[str, LossTerm], Proposals]:
    """Compute the losses of the region proposal network of a batch, and its proposals.

    Args:
        model: The `MaskRCNN`.
        batch: A batch with targets, in the network's coordinates.
        levels: One map for each of ``config.levels``, [B, h, w, C].
        pass_: See `Pass`.
        rng: Keys for sampling, [B]; None takes the lowest indices first.
        limits: int [B, 2] or [B, 4], the part of each image beyond which ``config.rpn.border`` counts.
        own_propose: Whether the model's class has a method ``propose`` of its own, which then is called.

    Returns:
        The terms of `losses.rpn_losses` with a leading B, and Proposals with a leading B.
    """
    config = model.config
    if own_propose or not applies(model.rpn, config.rpn, levels):
        objectness, deltas, anchors, proposals = model.propose(batch, levels, train=True, pass_=pass_)

        def terms(objectness, deltas, anchors, targets, rng, limits):
            return rpn_losses(objectness, deltas, anchors, targets, config.rpn, rng, limits)

        anchors = learnt(anchors, batch, levels, config)
        return jax.vmap(terms)(objectness, deltas, anchors, batch.targets, rng, limits), proposals

    def sample(anchors, targets, rng, limits):
        return sample_anchors(anchors, targets, config.rpn, rng, limits)

    def terms_of_sampled(logits, deltas, sampled):
        return sampled_rpn_losses(logits, deltas, sampled, config.rpn)

    anchors = batch_anchors(batch.extents, _sizes(levels), config)
    sampled = jax.vmap(sample)(learnt(anchors, batch, levels, config), batch.targets, rng, limits)
    clip = proposal_limits(batch, config)
    maps = tuple(model.rpn.hidden(levels, pass_))
    places = anchors, batch.extents, clip
    found: Any = predictions_and_proposals(config, maps, Predictors.of(model.rpn), sampled.index, places)
    logits, deltas, proposals = found
    return jax.vmap(terms_of_sampled)(logits, deltas, sampled), proposals


def applies(head: Any, config: RPNConfig, levels: Sequence[Array]) -> bool:
    """Whether the losses and the proposals are one operation.

    Args:
        head: The module that predicts objectness and deltas.
        config: Its settings.
        levels: One map for each level, [B, h, w, C].
    """
    return (
        proposals_tpu.applies(head, config, levels)
        and config.batch_size <= _MOST_SAMPLES
        and all(x.size for x in levels)
        and not wants_every_derivative()
    )


def learnt(anchors: Anchors, batch: Batch, levels: Sequence[Array], config: ModelConfig) -> Anchors:
    """Leave out the anchors that are not learnt from, see ``config.rpn.batch_padding``.

    Args:
        anchors: Anchors with a leading B.
        batch: Gives the sizes of the images.
        levels: One map for each level, [B, h, w, C].
        config: Gives the rule.

    Returns:
        Anchors with a leading B.
    """
    if config.rpn.batch_padding != "ignore":
        return anchors
    sizes, strides = _sizes(levels), tuple(level.stride for level in config.levels)
    rule = (config.input.pad_divisor, config.rpn.anchors.per_cell)
    own = jax.vmap(lambda size: in_own_padding(sizes, strides, size, *rule))(batch.image_sizes)
    return anchors._replace(valid=anchors.valid & own)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def predictions_and_proposals(
    config: ModelConfig,
    maps: tuple[Array, ...],
    predictors: Predictors,
    index: Array,
    places: tuple[Anchors, Array, Array],
) -> tuple[Array, Array, Proposals]:
    """Compute the predictions of sampled anchors, and the proposals.

    Args:
        config: The whole model's.
        maps: [B, h, w, C] for each level, what the predictors read.
        predictors: The predictors.
        index: int [B, S], the sampled anchors.
        places: Anchors with a leading B; the extents, int [B, 2]; and where proposals end, [B, 2] or [B, 4].

    Returns:
        Objectness logits [B, S] and deltas [B, S, 4] of the sampled anchors, at least float32, and Proposals
        with a leading B. Only the first two have a gradient, with respect to maps and predictors.
    """
    default, tpu = (functools.partial(way, config) for way in (with_every_anchor, with_cells_last))
    return jax.lax.platform_dependent(maps, predictors, index, places, tpu=tpu, default=default)


def with_every_anchor(
    config: ModelConfig, maps: tuple[Array, ...], predictors: Predictors, index: Array, places: tuple
) -> tuple[Array, Array, Proposals]:
    """The plain way: predictions of all anchors; arguments and results as of `predictions_and_proposals`."""

    def one(objectness, deltas, index, anchors, extent, limits):
        del extent
        proposals = select_proposals(
            objectness, deltas, anchors, _sizes(maps), limits, config.rpn, train=True
        )
        return objectness[index], deltas[index], proposals

    return jax.vmap(one)(*_every_anchor(config, maps, predictors), index, *places)


def _every_anchor(config, maps, predictors):
    scores, score_bias, boxes, box_bias = predictors
    predict = lambda kernel, bias: lambda x: convolution(x.astype(kernel.dtype), kernel[None, None], bias)  # noqa: E731
    return by_anchor(
        maps, predict(scores, score_bias), predict(boxes, box_bias), config.rpn.objectness == "softmax"
    )


def with_cells_last(
    config: ModelConfig, maps: tuple[Array, ...], predictors: Predictors, index: Array, places: tuple
) -> tuple[Array, Array, Proposals]:
    """The way of TPUs; arguments and results as of `predictions_and_proposals`."""
    _, extents, limits = places
    sizes, predicted = _sizes(maps), proposals_tpu.predict(maps, predictors)

    def one(predicted, index):
        return sampled_predictions_tpu.sampled_predictions(predicted, sizes, index, config.rpn)

    logits, deltas = jax.vmap(one)(tuple(predicted), index)
    proposals = proposals_tpu.propose(predicted, sizes, extents, limits, config, train=True)
    return logits, deltas, proposals


def _sizes(maps):
    return tuple((x.shape[1], x.shape[2]) for x in maps)


def _forward(config, maps, predictors, index, places):
    return predictions_and_proposals(config, maps, predictors, index, places), (maps, predictors, index)


def _backward(config, saved, cotangents):
    of_logits, of_deltas, _ = cotangents

    def of_sampled(maps, predictors, index, of_logits, of_deltas):
        found = sampled_predictions_tpu.gradients(maps, predictors, index, of_logits, of_deltas, config.rpn)
        return tuple(found[0]), found[1]

    def of_every_anchor(maps, predictors, index, of_logits, of_deltas):
        def sampled(maps, predictors):
            objectness, deltas = _every_anchor(config, maps, predictors)
            return jax.vmap(lambda *arrays: tuple(x[arrays[2]] for x in arrays[:2]))(
                objectness, deltas, index
            )

        return jax.vjp(sampled, maps, predictors)[1]((of_logits, of_deltas))

    found = jax.lax.platform_dependent(*saved, of_logits, of_deltas, tpu=of_sampled, default=of_every_anchor)
    return (*found, None, None)


predictions_and_proposals.defvjp(_forward, _backward)
