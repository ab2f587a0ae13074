"""Names of a ResNeSt's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.deep_resnets import ResNeStConfig
from jaxmaskrcnn.models.backbones import deep_resnet_names as deep
from jaxmaskrcnn.names.config_table import Settings, fixed, write
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import CONV, Names, Row, weight_and_bias

LIBRARIES = ("mmdet",)

STEMS = {"mmdet": "layer1.0.conv2.fc1.weight"}
MMDET = "ResNeSt"
_SETTINGS = (
    *deep.SETTINGS,
    fixed("backbone.groups", 1, 1),
    fixed("backbone.radix", 2, 2),
    fixed("backbone.reduction_factor", 4, 4),
    fixed("backbone.avg_down_stride", True, True),
)

MMDET_OWN_KEYS = tuple(f"backbone.{name}" for name in ("radix", "reduction_factor", "avg_down_stride"))


def names(library: str, part: ResNeStConfig, source: str, target: str = deep.BODY) -> Names:
    """Return the rows of a library; arguments as of a ResNet's."""
    if library != "mmdet":
        return Names([], {})
    theirs, ours = f"{source}{deep.BLOCK}.conv2", f"{target}{deep.BLOCK}.split"
    own = [
        Row(f"{theirs}.conv.weight", f"{ours}.conv.kernel", CONV),
        Row(f"{theirs}.{{split_norm}}.{{norm}}", f"{ours}.{{split_norm}}.{{norm}}"),
        *weight_and_bias(f"{theirs}.{{layer}}", f"{ours}.{{layer}}"),
    ]
    words = {
        "split_norm": {"bn0": "norm", "bn1": "reduce_norm"},
        "layer": {"fc1": "reduce", "fc2": "expand"},
    }
    return deep.names(source, target, own, words)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no ResNeSt."""
    if f"{deep.BODY}layer1.0.split.conv.kernel" not in shapes:
        return None
    return deep.read_structure(shapes, what)


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    assert isinstance(config.backbone, ResNeStConfig)
    return deep.structure(config.backbone)


def describe(part: ResNeStConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(ResNeStConfig())
        'ResNeSt-50 of width 64'
    """
    return f"ResNeSt-{part.depth} of width {part.width}"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings of a ResNeSt."""
    config |= settings.fields(_SETTINGS)
    deep.read_stem(settings, config)


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    assert isinstance(config.backbone, ResNeStConfig)
    return {**write(_SETTINGS, config, config), **deep.write_stem(config.backbone)}
