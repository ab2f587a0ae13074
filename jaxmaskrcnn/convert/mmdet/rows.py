"""The settings of an MMDetection ``model``, as tables that are used in both directions.

They have the names of version 3; `settings.py` has the earlier names.

Source: the constructors of ``mmdet/models`` for names and defaults (version 3.3).
"""

import math
import re

from jaxmaskrcnn.names.config_table import MISSING, Setting, fixed
from jaxmaskrcnn.names.conversions import (
    FLAG,
    FRACTION,
    Conversion,
    choice,
    number,
    only,
    optional,
    rounded,
    several,
    whole,
)

_ZEROS, _ONES = (0.0,) * 4, (1.0,) * 4
BN = dict.fromkeys(("BN", "BN2d", "SyncBN", "MMSyncBN"), "bn")


def _padding(value):
    if type(value) is not int or value < 1 or value % 32:
        raise ValueError
    return value


PADDING = Conversion("multiples of 32", _padding)


def _read_reciprocals(value):
    return tuple(1.0 / std for std in several(number(1e-6), 4).read(value))


def _write_reciprocals(weights):
    """Return numbers whose reciprocals are the weights, short ones if possible: 0.1 for 10."""
    return [_reciprocal(weight) for weight in weights]


def _reciprocal(weight):
    std = 1 / weight
    near = (rounded(std), std, math.nextafter(std, 0.0), math.nextafter(std, math.inf))
    return next((x for x in near if 1 / x == weight), std)


# Whether an object's best proposal is positive at a low IoU; it is then assigned to that object.
_LOW_QUALITY = choice({True: "reassign", False: "none"})
_ORDER = choice({True: "ratio", False: "size"})
RECIPROCALS = Conversion("four numbers above 0", _read_reciprocals, _write_reciprocals)

DATA_PREPROCESSOR = (
    fixed("data_preprocessor.type", "DetDataPreprocessor", "DetDataPreprocessor", always=True),
    Setting("data_preprocessor.mean", MISSING, several(number(), 3), "input.pixel_mean"),
    Setting("data_preprocessor.std", MISSING, several(number(1e-6), 3), "input.pixel_std"),
    Setting(
        "data_preprocessor.bgr_to_rgb", False, choice({True: "rgb", False: "bgr"}), "input.channel_order"
    ),
    fixed("data_preprocessor.rgb_to_bgr", False, False),
    Setting("data_preprocessor.pad_size_divisor", 1, PADDING, "input.pad_divisor"),
    fixed("data_preprocessor.pad_value", 0, 0),
)

NORM_EVAL = Setting("backbone.norm_eval", True, FLAG)

RPN = (
    fixed("rpn_head.type", MISSING, "RPNHead"),
    fixed("rpn_head.num_classes", 1, 1),
    Setting("rpn_head.num_convs", 1, whole(1), "rpn.convs"),
    fixed("rpn_head.reg_decoded_bbox", False, False, training=True),
    fixed("rpn_head.anchor_generator.type", MISSING, "AnchorGenerator"),
    Setting("rpn_head.anchor_generator.ratios", MISSING, several(number(1e-6)), "rpn.anchors.ratios"),
    Setting("rpn_head.anchor_generator.scale_major", True, _ORDER, "rpn.anchors.order"),
    fixed("rpn_head.anchor_generator.octave_base_scale", None, None),
    fixed("rpn_head.anchor_generator.scales_per_octave", None, None),
    fixed("rpn_head.anchor_generator.centers", None, None),
    fixed("rpn_head.anchor_generator.center_offset", 0.0, 0.0),
    fixed("rpn_head.bbox_coder.type", "DeltaXYWHBBoxCoder", "DeltaXYWHBBoxCoder", always=True),
    fixed("rpn_head.bbox_coder.target_means", _ZEROS, _ZEROS),
    fixed("rpn_head.bbox_coder.target_stds", _ONES, _ONES),
    fixed("rpn_head.bbox_coder.clip_border", True, True),
    fixed("rpn_head.bbox_coder.add_ctr_clamp", False, False),
    fixed("rpn_head.loss_cls.type", "CrossEntropyLoss", "CrossEntropyLoss", always=True),
    fixed("rpn_head.loss_cls.use_sigmoid", False, True),
    fixed("rpn_head.loss_cls.class_weight", None, None, training=True),
    fixed("rpn_head.loss_cls.loss_weight", 1.0, 1.0, training=True),
    fixed("rpn_head.loss_bbox.loss_weight", 1.0, 1.0, training=True),
)
FEATURES = Setting("rpn_head.feat_channels", 256, whole(1))
SCALES = Setting("rpn_head.anchor_generator.scales", MISSING, several(number(1e-6)))
BASE_SIZES = Setting("rpn_head.anchor_generator.base_sizes", None, optional(several(number(1e-6))))
# Settings that must match the model's levels; see `levels.py`.
OUTPUTS, STRIDES = "neck.num_outs", "rpn_head.anchor_generator.strides"
POOLED = tuple(f"roi_head.{head}_roi_extractor.featmap_strides" for head in ("bbox", "mask"))


