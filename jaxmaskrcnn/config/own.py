"""Settings of what a researcher adds to a detector: further region heads, and ground truth for them.

`ModelConfig.build_model` is the third: a function that makes the whole detector.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, ClassVar, Literal

from jaxmaskrcnn.config.heads import PoolConfig
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import Count, Rule

Name = Annotated[str, Rule(lambda x: x.isidentifier(), "a name of letters, digits and underscores")]
# "" or the place of a function or class
Place = Annotated[
    str,
    Rule(
        lambda x: not x or (x.count(":") == 1 and all(map(str.isidentifier, x.replace(":", ".").split(".")))),
        "the place of a function or class as 'package.module:name'",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig(Part):
    """Base class of the settings of further region heads; what they predict is in ``Detections.extra``.

    There is no kind of them in this package: a class of yours gives its ``kind``, its ``module`` and any
    settings.

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class", a `RegionHead`.
        pool: How the features of its regions are pooled.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    pool: PoolConfig = PoolConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraConfig(Part):
    """Numbers that every object, or every image, has in the json, and that losses find in ``Targets.extra``.

    They go with their object through all transforms, and none changes them.

    Attributes:
        name: Their key in an entry of the json's "annotations" or "images", and in ``Targets.extra``.
        of: What has them, an object or an image.
        shape: Lengths of the (nested) list that they are; () for one number.
        default: What an entry without them gets in each place; None refuses it.

    Example:
        >>> ExtraConfig(name="depth").shape
        ()
    """

    name: Name = "extra"
    of: Literal["object", "image"] = "object"
    shape: tuple[Count, ...] = ()
    default: float | None = None
