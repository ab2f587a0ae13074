"""Box losses of sampled regions in training, and final boxes from proposals in a prediction.

Faster R-CNN has one stage: proposals are classified and refined once.

Shapes: B images, P proposal slots, R sampled regions, K object classes, D detection slots.
"""

import functools

import jax

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.box import BoxHead
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.structures import Detections, LossTerm, Proposals

Array = jax.Array


def box_loss_terms(
    head: BoxHead, pooler: Pooler, regions: losses.Regions, config: ModelConfig, pass_: Pass
) -> tuple[dict[str, LossTerm], Array]:
    """Compute the losses of the box head, image by image.

    Args:
        head: The box head.
        pooler: Features of the batch, which has targets.
        regions: R sampled regions, with a leading B.
        config: Configuration of the model.
        pass_: See `Pass`.

    Returns:
        The losses of `losses.box_losses` by name, with totals and counts [B]; and the regions' features
        [B * R, S, S, C].
    """
    pooled = pooler(regions.boxes, config.box.pool, regions.valid)
    logits, deltas = head(pooled, regions.valid.reshape(-1, 1, 1, 1), pass_.train)
    count, targets = regions.valid.shape, pooler.batch.targets
    assert targets is not None
    loss = functools.partial(losses.box_losses, classes=config.classes, config=config.box)
    terms = jax.vmap(loss)(logits.reshape(*count, -1), deltas.reshape(*count, -1, 4), regions, targets)
    return terms, pooled


def detect_boxes(head: BoxHead, pooler: Pooler, proposals: Proposals, config: ModelConfig) -> Detections:
    """Classify the proposals, refine their boxes and select the detections.

    Args:
        head: The box head.
        pooler: Features of the batch.
        proposals: Proposals with a leading B.
        config: Configuration of the model.

    Returns:
        Detections with a leading B and ``masks=None``, in the network's coordinates (`models/frames.py`).
    """
    logits, deltas = head(pooler(proposals.boxes, config.box.pool))
    count = proposals.valid.shape
    select = functools.partial(
        select_detections, classes=config.classes, box=config.box, config=config.detections
    )
    limits = pooler.batch.image_sizes if pooler.frame is None else pooler.frame.image
    return jax.vmap(select)(logits.reshape(*count, -1), deltas.reshape(*count, -1, 4), proposals, limits)
