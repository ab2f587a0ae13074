"""Named model configurations, as data.

Each library's conventions stand in one dictionary; a preset is a library and what the model
differs in. What every entry means is said beside its field in ``config.ModelConfig``, whose
defaults are torchvision's. Training schedules are no part of a preset: the 1x and 3x models of
Detectron2 are one architecture and differ in their weights alone.

Two things are alike in all presets, though the libraries differ. Crowd regions are neither
objects nor background (the libraries drop them, so that boxes inside a crowd become negatives;
``crowd_regions="drop"`` does the same). Detectron2 draws mask targets from polygons; here they
are pooled from bitmaps and thresholded, as Detectron2 does for bitmaps and MMDetection always.
"""

import dataclasses
import difflib
import numbers
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

# COCO's 80 classes by category id; the ids left out were never used.
COCO_CLASSES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck",
    9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench",
    16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
    24: "zebra", 25: "giraffe", 27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase",
    34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
    40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle",
    46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut",
    61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave",
    79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase",
    87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip

COCO_80 = tuple(Category(id, name) for id, name in COCO_CLASSES.items())
# torchvision's class index is the category id itself, so the unused ids have a class as well.
COCO_90 = tuple(Category(id, COCO_CLASSES.get(id, "N/A")) for id in range(1, 91))

TORCHVISION = {
    "num_classes": 90,
    "categories": COCO_90,
    # input: RGB in 0..1, normalised, then resized in float32
    "channel_order": "rgb",
    "pixel_scale": 1.0 / 255.0,
    "pixel_mean": (0.485, 0.456, 0.406),
    "pixel_std": (0.229, 0.224, 0.225),
    "normalise_before_resize": True,
    "resize_kernel": "torch",
    "size_rule": "torchvision",
    # backbone
    "backbone_stride_in_1x1": False,
    "backbone_norm": "frozen_bn",
    "norm_epsilon": 1e-5,
    "freeze_at": 2,
    # anchors and proposals
    "anchor_rounding": True,
    "anchor_stride": "derived",
    "rpn_ranking": "logit",
    "rpn_post_nms_train": 2000,
    "rpn_min_side": 1e-3,
    "delta_clamp": "max",
    "rpn_low_quality": "label",
    "rpn_low_quality_min_iou": 0.0,
    "rpn_loss_count": "sampled",
    "iou_epsilon": 0.0,
    # regions
    "ground_truth_proposals": "append",
    "roi_low_quality": False,
    "roi_aligned": False,
    "roi_sampling_ratio": 2,
    "roi_level_rule": "torchvision",
    "roi_scale": "inferred",
    "background": "first",
    "smooth_l1_beta": 1.0 / 9.0,
    "mask_targets": "soft",
    # detections
    "detection_min_side": 1e-2,
    "rescale_rule": "torchvision",
    "paste_rule": "torchvision",
    "weight_decay_exempts_norm": False,
}

DETECTRON2 = {
    "num_classes": 80,
    "categories": COCO_80,
    # input: BGR in 0..255 minus the mean, resized as uint8 by Pillow
    "channel_order": "bgr",
    "pixel_scale": 1.0,
    "pixel_mean": (103.530, 116.280, 123.675),
    "pixel_std": (1.0, 1.0, 1.0),
    "normalise_before_resize": False,
    "resize_kernel": "pil",
    "size_rule": "detectron2",
    # backbone: the MSRA weights
    "backbone_stride_in_1x1": True,
    "backbone_norm": "frozen_bn",
    "norm_epsilon": 1e-5,
    "freeze_at": 2,
    # anchors and proposals
    "anchor_rounding": False,
    "anchor_stride": "fixed",
    "rpn_ranking": "logit",
    "rpn_post_nms_train": 1000,
    "rpn_min_side": 0.0,
    "delta_clamp": "max",
    "rpn_low_quality": "label",
    "rpn_low_quality_min_iou": 0.0,
    "rpn_loss_count": "constant",
    "iou_epsilon": 0.0,
    # regions
    "ground_truth_proposals": "append",
    "roi_low_quality": False,
    "roi_aligned": True,
    "roi_sampling_ratio": 0,
    "roi_level_rule": "detectron2",
    "roi_scale": "stride",
    "background": "last",
    "smooth_l1_beta": 0.0,
    "mask_targets": "threshold",
    # detections
    "detection_min_side": 0.0,
    "rescale_rule": "detectron2",
    "paste_rule": "detectron2",
    "weight_decay_exempts_norm": True,
}

