"""The architecture that a detector's arrays show: what names and shapes tell, and nothing else.

Where a stride lies, how pixels are normalised, which anchors were used: no array says that.
"""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.resnet import STAGE_BLOCKS

Shapes = Mapping[str, tuple[int, ...]]

# Fields of ModelConfig that arrays show. Of a norm layer they show whether it has statistics.
FIELDS = (
    "backbone_depth", "backbone_width", "backbone_groups", "backbone_width_per_group", "backbone_norm",
    "fpn_channels", "fpn_norm", "rpn_convs", "rpn_norm", "box_convs", "box_conv_dim", "box_fcs", "box_fc_dim",
    "head_norm", "num_classes", "class_agnostic_boxes", "mask_head", "mask_convs", "mask_dim",
    "class_agnostic_masks",
)  # fmt: skip


def structure(shapes: Shapes, what: str) -> dict[str, Any]:
    """The fields of ModelConfig that a detector's arrays tell.

    Args:
        shapes: Of the arrays, by this library's paths.
        what: Names the source in an error.

    Returns:
        Values for ``FIELDS`` (those that the detector has). Norm layers with statistics are "bn".

    Raises:
        UserError: The arrays are no ResNet-FPN detector of a known depth.

    Example:
        >>> from flax import nnx
        >>> from jaxmaskrcnn import MaskRCNN, model_config
        >>> config = model_config("detectron2/mask_rcnn_R_50_FPN_3x")
        >>> state = nnx.state(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
        >>> shapes = {".".join(map(str, path)): v.shape for path, v in nnx.to_flat_state(state)}
        >>> structure(shapes, "the model") == config_structure(config)
        True
    """
    try:
        return _backbone(shapes, what) | _heads(shapes)
    except KeyError as error:
        raise UserError(
            f"{what} has no array for {error.args[0]}, which every Faster or Mask R-CNN on FPN has."
        ) from None


def config_structure(config: ModelConfig) -> dict[str, Any]:
    """What `structure` finds in the arrays of a model of this configuration."""
    fields = {name: getattr(config, name) for name in FIELDS}
    if config.backbone_norm != "gn":
        fields["backbone_norm"] = "bn"
    if config.backbone_depth < 50:  # blocks without the inner width that these set
        fields["backbone_groups"] = fields["backbone_width_per_group"] = None
    if not config.box_convs:
        del fields["box_conv_dim"]
    if not config.mask_head:
        for name in ("mask_convs", "mask_dim", "class_agnostic_masks"):
            del fields[name]
    if not (config.box_convs or config.mask_head and config.mask_convs):
        fields["head_norm"] = "none"
    # With one class these are the same arrays (torchvision has a slot for the background besides).
    if config.num_classes + config.foreground_offset == 1:
        fields["class_agnostic_boxes"] = False
        if config.mask_head:
            fields["class_agnostic_masks"] = False
    return {name: value for name, value in fields.items() if value is not None}


def _backbone(shapes: Shapes, what: str) -> dict[str, Any]:
    body = "backbone.body"
    counts = tuple(_count(shapes, f"{body}.layer{i}.{{}}.conv1.kernel") for i in range(1, 5))
    deep = f"{body}.layer1.0.conv3.kernel" in shapes
    depths = [depth for depth, blocks in STAGE_BLOCKS.items() if blocks == counts and (depth >= 50) == deep]
    if not depths:
        kind = "bottleneck" if deep else "basic"
        raise UserError(
            f"{what} has a ResNet whose stages have {', '.join(map(str, counts))} {kind} blocks; "
            f"known are the depths {', '.join(map(str, STAGE_BLOCKS))}."
        )
    width = shapes[f"{body}.conv1.kernel"][-1]
    fields = {
        "backbone_depth": depths[0],
        "backbone_width": width,
        "backbone_norm": "bn" if f"{body}.bn1.mean" in shapes else "gn",
        "fpn_channels": shapes["backbone.fpn.inner_blocks.0.conv.kernel"][-1],
        "fpn_norm": _norm(shapes, "backbone.fpn.inner_blocks.0"),
    }
    if deep:
        kernel = shapes[f"{body}.layer1.0.conv2.kernel"]  # [3, 3, inner / groups, inner]
        groups = kernel[3] // kernel[2]
        fields |= {
            "backbone_groups": groups,
            "backbone_width_per_group": kernel[3] * 64 // (width * groups),
        }
    return fields


def _heads(shapes: Shapes) -> dict[str, Any]:
    box_convs, mask_convs = (
        _count(shapes, f"{head}.convs.{{}}.conv.kernel") for head in ("box_head", "mask_head")
    )
    classes = shapes["box_head.cls_score.bias"][0] - 1
    boxes = shapes["box_head.bbox_pred.bias"][0] // 4
    norms = [
        _norm(shapes, f"{head}.convs.0")
        for head, n in (("box_head", box_convs), ("mask_head", mask_convs))
        if n
    ]
    fields = {
        "rpn_convs": _count(shapes, "rpn.convs.{}.conv.kernel"),
        "rpn_norm": _norm(shapes, "rpn.convs.0"),
        "box_convs": box_convs,
        "box_fcs": _count(shapes, "box_head.fcs.{}.kernel"),
        "box_fc_dim": shapes["box_head.fcs.0.bias"][0],
        "head_norm": norms[0] if norms else "none",
        "num_classes": classes,
        "class_agnostic_boxes": boxes == 1 and classes > 1,
        "mask_head": "mask_head.logits.bias" in shapes,
    }
    if box_convs:
        fields["box_conv_dim"] = shapes["box_head.convs.0.conv.kernel"][-1]
    if fields["mask_head"]:
        fields |= {
            "mask_convs": mask_convs,
            "mask_dim": shapes["mask_head.deconv.bias"][0],
            "class_agnostic_masks": shapes["mask_head.logits.bias"][0] == 1 and classes > 1,
        }
    return fields


def _count(shapes: Shapes, path: str) -> int:
    count = 0
    while path.format(count) in shapes:
        count += 1
    return count


def _norm(shapes: Shapes, layer: str) -> str:
    if f"{layer}.norm.scale" not in shapes:
        return "none"
    return "bn" if f"{layer}.norm.mean" in shapes else "gn"
