"""The conventions that the models of one library share, as data, and the categories of data sets.

An entry is a setting of ``config.ModelConfig`` by its dotted path; its meaning is documented at the
field. The defaults there are torchvision's. A preset of ``zoo/`` is one of these dictionaries plus the
settings in which the model differs.

These dictionaries differ from the libraries in one point: crowd regions are neither objects nor
background. The libraries drop them, so boxes inside a crowd become negatives; setting ``rpn.crowd`` and
``regions.crowd`` to "drop" does the same.
"""

from jaxmaskrcnn.zoo.categories import COCO_80, COCO_90, PERSON

TORCHVISION = {
    "num_classes": 90,
    "categories": COCO_90,
    # input: RGB in 0..1, normalised, then resized in float32
    "input.channel_order": "rgb",
    "input.pixel_scale": 1.0 / 255.0,
    "input.pixel_mean": (0.485, 0.456, 0.406),
    "input.pixel_std": (0.229, 0.224, 0.225),
    "input.normalise_before_resize": True,
    "input.resize_kernel": "torch",
    "input.size_rule": "truncate",
    # backbone
    "backbone.stride_in_1x1": False,
    "backbone.norm": "frozen_bn",
    "backbone.norm_epsilon": 1e-5,
    "backbone.freeze_at": 2,
    # anchors and proposals
    "rpn.anchors.order": "ratio",
    "rpn.anchors.rounding": True,
    "rpn.anchors.stride": "derived",
    "rpn.ranking": "logit",
    "rpn.post_nms_train": 2000,
    "rpn.min_side": 1e-3,
    "rpn.delta_clamp": "max",
    "box.delta_clamp": "max",
    "rpn.low_quality": "label",
    "rpn.low_quality_min_iou": 0.0,
    "rpn.loss_count": "sampled",
    "rpn.iou_epsilon": 0.0,
    "rpn.batch_padding": "count",
    "regions.iou_epsilon": 0.0,
    # regions
    "regions.ground_truth_proposals": "append",
    "regions.low_quality": "none",
    "box.pool.aligned": False,
    "mask.pool.aligned": False,
    "box.pool.sampling_ratio": 2,
    "mask.pool.sampling_ratio": 2,
    "box.pool.level_rule": "log_epsilon",
    "mask.pool.level_rule": "log_epsilon",
    "box.pool.scale": "inferred",
    "mask.pool.scale": "inferred",
    "background": "first",
    "rpn.loss.beta": 1.0 / 9.0,
    "box.loss.beta": 1.0 / 9.0,
    "mask.targets": "soft",
    # the later stages of cascades, which it does not have
    "regions.later_stages": "match",
    "regions.empty_boxes": "drop",
    "box.stage_scores": "probability",
    "box.stage_gradient": "whole",
    "mask.heads": "one",
    # detections
    "detections.min_side": 1e-2,
    "detections.rescale_rule": "multiply",
    "detections.paste_rule": "whole_pixels",
    "compute.weight_decay_exempts_norm": False,
}

# What Keypoint R-CNN adds. (Source: the reference scripts train on images with ten keypoints or more.)
TORCHVISION_KEYPOINTS = {
    "num_classes": 1,
    "categories": PERSON,
    "keypoints": "heatmap",
    "keypoints.pool.aligned": False,
    "keypoints.pool.sampling_ratio": 2,
    "keypoints.pool.level_rule": "log_epsilon",
    "keypoints.pool.scale": "inferred",
    "keypoints.offset": 0.0,
    "keypoints.score": "logit",
    "keypoints.min_per_image": 10,
}

