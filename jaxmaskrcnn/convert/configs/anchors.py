"""Anchors as torchvision and Detectron2 write them: a list of sizes and a list of ratios for each level."""

from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.config import Level, ModelConfig
from jaxmaskrcnn.names.config_table import Settings
from jaxmaskrcnn.names.conversions import Conversion, number, several, short

Lists = tuple[tuple[float, ...], ...]

PER_LEVEL: Conversion = several(several(number(1e-6)), text="a list of numbers above 0 for each level")


def read_anchors(
    settings: Settings, keys: tuple[str, str], levels: Sequence[Level], shared: bool
) -> dict[str, Any]:
    """Read the anchors' sizes and ratios, by dotted path, and record problems.

    Args:
        settings: The file's settings.
        keys: Keys of the sizes and of the ratios; their values are checked with `PER_LEVEL`.
        levels: The model's levels.
        shared: Whether one list may apply to all levels.
    """
    found: list[Lists] = []
    for key in keys:
        value = settings.values.get(key)
        lists = PER_LEVEL.read(value) if PER_LEVEL.reads(value) else ()
        if shared and len(lists) == 1:
            lists *= len(levels)
        if len(lists) == len(levels):
            found.append(lists)
        else:
            one = ", or one list for all" if shared else ""
            text = f"{len(levels)} lists of numbers above 0, one for each level{one}"
            settings.refuse(key, value, text)
    if len(found) < len(keys):
        return {}
    sizes, ratios = found
    counts = [len(a) * len(b) for a, b in zip(sizes, ratios, strict=True)]
    if len(set(counts)) > 1:
        text = f"{' and '.join(keys)} give {short(counts)} anchors per cell; supported: as many on each level"
        settings.problem(keys[0], text)
    return {"rpn.anchors.sizes": sizes, "rpn.anchors.ratios": ratios[0] if len(set(ratios)) == 1 else ratios}


def sizes_and_ratios(config: ModelConfig) -> tuple[Lists, Lists]:
    """Return each level's sizes and ratios; the counterpart of `read_anchors`."""
    sizes, ratios = zip(*config.rpn.anchors.per_level, strict=True)
    return sizes, ratios


def order_matters(config: ModelConfig) -> bool:
    """Whether ``rpn.anchors.order`` has an effect, as cells have several sizes and several ratios."""
    return any(len(sizes) > 1 and len(ratios) > 1 for sizes, ratios in config.rpn.anchors.per_level)
