"""The feature levels of an MMDetection model: their strides, channels and anchors."""

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import kinds, rows
from jaxmaskrcnn.convert.mmdet.mask_heads import is_fcn
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.names.config_table import Settings, levels


def _read(settings: Settings, config: Flat) -> None:
    """Check the levels' strides, which several parts repeat, and read their anchors.

    Anchor sizes are scales times a base size of each level (its stride, unless that is set).
    """
    found = levels(USUAL, config)
    strides = [level.stride for level in found]
    has_neck = config["neck"] is not False  # None is of a type that was refused
    pooled = [level.stride for level in (USUAL.neck.pooled(found) if has_neck else found)]
    expected = {rows.STRIDES: strides} | ({rows.OUTPUTS: len(found)} if has_neck else {})
    default = getattr(kinds.files("neck").get(config["neck"]), "MMDET_OUTPUTS", None)
    masks = is_fcn(config["mask"]) and config["trunk"] is None
    expected |= {key: pooled for key in rows.POOLED if key.startswith("roi_head.bbox") or masks}
    for key, value in expected.items():
        given = settings.values.get(key, default if key == rows.OUTPUTS else None)
        if (list(given) if isinstance(given, tuple) else given) != value:
            settings.refuse(key, given, repr(value))
    channels = settings.get(rows.FEATURES)
    if channels not in (None, found[0].channels):
        settings.refuse(rows.FEATURES.key, channels, f"the channels of the feature maps, {found[0].channels}")
    scales = settings.get(rows.SCALES)
    bases = settings.get(rows.BASE_SIZES) or strides
    if len(bases) != len(strides):
        settings.refuse(rows.BASE_SIZES.key, bases, f"None or {len(strides)} numbers")
    elif scales is not None:
        config["rpn.anchors.sizes"] = tuple(tuple(scale * base for scale in scales) for base in bases)


def _write(config: ModelConfig) -> Flat:
    """The counterpart of `_read`, plus widths that the library needs but `_read` does not."""
    found, pooled = config.levels, config.pooled_levels
    strides, channels = [level.stride for level in found], found[0].channels
    scales, bases = scales_and_bases(config) or ([], [])
    values: Flat = {
        rows.STRIDES: strides,
        rows.SCALES.key: scales,
        **({} if bases == strides else {rows.BASE_SIZES.key: bases}),
        rows.FEATURES.key: channels,
        "rpn_head.in_channels": channels,
    }
    if config.neck is not None:
        values |= {
            rows.OUTPUTS: len(found),
            "neck.in_channels": [level.channels for level in config.backbone.levels],
        }
    # Other mask heads than Mask R-CNN's have their own.
    for head in ("bbox", "mask") if isinstance(config.mask, MaskConfig) else ("bbox",):
        values[f"roi_head.{head}_head.in_channels"] = config.region_channels
        if head == "bbox" or config.trunk is None:
            values[f"roi_head.{head}_roi_extractor.featmap_strides"] = [level.stride for level in pooled]
            values[f"roi_head.{head}_roi_extractor.out_channels"] = channels
    return values


def scales_and_bases(config: ModelConfig) -> tuple[list[float], list[float]] | None:
    """Return scales, and a base size of each level, whose products are the anchor sizes; None if none exist.

    A level's base size is its stride if possible, else its first anchor size.
    """
    sizes = config.rpn.anchors.sizes
    for bases in ([level.stride for level in config.levels], [group[0] for group in sizes]):
        scales = [[size / base for size in group] for group, base in zip(sizes, bases, strict=True)]
        if all(_close(group, scales[0]) for group in scales):
            return scales[0], bases
    return None


def _close(a: list[float], b: list[float]) -> bool:
    """Whether the numbers are equal up to rounding."""
    return len(a) == len(b) and all(abs(x - y) <= 1e-12 * abs(y) for x, y in zip(a, b, strict=True))


PART = PartSettings(_read, _write)
