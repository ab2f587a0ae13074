"""What the models of one library have in common, as data, and the data sets' categories.

What every entry means is said beside its field in ``config.ModelConfig``, whose defaults are
torchvision's. The presets of ``zoo/`` are one of these dictionaries and what a model differs in.

One thing is alike in all three, though the libraries differ. Crowd regions are neither objects
nor background (the libraries drop them, so that boxes inside a crowd become negatives;
``crowd_regions="drop"`` does the same).
"""

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

# Cityscapes' classes with instances, by the label ids of the data set; both Detectron2 and
# MMDetection (whose converted json keeps these ids) order them so.
CITYSCAPES_8 = (
    Category(24, "person"), Category(25, "rider"), Category(26, "car"), Category(27, "truck"),
    Category(28, "bus"), Category(31, "train"), Category(32, "motorcycle"), Category(33, "bicycle"),
)  # fmt: skip

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
    "mask_targets": "polygon",
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
