"""Settings of backbones, the parts that compute feature maps; `necks.py` has those of necks.

Parts with different layers are separate classes, each with its ``kind`` (its name in files and on command
lines), the module that it builds, and the file with its arrays' names in other libraries. Parts that differ
only in numbers share a class. The defaults are torchvision's ``maskrcnn_resnet50_fpn``.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import abc
import dataclasses
import math
from collections import Counter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Count, Fraction, NotNegative, Range, Rule, ascending

Norm = Literal["none", "bn", "gn", "gn_ws", "ln"]
GROUPS = 32  # of group norm, in all libraries
# Group norm, and the same after convolutions whose kernels are standardised.
GROUP_NORMS = ("gn", "gn_ws")


def check_groups(norm: str, channels: int, setting: str) -> None:
    """Check that group norm can divide a layer's channels.

    Args:
        norm: The layer's norm.
        channels: The number of its channels.
        setting: Names them in the message.

    Raises:
        ConfigError: The norm is a group norm and the channels are not a multiple of 32.
    """
    if norm in GROUP_NORMS and channels % GROUPS:
        raise ConfigError(
            f"{setting} is {channels}, which the {GROUPS} groups of norm {norm!r} do not divide; give a "
            f"multiple of {GROUPS}, or another norm."
        )


class Level(NamedTuple):
    """A feature map that a backbone or a neck returns.

    Attributes:
        stride: Pixels of the network's input per cell.
        channels: Number of channels, C.
        whole: Whether cells that an image fills only in part are left out, see `WholeLevel`.

    Example:
        >>> Level(4, 256).stride
        4
    """

    stride: int
    channels: int
    whole = False


class WholeLevel(Level):
    """A level of a layer that rounds down: an image has only the cells that it fills as a whole.

    Example:
        >>> WholeLevel(64, 256).whole
        True
    """

    whole = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(Part):
    """Base class of backbones; the classes below are its kinds, and so are yours (docs/modules.md).

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class".
        names: The module with its arrays' names in other libraries' files; a backbone that no other library
            has needs none.
        divisor: What ``input.pad_divisor`` has to be a multiple of.
        any_channels: Whether its module takes ``channels``, for pictures of another number than three.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]
    any_channels: ClassVar[bool] = False
    divisor: ClassVar[int] = 1  # of the sides of canvases, where its layers would leave out what is more

    @property
    @abc.abstractmethod
    def levels(self) -> tuple[Level, ...]:
        """The feature maps that it returns, finest first."""


# Numbers of ResNet stages; the output of stage 2 is C2.
_Stages = Annotated[
    tuple[Literal[2, 3, 4, 5], ...],
    Rule(ascending, "none or some of the numbers 2 to 5, ascending, separated by commas"),
]

