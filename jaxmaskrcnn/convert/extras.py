"""What the models of some libraries can have and those of others cannot.

A library lists what it has in `Library.has`. What another library has and this one has not, its files cannot
express. So a row is needed once, beside what it is about, and no library is changed for it but those that
have it. Kinds of parts need no row: a part's names file lists its libraries (`names/layers.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from jaxmaskrcnn.config import SCORES, ModelConfig
from jaxmaskrcnn.convert.configs.anchors import order_matters
from jaxmaskrcnn.convert.structure import modules_of
from jaxmaskrcnn.models.heads.stage_heads import has_stage_heads
from jaxmaskrcnn.models.names_files import names_file

if TYPE_CHECKING:
    from jaxmaskrcnn.convert.library import Library


class Extra(NamedTuple):
    """Something that a model can have.

    Attributes:
        of: Whether the model of a configuration has it.
        text: What a model with it is or has, for messages.
    """

    of: Callable[[ModelConfig], bool]
    text: str


# Words for parts of which a model has at most one.
_WORDS = {"mask": "mask head", "keypoints": "keypoint head", "semantic": "semantic head"}


def missing(config: ModelConfig, library: "Library", others: Iterable["Library"]) -> Iterator[str]:
    """Yield what a model has and a library has not.

    Args:
        config: The model's configuration.
        library: The library.
        others: All libraries.

    Example:
        >>> from jaxmaskrcnn.convert.libraries import LIBRARIES
        >>> path_aggregation = ModelConfig().replace({"neck": "pafpn"})
        >>> next(missing(path_aggregation, LIBRARIES["torchvision"], LIBRARIES.values()))
        "its neck is 'pafpn', which no setting there describes"
    """
    for path, part in modules_of(config):
        libraries = getattr(names_file(part), "LIBRARIES", ()) if hasattr(part, "names") else ()
        if library.name not in libraries:
            yield f"its {_WORDS.get(path, path)} is {part.kind!r}, which no setting there describes"
    scores = SCORES[config.box.scores]
    if scores.names and library.name not in names_file(scores).LIBRARIES:
        yield f"its class scores (box.scores) are {config.box.scores!r}, which no setting there describes"
    known = dict.fromkeys(extra for other in others for extra in other.has)
    for extra in known:
        if extra not in library.has and extra.of(config):
            yield extra.text


def has_fcn(config: ModelConfig) -> bool:
    """Return whether a model has the mask head of Mask R-CNN, a MaskConfig.

    Args:
        config: Configuration of the model.

    Example:
        >>> has_fcn(ModelConfig()), has_fcn(ModelConfig(mask=None))
        (True, False)
    """
    return config.mask is not None and config.mask.kind == "fcn"


STAGES = Extra(lambda c: len(c.box.stages) > 1, "its box head has several stages")
STAGE_MASKS = Extra(has_stage_heads, "it has a mask head for each box stage")
ONE_MASK = Extra(
    lambda c: len(c.box.stages) > 1 and c.mask is not None and not has_stage_heads(c),
    "it has one mask head for several box stages",
)
NO_NECK = Extra(lambda c: c.neck is None, "it has no neck")
AVERAGE = Extra(lambda c: c.box.average, "its box head averages each region's cells (box.average)")
CLASS_AGNOSTIC = Extra(
    lambda c: c.box.class_agnostic or c.get("mask.class_agnostic") is True, "its heads are class-agnostic"
)
DEFORMABLE = Extra(
    lambda c: bool(getattr(c.backbone, "deformable_stages", ())),
    "its backbone has deformable convolutions",
)
SIZES_FIRST = Extra(
    lambda c: c.rpn.anchors.order == "size" and order_matters(c),
    "the anchors of a cell are ordered by size first",
)
RATIOS_FIRST = Extra(
    lambda c: c.rpn.anchors.order == "ratio" and order_matters(c),
    "the anchors of a cell are ordered by ratio first",
)
