"""Online hard example mining: regions with large losses are learned from first.

Shapes: B images, P proposal slots, G ground-truth slots, K object classes.
"""

import functools
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.structures import Proposals

Array = jax.Array


def hard_priorities(head: Any, pooler: Pooler, proposals: Proposals, config: ModelConfig) -> Array:
    """The loss of the class of everything that regions are sampled from.

    The first box head classifies all proposals and objects, as in a prediction: batch norm uses and keeps
    its running statistics, and no gradient flows.

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining",
    2016; MMDetection's ``OHEMSampler``, which also takes the loss of the class alone.

    Args:
        head: The box head, or an nnx.List of one for each stage.
        pooler: Features of the batch, which has targets.
        proposals: Proposals with a leading B.
        config: Configuration of the model.

    Returns:
        float [B, P + G], the ``priority`` of `losses.sample_regions`.
    """
    first, targets = head[0] if isinstance(head, nnx.List) else head, pooler.batch.targets
    assert targets is not None
    foreground = config.box.stages[0].foreground_iou
    match = functools.partial(losses.region_candidates, config=config.regions, foreground_iou=foreground)
    candidates = jax.vmap(match)(proposals, targets)
    logits, deltas = first(pooler(candidates.boxes, config.box.pool))
    count = candidates.valid.shape
    logits, deltas = logits.reshape(*count, -1), deltas.reshape(*count, -1, 4)
    loss = functools.partial(losses.region_class_losses, classes=config.classes, config=config.box)
    return jax.lax.stop_gradient(jax.vmap(loss)(logits, deltas, candidates, targets))
