"""Settings of layers that make the features of a region of those of all levels."""

# No `from __future__ import annotations` here: values are checked against the field types.

import abc
import dataclasses
from typing import ClassVar

from jaxmaskrcnn.config.backbones import Level
from jaxmaskrcnn.config.parts import Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractorConfig(Part):
    """Base class of extractors, which every head has of its own; `GRoIEConfig` is one.

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class". It is built from this configuration and
            the number of channels, and called with a region's features from each level.
        names: The module with its arrays' names in other libraries.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]

    @abc.abstractmethod
    def check(self, levels: tuple[Level, ...]) -> None:
        """Check that there are levels with such features.

        Args:
            levels: Those that regions are pooled from.

        Raises:
            ConfigError: There are not.
        """
