"""The feature levels of an MMDetection model: their strides, channels and anchors.

Each part has a function for either direction, side by side, as in `parts.py`.
"""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.mmdet import rows
from jaxmaskrcnn.names.config_table import Settings, levels

Flat = dict[str, Any]


def read_levels(settings: Settings, config: Flat, usual: ModelConfig) -> None:
    """The levels, whose strides several parts repeat, and their anchors.

    The sizes of anchors are scales times a size of each level (the stride, unless it is set).
    """
    found = levels(usual, config)
    strides = [level.stride for level in found]
    pooled = [level.stride for level in usual.neck.pooled(found)]
    expected = {rows.OUTPUTS: len(found), rows.STRIDES: strides}
    expected |= {key: pooled for key in rows.POOLED if key.startswith("roi_head.bbox") or config["mask"]}
    for key, wanted in expected.items():
        given = settings.values.get(key)
        if (list(given) if isinstance(given, tuple) else given) != wanted:
            settings.refuse(key, given, repr(wanted))
    channels = settings.get(rows.FEATURES)
    if channels not in (None, found[0].channels):
        settings.refuse(rows.FEATURES.key, channels, f"neck.out_channels, {found[0].channels}")
    scales = settings.get(rows.SCALES)
    bases = settings.get(rows.BASE_SIZES) or strides
    if len(bases) != len(strides):
        settings.refuse(rows.BASE_SIZES.key, bases, f"None or {len(strides)} numbers")
    elif scales is not None:
        config["rpn.anchors.sizes"] = tuple(tuple(scale * base for scale in scales) for base in bases)


def write_levels(config: ModelConfig) -> Flat:
    """The counterpart of `read_levels`, and widths that the library has to be given; nothing reads them."""
    found, pooled = config.levels, config.pooled_levels
    strides, channels = [level.stride for level in found], found[0].channels
    scales, bases = scales_and_bases(config) or ([], [])
    values: Flat = {
        rows.OUTPUTS: len(found),
        rows.STRIDES: strides,
        rows.SCALES.key: scales,
        **({} if bases == strides else {rows.BASE_SIZES.key: bases}),
        rows.FEATURES.key: channels,
        "neck.in_channels": [level.channels for level in config.backbone.levels],
        "rpn_head.in_channels": channels,
    }
    for head in ("bbox", "mask") if config.mask is not None else ("bbox",):
        values[f"roi_head.{head}_roi_extractor.featmap_strides"] = [level.stride for level in pooled]
        values[f"roi_head.{head}_roi_extractor.out_channels"] = channels
        values[f"roi_head.{head}_head.in_channels"] = channels
    return values


def scales_and_bases(config: ModelConfig) -> tuple[list[float], list[float]] | None:
    """Scales, and a size of each level, whose products are the sizes of the anchors; None if there are none.

    The size of a level is its stride where that will do, else the first of its anchors.
    """
    sizes = config.rpn.anchors.sizes
    for bases in ([level.stride for level in config.levels], [group[0] for group in sizes]):
        scales = [[size / base for size in group] for group, base in zip(sizes, bases, strict=True)]
        if all(_close(group, scales[0]) for group in scales):
            return scales[0], bases
    return None


def _close(a: list[float], b: list[float]) -> bool:
    """Whether they are the same but for rounding."""
    return len(a) == len(b) and all(abs(x - y) <= 1e-12 * abs(y) for x, y in zip(a, b, strict=True))