DETECTRON2 = {
    "num_classes": 80,
    "categories": COCO_80,
    # input: BGR in 0..255 minus the mean, resized as uint8 by Pillow
    "input.channel_order": "bgr",
    "input.pixel_scale": 1.0,
    "input.pixel_mean": (103.530, 116.280, 123.675),
    "input.pixel_std": (1.0, 1.0, 1.0),
    "input.normalise_before_resize": False,
    "input.resize_kernel": "pil",
    "input.size_rule": "round_two_steps",
    # backbone: the MSRA weights
    "backbone.stride_in_1x1": True,
    "backbone.norm": "frozen_bn",
    "backbone.norm_epsilon": 1e-5,
    "backbone.freeze_at": 2,
    # anchors and proposals
    "rpn.anchors.order": "size",
    "rpn.anchors.rounding": False,
    "rpn.anchors.stride": "fixed",
    "rpn.ranking": "logit",
    "rpn.post_nms_train": 1000,
    "rpn.min_side": 0.0,
    "rpn.delta_clamp": "max",
    "box.delta_clamp": "max",
    "rpn.low_quality": "label",
    "rpn.low_quality_min_iou": 0.0,
    "rpn.loss_count": "constant",
    "rpn.iou_epsilon": 0.0,
    "rpn.batch_padding": "count",
    "regions.iou_epsilon": 0.0,
    # regions
    "regions.ground_truth_proposals": "append",
    "regions.low_quality": "none",
    "box.pool.aligned": True,
    "mask.pool.aligned": True,
    "box.pool.sampling_ratio": 0,
    "mask.pool.sampling_ratio": 0,
    "box.pool.level_rule": "side_epsilon",
    "mask.pool.level_rule": "side_epsilon",
    "box.pool.scale": "stride",
    "mask.pool.scale": "stride",
    "background": "last",
    "rpn.loss.beta": 0.0,
    "box.loss.beta": 0.0,
    "mask.targets": "polygon",
    # the later stages of cascades
    "regions.later_stages": "match",
    "regions.empty_boxes": "drop",
    "box.stage_scores": "probability",
    "box.stage_gradient": "divided",
    "mask.heads": "one",
    # detections
    "detections.min_side": 0.0,
    "detections.rescale_rule": "multiply_and_clip",
    "detections.paste_rule": "grid_sample",
    "compute.weight_decay_exempts_norm": True,
}

# The conventions of its keypoint head, without the settings that a yaml has.
DETECTRON2_HEAD_OF_KEYPOINTS = {
    "keypoints.pool.level_rule": "side_epsilon",
    "keypoints.pool.scale": "stride",
    "keypoints.offset": 0.5,
    "keypoints.score": "softmax",
}
# What Base-Keypoint-RCNN-FPN.yaml adds.
DETECTRON2_KEYPOINTS = {
    "num_classes": 1,
    "categories": PERSON,
    "rpn.post_nms_train": 1500,
    "box.loss.beta": 0.5,
    "keypoints": "heatmap",
    **DETECTRON2_HEAD_OF_KEYPOINTS,
    "keypoints.pool.aligned": True,
    "keypoints.pool.sampling_ratio": 0,
}

# What Base-Panoptic-FPN.yaml adds, with the conventions of its semantic head.
DETECTRON2_SEMANTIC = {
    "semantic": "pyramid",
    "semantic.things": "first",
    "semantic.loss_at": "input",
    "semantic.loss_count": "labelled",
}
DETECTRON2_PANOPTIC = {**DETECTRON2_SEMANTIC, "semantic.loss_weight": 0.5}
MMDET = {
    "num_classes": 80,
    "categories": COCO_80,
    # input: RGB in 0..255, resized as uint8 by OpenCV, then normalised
    "input.channel_order": "rgb",
    "input.pixel_scale": 1.0,
    "input.pixel_mean": (123.675, 116.28, 103.53),
    "input.pixel_std": (58.395, 57.12, 57.375),
    "input.normalise_before_resize": False,
    "input.resize_kernel": "cv2",
    "input.size_rule": "round",
    # backbone: torchvision's ImageNet weights; statistics fixed, scale and bias trained
    "backbone.stride_in_1x1": False,
    "backbone.norm": "bn_eval",
    "backbone.norm_epsilon": 1e-5,
    "backbone.freeze_at": 2,
    # anchors and proposals
    "rpn.anchors.order": "ratio",
    "rpn.anchors.rounding": False,
    "rpn.anchors.stride": "fixed",
    "rpn.ranking": "probability",
    "rpn.post_nms_train": 1000,
    "rpn.min_side": 0.0,
    "rpn.delta_clamp": "both",
    "box.delta_clamp": "both",
    "rpn.low_quality": "reassign",
    "rpn.low_quality_min_iou": 0.3,
    "rpn.loss_count": "sampled",
    "rpn.iou_epsilon": 1e-6,
    "rpn.batch_padding": "ignore",
    "regions.iou_epsilon": 1e-6,
    # regions
    "regions.ground_truth_proposals": "prepend",
    "regions.low_quality": "reassign",  # False in MMDetection's Faster R-CNN
    "box.pool.aligned": True,
    "mask.pool.aligned": True,
    "box.pool.sampling_ratio": 0,
    "mask.pool.sampling_ratio": 0,
    "box.pool.level_rule": "finest_epsilon",
    "mask.pool.level_rule": "finest_epsilon",
    "box.pool.scale": "stride",
    "mask.pool.scale": "stride",
    "background": "last",
    "rpn.loss.beta": 0.0,
    "box.loss.beta": 0.0,
    "mask.targets": "threshold",
    # the later stages of cascades
    "regions.later_stages": "sample",
    "regions.empty_boxes": "keep",
    "box.stage_scores": "logit",
    "box.stage_gradient": "whole",
    "mask.heads": "each_stage",
    # detections
    "detections.min_side": 0.0,
    "detections.rescale_rule": "divide",
    "detections.paste_rule": "grid_sample",
    "compute.weight_decay_exempts_norm": False,
}

