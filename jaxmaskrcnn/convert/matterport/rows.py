"""The fields of matterport's ``Config`` class, as tables that are used in both directions.

Source: ``mrcnn/config.py`` (version 2.1) for names and defaults, and ``mrcnn/model.py`` for their effect.
"""

from typing import Any

from jaxmaskrcnn.names.config_table import MISSING, Setting, fixed
from jaxmaskrcnn.names.conversions import FRACTION, Conversion, choice, number, rounded, several, whole

_WITH_BACKGROUND = Conversion(
    "whole numbers of at least 2", lambda value: whole(2).read(value) - 1, lambda classes: classes + 1
)
_SCALES = several(number(1e-6), 5)
_RATIOS = several(number(1e-6))
_STDS = several(number(1e-9), 4)


def _write_scales(sizes: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    if any(len(level) != 1 for level in sizes):
        raise ValueError
    return tuple(level[0] for level in sizes)


def _reciprocals(ratios: Any) -> tuple[float, ...]:
    return tuple(rounded(1 / ratio) for ratio in _RATIOS.read(ratios))


def _swap(values: tuple[float, ...]) -> tuple[float, ...]:
    y, x, height, width = values
    return x, y, width, height


def _twice(conversion: Conversion) -> Conversion:
    """One value for two settings, which have to agree to be written."""

    def write(values):
        if values[0] != values[1]:
            raise ValueError
        return values[0]

    def read(value):
        return (conversion.read(value),) * 2

    return Conversion(conversion.text, read, write)


def _read_side(value: Any) -> tuple[int, int]:
    side = whole(64).read(value)
    if side % 64:
        raise ValueError
    return side, side


def _write_side(values: tuple[int, int]) -> int:
    side, divisor = values
    if side != divisor:
        raise ValueError
    return side


def _read_weights(value: Any) -> None:
    if not isinstance(value, dict) or any(weight != 1 for weight in value.values()):
        raise ValueError


_SCALE = Conversion(_SCALES.text, lambda v: tuple((x,) for x in _SCALES.read(v)), _write_scales)
_WIDTH_BY_HEIGHT = Conversion(_RATIOS.text, _reciprocals, _reciprocals)
# Standard deviations of dy, dx, dh, dw are reciprocals of the weights of dx, dy, dw, dh.
_STD = Conversion(
    _STDS.text,
    lambda stds: tuple(rounded(1 / x) for x in _swap(_STDS.read(stds))),
    lambda weights: tuple(rounded(1 / x) for x in _swap(weights)),
)
_SHORT = Conversion(
    "None, 0 or whole numbers of at least 1", lambda v: 1 if not v and v is not True else whole(1).read(v)
)
_SIDE = Conversion("multiples of 64", _read_side, _write_side)
_NORM = choice({False: ("bn_eval",) * 3, None: ("bn",) * 3}, ["False", "None"])

SETTINGS = (
    Setting("NUM_CLASSES", MISSING, _WITH_BACKGROUND, "num_classes"),
    # input
    fixed("IMAGE_RESIZE_MODE", "square", "square"),
    Setting("IMAGE_MIN_DIM", 800, _SHORT, "input.test_min_size"),
    Setting("IMAGE_MAX_DIM", 1024, _SIDE, ("input.test_max_size", "input.pad_divisor")),
    fixed("IMAGE_MIN_SCALE", 0, 0, None),
    fixed("IMAGE_CHANNEL_COUNT", 3, 3),
    Setting("MEAN_PIXEL", (123.7, 116.8, 103.9), several(number(), 3), "input.pixel_mean"),
    # backbone and pyramid
    Setting("BACKBONE", "resnet101", choice({"resnet50": 50, "resnet101": 101}), "backbone.depth"),
    fixed("COMPUTE_BACKBONE_SHAPE", None, None),
    fixed("BACKBONE_STRIDES", (4, 8, 16, 32, 64), (4, 8, 16, 32, 64)),
    Setting("TOP_DOWN_PYRAMID_SIZE", 256, whole(1), "neck.channels"),
    Setting("TRAIN_BN", False, _NORM, ("backbone.norm", "box.fc_norm", "mask.norm")),
    # anchors and proposals
    Setting("RPN_ANCHOR_SCALES", (32, 64, 128, 256, 512), _SCALE, "rpn.anchors.sizes"),
    Setting("RPN_ANCHOR_RATIOS", (0.5, 1, 2), _WIDTH_BY_HEIGHT, "rpn.anchors.ratios"),
    fixed("RPN_ANCHOR_STRIDE", 1, 1),
    Setting("RPN_NMS_THRESHOLD", 0.7, FRACTION, "rpn.nms_threshold"),
    Setting("PRE_NMS_LIMIT", 6000, _twice(whole(1)), ("rpn.pre_nms_train", "rpn.pre_nms_test")),
    Setting("POST_NMS_ROIS_TRAINING", 2000, whole(1), "rpn.post_nms_train"),
    Setting("POST_NMS_ROIS_INFERENCE", 1000, whole(1), "rpn.post_nms_test"),
    Setting("RPN_BBOX_STD_DEV", (0.1, 0.1, 0.2, 0.2), _STD, "rpn.box_weights"),
    Setting("RPN_TRAIN_ANCHORS_PER_IMAGE", 256, whole(2), "rpn.batch_size", training=True),
    # heads
    Setting("POOL_SIZE", 7, whole(1), "box.pool.size"),
    Setting("FPN_CLASSIF_FC_LAYERS_SIZE", 1024, whole(1), "box.fc_dim"),
    Setting("BBOX_STD_DEV", (0.1, 0.1, 0.2, 0.2), _STD, "box.stages.0.box_weights"),
    Setting("MASK_POOL_SIZE", 14, whole(1), "mask.pool.size"),
    Setting("TRAIN_ROIS_PER_IMAGE", 200, whole(1), "regions.batch_size", training=True),
    Setting("ROI_POSITIVE_RATIO", 0.33, FRACTION, "regions.positive_fraction", training=True),
    # detections
    Setting("DETECTION_MAX_INSTANCES", 100, whole(1), "detections.per_image"),
    Setting("DETECTION_MIN_CONFIDENCE", 0.7, FRACTION, "detections.score_threshold"),
    Setting("DETECTION_NMS_THRESHOLD", 0.3, FRACTION, "detections.nms_threshold"),
    # training
    fixed("USE_RPN_ROIS", True, True, training=True),
    Setting("LOSS_WEIGHTS", {}, Conversion("weights of 1", _read_weights), training=True),
)
# Twice the side of the pooled regions, as the mask head doubles them.
MASK_SHAPE = "MASK_SHAPE"

# Settings of a run, which are no part of a model, with the path of those that `Config` here has.
RUN = {
    "NAME": None,
    "GPU_COUNT": None,
    "IMAGES_PER_GPU": "data.batch_size",
    "STEPS_PER_EPOCH": "train.eval_every",
    "VALIDATION_STEPS": None,
    "USE_MINI_MASK": None,
    "MINI_MASK_SHAPE": None,
    "MAX_GT_INSTANCES": "data.max_objects",
    "LEARNING_RATE": "optimizer.learning_rate",
    "LEARNING_MOMENTUM": "optimizer.momentum",
    "WEIGHT_DECAY": "optimizer.weight_decay",
    "GRADIENT_CLIP_NORM": "optimizer.clip_norm",
    "save_best_only": None,
    # computed by the original from the others
    "BATCH_SIZE": None,
    "IMAGE_SHAPE": None,
    "IMAGE_META_SIZE": None,
}
