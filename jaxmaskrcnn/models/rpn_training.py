"""The region proposal network in a training step: its losses, and the proposals for the heads.

The losses read the predictions of the few hundred anchors that are sampled, and the proposals those of the
best few thousand, without a gradient. Anchors are sampled from their boxes and the objects alone. So a plain
`RPNHead` predicts for all anchors without a gradient, and for the sampled ones once more from the cells
around them (`rpn_windows.py`), with one. Of other heads the losses read the predictions of all anchors.

Shapes: B images, L levels, N anchors of an image, S of them sampled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.losses.rpn import SampledAnchors, rpn_losses, sample_anchors, sampled_rpn_losses
from jaxmaskrcnn.models import rpn_windows
from jaxmaskrcnn.models.anchor_grids import in_own_padding
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps
from jaxmaskrcnn.structures import Anchors, Batch, LossTerm, Proposals

Array = jax.Array

_MOST_SAMPLES = 1024  # that are predicted from windows; of more the losses read all predictions


class RPNSamples(NamedTuple):
    """The proposals of a batch, and what the losses of the region proposal network are computed from.

    Attributes:
        proposals: Proposals with a leading B.
        terms: The losses, if they read the predictions of all anchors; otherwise None.
        sampled: The sampled anchors with a leading B, or None.
        windows: What `rpn_windows.anchor_windows` returns for them, or two times None.

    Example:
        >>> RPNSamples._fields
        ('proposals', 'terms', 'sampled', 'windows')
    """

    proposals: Proposals
    terms: dict[str, LossTerm] | None
    sampled: SampledAnchors | None
    windows: tuple[RegionTaps, Array] | tuple[None, None]


def propose_and_sample(
    model: Any,
    batch: Batch,
    levels: Sequence[Array],
    pass_: Pass,
    rng: Array | None,
    limits: Array,
    own_propose: bool,
) -> RPNSamples:
    """Compute the proposals of a batch, and sample the anchors that the losses are computed of.

    Args:
        model: The `MaskRCNN`.
        batch: A batch with targets, in the network's coordinates.
        levels: One map for each of ``config.levels``, [B, h, w, C].
        pass_: See `Pass`.
        rng: Keys for sampling, [B]; None takes the lowest indices first.
        limits: int [B, 2] or [B, 4], the part of each image beyond which ``config.rpn.border`` counts.
        own_propose: Whether the model's class has a method ``propose`` of its own, whose predictions the
            losses then read.

    Returns:
        See `RPNSamples`.
    """
    config, rpn = model.config, model.config.rpn
    if own_propose or not applies(model.rpn, rpn, levels):
        objectness, deltas, anchors, proposals = model.propose(batch, levels, train=True, pass_=pass_)

        def terms(objectness, deltas, anchors, targets, rng, limits):
            return rpn_losses(objectness, deltas, anchors, targets, rpn, rng, limits)

        anchors = learnt(anchors, batch, levels, config)
        found = jax.vmap(terms)(objectness, deltas, anchors, batch.targets, rng, limits)
        return RPNSamples(proposals, found, None, (None, None))

    def sample(anchors, targets, rng, limits):
        return sample_anchors(anchors, targets, rpn, rng, limits)

    _, _, anchors, proposals = model.propose(batch, jax.lax.stop_gradient(levels), train=True, pass_=pass_)
    sampled = jax.vmap(sample)(learnt(anchors, batch, levels, config), batch.targets, rng, limits)
    windows = rpn_windows.anchor_windows(model.rpn, levels, sampled.index, pass_)
    return RPNSamples(proposals, None, sampled, windows)


def rpn_loss_terms(
    head: Any, samples: RPNSamples, pooled: Array | None, config: RPNConfig
) -> dict[str, LossTerm]:
    """Compute the losses of the region proposal network of a batch.

    Args:
        head: The module that predicts objectness and deltas.
        samples: See `RPNSamples`.
        pooled: [B, S, K, K, C], the cells of its windows, if there are any.
        config: Its settings.

    Returns:
        The terms of `losses.rpn_losses` with a leading B.
    """
    if samples.terms is not None:
        return samples.terms
    sampled, (_, inside) = samples.sampled, samples.windows
    assert sampled is not None and pooled is not None and inside is not None
    logits, deltas = rpn_windows.predict_anchors(head, pooled, inside, sampled.index)

    def terms(logits, deltas, sampled):
        return sampled_rpn_losses(logits, deltas, sampled, config)

    return jax.vmap(terms)(logits, deltas, sampled)


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
