"""Names of a RegNet's arrays in other libraries, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.backbones import REGNETS, RegNetConfig
from jaxmaskrcnn.models.backbones import resnet_names
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import number, whole
from jaxmaskrcnn.names.layers import NORM, Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, Names, Row, weight_and_bias

LIBRARIES = ("mmdet",)

# The name that occurs once in each file of only this backbone. MMDetection's names are a ResNet's.
STEMS = {"detectron2": "stem.conv.weight", "mmdet": "conv1.weight"}
MMDET = "RegNet"
_BODY = "backbone.body."
# MMDetection's settings, in addition to those of all its backbones, and the networks that it knows by name.
_ARCH = (
    Setting("backbone.arch.w0", MISSING, whole(1), "backbone.w0"),
    Setting("backbone.arch.wa", MISSING, number(), "backbone.wa"),
    Setting("backbone.arch.wm", MISSING, number(), "backbone.wm"),
    Setting("backbone.arch.depth", MISSING, whole(1), "backbone.depth"),
    Setting("backbone.arch.group_w", MISSING, whole(1), "backbone.group_width"),
    fixed("backbone.arch.bot_mul", MISSING, 1.0),
)
_SETTINGS = (
    Setting("backbone.stem_channels", 32, whole(1), "backbone.stem"),
    fixed("backbone.style", "pytorch", "pytorch"),
    fixed("backbone.strides", (2, 2, 2, 2), (2, 2, 2, 2)),
)
MMDET_OWN_KEYS = ("backbone.arch", *(row.key for row in _ARCH))
_NAMED = {
    name: {f"backbone.{key}": value for key, value in numbers.items()}
    for name, numbers in REGNETS.items()
    if not numbers["squeeze_ratio"]
}


def names(library: str, part: RegNetConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library; torchvision's RegNets are different networks, and matterport has none.

    Args:
        library: "torchvision", "detectron2" or "mmdet".
        part: The backbone.
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
    """
    if library in ("torchvision", "matterport"):
        return Names([], {})
    if library == "mmdet":
        return resnet_names.names(library, part, source, target)
    block, model = f"{source}s{{stage}}.b{{block}}", f"{target}layer{{stage}}.{{block}}"
    rows = [
        Row(f"{source}stem.conv.weight", f"{target}conv1.kernel", CONV),
        Row(f"{source}stem.bn.{{norm}}", f"{target}bn1.{{norm}}"),
        Row(f"{block}.proj.weight", f"{model}.downsample.conv.kernel", CONV),
        Row(f"{block}.bn.{{norm}}", f"{model}.downsample.bn.{{norm}}"),
        Row(f"{block}.f.{{k}}.weight", f"{model}.conv{{k}}.kernel", CONV),
        Row(f"{block}.f.{{k}}_bn.{{norm}}", f"{model}.bn{{k}}.{{norm}}"),
        *weight_and_bias(f"{block}.f.se.f_ex.{{layer}}", f"{model}.squeeze.{{layer}}"),
    ]
    # Blocks are numbered from 1.
    words = {
        "norm": NORM,
        "block": {str(i + 1): str(i) for i in range(99)},
        "k": {"a": "1", "b": "2", "c": "3"},
        "layer": {"0": "reduce", "2": "expand"},
    }
    return Names(rows, words)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no RegNet.

    For an unpublished network, only settings that follow from the arrays are returned.
    """
    # A ResNet's stem, of the same name, is 7x7.
    # An HRNet has such a stem too, and one layer after it.
    if shapes.get(f"{_BODY}conv1.kernel", ())[:1] != (3,) or f"{_BODY}layer2.0.conv1.kernel" not in shapes:
        return None
    layers = [f"{_BODY}layer{i}" for i in range(1, 5)]
    stages = tuple(
        (shapes[f"{layer}.0.conv1.kernel"][-1], count_layers(shapes, f"{layer}.{{}}.conv1.kernel"))
        for layer in layers
    )
    group = shapes[f"{_BODY}layer4.0.conv2.kernel"][2]  # [3, 3, width of a group, width]
    squeeze = f"{_BODY}layer1.0.squeeze.reduce.kernel" in shapes
    found = _found(stages, group, squeeze, shapes[f"{_BODY}conv1.kernel"][-1])
    return found | resnet_names.read_deformable(shapes)


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.backbone
    assert isinstance(part, RegNetConfig)
    group = min(part.group_width, part.stages[-1][0])
    found = _found(part.stages, group, part.squeeze_ratio > 0, part.stem)
    return found | resnet_names.deformable_structure(part)


def _found(stages, group: int, squeeze: bool, stem: int) -> dict[str, Any]:
    found: dict[str, Any] = {"group_width": group}
    for numbers in REGNETS.values():
        known = RegNetConfig(**numbers)
        if (known.stages, known.group_width, known.squeeze_ratio > 0) == (stages, group, squeeze):
            found = dict(numbers)
    found |= {"stem": stem, "norm": "bn"}
    return {f"backbone.{name}": value for name, value in found.items()}


def describe(part: RegNetConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(RegNetConfig())
        'RegNetX with widths 80, 240, 560, 1360'
    """
    widths = ", ".join(str(width) for width, _ in part.stages)
    deformable = " and deformable convolutions" if part.deformable_stages else ""
    return f"RegNet{'Y' if part.squeeze_ratio else 'X'} with widths {widths}{deformable}"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings: the name of a known network, or its numbers."""
    config |= settings.fields(_SETTINGS)
    name = settings.values.pop("backbone.arch", None)
    if name is None:
        config |= settings.fields(_ARCH)
        for row in _ARCH:
            settings.values.pop(row.key, None)
    elif isinstance(name, str) and name in _NAMED:
        config |= _NAMED[name]
    else:
        settings.refuse("backbone.arch", name, f"a dictionary of numbers, {', '.join(map(repr, _NAMED))}")


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    values = write(_SETTINGS, config, config)
    for name, numbers in _NAMED.items():
        if all(config.get(path) == value for path, value in numbers.items()):
            return {**values, "backbone.arch": name}
    return values | write(_ARCH, config, config)
