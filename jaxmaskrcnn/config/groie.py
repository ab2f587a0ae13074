"""Settings of GRoIE (Rossi et al., 2020), which makes the features of a region of those of all levels.

The defaults are those of the paper and of MMDetection's models.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar

from jaxmaskrcnn.config.backbones import Level
from jaxmaskrcnn.config.extractors import ExtractorConfig
from jaxmaskrcnn.config.values import ConfigError, Count, Odd


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRoIEConfig(ExtractorConfig):
    """Layers for regions that are pooled from all levels (`models/groie.py`), for each head its own.

    Example:
        >>> GRoIEConfig(kernel=3).heads
        6
    """

    kind: ClassVar[str] = "groie"
    module: ClassVar[str] = "jaxmaskrcnn.models.groie:GRoIE"
    names: ClassVar[str] = "jaxmaskrcnn.models.groie_names"
    kernel: Odd = 5  # of the convolution of the features from each level
    heads: Count = 6  # of the attention to their sum
    key_stride: Count = 2  # every how many rows and columns of a region it attends to

    def check(self, levels: tuple[Level, ...]) -> None:
        """Check that there are levels with such features.

        Args:
            levels: Those that regions are pooled from.

        Raises:
            ConfigError: There is only one, or it has too few channels or no multiple of 4.
        """
        channels = levels[0].channels
        if len(levels) == 1:
            raise ConfigError(
                "ModelConfig.extractor is 'groie', which adds up the features of all levels, but regions are "
                "pooled from one level; add a neck such as 'fpn', or set extractor to None."
            )
        if channels % 4 or channels < self.heads:
            raise ConfigError(
                f"ModelConfig.extractor is 'groie' with {self.heads} heads, but the levels have {channels} "
                "channels; give a multiple of 4 that is at least the number of heads (neck.channels)."
            )
