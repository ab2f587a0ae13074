"""Names of an RPN head's arrays in other libraries, and settings that they imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.names.layers import NORM, Shapes, count_layers, mmdet_norm_rows, norm_of
from jaxmaskrcnn.names.tables import Names, weight_and_bias


def names(library: str, part: RPNConfig) -> Names:
    """Return the rows of a library; Detectron2 and MMDetection name a single convolution differently."""
    several = part.convs > 1
    if library == "torchvision":
        rows = [
            *weight_and_bias("rpn.head.conv.{i}.0", "rpn.convs.{i}.conv"),
            *weight_and_bias("rpn.head.conv", "rpn.convs.0.conv", alias=True),
            *weight_and_bias("rpn.head.cls_logits", "rpn.cls_logits"),
            *weight_and_bias("rpn.head.bbox_pred", "rpn.bbox_pred"),
        ]
    elif library == "detectron2":
        head = "proposal_generator.rpn_head"
        rows = [
            *weight_and_bias(f"{head}.conv", "rpn.convs.0.conv", alias=several),
            *weight_and_bias(f"{head}.conv.conv{{i}}", "rpn.convs.{i}.conv"),
            *weight_and_bias(f"{head}.objectness_logits", "rpn.cls_logits"),
            *weight_and_bias(f"{head}.anchor_deltas", "rpn.bbox_pred"),
        ]
    else:
        rows = [
            *mmdet_norm_rows("rpn_head.rpn_conv.{i}", "rpn.convs.{i}", part.norm),
            *weight_and_bias("rpn_head.rpn_conv", "rpn.convs.0.conv", alias=several),
            *weight_and_bias("rpn_head.rpn_conv.{i}.conv", "rpn.convs.{i}.conv"),
            *weight_and_bias("rpn_head.rpn_cls", "rpn.cls_logits"),
            *weight_and_bias("rpn_head.rpn_reg", "rpn.bbox_pred"),
        ]
    return Names(rows, {"norm": NORM})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays."""
    convs = count_layers(shapes, "rpn.convs.{}.conv.kernel")
    return {"rpn.convs": convs, "rpn.norm": norm_of(shapes, "rpn.convs.0")}


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    return {"rpn.convs": config.rpn.convs, "rpn.norm": config.rpn.norm}
