"""Names of ViTDet's pyramid in Detectron2, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.vit import SimplePyramidConfig
from jaxmaskrcnn.names.layers import NORM, Shapes, norm_in_files, norm_of
from jaxmaskrcnn.names.tables import CONV, DECONV, Names, Row, weight_and_bias

LIBRARIES = ()

# Prefixes of the names of a backbone with this neck; only Detectron2 has it.
BACKBONE = {
    "torchvision": "backbone.body.",
    "detectron2": "backbone.net.",
    "mmdet": "backbone.",
    "matterport": "",
}
_NECK = "backbone.fpn"
# The places of a level's layers among those that come before its convolutions.
_CONVS = {"2": ("4", "5"), "3": ("1", "2"), "4": ("0", "1"), "5": ("1", "2")}


def names(library: str, part: SimplePyramidConfig) -> Names:
    """Return the rows of a library."""
    if library != "detectron2":
        return Names([], {})
    rows = [
        *weight_and_bias("backbone.simfp_2.0", f"{_NECK}.p2_first", DECONV),
        Row("backbone.simfp_2.1.{norm}", f"{_NECK}.p2_norm.{{norm}}"),
        *weight_and_bias("backbone.simfp_2.3", f"{_NECK}.p2_second", DECONV),
        *weight_and_bias("backbone.simfp_3.0", f"{_NECK}.p3", DECONV),
    ]
    for i, (level, places) in enumerate(_CONVS.items()):
        for place, kind in zip(places, ("inner", "layer"), strict=True):
            source, target = f"backbone.simfp_{level}.{place}", f"{_NECK}.{kind}_blocks.{i}"
            rows += [
                *weight_and_bias(source, f"{target}.conv", CONV),
                Row(f"{source}.norm.{{norm}}", f"{target}.norm.{{norm}}"),
            ]
    return Names(rows, {"norm": NORM})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such pyramid."""
    first = f"{_NECK}.inner_blocks.0"
    if f"{_NECK}.p2_first.kernel" not in shapes:
        return None
    return {"neck.channels": shapes[f"{first}.conv.kernel"][-1], "neck.norm": norm_of(shapes, first)}


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.neck
    assert isinstance(part, SimplePyramidConfig)
    return {"neck.channels": part.channels, "neck.norm": norm_in_files(part.norm, part.channels)}


def describe(part: SimplePyramidConfig) -> str:
    """Describe the neck in words."""
    return f"a simple pyramid with {part.channels} channels"