MMDET = {
    "num_classes": 80,
    "categories": COCO_80,
    # input: RGB in 0..255, resized as uint8 by OpenCV, then normalised
    "channel_order": "rgb",
    "pixel_scale": 1.0,
    "pixel_mean": (123.675, 116.28, 103.53),
    "pixel_std": (58.395, 57.12, 57.375),
    "normalise_before_resize": False,
    "resize_kernel": "cv2",
    "size_rule": "mmdet",
    # backbone: torchvision's ImageNet weights; statistics fixed, scale and bias trained
    "backbone_stride_in_1x1": False,
    "backbone_norm": "bn_eval",
    "norm_epsilon": 1e-5,
    "freeze_at": 2,
    # anchors and proposals
    "anchor_rounding": False,
    "anchor_stride": "fixed",
    "rpn_ranking": "probability",
    "rpn_post_nms_train": 1000,
    "rpn_min_side": 0.0,
    "delta_clamp": "both",
    "rpn_low_quality": "reassign",
    "rpn_low_quality_min_iou": 0.3,
    "rpn_loss_count": "sampled",
    "iou_epsilon": 1e-6,
    # regions
    "ground_truth_proposals": "prepend",
    "roi_low_quality": True,  # False in MMDetection's Faster R-CNN
    "roi_aligned": True,
    "roi_sampling_ratio": 0,
    "roi_level_rule": "mmdet",
    "roi_scale": "stride",
    "background": "last",
    "smooth_l1_beta": 0.0,
    "mask_targets": "threshold",
    # detections
    "detection_min_side": 0.0,
    "rescale_rule": "mmdet",
    "paste_rule": "detectron2",
    "weight_decay_exempts_norm": False,
}

# MMDetection's "caffe" style: the MSRA weights with their input and stride.
_CAFFE = {
    "channel_order": "bgr",
    "pixel_mean": (103.530, 116.280, 123.675),
    "pixel_std": (1.0, 1.0, 1.0),
    "backbone_stride_in_1x1": True,
    "backbone_norm": "frozen_bn",
}


class Preset(NamedTuple):
    """A row of the registry.

    Attributes:
        conventions: Fields that the models of one library share.
        changes: Fields in which this model differs.
    """

    conventions: dict[str, Any]
    changes: dict[str, Any]


