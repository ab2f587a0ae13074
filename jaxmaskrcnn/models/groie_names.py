"""Names of GRoIE's arrays in MMDetection, and its settings there; see `names/layers.py`.

The box head's layers are the first of the model's ``extractors``, the mask head's the second.
"""

from typing import Any

from jaxmaskrcnn.config import GRoIEConfig, ModelConfig
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import odd, whole
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import LINEAR, Names, Row, weight_and_bias

LIBRARIES = ("mmdet",)

MMDET = "GenericRoIExtractor"
Flat = dict[str, Any]

_HEADS = ("bbox", "mask")


def names(library: str, part: GRoIEConfig) -> Names:
    """Return the rows of a library; only MMDetection has it."""
    if library != "mmdet":
        return Names([], {})
    layers, own = "roi_head.{head}_roi_extractor", "extractors.{head}"
    rows = weight_and_bias(f"{layers}.pre_module.conv", f"{own}.convolve")
    for theirs, ours in (("query", "query"), ("value", "value"), ("proj", "project")):
        rows += weight_and_bias(f"{layers}.post_module.{theirs}_conv", f"{own}.{ours}")
    for theirs, ours in (("y", "rows"), ("x", "columns")):
        source = f"{layers}.post_module.appr_geom_fc_{theirs}.weight"
        rows.append(Row(source, f"{own}.{ours}.kernel", LINEAR))
    rows.append(Row(f"{layers}.post_module.gamma", f"{own}.gamma"))
    return Names(rows, {"head": {name: str(i) for i, name in enumerate(_HEADS)}})


def read_structure(shapes: Shapes, what: str) -> Flat | None:
    """Infer settings from arrays; None if there are no such layers."""
    first = "extractors.0.convolve.kernel"
    return {"extractor.kernel": shapes[first][0]} if first in shapes else None


def structure(config: ModelConfig) -> Flat:
    """Return what `read_structure` infers for a model of this configuration."""
    assert isinstance(config.extractor, GRoIEConfig)
    return {"extractor.kernel": config.extractor.kernel}


# -- MMDetection


def _settings(head: str) -> tuple[Setting, ...]:
    prefix = f"roi_head.{head}_roi_extractor"
    before, after = f"{prefix}.pre_cfg", f"{prefix}.post_cfg"
    return (
        fixed(f"{prefix}.aggregation", "sum", "sum"),
        fixed(f"{before}.type", MISSING, "ConvModule"),
        Setting(f"{before}.kernel_size", MISSING, odd(), "extractor.kernel"),
        fixed(f"{before}.inplace", True, False, True, always=True),
        *(fixed(f"{before}.{name}", default, default) for name, default in (
            ("stride", 1), ("dilation", 1), ("groups", 1), ("bias", "auto"), ("conv_cfg", None),
            ("norm_cfg", None), ("padding_mode", "zeros"),
        )),
        fixed(f"{after}.type", MISSING, "GeneralizedAttention"),
        Setting(f"{after}.num_heads", 9, whole(1), "extractor.heads"),
        Setting(f"{after}.kv_stride", 2, whole(1), "extractor.key_stride"),
        fixed(f"{after}.attention_type", "1111", "0100"),
        *(fixed(f"{after}.{name}", default, default) for name, default in (
            ("spatial_range", -1), ("position_embedding_dim", -1), ("position_magnitude", 1), ("q_stride", 1),
        )),
    )  # fmt: skip


def _checked(head: str, channels: Any, kernel: Any) -> Flat:
    """Return settings that follow from others."""
    prefix = f"roi_head.{head}_roi_extractor"
    return {
        f"{prefix}.pre_cfg.in_channels": channels,
        f"{prefix}.pre_cfg.out_channels": channels,
        f"{prefix}.pre_cfg.padding": None if kernel is None else kernel // 2,
        f"{prefix}.post_cfg.in_channels": channels,
    }


MMDET_KEYS = {
    key for head in _HEADS for key in (*(row.key for row in _settings(head)), *_checked(head, None, None))
}


def read_mmdet(settings: Settings, config: Flat) -> None:
    """Read MMDetection's settings of the layers.

    Args:
        settings: The settings.
        config: Values by dotted path, with those of the neck.
    """
    heads = _HEADS if config["mask"] else _HEADS[:1]
    for head in heads:
        config |= settings.fields(_settings(head))
        expected = _checked(head, config.get("neck.channels"), config["extractor.kernel"])
        for key, value in expected.items():
            given = settings.values.get(key, 0 if key.endswith("padding") else None)
            if value is not None and given != value:
                settings.refuse(key, given, repr(value))


def write_mmdet(config: ModelConfig) -> Flat:
    """The counterpart of `read_mmdet`."""
    assert isinstance(config.extractor, GRoIEConfig)
    values: Flat = {}
    for head in _HEADS if config.mask is not None else _HEADS[:1]:
        values |= write(_settings(head), config, config)
        values |= _checked(head, config.region_channels, config.extractor.kernel)
    return values
