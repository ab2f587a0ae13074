"""Settings of ConvNeXts."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Any, ClassVar, Literal

from jaxmaskrcnn.config.backbones import BackboneConfig, Level
from jaxmaskrcnn.config.values import BelowOne, Count, NotNegative, Positive

# Blocks and channels of the stages of the networks that MMDetection knows by name.
CONVNEXTS: dict[str, dict[str, Any]] = {
    name: {"blocks": blocks, "widths": tuple(width * 2**i for i in range(4))}
    for name, blocks, width in (
        ("tiny", (3, 3, 9, 3), 96),
        ("small", (3, 3, 27, 3), 96),
        ("base", (3, 3, 27, 3), 128),
        ("large", (3, 3, 27, 3), 192),
        ("xlarge", (3, 3, 27, 3), 256),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig(BackboneConfig):
    """ConvNeXt (`models/backbones/convnext.py`). The defaults are ConvNeXt-T.

    Source: Liu et al., 2022.

    Example:
        >>> [level.channels for level in ConvNeXtConfig().levels]
        [96, 192, 384, 768]
    """

    kind: ClassVar[str] = "convnext"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.convnext:ConvNeXt"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.convnext_names"
    norm: ClassVar[str] = "ln"  # layer norm; there is no other
    divisor: ClassVar[int] = 32
    blocks: tuple[Count, Count, Count, Count] = (3, 3, 9, 3)  # of each stage
    widths: tuple[Count, Count, Count, Count] = (96, 192, 384, 768)  # channels of each stage
    drop_path: BelowOne = 0.4  # of the last block in training: how often its changes are left out
    layer_scale: Positive = 1.0  # first value of the factors of a block's channels
    norm_epsilon: NotNegative = 1e-6
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = 0  # 0: nothing; 1: the stem; 2: the first stage too; ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """C2 to C5."""
        return tuple(Level(4 * 2**i, width) for i, width in enumerate(self.widths))

    def layer_of(self, path: str) -> int:
        """Return the layer of a parameter, for learning rates by layer; those after the blocks are the last.

        Source: MMDetection's ``get_layer_id_for_convnext``, for the number of layers of its config files.

        Args:
            path: Path of the parameter in the module.
        """
        last = 12 if self.blocks[2] > 9 else 6
        part, *rest = path.split(".")
        if part == "downsample_layers":
            return (0, 2, 3, last)[int(rest[0])]
        if part == "stages":
            return (1, 2, 3 + int(rest[1]) // 3, last)[int(rest[0])]
        return last + 1
