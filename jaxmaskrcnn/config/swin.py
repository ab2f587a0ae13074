"""Settings of Swin transformers."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from jaxmaskrcnn.config.backbones import BackboneConfig, Level
from jaxmaskrcnn.config.values import BelowOne, ConfigError, Count, NotNegative, Range

FourCounts = tuple[Count, Count, Count, Count]

# Settings of the networks with published weights.
SWINS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 96, "blocks": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
    "small": {"width": 96, "blocks": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
    "base": {"width": 128, "blocks": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "large": {"width": 192, "blocks": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig(BackboneConfig):
    """Swin transformer (`models/backbones/swin.py`). The defaults are Swin-T.

    Source: Liu et al., 2021.

    Example:
        >>> [level.channels for level in SwinConfig().levels]
        [96, 192, 384, 768]
    """

    kind: ClassVar[str] = "swin"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.swin:Swin"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.swin_names"
    norm: ClassVar[str] = "ln"  # layer norm; there is no other
    width: Count = 96  # channels of the first stage; every stage has twice those of the one before
    blocks: FourCounts = (2, 2, 6, 2)  # of each stage
    heads: FourCounts = (3, 6, 12, 24)  # of the attention of each stage
    window: Annotated[int, Range(2)] = 7  # side in cells
    mlp_ratio: Count = 4  # hidden channels of a block's perceptron, as a multiple of its channels
    drop_path: BelowOne = 0.2  # of the last block in training: how often its changes are left out
    norm_epsilon: NotNegative = 1e-5
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = (
        0  # 0: nothing; 1: the patch embedding; 2: the first stage too; ...
    )

    def __post_init__(self):
        super().__post_init__()
        for (_, channels), heads in zip(self.levels, self.heads, strict=True):
            if channels % heads:
                raise ConfigError(
                    f"SwinConfig.heads is {self.heads}, but {heads} do not divide the {channels} channels of "
                    "their stage; give divisors."
                )

    @property
    def levels(self) -> tuple[Level, ...]:
        """C2 to C5."""
        return tuple(Level(4 * 2**i, self.width * 2**i) for i in range(4))
