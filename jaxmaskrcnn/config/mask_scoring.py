"""Settings of Mask Scoring R-CNN's mask head, which predicts how good its masks are (Huang et al., 2019).

The defaults are those of MMDetection's models.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, ClassVar, Literal

from jaxmaskrcnn.config.heads import MaskConfig, PoolConfig
from jaxmaskrcnn.config.values import ConfigError, Count, NotNegative, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskScoringConfig(MaskConfig):
    """A mask head with a head for the IoU of its masks (`models/heads/mask_scoring.py`).

    Example:
        >>> MaskScoringConfig(iou_dim=128).pool.size
        14
    """

    kind: ClassVar[str] = "mask_scoring"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.mask_scoring:MaskScoringHead"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.mask_scoring_names"
    pool: PoolConfig = PoolConfig(
        size=14, sampling_ratio=0, aligned=True, level_rule="finest_epsilon", scale="stride"
    )
    targets: Literal["soft", "threshold", "polygon"] = "threshold"
    # -- IoU head
    iou_convs: Count = 4  # the last one halves the sides
    iou_dim: Count = 256
    iou_fcs: Count = 2
    iou_fc_dim: Count = 1024
    # the logit above which a cell counts as the mask's when its IoU is learned; 0 is a probability of 0.5
    iou_threshold: Annotated[float, Range(-100, 100)] = 0.5
    iou_loss_weight: NotNegative = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.pool.size % 2:
            raise ConfigError(
                f"MaskScoringConfig.pool.size is {self.pool.size}, but the IoU head halves the regions' "
                "sides; give an even number."
            )
        if self.targets == "polygon":
            raise ConfigError(
                "MaskScoringConfig.targets is 'polygon', but the IoU of a mask is learned from the pixels of "
                "whole objects; give 'soft' or 'threshold'."
            )
