"""Names of a mask head's arrays in other libraries, and settings that they imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.models.names_files import names_file, names_files
from jaxmaskrcnn.names.layers import (
    KERAS_NORM,
    NORM,
    Shapes,
    count_layers,
    keras_layer,
    mmdet_norm_rows,
    norm_in_files,
    norm_of,
)
from jaxmaskrcnn.names.tables import DECONV, KERAS_DECONV, Names, Row, weight_and_bias

LIBRARIES = ("torchvision", "detectron2", "mmdet", "matterport")

_COUNT = {str(i + 1): str(i) for i in range(9)}


def names(library: str, part: MaskConfig) -> Names:
    """Return the rows of a library."""
    if library == "torchvision":
        head, predictor = "roi_heads.mask_head", "roi_heads.mask_predictor"
        rows = [
            *weight_and_bias(f"{head}.{{i}}.0", "mask_head.convs.{i}.conv"),
            Row(f"{head}.{{i}}.1.{{norm}}", "mask_head.convs.{i}.norm.{norm}"),
            *weight_and_bias(f"{head}.mask_fcn{{count}}", "mask_head.convs.{count}.conv", alias=True),
            *weight_and_bias(f"{predictor}.conv5_mask", "mask_head.deconv", DECONV),
            *weight_and_bias(f"{predictor}.mask_fcn_logits", "mask_head.logits"),
        ]
    elif library == "detectron2":
        head = "roi_heads.mask_head"
        rows = [
            *weight_and_bias(f"{head}.mask_fcn{{count}}", "mask_head.convs.{count}.conv"),
            Row(f"{head}.mask_fcn{{count}}.norm.{{norm}}", "mask_head.convs.{count}.norm.{norm}"),
            *weight_and_bias(f"{head}.deconv", "mask_head.deconv", DECONV),
            *weight_and_bias(f"{head}.predictor", "mask_head.logits"),
        ]
    elif library == "matterport":
        rows = [
            *keras_layer("mrcnn_mask_conv{count}", "mask_head.convs.{count}.conv"),
            Row("mrcnn_mask_bn{count}/{norm}", "mask_head.convs.{count}.norm.{norm}"),
            *keras_layer("mrcnn_mask_deconv", "mask_head.deconv", KERAS_DECONV),
            *keras_layer("mrcnn_mask", "mask_head.logits"),
        ]
        return Names(rows, {"norm": KERAS_NORM, "count": _COUNT})
    else:
        rows = [*_mmdet(part, ""), *_mmdet(part, ".{stage}")]
    return Names(rows, {"norm": NORM, "count": _COUNT})


def _mmdet(part: MaskConfig, stage: str) -> list[Row]:
    """Return the rows of a head; ``stage`` is what follows its name, "" or a placeholder after a dot."""
    head, own = f"roi_head.mask_head{stage}", f"mask_head{stage}"
    return [
        *mmdet_norm_rows(f"{head}.convs.{{i}}", f"{own}.convs.{{i}}", part.norm),
        *weight_and_bias(f"{head}.convs.{{i}}.conv", f"{own}.convs.{{i}}.conv"),
        *weight_and_bias(f"{head}.upsample", f"{own}.deconv", DECONV),
        *(
            row
            for file in names_files("mask.upsample").values()
            for row in file.names("mmdet", f"{head}.upsample", f"{own}.upsample")
        ),
        *weight_and_bias(f"{head}.conv_logits", f"{own}.logits"),
    ]


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no mask head."""
    stages = "mask_head.0.logits.bias" in shapes
    head = "mask_head.0" if stages else "mask_head"
    if f"{head}.logits.bias" not in shapes:
        return None
    norm = norm_of(shapes, f"{head}.convs.0")
    bias = norm != "none" and f"{head}.convs.0.conv.bias" in shapes
    upsample = _read_upsample(shapes, f"{head}.upsample")
    convs = count_layers(shapes, head + ".convs.{}.conv.kernel")
    width = f"{head}.convs.0.conv.kernel" if upsample else f"{head}.deconv.bias"
    return {
        **({"mask.conv_bias": True} if bias else {}),
        **({"mask.heads": "each_stage"} if stages else {}),
        **upsample,
        "mask.convs": convs,
        "mask.norm": norm,
        **({"mask.dim": shapes[width][-1]} if convs or not upsample else {}),
        "mask.class_agnostic": shapes[f"{head}.logits.bias"][0] == 1,
    }


def _read_upsample(shapes: Shapes, layer: str) -> dict[str, Any]:
    """Infer the kind of the layer that doubles maps, and its settings; {} for a transposed convolution."""
    for kind, file in names_files("mask.upsample").items():
        if (own := file.read_structure(shapes, layer, "mask.upsample")) is not None:
            return {"mask.upsample": kind, **own}
    return {}


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part, classes = config.mask, config.classes
    assert isinstance(part, MaskConfig)
    # With one class (and no slot for the background), class-agnostic arrays have the same shapes.
    ambiguous = classes.count + classes.offset == 1
    bias = part.conv_bias and part.convs > 0 and part.norm != "none"
    stages = len(config.box.stages) > 1 and part.heads == "each_stage"
    upsample = {}
    if part.upsample is not None:
        own = names_file(part.upsample).structure(part.upsample, "mask.upsample")
        upsample = {"mask.upsample": part.upsample.kind, **own}
    return {
        **({"mask.conv_bias": True} if bias else {}),
        **({"mask.heads": "each_stage"} if stages else {}),
        **upsample,
        "mask.convs": part.convs,
        "mask.norm": norm_in_files(part.norm, part.dim) if part.convs else "none",
        **({"mask.dim": part.dim} if part.convs or not upsample else {}),
        "mask.class_agnostic": part.class_agnostic or ambiguous,
    }