def _extractor(name: str, pool: str) -> tuple[Setting, ...]:
    prefix = f"roi_head.{name}_roi_extractor"
    return (
        fixed(f"{prefix}.finest_scale", 56, 56),
        fixed(f"{prefix}.roi_layer.type", MISSING, "RoIAlign"),
        Setting(f"{prefix}.roi_layer.output_size", MISSING, whole(1), f"{pool}.size"),
        Setting(f"{prefix}.roi_layer.sampling_ratio", 0, whole(0), f"{pool}.sampling_ratio"),
        Setting(f"{prefix}.roi_layer.aligned", True, FLAG, f"{pool}.aligned"),
        fixed(f"{prefix}.roi_layer.pool_mode", "avg", "avg"),
        fixed(f"{prefix}.roi_layer.use_torchvision", False, False),
    )


BOX = (
    *_extractor("bbox", "box.pool"),
    Setting("roi_head.bbox_head.num_classes", 80, whole(1), "num_classes"),
    Setting("roi_head.bbox_head.conv_out_channels", 256, whole(1), "box.conv_dim"),
    Setting("roi_head.bbox_head.fc_out_channels", 1024, whole(1), "box.fc_dim"),
    Setting("roi_head.bbox_head.reg_class_agnostic", False, FLAG, "box.class_agnostic"),
    fixed("roi_head.bbox_head.with_cls", True, True),
    fixed("roi_head.bbox_head.with_reg", True, True),
    fixed("roi_head.bbox_head.conv_cfg", None, None),
    fixed("roi_head.bbox_head.reg_predictor_cfg.type", "Linear", "Linear"),
    fixed("roi_head.bbox_head.bbox_coder.type", "DeltaXYWHBBoxCoder", "DeltaXYWHBBoxCoder", always=True),
    fixed("roi_head.bbox_head.bbox_coder.target_means", _ZEROS, _ZEROS),
    Setting("roi_head.bbox_head.bbox_coder.target_stds", _ONES, RECIPROCALS, "box.stages.0.box_weights"),
    fixed("roi_head.bbox_head.bbox_coder.clip_border", True, True),
    fixed("roi_head.bbox_head.bbox_coder.add_ctr_clamp", False, False),
    fixed("roi_head.bbox_head.loss_cls.use_sigmoid", False, False),
    fixed("roi_head.bbox_head.loss_cls.class_weight", None, None, training=True),
    fixed("roi_head.bbox_head.loss_cls.loss_weight", 1.0, 1.0, training=True),
    Setting("roi_head.bbox_head.loss_bbox.loss_weight", 1.0, number(), "box.loss.weight", training=True),
)
AVERAGE = fixed("roi_head.bbox_head.with_avg_pool", False, False)
BOX_HEADS = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1), "ConvFCBBoxHead": None}
BOX_HEAD_TYPE = Setting("roi_head.bbox_head.type", MISSING, only(*BOX_HEADS))
BOX_HEAD_LAYERS = (
    Setting("roi_head.bbox_head.num_shared_convs", 0, whole(0), "box.convs"),
    Setting("roi_head.bbox_head.num_shared_fcs", 0, whole(0), "box.fcs"),
    *(fixed(f"roi_head.bbox_head.num_{x}", 0, 0) for x in ("cls_convs", "cls_fcs", "reg_convs", "reg_fcs")),
)
BOX_SIDE = Setting("roi_head.bbox_head.roi_feat_size", 7, whole(1))