STAGE_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeformableStages(BackboneConfig):
    """What backbones of bottlenecks have in common: 3x3 convolutions that may be deformable."""

    deformable_stages: _Stages = ()  # whose 3x3 convolutions are deformable
    deformable_masks: bool = False  # whether each of their taps has a factor too (version 2, "modulated")
    deformable_groups: Count = 1  # groups of channels with offsets of their own

    def _check_offset_groups(self, number: int, channels: int) -> None:
        """Check that the groups of offsets divide the channels of the 3x3 convolutions of a stage."""
        if number in self.deformable_stages and channels % self.deformable_groups:
            raise ConfigError(
                f"{type(self).__name__}.deformable_groups is {self.deformable_groups}, which does not divide "
                f"the {channels} channels of stage {number}; give a divisor."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig(DeformableStages):
    """ResNet, ResNeXt and wide ResNet (`models/backbones/resnet.py`).

    Example:
        >>> [level.channels for level in ResNetConfig(depth=18).levels]
        [64, 128, 256, 512]
    """

    kind: ClassVar[str] = "resnet"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnet:ResNet"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnet_names"
    any_channels: ClassVar[bool] = True
    depth: Literal[18, 34, 50, 101, 152] = 50
    width: Count = 64  # channels of the stem; every stage is a multiple of it
    groups: Count = 1  # ResNeXt: 32
    width_per_group: Count = 64  # ResNeXt 32x8d: 8; wide ResNet: 128
    stride_in_1x1: bool = False  # whether a bottleneck's stride is in the 1x1 convolution (MSRA)
    # bn_eval: fixed statistics; gn_ws: after standardised kernels
    norm: Literal["frozen_bn", "bn", "bn_eval", "gn", "gn_ws"] = "frozen_bn"
    norm_epsilon: NotNegative = 1e-5
    conv_bias: bool = False  # whether convolutions have a bias although a norm follows (Keras)
    pool_padding: Literal["both", "end"] = "both"  # of the stem's max pool: all sides, or right and below
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = 2  # 0: nothing; 1: the stem; 2: the first stage too; ...
    # returned maps: C2 to C5, or C4
    outputs: Annotated[
        tuple[Literal[2, 3, 4, 5], ...],
        Rule(
            lambda x: bool(x) and ascending(x), "some of the numbers 2 to 5, ascending, separated by commas"
        ),
    ] = (2, 3, 4, 5)
    context_stages: _Stages = ()  # whose blocks end with a global context block (GCNet)
    context_reduction: Count = 16  # factor by which these have fewer channels inside
    dilated_c5: bool = False  # whether C5 has C4's stride, and all its 3x3 convolutions a dilation of 2 (DC5)

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.width, "ResNetConfig.width")
        self._check_stages()
        if self.depth < 50:
            return  # these have no bottlenecks
        for number in range(2, 6):
            width = self.width * 2 ** (number - 2)
            channels = width * self.width_per_group // 64 * self.groups  # of the 3x3 convolutions
            if not channels:
                raise ConfigError(
                    f"ResNetConfig.width_per_group is {self.width_per_group} and width {self.width}, which "
                    "leaves no channel for a group; give a width_per_group of at least "
                    f"{-(-64 // self.width)}."
                )
            check_groups(
                self.norm,
                channels,
                "The number of channels that ResNetConfig's width, width_per_group and groups give",
            )
            self._check_offset_groups(number, channels)

    def _check_stages(self) -> None:
        """Check the settings of single stages."""
        changed = {
            "dilated_c5": self.dilated_c5,
            "deformable_stages": self.deformable_stages,
            "context_stages": self.context_stages,
        }
        for setting, value in changed.items():
            if value and self.depth < 50:
                raise ConfigError(
                    f"ResNetConfig.{setting} is {value}, which is for blocks with one 3x3 convolution; give "
                    f"a depth of at least 50 instead of {self.depth}, or leave it out."
                )
        last = self.outputs[-1]
        if self.dilated_c5 and (last != 5 or 4 in self.outputs):
            raise ConfigError(
                f"ResNetConfig.dilated_c5 is True, but its outputs are {self.outputs}; give some that end "
                "with 5 and leave out 4, whose map has the same stride."
            )
        for setting in ("deformable_stages", "context_stages"):
            if any(number > last for number in changed[setting]):
                raise ConfigError(
                    f"ResNetConfig.{setting} are {changed[setting]}, but the last of its outputs is {last}; "
                    "leave out the stages after it."
                )
        if self.context_stages and self.stage(self.context_stages[0]).channels < self.context_reduction:
            raise ConfigError(
                f"ResNetConfig.context_reduction is {self.context_reduction}, but stage "
                f"{self.context_stages[0]} has {self.stage(self.context_stages[0]).channels} channels; give "
                "at most as many."
            )

    def stage(self, number: int) -> Level:
        """The feature map of a stage; stages are numbered from 2 to 5."""
        expansion = 4 if self.depth >= 50 else 1
        stride = 16 if number == 5 and self.dilated_c5 else 2**number
        return Level(stride, self.width * 2 ** (number - 2) * expansion)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The feature maps that it returns."""
        return tuple(self.stage(number) for number in self.outputs)


# Settings of the networks with published weights, by MMDetection's names.
REGNETS: dict[str, dict[str, Any]] = {
    name: dict(zip(("w0", "wa", "wm", "depth", "group_width", "squeeze_ratio"), row, strict=True))
    for name, *row in (
        ("regnetx_400mf", 24, 24.48, 2.54, 22, 16, 0.0),
        ("regnetx_800mf", 56, 35.73, 2.28, 16, 16, 0.0),
        ("regnetx_1.6gf", 80, 34.01, 2.25, 18, 24, 0.0),
        ("regnetx_3.2gf", 88, 26.31, 2.25, 25, 48, 0.0),
        ("regnetx_4.0gf", 96, 38.65, 2.43, 23, 40, 0.0),
        ("regnetx_6.4gf", 184, 60.83, 2.07, 17, 56, 0.0),
        ("regnetx_8.0gf", 80, 49.56, 2.88, 23, 120, 0.0),
        ("regnetx_12gf", 168, 73.36, 2.37, 19, 112, 0.0),
        ("regnety_4.0gf", 96, 31.41, 2.24, 22, 64, 0.25),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegNetConfig(DeformableStages):
    """RegNetX, and with a squeeze ratio RegNetY (`models/backbones/regnet.py`).

    ``w0`` and ``wa`` define widths that grow linearly from block to block, and ``wm`` the factor between the
    widths of stages; `stages` has the result. The defaults are RegNetX-4.0GF.

    Source: Radosavovic et al., 2020, section 3.3.

    Example:
        >>> RegNetConfig().stages
        ((80, 2), (240, 5), (560, 14), (1360, 2))
    """

    kind: ClassVar[str] = "regnet"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.regnet:RegNet"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.regnet_names"
    w0: Count = 96
    wa: NotNegative = 38.65
    wm: Annotated[float, Range(1, more=True)] = 2.43
    depth: Annotated[int, Range(1, 1000)] = 23  # blocks of all stages
    group_width: Count = 40  # channels of a group of the 3x3 convolutions
    squeeze_ratio: Fraction = 0.0  # RegNetY: 0.25, of a block's input channels; 0: no squeeze-and-excitation
    stem: Count = 32
    norm: Literal["frozen_bn", "bn", "bn_eval"] = "frozen_bn"  # as in ResNetConfig
    norm_epsilon: NotNegative = 1e-5
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = 2  # as in ResNetConfig

    def __post_init__(self):
        super().__post_init__()
        try:
            count = len(self.stages)
        except OverflowError:
            raise ConfigError(
                f"RegNetConfig.wa is {self.wa:g}, which gives widths that no array can have; give a smaller "
                "one."
            ) from None
        if count != 4:
            raise ConfigError(
                f"RegNetConfig's w0, wa, wm and depth give {count} stages; choose numbers that give 4."
            )
        for number, (width, _) in enumerate(self.stages, 2):
            self._check_offset_groups(number, width)

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Width and number of blocks of each stage."""
        blocks = Counter()
        for i in range(self.depth):
            power = round(math.log((self.w0 + self.wa * i) / self.w0) / math.log(self.wm))
            blocks[8 * round(self.w0 * self.wm**power / 8)] += 1
        return tuple((self._whole_groups(width), count) for width, count in sorted(blocks.items()))

    def _whole_groups(self, width: int) -> int:
        """Round the width to a multiple of its groups' width."""
        group = min(self.group_width, width)
        return max(group, group * round(width / group))

    @property
    def levels(self) -> tuple[Level, ...]:
        """C2 to C5."""
        return tuple(Level(2**number, width) for number, (width, _) in enumerate(self.stages, 2))
