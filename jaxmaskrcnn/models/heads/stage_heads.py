"""Region heads of a cascade: one for all of its stages, or one for each.

Shapes: B images, R regions of an image, Q those among them that can be positive.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.box_stages import TrainedStage
from jaxmaskrcnn.models.heads.region_head import Pooler, RegionHead
from jaxmaskrcnn.models.parts import build
from jaxmaskrcnn.structures import Detections, LossTerm


class StageHeads(nnx.List):
    """Equal region heads, one for each stage of a cascade.

    Each is trained on its own stage's regions; all of them predict for the final boxes, and the mean counts.

    Source: MMDetection ``CascadeRoIHead.predict_mask``.

    Example:
        >>> heads = StageHeads([model.mask_head, model.mask_head])
        >>> len(heads), hasattr(heads, "predict")
        (2, True)
    """

    def predict(self, pooler: Pooler, found: Detections) -> dict[str, Any]:
        """Predict for the final boxes; see `RegionHead`.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.

        Returns:
            Fields of `Detections` by name, each the mean of all heads'.
        """
        features = pooler(found.boxes, self[0].config.pool)
        stages = [head.predict(pooler, found, features) for head in self]
        return {name: jnp.stack([fields[name] for fields in stages]).mean(0) for name in stages[0]}


def has_stage_heads(config: ModelConfig) -> bool:
    """Return whether a model has a mask head for each of several box stages.

    Args:
        config: Configuration of the model.

    Example:
        >>> has_stage_heads(jmr.model_config("mmdet/mask-rcnn_r50_fpn_1x_coco"))  # it has one stage
        False
    """
    return len(config.box.stages) > 1 and getattr(config.mask, "heads", "one") == "each_stage"


def build_mask_head(config: ModelConfig, rngs: nnx.Rngs) -> Any:
    """Build the mask head, one for each stage, or None.

    Args:
        config: Configuration of the model.
        rngs: Random keys of the initial weights.
    """
    if config.mask is None:
        return None
    heads = [
        build(config.mask, config.region_channels, config.classes, dtype=config.compute.dtype, rngs=rngs)
        for _ in (config.box.stages if has_stage_heads(config) else config.box.stages[:1])
    ]
    return StageHeads(heads) if has_stage_heads(config) else heads[0]


def region_loss_terms(
    head: RegionHead | StageHeads,
    pooler: Pooler,
    stages: Sequence[TrainedStage],
    config: ModelConfig,
    pass_: Pass,
    features: jax.Array | None = None,
) -> dict[str, LossTerm]:
    """Compute the losses of a region head, image by image.

    Args:
        head: A head that is trained on the regions of the first stage, or one for each stage.
        pooler: Features of the batch, which has targets.
        stages: What each box stage was trained on.
        config: Configuration of the model.
        pass_: See `Pass`.
        features: [B * Q, S, S, C], what is pooled of the first stage's regions for the head, if anything is.

    Returns:
        Losses by name, with totals and counts [B]. Those of heads for each stage end with "_stage0", ... and
        are multiplied by the stage's weight.
    """
    if not isinstance(head, StageHeads):
        return _loss_terms(head, pooler, stages[0], pass_, features)
    terms = {}
    for i, (own, trained, stage) in enumerate(zip(head, stages, config.box.stages, strict=True)):
        for name, (total, count) in _loss_terms(own, pooler, trained, pass_).items():
            terms[f"{name}_stage{i}"] = LossTerm(stage.loss_weight * total, count)
    return terms


def _loss_terms(
    head: RegionHead, pooler: Pooler, stage: TrainedStage, pass_: Pass, features: jax.Array | None = None
) -> dict[str, LossTerm]:
    """Return the losses of a head that is trained on one stage's regions."""
    slots, shape = stage.positives, stage.regions.valid.shape
    regions = jax.tree.map(lambda x: x[:, :slots], stage.regions)
    if pooler.trunk is not None:  # without one, each head pools at its own size
        features = stage.features.reshape(*shape, *stage.features.shape[1:])[:, :slots]
        features = features.reshape(-1, *features.shape[2:])
    return head.loss_terms(pooler, regions, pass_, features)
