"""A model's settings in the words of Detectron2 and torchvision, to go with exported weights.

Weights carry no strides, means or thresholds: Detectron2 has them in a yaml, torchvision in the
arguments of its constructors. (MMDetection's are in ``export_mmdet.py``.)
"""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.resnet import stage_channels

_STAGES = ["res2", "res3", "res4", "res5"]
_LEVELS = ["p2", "p3", "p4", "p5", "p6"]
_NORMS = {"none": "", "frozen_bn": "FrozenBN", "bn_eval": "FrozenBN", "bn": "BN", "gn": "GN"}


def detectron2_settings(config: ModelConfig) -> dict[str, Any]:
    """The content of a Detectron2 yaml."""
    mean, std = pixel_statistics(config)
    model = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "MASK_ON": config.mask_head,
        "PIXEL_MEAN": mean,
        "PIXEL_STD": std,
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": config.freeze_at},
        "RESNETS": {
            "DEPTH": config.backbone_depth,
            "STRIDE_IN_1X1": config.backbone_stride_in_1x1,
            "NORM": _NORMS[config.backbone_norm],
            "NUM_GROUPS": config.backbone_groups,
            "WIDTH_PER_GROUP": width_per_group(config),
            "STEM_OUT_CHANNELS": config.backbone_width,
            "RES2_OUT_CHANNELS": stage_channels(config)[0],
            "OUT_FEATURES": _STAGES,
        },
        "FPN": {"IN_FEATURES": _STAGES, "OUT_CHANNELS": config.fpn_channels, "NORM": _NORMS[config.fpn_norm]},
        "ANCHOR_GENERATOR": {
            "SIZES": [[size] for size in config.anchor_sizes],
            "ASPECT_RATIOS": [list(config.anchor_ratios)],
        },
        "PROPOSAL_GENERATOR": {"MIN_SIZE": int(config.rpn_min_side)},
        "RPN": {
            "IN_FEATURES": _LEVELS,
            "CONV_DIMS": [-1] * config.rpn_convs,
            "IOU_THRESHOLDS": [config.rpn_background_iou, config.rpn_foreground_iou],
            "BATCH_SIZE_PER_IMAGE": config.rpn_batch_size,
            "POSITIVE_FRACTION": config.rpn_positive_fraction,
            "SMOOTH_L1_BETA": config.smooth_l1_beta,
            "PRE_NMS_TOPK_TRAIN": config.rpn_pre_nms_train,
            "PRE_NMS_TOPK_TEST": config.rpn_pre_nms_test,
            "POST_NMS_TOPK_TRAIN": config.rpn_post_nms_train,
            "POST_NMS_TOPK_TEST": config.rpn_post_nms_test,
            "NMS_THRESH": config.rpn_nms_threshold,
        },
        "ROI_HEADS": {
            "NAME": "StandardROIHeads",
            "IN_FEATURES": _LEVELS[:4],
            "NUM_CLASSES": config.num_classes,
            "IOU_THRESHOLDS": [config.roi_foreground_iou],
            "BATCH_SIZE_PER_IMAGE": config.roi_batch_size,
            "POSITIVE_FRACTION": config.roi_positive_fraction,
            "SCORE_THRESH_TEST": config.score_threshold,
            "NMS_THRESH_TEST": config.nms_threshold,
        },
        "ROI_BOX_HEAD": {
            "NAME": "FastRCNNConvFCHead",
            "NUM_CONV": config.box_convs,
            "CONV_DIM": config.box_conv_dim,
            "NUM_FC": config.box_fcs,
            "FC_DIM": config.box_fc_dim,
            "NORM": _NORMS[config.head_norm],
            **_pooler(config, config.box_pool_size),
            "CLS_AGNOSTIC_BBOX_REG": config.class_agnostic_boxes,
            "BBOX_REG_WEIGHTS": list(config.box_weights),
            "SMOOTH_L1_BETA": config.smooth_l1_beta,
        },
    }
    if config.mask_head:
        model["ROI_MASK_HEAD"] = {
            "NAME": "MaskRCNNConvUpsampleHead",
            "NUM_CONV": config.mask_convs,
            "CONV_DIM": config.mask_dim,
            "NORM": _NORMS[config.head_norm],
            **_pooler(config, config.mask_pool_size),
            "CLS_AGNOSTIC_MASK": config.class_agnostic_masks,
        }
    return {
        "VERSION": 2,
        "MODEL": model,
        "INPUT": {
            "FORMAT": config.channel_order.upper(),
            "MIN_SIZE_TEST": config.test_min_size,
            "MAX_SIZE_TEST": config.test_max_size,
        },
        "TEST": {"DETECTIONS_PER_IMAGE": config.detections_per_image},
        "SOLVER": {
            "WEIGHT_DECAY": 1e-4, "WEIGHT_DECAY_NORM": 0.0 if config.weight_decay_exempts_norm else 1e-4
        },
    }  # fmt: skip


def torchvision_settings(config: ModelConfig) -> dict[str, Any]:
    """The arguments of torchvision's ``MaskRCNN`` or ``FasterRCNN`` besides its layers."""
    mean, std = pixel_statistics(config)
    return {
        "num_classes": config.num_classes + 1,
        "min_size": config.test_min_size,
        "max_size": config.test_max_size,
        "image_mean": [rounded(x / 255) for x in mean],
        "image_std": [rounded(x / 255) for x in std],
        "rpn_pre_nms_top_n_train": config.rpn_pre_nms_train,
        "rpn_pre_nms_top_n_test": config.rpn_pre_nms_test,
        "rpn_post_nms_top_n_train": config.rpn_post_nms_train,
        "rpn_post_nms_top_n_test": config.rpn_post_nms_test,
        "rpn_nms_thresh": config.rpn_nms_threshold,
        "rpn_fg_iou_thresh": config.rpn_foreground_iou,
        "rpn_bg_iou_thresh": config.rpn_background_iou,
        "rpn_batch_size_per_image": config.rpn_batch_size,
        "rpn_positive_fraction": config.rpn_positive_fraction,
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.nms_threshold,
        "box_detections_per_img": config.detections_per_image,
        "box_fg_iou_thresh": config.roi_foreground_iou,
        "box_bg_iou_thresh": config.roi_foreground_iou,
        "box_batch_size_per_image": config.roi_batch_size,
        "box_positive_fraction": config.roi_positive_fraction,
        "bbox_reg_weights": tuple(config.box_weights),
    }


def _pooler(config: ModelConfig, side: int) -> dict[str, Any]:
    return {
        "POOLER_RESOLUTION": side,
        "POOLER_TYPE": "ROIAlignV2" if config.roi_aligned else "ROIAlign",
        "POOLER_SAMPLING_RATIO": config.roi_sampling_ratio,
    }


def pixel_statistics(config: ModelConfig) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixels of 0..255."""
    mean, std = (
        [rounded(x / config.pixel_scale) for x in values] for values in (config.pixel_mean, config.pixel_std)
    )
    return mean, std


def rounded(value: float) -> float:
    """To nine digits, all that float32 has; more would show the rounding of a division."""
    return float(f"{value:.9g}")


def width_per_group(config: ModelConfig) -> int:
    """Channels of a group in the first stage; ModelConfig has those of a stem of 64 channels."""
    return config.backbone_width * config.backbone_width_per_group // 64