PRESETS = {
    # eps 0 belongs to the COCO_V1 weights; models fine-tuned from ImageNet have 1e-5.
    "torchvision/maskrcnn_resnet50_fpn": Preset(TORCHVISION, {"norm_epsilon": 0.0}),
    "torchvision/maskrcnn_resnet50_fpn_v2": Preset(
        TORCHVISION,
        {
            "backbone_norm": "bn",
            "fpn_norm": "bn",
            "rpn_convs": 2,
            "box_convs": 4,
            "box_fcs": 1,
            "head_norm": "bn",
        },
    ),
    "torchvision/fasterrcnn_resnet50_fpn": Preset(TORCHVISION, {"norm_epsilon": 0.0, "mask_head": False}),
    "detectron2/mask_rcnn_R_50_FPN_1x": Preset(DETECTRON2, {}),
    "detectron2/mask_rcnn_R_50_FPN_3x": Preset(DETECTRON2, {}),
    "detectron2/mask_rcnn_R_101_FPN_3x": Preset(DETECTRON2, {"backbone_depth": 101}),
    "detectron2/faster_rcnn_R_50_FPN_1x": Preset(DETECTRON2, {"mask_head": False}),
    "mmdet/mask-rcnn_r50_fpn_1x_coco": Preset(MMDET, {}),
    "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco": Preset(MMDET, _CAFFE),
    # Small enough to learn the generated shapes from scratch on a CPU within minutes.
    "jaxmaskrcnn/shapes": Preset(
        DETECTRON2,
        {
            "num_classes": 3,
            "categories": (),
            "channel_order": "rgb",
            # Weights that start at random need inputs of about unit variance.
            "pixel_mean": (123.675, 116.28, 103.53),
            "pixel_std": (58.395, 57.12, 57.375),
            "test_min_size": 128,
            "test_max_size": 128,
            "backbone_depth": 18,
            "backbone_width": 32,
            "backbone_stride_in_1x1": False,
            "backbone_norm": "bn",
            "freeze_at": 0,
            "fpn_channels": 64,
            "fpn_norm": "bn",
            "anchor_sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
            "rpn_pre_nms_train": 100,
            "rpn_pre_nms_test": 100,
            "rpn_post_nms_train": 100,
            "rpn_post_nms_test": 100,
            "rpn_batch_size": 128,
            # Few regions, half of them objects: classes are what takes longest to learn here.
            "roi_batch_size": 32,
            "roi_positive_fraction": 0.5,
            "roi_sampling_ratio": 2,
            "box_fc_dim": 512,
            "mask_convs": 2,
            "mask_dim": 32,
            "detections_per_image": 50,
        },
    ),
}


def list_models() -> list[str]:
    """Names that `model_config` knows.

    Returns:
        "library/model" strings, grouped by library.

    Example:
        >>> "detectron2/mask_rcnn_R_50_FPN_3x" in list_models()
        True
    """
    return list(PRESETS)


def model_config(name: str, num_classes: int | None = None, **overrides) -> ModelConfig:
    """The configuration of a named model.

    Args:
        name: One of `list_models()`.
        num_classes: Number of object classes without the background; None keeps the preset's.
            Another number than the preset's drops the preset's categories.
        **overrides: Any other field of ModelConfig. Lists are taken as tuples.

    Returns:
        A frozen, hashable ModelConfig.

    Raises:
        UserError: No preset has this name, or ModelConfig no such field.
        ConfigError: A value outside of a field's choices.

    Example:
        >>> config = model_config("torchvision/maskrcnn_resnet50_fpn", num_classes=2, score_threshold=0.5)
        >>> config.num_classes, config.categories, config.score_threshold
        (2, (), 0.5)
    """
    if name not in PRESETS:
        raise UserError(
            f"There is no model named {name!r}{_suggest(name, PRESETS)} list_models() names them all."
        )
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for field in overrides:
        if field not in fields:
            raise UserError(f"ModelConfig has no field {field!r}{_suggest(field, fields)}")
    preset = PRESETS[name]
    values = preset.conventions | preset.changes
    if num_classes is not None:
        if not isinstance(num_classes, numbers.Integral) or isinstance(num_classes, bool):
            raise ConfigError(f"num_classes is {num_classes!r}; give a whole number of object classes.")
        num_classes = int(num_classes)  # a NumPy integer would not go into json
        if len(values.get("categories", ())) != num_classes:
            values["categories"] = ()
        values["num_classes"] = num_classes
    values |= {field: tuple(v) if isinstance(v, list) else v for field, v in overrides.items()}
    return ModelConfig(**values)


def _suggest(word: str, known) -> str:
    """The end of a sentence about a name that is not among the known ones."""
    known = sorted(known)
    # A bare model name is too short beside "library/model" for a similarity of the whole.
    close = [k for k in known if len(word) > 3 and word.lower() in k.lower()]
    folded = {k.lower(): k for k in known}
    close += [folded[k] for k in difflib.get_close_matches(word.lower(), folded, n=3, cutoff=0.6)]
    close = list(dict.fromkeys(close))[:3]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
