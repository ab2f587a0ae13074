"""Settings of HRNets, which keep a fine map beside the coarser ones, and of their pyramid."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar, Literal

from jaxmaskrcnn.config.backbones import BackboneConfig, Level, WholeLevel
from jaxmaskrcnn.config.necks import NeckConfig, doubling_strides
from jaxmaskrcnn.config.values import Count, NotNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class HRNetConfig(BackboneConfig):
    """HRNet (`models/backbones/hrnet.py`). The defaults are those of HRNetV2p-W32.

    Example:
        >>> [level.channels for level in HRNetConfig(width=18).levels]
        [18, 36, 72, 144]
    """

    kind: ClassVar[str] = "hrnet"
    module: ClassVar[str] = "jaxmaskrcnn.models.backbones.hrnet:HRNet"
    names: ClassVar[str] = "jaxmaskrcnn.models.backbones.hrnet_names"
    # Coarse maps are enlarged to the size of finer ones.
    divisor: ClassVar[int] = 32
    width: Count = 32  # channels of the finest branch; every further one has twice those of the one before
    first_width: Count = 64  # channels inside the bottlenecks of the first stage
    blocks: Count = 4  # of the first stage, and of every branch of a module
    modules: tuple[Count, Count, Count] = (1, 4, 3)  # of the stages with two, three and four branches
    norm: Literal["frozen_bn", "bn", "bn_eval"] = "frozen_bn"  # as in ResNetConfig
    norm_epsilon: NotNegative = 1e-5

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps of the four branches, with the strides 4 to 32."""
        return tuple(Level(4 * 2**i, self.width * 2**i) for i in range(4))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HRFPNConfig(NeckConfig):
    """Pyramid of an HRNet: averages of one map that is made of all (`models/necks/hrfpn.py`).

    Example:
        >>> stages = tuple(Level(2**i, 18 * 2**i) for i in range(2, 6))
        >>> [level.stride for level in HRFPNConfig().levels(stages)]
        [4, 8, 16, 32, 64]
    """

    kind: ClassVar[str] = "hrfpn"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.hrfpn:HRFPN"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.hrfpn_names"
    channels: Count = 256

    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return P2 to P6 for C2 to C5, or as many of them as there are maps, and one more.

        Raises:
            ConfigError: A map does not have twice the stride of the one before.
        """
        strides = doubling_strides(backbone, "hrfpn")
        return (
            *(Level(stride, self.channels) for stride in strides),
            WholeLevel(2 * strides[-1], self.channels),
        )

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return the levels from which regions are pooled: all but P6."""
        return levels[:-1]
