"""Settings of ResNeSt and Res2Net, which have a stem of three convolutions and averages in shortcuts."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar, Literal

from jaxmaskrcnn.config.backbones import BackboneConfig, Level
from jaxmaskrcnn.config.values import ConfigError, Count, NotNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepResNetConfig(BackboneConfig):
    """What both have in common, which is that of ResNet-D (He et al., 2018, "Bag of tricks")."""

    # Averages over two rows and columns leave no rest.
    divisor: ClassVar[int] = 32
    depth: Literal[50, 101, 152] = 50
    width: Count = 64  # channels of the first stage's blocks; every stage doubles it
    stem: Count = 64  # channels of the stem's last convolution; the two before have half
    norm: Literal["frozen_bn", "bn", "bn_eval"] = "frozen_bn"  # as in ResNetConfig
    norm_epsilon: NotNegative = 1e-5
    freeze_at: Literal[0, 1, 2, 3, 4, 5] = 2  # as in ResNetConfig

    def __post_init__(self):
        super().__post_init__()
        if self.stem % 2:
            raise ConfigError(
                f"{type(self).__name__}.stem is {self.stem}, of which the first convolutions have half; give "
                "an even number."
            )

    @property
    def levels(self) -> tuple[Level, ...]:
        """C2 to C5."""
        return tuple(Level(2**number, self.width * 2**number) for number in range(2, 6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNeStConfig(DeepResNetConfig):
    """ResNeSt (`models/backbones/resnest.py`), with one cardinal group of two splits.

    Example:
        >>> ResNeStConfig().levels[3]
        Level(stride=32, channels=2048)
    """

    kind: ClassVar[str] = "resnest"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnest:ResNeSt"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.resnest_names"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Res2NetConfig(DeepResNetConfig):
    """Res2Net (`models/backbones/res2net.py`). The defaults are those of "26w 4s".

    Example:
        >>> Res2NetConfig(depth=101).scale_width
        26
    """

    kind: ClassVar[str] = "res2net"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.res2net:Res2Net"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.res2net_names"
    scales: Count = 4  # parts of a block's channels
    scale_width: Count = 26  # channels of each part in the first stage; every stage doubles it

    def __post_init__(self):
        super().__post_init__()
        if self.scales < 2:
            raise ConfigError(
                f"Res2NetConfig.scales is {self.scales}, with which there is nothing to add; give at least 2."
            )
