"""Settings of layers that double the sides of maps, in place of a transposed convolution."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar

from jaxmaskrcnn.config.parts import Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpsampleConfig(Part):
    """Base class of layers that double maps; `CarafeConfig` is one.

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class". It is built from this configuration and
            the number of channels, which it keeps, and has ``depths``, as `Carafe` has.
        names: The module with its arrays' names in other libraries, see `names/layers.py`.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]
