"""MMDetection's names (versions 2 and 3): Mask R-CNN and Faster R-CNN on FPN."""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.names.tables import DECONV, LINEAR, Row, Table, flattened, weight_and_bias
from jaxmaskrcnn.convert.torchvision.names import NORM, resnet_rows


def table(config: ModelConfig) -> Table:
    """The table of a whole detector.

    Args:
        config: Norm layers are named by their kind, and the RPN's convolutions by their number; the
            names of other kinds are read as well, so that a file tells its own structure.
    """
    # Group norm first: of two rows that could name an array, the first one does.
    rows = [*_group_norm_rows(config.backbone_norm != "gn"), *resnet_rows("backbone.", "backbone.body.")]
    for kind in ("bn", "gn"):
        rows += [
            Row(f"{source}.{kind}.{{norm}}", f"{target}.norm.{{norm}}", alias=other == kind)
            for source, target, other in (
                ("neck.{part}_convs.{i}", "backbone.fpn.{part}_blocks.{i}", _other(config.fpn_norm)),
                ("roi_head.bbox_head.shared_convs.{i}", "box_head.convs.{i}", _other(config.head_norm)),
                ("roi_head.mask_head.convs.{i}", "mask_head.convs.{i}", _other(config.head_norm)),
                ("rpn_head.rpn_conv.{i}", "rpn.convs.{i}", _other(config.rpn_norm)),
            )
        ]
    bbox, mask = "roi_head.bbox_head", "roi_head.mask_head"
    rows += [
        *weight_and_bias("neck.{part}_convs.{i}.conv", "backbone.fpn.{part}_blocks.{i}.conv"),
        *weight_and_bias("rpn_head.rpn_conv", "rpn.convs.0.conv", alias=config.rpn_convs > 1),
        *weight_and_bias("rpn_head.rpn_conv.{i}.conv", "rpn.convs.{i}.conv"),
        *weight_and_bias("rpn_head.rpn_cls", "rpn.cls_logits"),
        *weight_and_bias("rpn_head.rpn_reg", "rpn.bbox_pred"),
        *weight_and_bias(f"{bbox}.shared_convs.{{i}}.conv", "box_head.convs.{i}.conv"),
        *weight_and_bias(f"{bbox}.shared_fcs.0", "box_head.fcs.0", flattened(config.box_pool_size)),
        *weight_and_bias(f"{bbox}.shared_fcs.{{i}}", "box_head.fcs.{i}", LINEAR),
        *weight_and_bias(f"{bbox}.fc_cls", "box_head.cls_score", LINEAR),
        *weight_and_bias(f"{bbox}.fc_reg", "box_head.bbox_pred", LINEAR),
        *weight_and_bias(f"{mask}.convs.{{i}}.conv", "mask_head.convs.{i}.conv"),
        *weight_and_bias(f"{mask}.upsample", "mask_head.deconv", DECONV),
        *weight_and_bias(f"{mask}.conv_logits", "mask_head.logits"),
    ]
    vocabulary = {"norm": NORM, "part": {"lateral": "inner", "fpn": "layer"}}
    return Table(rows, vocabulary, [r".*\.num_batches_tracked", r"data_preprocessor\.(mean|std)"])


def _group_norm_rows(alias: bool) -> list[Row]:
    """A backbone's norm layers where they are group norm; batch norm's are torchvision's names."""
    block = "layer{stage}.{block}"
    return [
        Row("backbone.gn1.{norm}", "backbone.body.bn1.{norm}", alias=alias),
        Row(f"backbone.{block}.gn{{k}}.{{norm}}", f"backbone.body.{block}.bn{{k}}.{{norm}}", alias=alias),
    ]


def _other(norm: str) -> str:
    """Of the two words for norm layers, the one that a config does not use."""
    return "bn" if norm == "gn" else "gn"
