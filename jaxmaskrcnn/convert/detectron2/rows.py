"""The settings of a Detectron2 yaml, as tables that are used in both directions.

Settings of a backbone, a neck or a trunk are in its names file.

Source: ``detectron2/config/defaults.py`` for names and defaults, and the modules that read them for
their effect. Training schedules and data sets are not part of a model's configuration.
"""

from typing import Any

from jaxmaskrcnn.config.keypoints import point_names
from jaxmaskrcnn.config.semantic import IGNORED, stuff_names
from jaxmaskrcnn.names.config_table import Setting, fixed
from jaxmaskrcnn.names.conversions import (
    DETECTRON2_NORM,
    FLAG,
    FRACTION,
    Conversion,
    alone,
    choice,
    number,
    present,
    several,
    whole,
)

_ALIGN = choice({"ROIAlignV2": True, "ROIAlign": False})
_THREE = several(number(), 3)

SETTINGS = (
    # the detector
    fixed("VERSION", 2, 2, always=True),
    Setting(
        "MODEL.META_ARCHITECTURE", "GeneralizedRCNN", present("PanopticFPN", "GeneralizedRCNN"), "semantic"
    ),
    Setting("MODEL.MASK_ON", False, present(True, False), "mask"),
    Setting("MODEL.KEYPOINT_ON", False, present(True, False), "keypoints"),
    fixed("MODEL.LOAD_PROPOSALS", False, False),
    # input
    Setting("INPUT.FORMAT", "BGR", choice({"BGR": "bgr", "RGB": "rgb"}), "input.channel_order"),
    Setting("MODEL.PIXEL_MEAN", (103.530, 116.280, 123.675), _THREE, "input.pixel_mean"),
    Setting("MODEL.PIXEL_STD", (1.0, 1.0, 1.0), several(number(1e-6), 3), "input.pixel_std"),
    Setting("INPUT.MIN_SIZE_TEST", 800, whole(1), "input.test_min_size"),
    Setting("INPUT.MAX_SIZE_TEST", 1333, whole(1), "input.test_max_size"),
    Setting(
        "INPUT.MASK_FORMAT",
        "polygon",
        choice({"polygon": "polygon", "bitmask": "threshold"}),
        "mask.targets",
        training=True,
    ),
    # anchors and proposals
    fixed("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator", "DefaultAnchorGenerator"),
    fixed("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0, 0.0),
    fixed("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "RPN"),
    fixed("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 0, 0),
    fixed("MODEL.RPN.HEAD_NAME", "StandardRPNHead", "StandardRPNHead"),
    fixed("MODEL.RPN.BOUNDARY_THRESH", -1, -1, training=True),
    fixed("MODEL.RPN.IOU_LABELS", (0, -1, 1), (0, -1, 1), training=True),
    Setting(
        "MODEL.RPN.IOU_THRESHOLDS",
        (0.3, 0.7),
        several(FRACTION, 2),
        ("rpn.background_iou", "rpn.foreground_iou"),
    ),
    Setting("MODEL.RPN.SMOOTH_L1_BETA", 0.0, number(), "rpn.loss.beta", training=True),
    fixed("MODEL.RPN.BBOX_REG_WEIGHTS", (1.0,) * 4, (1.0,) * 4),
    fixed("MODEL.RPN.BBOX_REG_LOSS_TYPE", "smooth_l1", "smooth_l1", training=True),
    fixed("MODEL.RPN.BBOX_REG_LOSS_WEIGHT", 1.0, 1.0, training=True),
    fixed("MODEL.RPN.LOSS_WEIGHT", 1.0, 1.0, training=True),
    Setting("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 256, whole(1), "rpn.batch_size"),
    Setting("MODEL.RPN.POSITIVE_FRACTION", 0.5, FRACTION, "rpn.positive_fraction"),
    Setting("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 12000, whole(1), "rpn.pre_nms_train"),
    Setting("MODEL.RPN.PRE_NMS_TOPK_TEST", 6000, whole(1), "rpn.pre_nms_test"),
    Setting("MODEL.RPN.POST_NMS_TOPK_TRAIN", 2000, whole(1), "rpn.post_nms_train"),
    Setting("MODEL.RPN.POST_NMS_TOPK_TEST", 1000, whole(1), "rpn.post_nms_test"),
    Setting("MODEL.RPN.NMS_THRESH", 0.7, FRACTION, "rpn.nms_threshold"),
    # regions
    fixed("MODEL.ROI_HEADS.IOU_LABELS", (0, 1), (0, 1), training=True),
    Setting(
        "MODEL.ROI_HEADS.IOU_THRESHOLDS",
        (0.5,),
        alone(FRACTION, "a list of one number"),
        "box.stages.0.foreground_iou",
    ),
    fixed("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", True, True, training=True),
    Setting("MODEL.ROI_HEADS.NUM_CLASSES", 80, whole(1), "num_classes"),
    Setting("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 512, whole(1), "regions.batch_size"),
    Setting("MODEL.ROI_HEADS.POSITIVE_FRACTION", 0.25, FRACTION, "regions.positive_fraction"),
    Setting("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05, FRACTION, "detections.score_threshold"),
    Setting("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5, FRACTION, "detections.nms_threshold"),
    Setting("TEST.DETECTIONS_PER_IMAGE", 100, whole(1), "detections.per_image"),
    # box head
    Setting("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 14, whole(1), "box.pool.size"),
    Setting("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2", _ALIGN, "box.pool.aligned"),
    Setting("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 0, whole(0), "box.pool.sampling_ratio"),
    Setting("MODEL.ROI_BOX_HEAD.NUM_CONV", 0, whole(0), "box.convs"),
    Setting("MODEL.ROI_BOX_HEAD.CONV_DIM", 256, whole(1), "box.conv_dim"),
    Setting("MODEL.ROI_BOX_HEAD.NUM_FC", 0, whole(0), "box.fcs"),
    Setting("MODEL.ROI_BOX_HEAD.FC_DIM", 1024, whole(1), "box.fc_dim"),
    Setting("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, FLAG, "box.class_agnostic"),
    Setting(
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
        (10.0, 10.0, 5.0, 5.0),
        several(number(), 4),
        "box.stages.0.box_weights",
    ),
    fixed("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "smooth_l1", "smooth_l1", training=True),
    Setting("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", 1.0, number(), "box.loss.weight", training=True),
    Setting(
        "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES",
        False,
        choice({False: "sampled", True: "predicted"}),
        "regions.head_boxes",
        training=True,
    ),
    Setting("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", False, present(True, False), "box.federated", training=True),
    Setting("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 0.0, number(), "box.loss.beta", training=True),
    Setting(
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, choice({True: "sigmoid", False: "softmax"}), "box.scores"
    ),
)

# Only if MODEL.ROI_BOX_HEAD.USE_FED_LOSS is True.
FEDERATED_SETTINGS = (
    Setting("MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES", 50, whole(1), "box.federated.classes", training=True),
    Setting(
        "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER", 0.5, number(), "box.federated.power", training=True
    ),
)

# Only for a mask head of this name; those of other kinds are in their names files.
MASK_HEAD, FCN = "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"
MASK_SETTINGS = (
    Setting("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14, whole(1), "mask.pool.size"),
    Setting("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2", _ALIGN, "mask.pool.aligned"),
    Setting("MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", 0, whole(0), "mask.pool.sampling_ratio"),
    Setting("MODEL.ROI_MASK_HEAD.NUM_CONV", 0, whole(0), "mask.convs"),
    Setting("MODEL.ROI_MASK_HEAD.CONV_DIM", 256, whole(1), "mask.dim"),
    Setting("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", False, FLAG, "mask.class_agnostic"),
)


def _read_widths(value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or not value or len(set(value)) > 1:
        raise ValueError
    return len(value), whole(1).read(value[0])


_WIDTHS = Conversion("a list of equal whole numbers", _read_widths, lambda layers: [layers[1]] * layers[0])
_POINTS = Conversion("whole numbers of at least 1", lambda n: point_names(whole(1).read(n)), len)
_SIGMAS = Conversion("a list of numbers", lambda x: tuple(map(number(1e-9).read, x)), list)
_HEAD = "MODEL.ROI_KEYPOINT_HEAD"
# Only if MODEL.KEYPOINT_ON is True.
KEYPOINT_SETTINGS = (
    fixed(f"{_HEAD}.NAME", "KRCNNConvDeconvUpsampleHead", "KRCNNConvDeconvUpsampleHead"),
    Setting(f"{_HEAD}.POOLER_RESOLUTION", 14, whole(1), "keypoints.pool.size"),
    Setting(f"{_HEAD}.POOLER_TYPE", "ROIAlignV2", _ALIGN, "keypoints.pool.aligned"),
    Setting(f"{_HEAD}.POOLER_SAMPLING_RATIO", 0, whole(0), "keypoints.pool.sampling_ratio"),
    Setting(f"{_HEAD}.CONV_DIMS", (512,) * 8, _WIDTHS, ("keypoints.convs", "keypoints.dim")),
    Setting(f"{_HEAD}.NUM_KEYPOINTS", 17, _POINTS, "keypoints.points"),
    Setting(f"{_HEAD}.LOSS_WEIGHT", 1.0, number(), "keypoints.loss_weight", training=True),
    Setting(
        f"{_HEAD}.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS",
        True,
        choice({True: "visible", False: "constant"}),
        "keypoints.loss_count",
        training=True,
    ),
    Setting(f"{_HEAD}.MIN_KEYPOINTS_PER_IMAGE", 1, whole(0), "keypoints.min_per_image", training=True),
    Setting("TEST.KEYPOINT_OKS_SIGMAS", (), _SIGMAS, "keypoints.sigmas"),
)

_STUFF = Conversion(
    "whole numbers of at least 2", lambda n: stuff_names(whole(2).read(n) - 1), lambda x: len(x) + 1
)
_SEMANTIC, _COMBINE = "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN.COMBINE"
# Only if MODEL.META_ARCHITECTURE is PanopticFPN.
SEMANTIC_SETTINGS = (
    fixed(f"{_SEMANTIC}.NAME", "SemSegFPNHead", "SemSegFPNHead"),
    fixed(f"{_SEMANTIC}.IN_FEATURES", ("p2", "p3", "p4", "p5"), ("p2", "p3", "p4", "p5")),
    fixed(f"{_SEMANTIC}.COMMON_STRIDE", 4, 4),
    fixed(f"{_SEMANTIC}.IGNORE_VALUE", IGNORED, IGNORED, training=True),
    Setting(f"{_SEMANTIC}.NUM_CLASSES", 54, _STUFF, "semantic.stuff"),
    Setting(f"{_SEMANTIC}.CONVS_DIM", 128, whole(1), "semantic.dim"),
    Setting(f"{_SEMANTIC}.NORM", "GN", DETECTRON2_NORM, "semantic.norm"),
    Setting(f"{_SEMANTIC}.LOSS_WEIGHT", 1.0, number(), "semantic.loss_weight", training=True),
    fixed("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 1.0, 1.0, training=True),
    fixed(f"{_COMBINE}.ENABLED", True, True, False),  # the library no longer uses it
    Setting(f"{_COMBINE}.INSTANCES_CONFIDENCE_THRESH", 0.5, FRACTION, "semantic.score_threshold"),
    Setting(f"{_COMBINE}.OVERLAP_THRESH", 0.5, FRACTION, "semantic.overlap_threshold"),
    Setting(f"{_COMBINE}.STUFF_AREA_LIMIT", 4096, whole(0), "semantic.stuff_area"),
)
# Only read for a head with convolutions; without them it has no norm layers, whatever the setting.
BOX_NORM = Setting("MODEL.ROI_BOX_HEAD.NORM", "", DETECTRON2_NORM, "box.norm")
MASK_NORM = Setting("MODEL.ROI_MASK_HEAD.NORM", "", DETECTRON2_NORM, "mask.norm")

# Only with CascadeROIHeads: the stages, which read them in place of IOU_THRESHOLDS and BBOX_REG_WEIGHTS.
CASCADE = (
    Setting("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6, 0.7), several(FRACTION)),
    Setting(
        "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS",
        ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
        several(several(number(1e-6), 4), text="a list with a list of 4 numbers above 0 for each stage"),
    ),
)

# Only without a trunk, whose heads have a different box head.
BOX_HEAD = (fixed("MODEL.ROI_BOX_HEAD.NAME", "", "FastRCNNConvFCHead"),)

# Settings that need more than a row; `settings.py` has a pair of functions for each of them.
BACKBONE = "MODEL.BACKBONE.NAME"
HEADS = "MODEL.ROI_HEADS.NAME"
RPN_CONVS = "MODEL.RPN.CONV_DIMS"
ANCHORS = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
}
DECAY = Setting("SOLVER.WEIGHT_DECAY", 1e-4, number())
NORM_DECAY = Setting("SOLVER.WEIGHT_DECAY_NORM", 0.0, number(), training=True)

# Settings that do not affect a plain detector: other heads, data, schedules, logging.
UNUSED = (
    "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "OUTPUT_DIR", "SEED", "VIS_PERIOD",
    "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "INPUT.RANDOM_FLIP",
    "MODEL.ANCHOR_GENERATOR.ANGLES", "MODEL.DEVICE", "MODEL.WEIGHTS",
    "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS",
)  # fmt: skip
UNUSED_SECTIONS = (
    "DATALOADER.", "DATASETS.", "GLOBAL.", "INPUT.CROP.", "SOLVER.", "TEST.AUG.", "TEST.PRECISE_BN.",
    "MODEL.RETINANET.", "MODEL.IMPLICIT_POINTREND.",
)  # fmt: skip
# Sections that only count in a Panoptic FPN.
SEMANTIC_SECTIONS = ("MODEL.PANOPTIC_FPN.", "MODEL.SEM_SEG_HEAD.")

KNOWN = (
    *(
        s.key
        for s in (*SETTINGS, *MASK_SETTINGS, *KEYPOINT_SETTINGS, *SEMANTIC_SETTINGS, *BOX_HEAD, *CASCADE)
    ),
    *(s.key for s in FEDERATED_SETTINGS),
    *(s.key for s in (BOX_NORM, MASK_NORM, DECAY, NORM_DECAY)),
    *(BACKBONE, HEADS, MASK_HEAD, RPN_CONVS, *ANCHORS),
    *UNUSED,
)
