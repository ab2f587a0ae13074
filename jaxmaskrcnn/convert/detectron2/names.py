"""Detectron2's names: FPN models of its zoo and its new baselines, and its ImageNet ResNets."""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.names.tables import CONV, DECONV, LINEAR, Row, Table, flattened, weight_and_bias
from jaxmaskrcnn.convert.torchvision.names import NORM

STAGE = {f"res{i + 1}": f"layer{i}" for i in range(1, 5)}
_COUNT = {str(i + 1): str(i) for i in range(9)}


def resnet_rows(source: str, target: str) -> list[Row]:
    """A Detectron2 ResNet behind a prefix."""
    block = "{stage}.{block}"
    return [
        Row(f"{source}stem.conv1.weight", f"{target}conv1.kernel", CONV),
        Row(f"{source}stem.conv1.norm.{{norm}}", f"{target}bn1.{{norm}}"),
        Row(f"{source}{block}.conv{{k}}.weight", f"{target}{block}.conv{{k}}.kernel", CONV),
        Row(f"{source}{block}.conv{{k}}.norm.{{norm}}", f"{target}{block}.bn{{k}}.{{norm}}"),
        Row(f"{source}{block}.shortcut.weight", f"{target}{block}.downsample.conv.kernel", CONV),
        Row(f"{source}{block}.shortcut.norm.{{norm}}", f"{target}{block}.downsample.bn.{{norm}}"),
    ]


def table(config: ModelConfig) -> Table:
    """The table of a whole detector.

    Args:
        config: Says how large the pooled regions are, and whether the RPN has one convolution or
            several, which Detectron2 names differently.
    """
    rpn, several = "proposal_generator.rpn_head", config.rpn_convs > 1
    rows = [
        *resnet_rows("backbone.bottom_up.", "backbone.body."),
        *weight_and_bias("backbone.fpn_{part}{level}", "backbone.fpn.{part}_blocks.{level}.conv"),
        Row("backbone.fpn_{part}{level}.norm.{norm}", "backbone.fpn.{part}_blocks.{level}.norm.{norm}"),
        *weight_and_bias(f"{rpn}.conv", "rpn.convs.0.conv", alias=several),
        *weight_and_bias(f"{rpn}.conv.conv{{i}}", "rpn.convs.{i}.conv"),
        *weight_and_bias(f"{rpn}.objectness_logits", "rpn.cls_logits"),
        *weight_and_bias(f"{rpn}.anchor_deltas", "rpn.bbox_pred"),
        *weight_and_bias("roi_heads.box_head.conv{count}", "box_head.convs.{count}.conv"),
        Row("roi_heads.box_head.conv{count}.norm.{norm}", "box_head.convs.{count}.norm.{norm}"),
        *weight_and_bias("roi_heads.box_head.fc1", "box_head.fcs.0", flattened(config.box_pool_size)),
        *weight_and_bias("roi_heads.box_head.fc{count}", "box_head.fcs.{count}", LINEAR),
        *weight_and_bias("roi_heads.box_predictor.{predictor}", "box_head.{predictor}", LINEAR),
        *weight_and_bias("roi_heads.mask_head.mask_fcn{count}", "mask_head.convs.{count}.conv"),
        Row("roi_heads.mask_head.mask_fcn{count}.norm.{norm}", "mask_head.convs.{count}.norm.{norm}"),
        *weight_and_bias("roi_heads.mask_head.deconv", "mask_head.deconv", DECONV),
        *weight_and_bias("roi_heads.mask_head.predictor", "mask_head.logits"),
    ]
    vocabulary = {
        "norm": NORM,
        "stage": STAGE,
        "part": {"lateral": "inner", "output": "layer"},
        "level": {str(i + 2): str(i) for i in range(4)},
        "count": _COUNT,
        "predictor": {"cls_score": "cls_score", "bbox_pred": "bbox_pred"},
    }
    # What older files hold besides: they were constants of the model.
    ignorable = [
        r".*\.num_batches_tracked",
        r"pixel_(mean|std)",
        r"proposal_generator\.anchor_generator\.cell_anchors\.\d+",
    ]
    return Table(rows, vocabulary, ignorable)
