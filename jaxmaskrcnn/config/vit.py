"""Settings of plain vision transformers for detection, and of the pyramid that follows them (ViTDet)."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, Any, ClassVar

from jaxmaskrcnn.config.backbones import BackboneConfig, Level, Norm, check_groups
from jaxmaskrcnn.config.necks import NeckConfig
from jaxmaskrcnn.config.values import BelowOne, ConfigError, Count, NotNegative, Range, Rule, ascending

# Settings of the networks with published weights.
VITS: dict[str, dict[str, Any]] = {
    "base": {"width": 768, "depth": 12, "heads": 12, "global_blocks": (2, 5, 8, 11), "drop_path": 0.1},
    "large": {"width": 1024, "depth": 24, "heads": 16, "global_blocks": (5, 11, 17, 23), "drop_path": 0.4},
    "huge": {"width": 1280, "depth": 32, "heads": 16, "global_blocks": (7, 15, 23, 31), "drop_path": 0.5},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig(BackboneConfig):
    """Plain vision transformer with windows (`models/backbones/vit.py`). The defaults are ViTDet's ViT-B.

    Source: Dosovitskiy et al., 2021; Li et al., 2022.

    Example:
        >>> ViTConfig().levels
        (Level(stride=16, channels=768),)
    """

    kind: ClassVar[str] = "vit"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.vit:ViT"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.vit_names"
    norm: ClassVar[str] = "ln"  # layer norm; there is no other
    divisor: ClassVar[int] = 32
    patch: Annotated[int, Range(2)] = 16  # side in pixels of what becomes a cell
    width: Count = 768  # channels
    depth: Count = 12  # blocks
    heads: Count = 12  # of attention
    window: Annotated[int, Range(2)] = 14  # side in cells of the windows of most blocks
    # those in which every cell attends to all cells of the image, counted from 0
    global_blocks: Annotated[
        tuple[int, ...],
        Rule(
            lambda x: ascending(x) and all(i >= 0 for i in x),
            "ascending numbers of blocks from 0, separated by commas",
        ),
    ] = (2, 5, 8, 11)
    mlp_ratio: Count = 4  # hidden channels of a block's perceptron, as a multiple of its channels
    positions: Count = 14  # side of the table of positions, which is resized to the image's own part
    grid: Count = 64  # side of the maps for which tables of relative positions are made; they are resized too
    drop_path: BelowOne = 0.1  # of the last block in training: how often its changes are left out
    norm_epsilon: NotNegative = 1e-6

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"ViTConfig.heads is {self.heads}, which does not divide its width, {self.width}; give a "
                "divisor."
            )
        if self.global_blocks and self.global_blocks[-1] >= self.depth:
            raise ConfigError(
                f"ViTConfig.global_blocks is {self.global_blocks}, but there are {self.depth} blocks, "
                "counted from 0; give numbers below that."
            )

    @property
    def levels(self) -> tuple[Level, ...]:
        """The last block's map."""
        return (Level(self.patch, self.width),)

    def layer_of(self, path: str) -> int:
        """Return the layer of a parameter, for learning rates by layer; what follows the blocks is the last.

        Source: Detectron2's ``get_vit_lr_decay_rate``.

        Args:
            path: Path of the parameter in the module.
        """
        part, *rest = path.split(".")
        if part in ("patch_embed", "pos_embed"):
            return 0
        return int(rest[0]) + 1 if part == "blocks" else self.depth + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimplePyramidConfig(NeckConfig):
    """Pyramid of a single map of stride 16, without a top-down path (`models/necks/simple_pyramid.py`).

    Example:
        >>> [level.stride for level in SimplePyramidConfig().levels((Level(16, 768),))]
        [4, 8, 16, 32, 64]
    """

    kind: ClassVar[str] = "simple_pyramid"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.simple_pyramid:SimplePyramid"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.simple_pyramid_names"
    channels: Count = 256
    norm: Norm = "ln"
    norm_epsilon: NotNegative = 1e-6

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.channels, "SimplePyramidConfig.channels")

    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return P2 to P6.

        Raises:
            ConfigError: There is not one map of stride 16.
        """
        if [level.stride for level in backbone] != [16]:
            strides = ", ".join(str(level.stride) for level in backbone)
            raise ConfigError(
                f"ModelConfig.neck is {self.kind!r}, but the backbone returns maps with the strides "
                f"{strides}; it needs one map with a stride of 16 (backbone 'vit', or a ResNet with "
                "backbone.outputs 4)."
            )
        check_groups(self.norm, backbone[0].channels // 2, "Half of the backbone's channels")
        return tuple(Level(2**i, self.channels) for i in range(2, 7))

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return the levels from which regions are pooled: all but P6."""
        return levels[:-1]
