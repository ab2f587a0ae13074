"""Names of a semantic head's arrays in other libraries, and what they imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig, SemanticConfig
from jaxmaskrcnn.config.semantic import stuff_names
from jaxmaskrcnn.names.layers import NORM, Shapes, mmdet_norm_rows, norm_in_files, norm_of
from jaxmaskrcnn.names.tables import Names, Row, weight_and_bias

LIBRARIES = ("detectron2", "mmdet")

_NUMBERS = range(8)


def names(library: str, part: SemanticConfig) -> Names:
    """Return the rows of a library; torchvision and matterport's Mask R-CNN have no semantic head."""
    layer = "semantic_head.branches.{level}.{i}"
    rows = []
    if library == "detectron2":
        layer = "semantic_head.branches.{pyramid}.{even}"
        rows = [
            Row("sem_seg_head.p{pyramid}.{even}.norm.{norm}", f"{layer}.norm.{{norm}}"),
            *weight_and_bias("sem_seg_head.p{pyramid}.{even}", f"{layer}.conv"),
            *weight_and_bias("sem_seg_head.predictor", "semantic_head.logits"),
        ]
    elif library == "mmdet":
        source = "semantic_head.conv_upsample_layers.{level}.conv.{i}"
        rows = [
            *mmdet_norm_rows(source, layer, part.norm),
            *weight_and_bias(f"{source}.conv", f"{layer}.conv"),
            *weight_and_bias("semantic_head.conv_logits", "semantic_head.logits"),
        ]
    return Names(
        rows,
        {
            "norm": NORM,
            # Detectron2 names the branches by the levels, and numbers the convolutions and what enlarges.
            "pyramid": {str(i + 2): str(i) for i in _NUMBERS},
            "even": {str(2 * i): str(i) for i in _NUMBERS},
        },
    )


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no semantic head."""
    if "semantic_head.logits.bias" not in shapes:
        return None
    first = "semantic_head.branches.0.0"
    return {
        "semantic.dim": shapes[f"{first}.conv.kernel"][-1],
        "semantic.norm": norm_of(shapes, first),
        "semantic.stuff": stuff_names(shapes["semantic_head.logits.bias"][0] - 1),
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.semantic
    assert part is not None
    return {
        "semantic.dim": part.dim,
        "semantic.norm": norm_in_files(part.norm, part.dim),
        "semantic.stuff": stuff_names(len(part.stuff)),
    }
