"""Settings of the losses of masks (`losses/masks.py`)."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses

from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, NotNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskLossConfig(Part):
    """The losses of masks and their factors; those with the factor 0 are not computed.

    Example:
        >>> MaskLossConfig(dice=1.0).cross_entropy
        1.0
    """

    cross_entropy: NotNegative = 1.0  # mean over the cells of all masks
    dice: NotNegative = 0.0  # mean over the masks
    boundary: NotNegative = 0.0  # mean over the cells, each times its distance from the edge, in cells

    def __post_init__(self):
        super().__post_init__()
        if not (self.cross_entropy or self.dice or self.boundary):
            raise ConfigError(
                "MaskLossConfig has the factor 0 for every loss; give one of cross_entropy, dice and "
                "boundary a factor above 0."
            )
