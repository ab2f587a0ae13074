"""The arguments of torchvision's ``MaskRCNN`` and ``FasterRCNN``, as tables that are used in both directions.

Arguments of a part's own constructor follow a dot: "rpn_head.conv_depth". Source: the
constructors of ``torchvision/models/detection`` (version 0.29) for names and defaults.
"""

import re
from typing import Any

from jaxmaskrcnn.convert.configs.python_text import Code
from jaxmaskrcnn.names.config_table import MISSING, Setting, fixed
from jaxmaskrcnn.names.conversions import (
    FRACTION,
    Conversion,
    choice,
    number,
    several,
    whole,
)

_LEVELS = ("0", "1", "2", "3")
NORM = choice({None: "none", Code("BatchNorm2d"): "bn", Code("partial(GroupNorm, 32)"): "gn"})
_BACKBONE_NORMS = {"FrozenBatchNorm2d": "frozen_bn", "BatchNorm2d": "bn", "GroupNorm, 32": "gn"}
_BACKBONE_NORM = re.compile(r"partial\((FrozenBatchNorm2d|BatchNorm2d|GroupNorm, 32), eps=([0-9.e+-]+)\)")


def _read_backbone_norm(value: Any) -> tuple[str, float]:
    match = _BACKBONE_NORM.fullmatch(value) if isinstance(value, Code) else None
    if match is None:
        raise ValueError
    return _BACKBONE_NORMS[match[1]], number().read(float(match[2]))


def _write_backbone_norm(value: tuple[str, float]) -> Code:
    norm, epsilon = value
    # Batch norm with fixed statistics only is written as frozen: the detections are the same.
    norm = "frozen_bn" if norm == "bn_eval" else norm
    layer = next(name for name, known in _BACKBONE_NORMS.items() if known == norm)
    return Code(f"partial({layer}, eps={float(epsilon)!r})")


_ADAPTIVE = Conversion(
    "-1 or whole numbers of at least 0",  # 0 has the effect of -1
    lambda value: 0 if value == -1 else whole(0).read(value),
    lambda ratio: ratio or -1,
)
_WITH_BACKGROUND = Conversion(
    "whole numbers of at least 2", lambda value: whole(2).read(value) - 1, lambda classes: classes + 1
)

# The constructors, and whether they have heads for masks and for keypoints.
MODELS = {"MaskRCNN": (True, False), "FasterRCNN": (False, False), "KeypointRCNN": (False, True)}


def _read_type(value: Any) -> tuple[bool, bool]:
    if value not in MODELS:
        raise ValueError
    return MODELS[value]


def _write_type(parts: tuple[Any, Any]) -> str:
    heads = tuple(part is not None and part is not False for part in parts)
    return next((name for name, known in MODELS.items() if known == heads), "MaskRCNN")


SETTINGS = (
    Setting("type", MISSING, Conversion(" or ".join(MODELS), _read_type, _write_type), ("mask", "keypoints")),
    Setting("num_classes", MISSING, _WITH_BACKGROUND, "num_classes"),
    # input
    Setting("min_size", 800, whole(1), "input.test_min_size"),
    Setting("max_size", 1333, whole(1), "input.test_max_size"),
    Setting("image_mean", (0.485, 0.456, 0.406), several(number(), 3), "input.pixel_mean"),
    Setting("image_std", (0.229, 0.224, 0.225), several(number(1e-6), 3), "input.pixel_std"),
    Setting("size_divisible", 32, whole(1), "input.pad_divisor"),
    # proposals
    Setting("rpn_pre_nms_top_n_train", 2000, whole(1), "rpn.pre_nms_train"),
    Setting("rpn_pre_nms_top_n_test", 1000, whole(1), "rpn.pre_nms_test"),
    Setting("rpn_post_nms_top_n_train", 2000, whole(1), "rpn.post_nms_train"),
    Setting("rpn_post_nms_top_n_test", 1000, whole(1), "rpn.post_nms_test"),
    Setting("rpn_nms_thresh", 0.7, FRACTION, "rpn.nms_threshold"),
    Setting("rpn_fg_iou_thresh", 0.7, FRACTION, "rpn.foreground_iou", training=True),
    Setting("rpn_bg_iou_thresh", 0.3, FRACTION, "rpn.background_iou", training=True),
    Setting("rpn_batch_size_per_image", 256, whole(1), "rpn.batch_size", training=True),
    Setting("rpn_positive_fraction", 0.5, FRACTION, "rpn.positive_fraction", training=True),
    fixed("rpn_score_thresh", 0.0, 0.0),
    # regions
    Setting("box_score_thresh", 0.05, FRACTION, "detections.score_threshold"),
    Setting("box_nms_thresh", 0.5, FRACTION, "detections.nms_threshold"),
    Setting("box_detections_per_img", 100, whole(1), "detections.per_image"),
    Setting("box_fg_iou_thresh", 0.5, FRACTION, "box.stages.0.foreground_iou", training=True),
    Setting("box_bg_iou_thresh", 0.5, FRACTION, "box.stages.0.foreground_iou", training=True),
    Setting("box_batch_size_per_image", 512, whole(1), "regions.batch_size", training=True),
    Setting("box_positive_fraction", 0.25, FRACTION, "regions.positive_fraction", training=True),
    Setting("bbox_reg_weights", (10.0, 10.0, 5.0, 5.0), several(number(), 4), "box.stages.0.box_weights"),
)