MASK_POOL = _extractor("mask", "mask.pool")
# Of mask heads of every kind, and of Mask R-CNN's; those of others are in their names files.
MASKS = (Setting("test_cfg.rcnn.mask_thr_binary", MISSING, FRACTION, "detections.mask_threshold"),)
FCN = "FCNMaskHead"
MASK_TYPE = fixed("roi_head.mask_head.type", MISSING, FCN)
MASK = (
    Setting("roi_head.mask_head.num_classes", 80, whole(1), "num_classes"),
    Setting("roi_head.mask_head.num_convs", 4, whole(0), "mask.convs"),
    Setting("roi_head.mask_head.conv_out_channels", 256, whole(1), "mask.dim"),
    Setting("roi_head.mask_head.class_agnostic", False, FLAG, "mask.class_agnostic"),
    fixed("roi_head.mask_head.conv_kernel_size", 3, 3),
    fixed("roi_head.mask_head.conv_cfg", None, None),
    fixed("roi_head.mask_head.loss_mask.type", "CrossEntropyLoss", "CrossEntropyLoss", training=True),
    fixed("roi_head.mask_head.loss_mask.loss_weight", 1.0, 1.0, training=True),
)
TEST = (
    Setting("test_cfg.rpn.nms_pre", MISSING, whole(1), "rpn.pre_nms_test"),
    Setting("test_cfg.rpn.max_per_img", MISSING, whole(1), "rpn.post_nms_test"),
    fixed("test_cfg.rpn.nms.type", "nms", "nms", always=True),
    Setting("test_cfg.rpn.nms.iou_threshold", MISSING, FRACTION, "rpn.nms_threshold"),
    fixed("test_cfg.rpn.min_bbox_size", -1, 0),
    fixed("test_cfg.rpn.nms_across_levels", False, False),
    Setting("test_cfg.rcnn.score_thr", MISSING, FRACTION, "detections.score_threshold"),
    Setting("test_cfg.rcnn.nms.iou_threshold", MISSING, FRACTION, "detections.nms_threshold"),
    Setting(
        "test_cfg.rcnn.nms.class_agnostic",
        False,
        choice({False: "class", True: "image"}),
        "detections.nms_scope",
    ),
    Setting("test_cfg.rcnn.max_per_img", MISSING, whole(1), "detections.per_image"),
)


def _sampler(part: str, size: str, fraction: str) -> tuple[Setting, ...]:
    prefix = f"train_cfg.{part}"
    return (
        fixed(f"{prefix}.assigner.type", MISSING, "MaxIoUAssigner", training=True),
        fixed(f"{prefix}.assigner.ignore_iof_thr", -1, -1, training=True, always=True),
        fixed(f"{prefix}.assigner.gt_max_assign_all", True, True, training=True),
        fixed(f"{prefix}.assigner.iou_calculator.type", "BboxOverlaps2D", "BboxOverlaps2D", training=True),
        fixed(f"{prefix}.sampler.type", MISSING, "RandomSampler", training=True),
        Setting(f"{prefix}.sampler.num", MISSING, whole(1), size, training=True),
        Setting(f"{prefix}.sampler.pos_fraction", MISSING, FRACTION, fraction, training=True),
        fixed(f"{prefix}.sampler.neg_pos_ub", -1, -1, training=True),
        fixed(f"{prefix}.pos_weight", -1, -1, 0, 1, training=True, always=True),
    )


# Only if the config has a train_cfg.
TRAIN = (
    *_sampler("rpn", "rpn.batch_size", "rpn.positive_fraction"),
    Setting("train_cfg.rpn.assigner.pos_iou_thr", MISSING, FRACTION, "rpn.foreground_iou", True),
    Setting("train_cfg.rpn.assigner.neg_iou_thr", MISSING, FRACTION, "rpn.background_iou", True),
    Setting("train_cfg.rpn.assigner.min_pos_iou", 0.0, FRACTION, "rpn.low_quality_min_iou", True),
    fixed("train_cfg.rpn.assigner.match_low_quality", True, True, training=True, always=True),
    fixed("train_cfg.rpn.sampler.add_gt_as_proposals", True, False, training=True),
    Setting("train_cfg.rpn.allowed_border", MISSING, whole(-1), "rpn.border", training=True),
    *_sampler("rcnn", "regions.batch_size", "regions.positive_fraction"),
    Setting("train_cfg.rcnn.assigner.pos_iou_thr", MISSING, FRACTION, "box.stages.0.foreground_iou", True),
    Setting("train_cfg.rcnn.assigner.neg_iou_thr", MISSING, FRACTION, "box.stages.0.foreground_iou", True),
    Setting("train_cfg.rcnn.assigner.match_low_quality", True, _LOW_QUALITY, "regions.low_quality", True),
    fixed("train_cfg.rcnn.sampler.add_gt_as_proposals", True, True, training=True, always=True),
)
ROI_MIN_IOU = Setting("train_cfg.rcnn.assigner.min_pos_iou", 0.0, FRACTION, training=True)
MASK_SIZE = Setting("train_cfg.rcnn.mask_size", MISSING, whole(1), training=True)

