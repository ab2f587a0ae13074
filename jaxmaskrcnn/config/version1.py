"""Settings of version 1, which were 81 fields of one flat class, and their paths in the tree.

These tables keep model directories and training workdirs of version 1 readable, and error messages use them
to answer an old name with the current one.
"""

from collections.abc import Mapping
from typing import Any

_POOL = ("box.pool", "mask.pool")
_MATCHING = ("rpn", "regions")

PATHS: dict[str, tuple[str, ...]] = {
    "channel_order": ("input.channel_order",),
    "pixel_scale": ("input.pixel_scale",),
    "pixel_mean": ("input.pixel_mean",),
    "pixel_std": ("input.pixel_std",),
    "normalise_before_resize": ("input.normalise_before_resize",),
    "resize_kernel": ("input.resize_kernel",),
    "size_rule": ("input.size_rule",),
    "test_min_size": ("input.test_min_size",),
    "test_max_size": ("input.test_max_size",),
    "pad_divisor": ("input.pad_divisor",),
    "backbone_depth": ("backbone.depth",),
    "backbone_width": ("backbone.width",),
    "backbone_groups": ("backbone.groups",),
    "backbone_width_per_group": ("backbone.width_per_group",),
    "backbone_stride_in_1x1": ("backbone.stride_in_1x1",),
    "backbone_norm": ("backbone.norm",),
    "norm_epsilon": ("backbone.norm_epsilon",),
    "freeze_at": ("backbone.freeze_at",),
    "fpn_channels": ("neck.channels",),
    "fpn_norm": ("neck.norm",),
    "anchor_sizes": ("rpn.anchors.sizes",),
    "anchor_ratios": ("rpn.anchors.ratios",),
    "anchor_rounding": ("rpn.anchors.rounding",),
    "anchor_stride": ("rpn.anchors.stride",),
    "rpn_convs": ("rpn.convs",),
    "rpn_norm": ("rpn.norm",),
    "rpn_ranking": ("rpn.ranking",),
    "rpn_pre_nms_train": ("rpn.pre_nms_train",),
    "rpn_pre_nms_test": ("rpn.pre_nms_test",),
    "rpn_post_nms_train": ("rpn.post_nms_train",),
    "rpn_post_nms_test": ("rpn.post_nms_test",),
    "rpn_nms_threshold": ("rpn.nms_threshold",),
    "rpn_min_side": ("rpn.min_side",),
    "delta_clamp": ("rpn.delta_clamp", "box.delta_clamp"),
    "rpn_foreground_iou": ("rpn.foreground_iou",),
    "rpn_background_iou": ("rpn.background_iou",),
    "rpn_low_quality": ("rpn.low_quality",),
    "rpn_low_quality_min_iou": ("rpn.low_quality_min_iou",),
    "rpn_batch_size": ("rpn.batch_size",),
    "rpn_positive_fraction": ("rpn.positive_fraction",),
    "rpn_loss_count": ("rpn.loss_count",),
    "iou_epsilon": tuple(f"{part}.iou_epsilon" for part in _MATCHING),
    "ground_truth_proposals": ("regions.ground_truth_proposals",),
    "roi_batch_size": ("regions.batch_size",),
    "roi_positive_fraction": ("regions.positive_fraction",),
    "roi_foreground_iou": ("box.stages.0.foreground_iou",),
    "roi_low_quality": ("regions.low_quality",),
    "crowd_regions": tuple(f"{part}.crowd" for part in _MATCHING),
    "crowd_overlap": tuple(f"{part}.crowd_overlap" for part in _MATCHING),
    "roi_aligned": tuple(f"{pool}.aligned" for pool in _POOL),
    "roi_sampling_ratio": tuple(f"{pool}.sampling_ratio" for pool in _POOL),
    "roi_level_rule": tuple(f"{pool}.level_rule" for pool in _POOL),
    "roi_scale": tuple(f"{pool}.scale" for pool in _POOL),
    "box_pool_size": ("box.pool.size",),
    "box_convs": ("box.convs",),
    "box_conv_dim": ("box.conv_dim",),
    "box_fcs": ("box.fcs",),
    "box_fc_dim": ("box.fc_dim",),
    "head_norm": ("box.norm", "mask.norm"),
    "class_agnostic_boxes": ("box.class_agnostic",),
    "box_weights": ("box.stages.0.box_weights",),
    "smooth_l1_beta": ("rpn.loss.beta", "box.loss.beta"),
    "mask_head": ("mask",),
    "mask_pool_size": ("mask.pool.size",),
    "mask_convs": ("mask.convs",),
    "mask_dim": ("mask.dim",),
    "class_agnostic_masks": ("mask.class_agnostic",),
    "mask_targets": ("mask.targets",),
    "score_threshold": ("detections.score_threshold",),
    "nms_threshold": ("detections.nms_threshold",),
    "detections_per_image": ("detections.per_image",),
    "detection_min_side": ("detections.min_side",),
    "rescale_rule": ("detections.rescale_rule",),
    "paste_rule": ("detections.paste_rule",),
    "mask_threshold": ("detections.mask_threshold",),
    "weight_decay_exempts_norm": ("compute.weight_decay_exempts_norm",),
    "dtype": ("compute.dtype",),
    "remat": ("compute.remat",),
}

# Current names of rules by their old ones, which were those of the libraries that they are taken from.
VALUES: dict[str, dict[str, str]] = {
    "size_rule": {"torchvision": "truncate", "detectron2": "round_two_steps", "mmdet": "round"},
    "roi_level_rule": {
        "torchvision": "log_epsilon",
        "detectron2": "side_epsilon",
        "mmdet": "finest_epsilon",
    },
    "rescale_rule": {"torchvision": "multiply", "detectron2": "multiply_and_clip", "mmdet": "divide"},
    "paste_rule": {"torchvision": "whole_pixels", "detectron2": "grid_sample"},
}


def from_flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings of version 1 to settings by dotted path.

    Args:
        values: Values by version 1's names. Names without a path in the tree are kept.

    Returns:
        Values by path, for `config.paths.replace`.

    Example:
        >>> from_flat({"rpn_min_side": 0.0, "size_rule": "torchvision", "mask_head": False})
        {'rpn.min_side': 0.0, 'input.size_rule': 'truncate', 'mask': None}
    """
    changes = {}
    for name, value in values.items():
        if name in VALUES and isinstance(value, str):
            value = VALUES[name].get(value, value)
        for path in PATHS.get(name, (name,)):
            changes[path] = value
    if "roi_low_quality" in values:
        rule = values.get("rpn_low_quality", "label")
        changes["regions.low_quality"] = rule if values["roi_low_quality"] else "none"
    if values.get("mask_head") is False:
        changes = {path: value for path, value in changes.items() if not path.startswith("mask.")} | {
            "mask": None
        }
    elif "mask_head" in values:
        del changes["mask"]
    return changes
