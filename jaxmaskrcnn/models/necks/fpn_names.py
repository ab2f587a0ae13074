"""Names of a pyramid's arrays in other libraries, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import FPNConfig, ModelConfig
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import DETECTRON2_NORM, whole
from jaxmaskrcnn.names.layers import NORM, Shapes, keras_layer, mmdet_norm_rows, norm_in_files, norm_of
from jaxmaskrcnn.names.tables import Names, Row, weight_and_bias

LIBRARIES = ("torchvision", "detectron2", "mmdet", "matterport")

MMDET = "FPN"
# Prefixes of the names of a backbone with this neck.
BACKBONE = {
    "torchvision": "backbone.body.",
    "detectron2": "backbone.bottom_up.",
    "mmdet": "backbone.",
    "matterport": "",
}
_FIRST = "backbone.fpn.inner_blocks.0"
_PYRAMID_IN = ("res2", "res3", "res4", "res5")
_LEVELS = ("p2", "p3", "p4", "p5")
_DETECTRON2 = (
    fixed("MODEL.RESNETS.OUT_FEATURES", ("res4",), _PYRAMID_IN),
    fixed("MODEL.FPN.IN_FEATURES", (), _PYRAMID_IN),
    Setting("MODEL.FPN.OUT_CHANNELS", 256, whole(1), "neck.channels"),
    Setting("MODEL.FPN.NORM", "", DETECTRON2_NORM, "neck.norm"),
    fixed("MODEL.FPN.FUSE_TYPE", "sum", "sum"),
    fixed("MODEL.RPN.IN_FEATURES", ("res4",), (*_LEVELS, "p6")),
    fixed("MODEL.ROI_HEADS.IN_FEATURES", ("res4",), _LEVELS),
)
DETECTRON2_KEYS = tuple(row.key for row in _DETECTRON2)


def names(library: str, part: FPNConfig) -> Names:
    """Return the rows of a library."""
    target = "backbone.fpn.{part}_blocks.{i}"
    if library == "torchvision":
        source = "backbone.fpn.{part}_blocks.{i}"
        rows = [
            *weight_and_bias(f"{source}.0", f"{target}.conv"),
            Row(f"{source}.1.{{norm}}", f"{target}.norm.{{norm}}"),
            *weight_and_bias(source, f"{target}.conv", alias=True),
        ]
        return Names(rows, {"norm": NORM, "part": {"inner": "inner", "layer": "layer"}})
    if library == "detectron2":
        rows = [
            *weight_and_bias("backbone.fpn_{part}{i}", f"{target}.conv"),
            Row("backbone.fpn_{part}{i}.norm.{norm}", f"{target}.norm.{{norm}}"),
        ]
        levels = {str(i + 2): str(i) for i in range(4)}
        return Names(rows, {"norm": NORM, "part": {"lateral": "inner", "output": "layer"}, "i": levels})
    if library == "matterport":
        rows = [
            *keras_layer("fpn_{lateral}", "backbone.fpn.inner_blocks.{lateral}.conv"),
            *keras_layer("fpn_{output}", "backbone.fpn.layer_blocks.{output}.conv"),
        ]
        lateral = {f"c{i + 2}p{i + 2}": str(i) for i in range(4)}
        return Names(rows, {"lateral": lateral, "output": {f"p{i + 2}": str(i) for i in range(4)}})
    rows = [
        *mmdet_norm_rows("neck.{part}_convs.{i}", target, part.norm),
        *weight_and_bias("neck.{part}_convs.{i}.conv", f"{target}.conv"),
    ]
    # A PAFPN has these too.
    for theirs, ours in (("downsample", "down"), ("pafpn", "path")):
        path = f"backbone.fpn.{ours}_blocks.{{i}}"
        rows += mmdet_norm_rows(f"neck.{theirs}_convs.{{i}}", path, part.norm)
        rows += weight_and_bias(f"neck.{theirs}_convs.{{i}}.conv", f"{path}.conv")
    return Names(rows, {"norm": NORM, "part": {"lateral": "inner", "fpn": "layer"}})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no pyramid."""
    if f"{_FIRST}.conv.kernel" not in shapes or has_second_path(shapes):
        return None
    return settings_of(shapes)


def has_second_path(shapes: Shapes) -> bool:
    """Whether arrays are those of a PAFPN."""
    return "backbone.fpn.down_blocks.0.conv.kernel" in shapes


def settings_of(shapes: Shapes) -> dict[str, Any]:
    """Infer the settings that pyramids with and without a second path have."""
    return {"neck.channels": shapes[f"{_FIRST}.conv.kernel"][-1], "neck.norm": norm_of(shapes, _FIRST)}


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.neck
    assert isinstance(part, FPNConfig)
    return {"neck.channels": part.channels, "neck.norm": norm_in_files(part.norm, part.channels)}


def describe(part: FPNConfig) -> str:
    """Describe the neck in words."""
    return f"a pyramid with {part.channels} channels"


def read_detectron2(settings: Settings, config: dict[str, Any]) -> None:
    """Read Detectron2's settings of a pyramid."""
    config |= settings.fields(_DETECTRON2)


def write_detectron2(config: ModelConfig, usual: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_detectron2`."""
    return write(_DETECTRON2, config, usual)