# Without train_cfg.rpn_proposal, training uses the numbers of test_cfg.rpn.
PROPOSAL = (
    Setting("train_cfg.rpn_proposal.nms_pre", MISSING, whole(1), "rpn.pre_nms_train", True),
    Setting("train_cfg.rpn_proposal.max_per_img", MISSING, whole(1), "rpn.post_nms_train", True),
    Setting("train_cfg.rpn_proposal.nms.iou_threshold", MISSING, FRACTION, "rpn.nms_threshold", True),
    fixed("train_cfg.rpn_proposal.nms.type", "nms", "nms", training=True, always=True),
    fixed("train_cfg.rpn_proposal.min_bbox_size", -1, 0, training=True),
    fixed("train_cfg.rpn_proposal.nms_across_levels", False, False, training=True),
)
DECODED = Setting("roi_head.bbox_head.reg_decoded_bbox", False, FLAG, training=True)
LOSSES = {"rpn_head.loss_bbox": "rpn.loss.beta", "roi_head.bbox_head.loss_bbox": "box.loss.beta"}
# Losses of decoded boxes: `box.loss.form`, and the settings, which have to be these.
IOU_LOSSES = {
    "IoULoss": ("iou", {"eps": 1e-6, "mode": "log", "linear": False}),
    "GIoULoss": ("giou", {"eps": 1e-6}),
    "DIoULoss": ("diou", {"eps": 1e-6}),
    "BoundedIoULoss": ("bounded_iou", {"beta": 0.2, "eps": 1e-3}),
}
NORMS = ("backbone.norm_cfg", "neck.norm_cfg", "roi_head.bbox_head.norm_cfg", "roi_head.mask_head.norm_cfg")
NORM_SETTINGS = ("type", "requires_grad", "eps", "momentum", "num_groups")
# Convolutions with standardised kernels, in front of these norms.
CONVS = {norm: norm.replace("norm_cfg", "conv_cfg.type") for norm in NORMS}

# A head's defaults for parts that a config leaves out; a part that is set has its own defaults.
LEFT_OUT = {
    "rpn_head.loss_cls": {"use_sigmoid": True},
    "roi_head.bbox_head.bbox_coder": {"target_stds": (0.1, 0.1, 0.2, 0.2)},
}

# Settings that do not affect a plain detector: memory, initial values, reductions of losses, widths that
# follow from others, switches of later versions that the rest of a config already implies.
UNUSED = re.compile(
    r"(.*\.)?(init_cfg|pretrained|with_cp|debug|_scope_|use_box_type|reduction|avg_non_ignore)(\..*)?"
    r"|(rpn_head|roi_head\.(bbox|mask)_head|neck)\.in_channels|roi_head\.\w+_roi_extractor\.out_channels"
    r"|data_preprocessor\.(pad_mask|mask_pad_value|pad_seg|seg_pad_value|boxtype2tensor|non_blocking"
    r"|batch_augments)"
    r"|backbone\.zero_init_residual|neck\.relu_before_extra_convs"
    r"|rpn_head\.(bbox_coder\.ctr_clamp|loss_cls\.ignore_index)"
    r"|roi_head\.bbox_head\.(bbox_coder\.ctr_clamp|predict_box_type|loss_cls\.ignore_index)"
    r"|roi_head\.(mask_head\.(roi_feat_size|loss_mask\..*)|point_head\.loss_point\..*)"
    r"|(train|test)_cfg\.(rpn|rpn_proposal)\.nms_post|train_cfg\.\w+\.assigner\.(gpu_assign_thr"
    r"|ignore_wrt_candidates)|train_cfg\.rpn\.mask_size|type"
    # Version 2 wrote its checkpoints' config after building the model, which copies these settings.
    r"|roi_head\.(train|test)_cfg\..*"
)

KNOWN = {
    setting.key
    for setting in (
        *DATA_PREPROCESSOR, NORM_EVAL, *RPN, FEATURES, SCALES,
        BASE_SIZES, *BOX, DECODED, BOX_HEAD_TYPE, *BOX_HEAD_LAYERS, BOX_SIDE, AVERAGE, *MASKS,
        MASK_TYPE, *MASK, *MASK_POOL,
        *TEST, *TRAIN, ROI_MIN_IOU, MASK_SIZE, *PROPOSAL,
    )
} | {
    *(f"{norm}.{name}" for norm in NORMS for name in NORM_SETTINGS),
    *(f"{loss}.{name}" for loss in LOSSES for name in ("type", "beta")),
    *(f"roi_head.bbox_head.loss_bbox.{name}" for names in IOU_LOSSES.values() for name in names[1]),
    *NORMS, *CONVS.values(), *POOLED, OUTPUTS, STRIDES,
}  # fmt: skip
