"""Backbones and necks: the parts that make feature maps, each with its settings.

A part whose layers differ is a class of its own, with a ``kind`` that files and command lines call it by,
the module that it builds, and the file with its arrays' names in other libraries; a part whose numbers
differ is the same class with other values. The defaults are torchvision's ``maskrcnn_resnet50_fpn``.
"""

# No `from __future__ import annotations` here: the values are checked by the field types.

import dataclasses
from typing import ClassVar, Literal, NamedTuple

from jaxmaskrcnn.config.values import ConfigError, Count, NotNegative, Part

Norm = Literal["none", "bn", "gn"]


class Level(NamedTuple):
    """A feature map that a backbone or a neck returns.

    Attributes:
        stride: Pixels of the network's input a cell.
        channels: C.

    Example:
        >>> Level(4, 256).stride
        4
    """

    stride: int
    channels: int


# -- backbones


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(Part):
    """What every backbone says of itself; the classes below are its kinds.

    Attributes:
        kind: What files and command lines call it.
        module: The class that it builds, as "package.module:Class".
        names: The module of its arrays' names in other libraries' files.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps that it returns, finest first."""
        raise TypeError(f"{type(self).__name__} does not say which maps it returns; give it `levels`.")


STAGE_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig(BackboneConfig):
    """ResNet, ResNeXt and wide ResNet (`models/backbones/resnet.py`).

    Example:
        >>> [level.channels for level in ResNetConfig(depth=18).levels]
        [64, 128, 256, 512]
    """

    kind: ClassVar[str] = "resnet"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnet:ResNet"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnet_names"
    depth: Literal[18, 34, 50, 101, 152] = 50
    width: Count = 64  # channels of the stem; every stage is a multiple of it
    groups: Count = 1  # ResNeXt: 32
    width_per_group: Count = 64  # ResNeXt 32x8d: 8; wide ResNet: 128
    stride_in_1x1: bool = False  # where a bottleneck has its stride (MSRA: the 1x1)
    norm: Literal["frozen_bn", "bn", "bn_eval", "gn"] = "frozen_bn"  # bn_eval: fixed statistics
    norm_epsilon: NotNegative = 1e-5
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = 2  # 0: nothing; 1: the stem; 2: the first stage too; ...
    outputs: tuple[Literal[2, 3, 4, 5], ...] = (2, 3, 4, 5)  # the maps that it returns: C2 to C5, or C4 alone

    def __post_init__(self):
        super().__post_init__()
        if not self.outputs or list(self.outputs) != sorted(set(self.outputs)):
            raise ConfigError(
                f"ResNetConfig.outputs is {self.outputs!r}; give some of the numbers 2 to 5, ascending."
            )

    def stage(self, number: int) -> Level:
        """The map at the end of a stage, which are numbered from 2 to 5."""
        expansion = 4 if self.depth >= 50 else 1
        return Level(2**number, self.width * 2 ** (number - 2) * expansion)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps that it returns."""
        return tuple(self.stage(number) for number in self.outputs)


# -- necks


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeckConfig(Part):
    """What every neck says of itself; the classes below are its kinds. Attributes as in `BackboneConfig`."""

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]

    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """The maps that it makes of a backbone's, finest first."""
        raise TypeError(f"{type(self).__name__} does not say which maps it makes; give it `levels`.")

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Those of its maps that regions are pooled from, which come first."""
        return levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class FPNConfig(NeckConfig):
    """Feature pyramid with P6 (`models/necks/fpn.py`).

    Example:
        >>> [level.stride for level in FPNConfig().levels(ResNetConfig().levels)]
        [4, 8, 16, 32, 64]
    """

    kind: ClassVar[str] = "fpn"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.fpn:FPN"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.fpn_names"
    channels: Count = 256
    norm: Norm = "none"

    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """P2 to P6 of C2 to C5."""
        strides = [level.stride for level in backbone]
        return tuple(Level(stride, self.channels) for stride in (*strides, 2 * strides[-1]))

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """The levels that regions are pooled from: all but P6."""
        return levels[:-1]
