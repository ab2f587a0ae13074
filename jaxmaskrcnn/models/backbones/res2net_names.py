"""Names of a Res2Net's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.deep_resnets import Res2NetConfig
from jaxmaskrcnn.models.backbones import deep_resnet_names as deep
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.names.conversions import whole
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, Names, Row

LIBRARIES = ("mmdet",)

STEMS = {"mmdet": "layer1.0.convs.0.weight"}
MMDET = "Res2Net"
_SETTINGS = (
    *deep.SETTINGS,
    Setting("backbone.scales", 4, whole(2), "backbone.scales"),
    Setting("backbone.base_width", 26, whole(1), "backbone.scale_width"),
)

MMDET_OWN_KEYS = ("backbone.scales",)


def names(library: str, part: Res2NetConfig, source: str, target: str = deep.BODY) -> Names:
    """Return the rows of a library; arguments as of a ResNet's."""
    if library != "mmdet":
        return Names([], {})
    theirs, ours = f"{source}{deep.BLOCK}", f"{target}{deep.BLOCK}"
    own = [
        Row(f"{theirs}.convs.{{i}}.weight", f"{ours}.convs.{{i}}.kernel", CONV),
        Row(f"{theirs}.bns.{{i}}.{{norm}}", f"{ours}.bns.{{i}}.{{norm}}"),
    ]
    return deep.names(source, target, own, {})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no Res2Net."""
    first = f"{deep.BODY}layer1.0.convs."
    if f"{first}0.kernel" not in shapes:
        return None
    return deep.read_structure(shapes, what) | {
        "backbone.scales": count_layers(shapes, f"{first}{{}}.kernel") + 1,
        "backbone.scale_width": shapes[f"{first}0.kernel"][-1],
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.backbone
    assert isinstance(part, Res2NetConfig)
    own = {"backbone.scales": part.scales, "backbone.scale_width": part.scale_width}
    return deep.structure(part) | own


def describe(part: Res2NetConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(Res2NetConfig(depth=101))
        'Res2Net-101-26w-4s of width 64'
    """
    return f"Res2Net-{part.depth}-{part.scale_width}w-{part.scales}s of width {part.width}"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings of a Res2Net."""
    config |= settings.fields(_SETTINGS)
    deep.read_stem(settings, config)


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    assert isinstance(config.backbone, Res2NetConfig)
    return {**write(_SETTINGS, config, config), **deep.write_stem(config.backbone)}
