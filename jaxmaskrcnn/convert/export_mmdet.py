"""A model's settings as an MMDetection config file, to go with exported weights."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.mmdet_bases import assigner, sampler
from jaxmaskrcnn.convert.export_settings import pixel_statistics, rounded, width_per_group
from jaxmaskrcnn.models.fpn import STRIDES
from jaxmaskrcnn.models.resnet import stage_channels


def mmdet_settings(config: ModelConfig) -> dict[str, Any]:
    """The variables of an MMDetection 3 config file."""
    mean, std = pixel_statistics(config)
    channels = config.fpn_channels
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4}
    model = {
        "type": "MaskRCNN" if config.mask_head else "FasterRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": mean,
            "std": std,
            "bgr_to_rgb": config.channel_order == "rgb",
            "pad_mask": config.mask_head,
            "pad_size_divisor": config.pad_divisor,
        },
        "backbone": _backbone(config),
        "neck": {
            "type": "FPN",
            "in_channels": list(stage_channels(config)),
            "out_channels": channels,
            "norm_cfg": _norm(config.fpn_norm),
            "num_outs": 5,
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": channels,
            "feat_channels": channels,
            "num_convs": config.rpn_convs,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [config.anchor_sizes[0] / STRIDES[0]],
                "ratios": list(config.anchor_ratios),
                "strides": list(STRIDES),
            },
            "bbox_coder": coder | {"target_stds": [1.0] * 4},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": _box_loss(config),
        },
        "roi_head": _roi_head(config, coder),
        "train_cfg": _training(config),
        "test_cfg": {
            "rpn": {
                "nms_pre": config.rpn_pre_nms_test,
                "max_per_img": config.rpn_post_nms_test,
                "nms": {"type": "nms", "iou_threshold": config.rpn_nms_threshold},
                "min_bbox_size": config.rpn_min_side,
            },
            "rcnn": {
                "score_thr": config.score_threshold,
                "nms": {"type": "nms", "iou_threshold": config.nms_threshold},
                "max_per_img": config.detections_per_image,
                **({"mask_thr_binary": config.mask_threshold} if config.mask_head else {}),
            },
        },
    }
    resize = {"type": "Resize", "scale": (config.test_max_size, config.test_min_size), "keep_ratio": True}
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    steps = [{"type": "LoadImageFromFile"}, resize, {"type": "PackDetInputs", "meta_keys": keys}]
    # inference_detector takes the steps from test_dataloader, and its images' data set from there.
    dataset = {"type": "CocoDataset", "pipeline": steps}
    settings = {"default_scope": "mmdet", "model": model, "test_dataloader": {"dataset": dataset}}
    if config.weight_decay_exempts_norm:
        settings["optim_wrapper"] = {"type": "OptimWrapper", "paramwise_cfg": {"norm_decay_mult": 0.0}}
    return settings


def _norm(kind: str, trained: bool = True) -> dict[str, Any] | None:
    if kind == "none":
        return None
    if kind == "gn":
        return {"type": "GN", "num_groups": 32, "requires_grad": trained}
    return {"type": "BN", "requires_grad": trained}


def _backbone(config: ModelConfig) -> dict[str, Any]:
    kind = config.backbone_norm
    grouped = {"groups": config.backbone_groups, "base_width": width_per_group(config)}
    plain = grouped == {"groups": 1, "base_width": config.backbone_width}
    epsilon = {} if config.norm_epsilon == 1e-5 else {"eps": config.norm_epsilon}
    return {
        "type": "ResNet" if plain else "ResNeXt",
        "depth": config.backbone_depth,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "base_channels": config.backbone_width,
        **({} if plain else grouped),
        # Its -1 freezes nothing, and its 0 the stem.
        "frozen_stages": config.freeze_at - 1,
        "norm_cfg": _norm(kind, trained=kind != "frozen_bn") | epsilon,
        "norm_eval": kind in ("frozen_bn", "bn_eval"),
        "style": "caffe" if config.backbone_stride_in_1x1 else "pytorch",
    }


def _roi_head(config: ModelConfig, coder: dict[str, Any]) -> dict[str, Any]:
    channels = config.fpn_channels

    def extractor(side):
        return {
            "type": "SingleRoIExtractor",
            "roi_layer": {
                "type": "RoIAlign",
                "output_size": side,
                "sampling_ratio": config.roi_sampling_ratio,
                "aligned": config.roi_aligned,
            },
            "out_channels": channels,
            "featmap_strides": list(STRIDES[:4]),
        }

    head = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": extractor(config.box_pool_size),
        "bbox_head": {
            "type": "ConvFCBBoxHead",
            "num_shared_convs": config.box_convs,
            "num_shared_fcs": config.box_fcs,
            "in_channels": channels,
            "conv_out_channels": config.box_conv_dim,
            "fc_out_channels": config.box_fc_dim,
            "roi_feat_size": config.box_pool_size,
            "num_classes": config.num_classes,
            "norm_cfg": _norm(config.head_norm),
            "reg_class_agnostic": config.class_agnostic_boxes,
            "bbox_coder": coder | {"target_stds": [rounded(1 / weight) for weight in config.box_weights]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": _box_loss(config),
        },
    }
    if config.mask_head:
        head["mask_roi_extractor"] = extractor(config.mask_pool_size)
        head["mask_head"] = {
            "type": "FCNMaskHead",
            "num_convs": config.mask_convs,
            "roi_feat_size": config.mask_pool_size,
            "in_channels": channels,
            "conv_out_channels": config.mask_dim,
            "num_classes": config.num_classes,
            "norm_cfg": _norm(config.head_norm),
            "class_agnostic": config.class_agnostic_masks,
        }
    return head


def _box_loss(config: ModelConfig) -> dict[str, Any]:
    beta = config.smooth_l1_beta
    kind = {"type": "SmoothL1Loss", "beta": beta} if beta else {"type": "L1Loss"}
    return {**kind, "loss_weight": 1.0}


def _training(config: ModelConfig) -> dict[str, Any]:
    unused = {"pos_weight": -1, "debug": False}
    foreground = config.roi_foreground_iou
    rpn = {
        "assigner": assigner(
            config.rpn_foreground_iou, config.rpn_background_iou, config.rpn_low_quality_min_iou, True
        ),
        "sampler": sampler(config.rpn_batch_size, config.rpn_positive_fraction, False),
        "allowed_border": -1,
        **unused,
    }
    rcnn = {
        "assigner": assigner(foreground, foreground, foreground, config.roi_low_quality),
        "sampler": sampler(config.roi_batch_size, config.roi_positive_fraction, True),
        **unused,
        **({"mask_size": 2 * config.mask_pool_size} if config.mask_head else {}),
    }
    return {
        "rpn": rpn,
        "rpn_proposal": {
            "nms_pre": config.rpn_pre_nms_train,
            "max_per_img": config.rpn_post_nms_train,
            "nms": {"type": "nms", "iou_threshold": config.rpn_nms_threshold},
            "min_bbox_size": config.rpn_min_side,
        },
        "rcnn": rcnn,
    }
