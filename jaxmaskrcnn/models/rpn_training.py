"""The region proposal network in a training step: its losses, and the proposals for the heads.

The losses read the predictions of the few hundred anchors that are sampled, and the proposals those of the
best few thousand, without a gradient. Anchors are sampled from their boxes and the objects alone. So a plain
`RPNHead` predicts for all anchors without a gradient, and for the sampled ones once more from the cells
around them (`rpn_windows.py`), with one. Of other heads the losses read the predictions of all anchors.

Shapes: B images, L levels, N anchors of an image, S of them sampled.
"""

from collections.abc import Sequence
from typing import Any

import jax

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.losses.rpn import rpn_losses, sample_anchors, sampled_rpn_losses
from jaxmaskrcnn.models import rpn_windows
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.rpn import in_own_padding
from jaxmaskrcnn.structures import Anchors, Batch, LossTerm, Proposals

Array = jax.Array

_MOST_SAMPLES = 1024  # that are predicted from windows; of more the losses read all predictions


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

    _, _, anchors, proposals = model.propose(batch, jax.lax.stop_gradient(levels), train=True, pass_=pass_)
    sampled = jax.vmap(sample)(learnt(anchors, batch, levels, config), batch.targets, rng, limits)
    logits, deltas = rpn_windows.predict_anchors(model.rpn, levels, sampled.index, pass_)
    return jax.vmap(terms_of_sampled)(logits, deltas, sampled), proposals


def applies(head: Any, config: RPNConfig, levels: Sequence[Array]) -> bool:
    """Whether the losses read the predictions of sampled anchors alone.

    Args:
        head: The module that predicts objectness and deltas.
        config: Its settings.
        levels: One map for each level, [B, h, w, C].
    """
    return rpn_windows.applies(head) and config.batch_size <= _MOST_SAMPLES and all(x.size for x in levels)


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


def _sizes(maps):
    return tuple((x.shape[1], x.shape[2]) for x in maps)
