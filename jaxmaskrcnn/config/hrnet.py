"""Settings of HRNets, which keep a fine map beside the coarser ones."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar, Literal

from jaxmaskrcnn.config.backbones import BackboneConfig, Level
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
