"""Names of an RPN head's arrays in other libraries, and settings that they imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.names.layers import (
    NORM,
    Shapes,
    count_layers,
    keras_layer,
    mmdet_norm_rows,
    norm_in_files,
    norm_of,
)
from jaxmaskrcnn.names.tables import YX_DELTAS, Names, weight_and_bias


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
    elif library == "matterport":
        rows = [
            *keras_layer("rpn_conv_shared", "rpn.convs.0.conv"),
            *keras_layer("rpn_class_raw", "rpn.cls_logits"),
            *keras_layer("rpn_bbox_pred", "rpn.bbox_pred", YX_DELTAS, YX_DELTAS),
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
    found = {"rpn.convs": convs, "rpn.norm": norm_of(shapes, "rpn.convs.0")}
    if convs and (kernel := shapes["rpn.convs.0.conv.kernel"])[2] != kernel[3]:
        found["rpn.conv_dim"] = kernel[3]
    if 2 * shapes["rpn.bbox_pred.kernel"][-1] == 4 * shapes["rpn.cls_logits.kernel"][-1]:
        found["rpn.objectness"] = "softmax"
    return found


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.rpn
    width = part.conv_dim or config.levels[0].channels
    found = {"rpn.convs": part.convs, "rpn.norm": norm_in_files(part.norm, width)}
    if part.conv_dim not in (0, config.levels[0].channels):
        found["rpn.conv_dim"] = part.conv_dim
    if part.objectness == "softmax":
        found["rpn.objectness"] = "softmax"
    return found
