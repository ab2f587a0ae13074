"""Settings of multiscale vision transformers."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, Any, ClassVar

from jaxmaskrcnn.config.backbones import BackboneConfig, Level
from jaxmaskrcnn.config.values import BelowOne, ConfigError, Count, NotNegative, Range, Whole

# Settings of the networks with published weights.
MVITS: dict[str, dict[str, Any]] = {
    name: dict(zip(("width", "heads", "depth", "stage_ends", "drop_path"), row, strict=True))
    for name, *row in (
        ("tiny", 96, 1, 10, (0, 2, 7, 9), 0.2),
        ("small", 96, 1, 16, (0, 2, 13, 15), 0.2),
        ("base", 96, 1, 24, (1, 4, 20, 23), 0.4),
        ("large", 144, 2, 48, (1, 7, 43, 47), 0.5),
        ("huge", 192, 3, 80, (3, 11, 71, 79), 0.6),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MViTConfig(BackboneConfig):
    """MViTv2 (`models/backbones/mvit.py`). The defaults are MViTv2-T.

    Source: Li et al., "MViTv2", 2022.

    Example:
        >>> [level.channels for level in MViTConfig().levels]
        [96, 192, 384, 768]
    """

    kind: ClassVar[str] = "mvit"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.mvit:MViT"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.mvit_names"
    norm: ClassVar[str] = "ln"  # layer norm; there is no other
    width: Count = 96  # channels of the first stage; every stage has twice those of the one before
    heads: Count = 1  # of attention in the first stage, likewise
    depth: Count = 10  # blocks of all stages
    stage_ends: tuple[Whole, Whole, Whole, Whole] = (0, 2, 7, 9)  # last block of each stage, counted from 0
    window: Annotated[int, Range(8)] = (
        56  # side in cells of the first stage's windows; halved from stage to stage
    )
    pool: Count = 4  # stride of the keys and values of the first stage; halved from stage to stage
    mlp_ratio: Count = 4  # hidden channels of a block's perceptron, as a multiple of its channels
    grid: Count = (
        56  # side of the first map for which tables of relative positions are made; they are resized
    )
    drop_path: BelowOne = 0.2  # of the last block in training: how often its changes are left out
    norm_epsilon: NotNegative = 1e-6

    def __post_init__(self):
        super().__post_init__()
        ends = self.stage_ends
        if any(a >= b for a, b in zip(ends, ends[1:], strict=False)) or ends[-1] != self.depth - 1:
            raise ConfigError(
                f"MViTConfig.stage_ends is {ends}, but there are {self.depth} blocks, counted from 0; give "
                f"four ascending numbers that end with {self.depth - 1}."
            )
        if self.width % self.heads:
            raise ConfigError(
                f"MViTConfig.heads is {self.heads}, which does not divide its width, {self.width}; give a "
                "divisor."
            )
        if self.window % (2 * self.pool) or self.window % 8:
            raise ConfigError(
                f"MViTConfig.window is {self.window} and pool {self.pool}; give a window that is a multiple "
                "of 8 and of twice the pool."
            )

    def stage(self, block: int) -> int:
        """Return the stage of a block, from 0."""
        return sum(end < block for end in self.stage_ends)

    @property
    def levels(self) -> tuple[Level, ...]:
        """C2 to C5."""
        return tuple(Level(4 * 2**i, self.width * 2**i) for i in range(4))