BACKBONE = (
    fixed("backbone.type", MISSING, "_resnet_fpn_extractor"),
    Setting(
        "backbone.backbone.type",
        MISSING,
        choice({"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "resnet152": 152}),
        "backbone.depth",
    ),
    Setting("backbone.backbone.groups", 1, whole(1), "backbone.groups"),
    Setting("backbone.backbone.width_per_group", 64, whole(1), "backbone.width_per_group"),
    Setting(
        "backbone.backbone.norm_layer",
        Code("BatchNorm2d"),
        Conversion(
            "partial(LAYER, eps=NUMBER) with FrozenBatchNorm2d, BatchNorm2d or GroupNorm, 32",
            _read_backbone_norm,
            _write_backbone_norm,
        ),
        ("backbone.norm", "backbone.norm_epsilon"),
    ),
    Setting("backbone.trainable_layers", MISSING, choice({5 - n: n for n in range(6)}), "backbone.freeze_at"),
    Setting("backbone.norm_layer", None, NORM, "neck.norm"),
)

ANCHORS = ("rpn_anchor_generator.sizes", "rpn_anchor_generator.aspect_ratios")
RPN = (
    fixed("rpn_anchor_generator.type", MISSING, "AnchorGenerator"),
    fixed("rpn_head.type", MISSING, "RPNHead"),
    Setting("rpn_head.conv_depth", 1, whole(1), "rpn.convs"),
)
BOX_POOL = (
    fixed("box_roi_pool.type", MISSING, "MultiScaleRoIAlign"),
    fixed("box_roi_pool.featmap_names", MISSING, _LEVELS),
    Setting("box_roi_pool.output_size", MISSING, whole(1), "box.pool.size"),
    Setting("box_roi_pool.sampling_ratio", MISSING, _ADAPTIVE, "box.pool.sampling_ratio"),
)
MASK_POOL = (
    fixed("mask_roi_pool.type", MISSING, "MultiScaleRoIAlign"),
    fixed("mask_roi_pool.featmap_names", MISSING, _LEVELS),
    Setting("mask_roi_pool.output_size", MISSING, whole(1), "mask.pool.size"),
    Setting("mask_roi_pool.sampling_ratio", MISSING, _ADAPTIVE, "mask.pool.sampling_ratio"),
)

KEYPOINT_POOL = (
    fixed("keypoint_roi_pool.type", MISSING, "MultiScaleRoIAlign"),
    fixed("keypoint_roi_pool.featmap_names", MISSING, _LEVELS),
    Setting("keypoint_roi_pool.output_size", MISSING, whole(1), "keypoints.pool.size"),
    Setting("keypoint_roi_pool.sampling_ratio", MISSING, _ADAPTIVE, "keypoints.pool.sampling_ratio"),
)


def head_pools(mask: Any, keypoints: Any) -> tuple[Setting, ...]:
    """The rows of the poolers of these heads, which a model has (anything true) or lacks."""
    return (*(MASK_POOL if mask else ()), *(KEYPOINT_POOL if keypoints else ()))


# The constructor's defaults for parts that are left out.
LEFT_OUT = {
    "rpn_anchor_generator": {
        "type": "AnchorGenerator",
        "sizes": ((32,), (64,), (128,), (256,), (512,)),
        "aspect_ratios": ((0.5, 1.0, 2.0),) * 5,
    },
    "rpn_head": {"type": "RPNHead", "conv_depth": 1},
    "box_roi_pool": {
        "type": "MultiScaleRoIAlign", "featmap_names": _LEVELS, "output_size": 7, "sampling_ratio": 2
    },
    "mask_roi_pool": {
        "type": "MultiScaleRoIAlign", "featmap_names": _LEVELS, "output_size": 14, "sampling_ratio": 2
    },
    "keypoint_roi_pool": {
        "type": "MultiScaleRoIAlign", "featmap_names": _LEVELS, "output_size": 14, "sampling_ratio": 2
    },
}  # fmt: skip
