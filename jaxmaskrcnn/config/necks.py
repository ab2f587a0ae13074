"""Settings of necks, the parts between a backbone and the rest of a detector.

As for backbones, necks with different layers are separate classes.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import abc
import dataclasses
from typing import ClassVar

from jaxmaskrcnn.config.backbones import Level, Norm, check_groups
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Count, NotNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeckConfig(Part):
    """Base class of necks; the classes below are its kinds. Attributes as in `BackboneConfig`."""

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]

    @abc.abstractmethod
    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return its feature maps for those of a backbone, finest first."""

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return the leading feature maps, from which regions are pooled."""
        return levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class FPNConfig(NeckConfig):
    """Feature pyramid with P6 (`models/necks/fpn.py`).

    Example:
        >>> stages = tuple(Level(2**i, 64) for i in range(2, 6))
        >>> [level.stride for level in FPNConfig().levels(stages)]
        [4, 8, 16, 32, 64]
    """

    kind: ClassVar[str] = "fpn"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.fpn:FPN"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.fpn_names"
    channels: Count = 256
    norm: Norm = "none"
    norm_epsilon: NotNegative = 1e-5

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.channels, "FPNConfig.channels")

    def levels(self, backbone: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return P2 to P6 for C2 to C5.

        Raises:
            ConfigError: A map does not have twice the stride of the one before.
        """
        strides = doubling_strides(backbone, "fpn")
        return tuple(Level(stride, self.channels) for stride in (*strides, 2 * strides[-1]))

    def pooled(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return the levels from which regions are pooled: all but P6."""
        return levels[:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PAFPNConfig(FPNConfig):
    """Path aggregation network: a pyramid and a second path (`models/necks/pafpn.py`).

    Example:
        >>> PAFPNConfig().channels
        256
    """

    kind: ClassVar[str] = "pafpn"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.pafpn:PAFPN"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.pafpn_names"


def doubling_strides(backbone: tuple[Level, ...], kind: str) -> list[int]:
    """Return the strides of a pyramid's maps.

    Args:
        backbone: The maps.
        kind: The pyramid's, for the message.

    Raises:
        ConfigError: A map does not have twice the stride of the one before.
    """
    strides = [level.stride for level in backbone]
    if any(2 * fine != coarse for fine, coarse in zip(strides, strides[1:], strict=False)):
        raise ConfigError(
            f"ModelConfig.neck is {kind!r}, but the backbone returns maps with the strides "
            f"{', '.join(map(str, strides))}; a pyramid needs consecutive ones, each twice the one "
            "before (backbone.outputs of a ResNet)."
        )
    return strides
