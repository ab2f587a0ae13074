"""Names of a ConvNeXt's arrays in other libraries, and settings that arrays imply; see `names/layers.py`.

MMDetection's ConvNeXt is mmpretrain's, which was mmcls before.
"""

from typing import Any

from jaxmaskrcnn.config import ConvNeXtConfig, ModelConfig
from jaxmaskrcnn.config.convnext import CONVNEXTS
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice, number, several, whole
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, LINEAR, Names, Row, patches, weight_and_bias

LIBRARIES = ("mmdet",)

# The name that occurs once in each file of only this backbone.
STEMS = {"mmdet": "downsample_layers.0.0.weight"}
MMDET = ("mmpretrain.ConvNeXt", "mmcls.ConvNeXt")
# Norms of outputs; classifiers have the last one, for the means of their features.
NEW_IN_DETECTORS = r"backbone\.body\.norms\.[012]\..*"
CLASSIFIERS = (r"head\.fc\.(weight|bias)",)
_BODY = "backbone.body."
_LN = {"weight": "scale", "bias": "bias"}
_FREEZE = choice({0: 0, **{n: n + 1 for n in range(1, 5)}})
_SETTINGS = (
    Setting("backbone.drop_path_rate", 0.0, number(0, 0.999), "backbone.drop_path", training=True),
    Setting("backbone.layer_scale_init_value", 1e-6, number(1e-9), "backbone.layer_scale", training=True),
    Setting("backbone.norm_cfg.eps", 1e-6, number(), "backbone.norm_epsilon"),
    Setting("backbone.frozen_stages", 0, _FREEZE, "backbone.freeze_at", training=True),
    fixed("backbone.norm_cfg.type", "LN2d", "LN2d"),
    fixed("backbone.act_cfg.type", "GELU", "GELU"),
    fixed("backbone.in_channels", 3, 3),
    fixed("backbone.stem_patch_size", 4, 4),
    fixed("backbone.linear_pw_conv", True, True, False),  # the same in other words
    fixed("backbone.use_grn", False, False),
    fixed("backbone.out_indices", -1, (0, 1, 2, 3)),
    fixed("backbone.gap_before_final_norm", True, False),
)
# A network that has no name.
_ARCH = (
    Setting("backbone.arch.depths", MISSING, several(whole(1), 4), "backbone.blocks"),
    Setting("backbone.arch.channels", MISSING, several(whole(1), 4), "backbone.widths"),
)
MMDET_KEYS = {row.key for row in (*_SETTINGS, *_ARCH)} | {"backbone.type", "backbone.arch"}


def names(library: str, part: ConvNeXtConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library; only MMDetection's has detectors with this backbone.

    Args:
        library: "torchvision", "detectron2", "mmdet" or "matterport".
        part: The backbone.
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
    """
    if library != "mmdet":
        return Names([], {})
    block, model = f"{source}stages.{{s}}.{{b}}", f"{target}stages.{{s}}.{{b}}"
    between, own = f"{source}downsample_layers.{{later}}", f"{target}downsample_layers.{{later}}"
    rows = [
        *weight_and_bias(f"{source}downsample_layers.0.0", f"{target}downsample_layers.0.conv", patches(4)),
        Row(f"{source}downsample_layers.0.1.{{norm}}", f"{target}downsample_layers.0.norm.{{norm}}"),
        Row(f"{between}.0.{{norm}}", f"{own}.norm.{{norm}}"),
        *weight_and_bias(f"{between}.1", f"{own}.conv", patches(2)),
        *weight_and_bias(f"{block}.depthwise_conv", f"{model}.depthwise", CONV),
        Row(f"{block}.norm.{{norm}}", f"{model}.norm.{{norm}}"),
        *weight_and_bias(f"{block}.pointwise_conv{{k}}", f"{model}.mlp.fc{{k}}", LINEAR),
        Row(f"{block}.gamma", f"{model}.gamma"),
        Row(f"{source}norm{{s}}.{{norm}}", f"{target}norms.{{s}}.{{norm}}"),
    ]
    return Names(rows, {"norm": _LN, "later": {i: i for i in "123"}})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no ConvNeXt."""
    if f"{_BODY}stages.0.0.gamma" not in shapes:
        return None
    stages = [f"{_BODY}stages.{i}" for i in range(4)]
    return {
        "backbone.blocks": tuple(count_layers(shapes, f"{stage}.{{}}.gamma") for stage in stages),
        "backbone.widths": tuple(shapes[f"{stage}.0.gamma"][0] for stage in stages),
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    return {f"backbone.{name}": getattr(config.backbone, name) for name in ("blocks", "widths")}


def describe(part: ConvNeXtConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(ConvNeXtConfig())
        'ConvNeXt-tiny'
    """
    known = {"blocks": part.blocks, "widths": part.widths}
    name = next((name for name, numbers in CONVNEXTS.items() if numbers == known), None)
    return f"ConvNeXt-{name}" if name else f"ConvNeXt with widths {', '.join(map(str, part.widths))}"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings: the name of a known network, or its numbers."""
    config |= settings.fields(_SETTINGS)
    if any(row.key in settings.values for row in _ARCH):
        config |= settings.fields(_ARCH)
        return
    name = settings.values.get("backbone.arch", "tiny")
    if isinstance(name, str) and name in CONVNEXTS:
        config |= {f"backbone.{key}": value for key, value in CONVNEXTS[name].items()}
    else:
        known = ", ".join(map(repr, CONVNEXTS))
        settings.refuse("backbone.arch", name, f"a dictionary of depths and channels, {known}")


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    values = write(_SETTINGS, config, config)
    for name, numbers in CONVNEXTS.items():
        if all(config.get(f"backbone.{key}") == value for key, value in numbers.items()):
            return {**values, "backbone.arch": name}
    return values | write(_ARCH, config, config)
