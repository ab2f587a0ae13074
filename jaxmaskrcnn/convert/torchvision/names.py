"""torchvision's names: ``maskrcnn_resnet50_fpn``, its ``_v2``, and detectors built alike.

The released COCO_V1 file is older than torchvision's present names; those of its parameters
that have been renamed since are read too.
"""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.names.tables import CONV, DECONV, LINEAR, Row, Table, flattened, weight_and_bias

NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def resnet_rows(source: str, target: str) -> list[Row]:
    """A torchvision ResNet, ResNeXt or wide ResNet behind a prefix."""
    block = "layer{stage}.{block}"
    return [
        Row(f"{source}conv1.weight", f"{target}conv1.kernel", CONV),
        Row(f"{source}bn1.{{norm}}", f"{target}bn1.{{norm}}"),
        Row(f"{source}{block}.conv{{k}}.weight", f"{target}{block}.conv{{k}}.kernel", CONV),
        Row(f"{source}{block}.bn{{k}}.{{norm}}", f"{target}{block}.bn{{k}}.{{norm}}"),
        Row(f"{source}{block}.downsample.0.weight", f"{target}{block}.downsample.conv.kernel", CONV),
        Row(f"{source}{block}.downsample.1.{{norm}}", f"{target}{block}.downsample.bn.{{norm}}"),
    ]


def table(config: ModelConfig) -> Table:
    """The table of a whole detector.

    Args:
        config: Says which of the two box heads it has (two fully connected layers, or convolutions
            before them), and how large the pooled regions are.
    """
    first = flattened(config.box_pool_size)
    # In a head with convolutions, layers are numbered through: convolutions, flatten, linear, ReLU, ...
    number = {str(config.box_convs + 1 + 2 * i): str(i) for i in range(1, max(config.box_fcs, 2))}
    with_convs = config.box_convs > 0
    rows = [
        *resnet_rows("backbone.body.", "backbone.body."),
        *weight_and_bias("backbone.fpn.{part}_blocks.{i}.0", "backbone.fpn.{part}_blocks.{i}.conv"),
        Row("backbone.fpn.{part}_blocks.{i}.1.{norm}", "backbone.fpn.{part}_blocks.{i}.norm.{norm}"),
        *weight_and_bias("backbone.fpn.{part}_blocks.{i}", "backbone.fpn.{part}_blocks.{i}.conv", alias=True),
        *weight_and_bias("rpn.head.conv.{i}.0", "rpn.convs.{i}.conv"),
        *weight_and_bias("rpn.head.conv", "rpn.convs.0.conv", alias=True),
        *weight_and_bias("rpn.head.cls_logits", "rpn.cls_logits"),
        *weight_and_bias("rpn.head.bbox_pred", "rpn.bbox_pred"),
        *weight_and_bias("roi_heads.box_head.fc6", "box_head.fcs.0", first, alias=with_convs),
        *weight_and_bias("roi_heads.box_head.fc7", "box_head.fcs.1", LINEAR, alias=with_convs),
        *weight_and_bias("roi_heads.box_head.{i}.0", "box_head.convs.{i}.conv"),
        Row("roi_heads.box_head.{i}.1.{norm}", "box_head.convs.{i}.norm.{norm}"),
        *weight_and_bias(f"roi_heads.box_head.{config.box_convs + 1}", "box_head.fcs.0", first),
        *weight_and_bias("roi_heads.box_head.{number}", "box_head.fcs.{number}", LINEAR),
        *weight_and_bias("roi_heads.box_predictor.{predictor}", "box_head.{predictor}", LINEAR),
        *weight_and_bias("roi_heads.mask_head.{i}.0", "mask_head.convs.{i}.conv"),
        Row("roi_heads.mask_head.{i}.1.{norm}", "mask_head.convs.{i}.norm.{norm}"),
        *weight_and_bias("roi_heads.mask_head.mask_fcn{count}", "mask_head.convs.{count}.conv", alias=True),
        *weight_and_bias("roi_heads.mask_predictor.conv5_mask", "mask_head.deconv", DECONV),
        *weight_and_bias("roi_heads.mask_predictor.mask_fcn_logits", "mask_head.logits"),
    ]
    vocabulary = {
        "norm": NORM,
        "part": {"inner": "inner", "layer": "layer"},
        "number": number,
        "predictor": {"cls_score": "cls_score", "bbox_pred": "bbox_pred"},
        "count": {str(i + 1): str(i) for i in range(9)},
    }
    return Table(rows, vocabulary, [r".*\.num_batches_tracked"])