# The conventions of MMDetection's semantic head, without the settings that a config has. All detections
# become segments, as their own threshold is higher.
MMDET_SEMANTIC = {
    "semantic": "pyramid",
    "semantic.things": "last",
    "semantic.loss_at": "map",
    "semantic.score_threshold": 0.0,
}
# What panoptic-fpn_r50_fpn_1x_coco.py adds.
MMDET_PANOPTIC = {
    **MMDET_SEMANTIC,
    "semantic.loss_count": "all",
    "semantic.loss_weight": 0.5,
    "detections.score_threshold": 0.6,
    "detections.nms_scope": "image",
}
# Its training differs in more than has a setting here: see docs/conversion.md.
MATTERPORT = {
    "num_classes": 80,
    "categories": COCO_80,
    # input: RGB in 0..255 minus the mean, resized as uint8 by scikit-image, centred on a black square
    "input.channel_order": "rgb",
    "input.pixel_scale": 1.0,
    "input.pixel_mean": (123.7, 116.8, 103.9),
    "input.pixel_std": (1.0, 1.0, 1.0),
    "input.normalise_before_resize": False,
    "input.resize_kernel": "skimage",
    "input.size_rule": "enlarge",
    "input.test_min_size": 800,
    "input.test_max_size": 1024,
    "input.pad_divisor": 1024,
    "input.placement": "centre",
    "input.padding": "black",
    "box_edges": "last_pixel",
    # backbone: Keras' first ResNet, with fixed statistics in all batch norm
    "backbone.depth": 101,
    "backbone.stride_in_1x1": True,
    "backbone.norm": "bn_eval",
    "backbone.norm_epsilon": 1e-3,
    "backbone.conv_bias": True,
    "backbone.pool_padding": "end",
    "backbone.freeze_at": 0,
    # anchors and proposals
    "rpn.anchors.ratios": (2.0, 1.0, 0.5),  # width / height is 0.5, 1 and 2
    "rpn.anchors.order": "ratio",
    "rpn.anchors.rounding": False,
    "rpn.anchors.stride": "fixed",
    "rpn.conv_dim": 512,
    "rpn.objectness": "softmax",
    "rpn.box_weights": (10.0, 10.0, 5.0, 5.0),
    "rpn.ranking": "probability",
    "rpn.nms_scope": "image",
    "rpn.pre_nms_train": 6000,
    "rpn.pre_nms_test": 6000,
    "rpn.post_nms_train": 2000,
    "rpn.post_nms_test": 1000,
    "rpn.min_side": 0.0,
    "rpn.empty_boxes": "keep",
    "rpn.clip": "canvas",
    "rpn.delta_clamp": "none",
    "box.delta_clamp": "none",
    # regions
    "regions.batch_size": 200,
    "regions.positive_fraction": 0.33,
    "rpn.loss.beta": 1.0,
    "box.loss.beta": 1.0,
    "mask.targets": "threshold",
    "box.pool.method": "corners",
    "mask.pool.method": "corners",
    "box.pool.level_rule": "rounded",
    "mask.pool.level_rule": "rounded",
    "box.fc_norm": "bn_eval",
    "box.norm_epsilon": 1e-3,
    "mask.norm": "bn_eval",
    "mask.norm_epsilon": 1e-3,
    "mask.conv_bias": True,
    "background": "first",
    # detections
    "detections.score_threshold": 0.7,
    "detections.nms_threshold": 0.3,
    "detections.per_image": 100,
    "detections.classes_per_region": "best",
    "detections.min_side": 0.0,
    "detections.rescale_rule": "last_pixels",
    "detections.paste_rule": "whole_boxes",
}
