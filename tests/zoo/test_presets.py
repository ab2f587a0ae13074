"""Presets: conventions by library, what the models differ in, what is published, mistyped names."""

import re

import numpy as np
import pytest
from folders import ROOT

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import BoxStageConfig, ConfigError, ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import (
    CITYSCAPES_8,
    COCO_80,
    COCO_90,
    LVIS_V05_1230,
    LVIS_V1_1203,
    PRESETS,
    backbone_info,
    list_backbones,
    list_models,
    model_config,
    model_info,
)

TV, D2, MM = (
    "torchvision/maskrcnn_resnet50_fpn",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_1x_coco",
)

# One row per convention, typed in from the libraries' documentation and sources and not from the
# presets: torchvision, Detectron2, MMDetection.
CONVENTIONS = {
    "num_classes": (90, 80, 80),
    "input.channel_order": ("rgb", "bgr", "rgb"),
    "input.normalise_before_resize": (True, False, False),
    "input.resize_kernel": ("torch", "pil", "cv2"),
    "input.size_rule": ("truncate", "round_two_steps", "round"),
    "input.test_min_size": (800, 800, 800),
    "input.test_max_size": (1333, 1333, 1333),
    "input.pad_divisor": (32, 32, 32),
    "backbone.depth": (50, 50, 50),
    "backbone.stride_in_1x1": (False, True, False),
    "backbone.norm": ("frozen_bn", "frozen_bn", "bn_eval"),
    "backbone.norm_epsilon": (0.0, 1e-5, 1e-5),
    "backbone.freeze_at": (2, 2, 2),
    "neck.norm": ("none", "none", "none"),
    "rpn.anchors.sizes": (((32,), (64,), (128,), (256,), (512,)),) * 3,
    "rpn.anchors.order": ("ratio", "size", "ratio"),
    "rpn.anchors.ratios": ((0.5, 1, 2),) * 3,
    "rpn.anchors.rounding": (True, False, False),
    "rpn.anchors.stride": ("derived", "fixed", "fixed"),
    "rpn.convs": (1, 1, 1),
    "rpn.ranking": ("logit", "logit", "probability"),
    "rpn.pre_nms_train": (2000, 2000, 2000),
    "rpn.pre_nms_test": (1000, 1000, 1000),
    "rpn.post_nms_train": (2000, 1000, 1000),
    "rpn.post_nms_test": (1000, 1000, 1000),
    "rpn.nms_threshold": (0.7, 0.7, 0.7),
    "rpn.min_side": (1e-3, 0, 0),
    "rpn.delta_clamp": ("max", "max", "both"),
    "box.delta_clamp": ("max", "max", "both"),
    "rpn.foreground_iou": (0.7, 0.7, 0.7),
    "rpn.background_iou": (0.3, 0.3, 0.3),
    "rpn.low_quality": ("label", "label", "reassign"),
    "rpn.low_quality_min_iou": (0, 0, 0.3),
    "rpn.batch_size": (256, 256, 256),
    "rpn.positive_fraction": (0.5, 0.5, 0.5),
    "rpn.loss_count": ("sampled", "constant", "sampled"),
    "rpn.iou_epsilon": (0, 0, 1e-6),
    "regions.iou_epsilon": (0, 0, 1e-6),
    "regions.ground_truth_proposals": ("append", "append", "prepend"),
    "regions.batch_size": (512, 512, 512),
    "regions.positive_fraction": (0.25, 0.25, 0.25),
    "box.stages.0.foreground_iou": (0.5, 0.5, 0.5),
    "regions.low_quality": ("none", "none", "reassign"),
    "box.pool.aligned": (False, True, True),
    "mask.pool.aligned": (False, True, True),
    "box.pool.sampling_ratio": (2, 0, 0),
    "mask.pool.sampling_ratio": (2, 0, 0),
    "box.pool.level_rule": ("log_epsilon", "side_epsilon", "finest_epsilon"),
    "mask.pool.level_rule": ("log_epsilon", "side_epsilon", "finest_epsilon"),
    "box.pool.scale": ("inferred", "stride", "stride"),
    "mask.pool.scale": ("inferred", "stride", "stride"),
    "box.pool.size": (7, 7, 7),
    "box.convs": (0, 0, 0),
    "box.fcs": (2, 2, 2),
    "box.fc_dim": (1024, 1024, 1024),
    "box.norm": ("none", "none", "none"),
    "mask.norm": ("none", "none", "none"),
    "background": ("first", "last", "last"),
    "box.stages.0.box_weights": ((10, 10, 5, 5),) * 3,
    "rpn.loss.beta": (1 / 9, 0, 0),
    "box.loss.beta": (1 / 9, 0, 0),
    "mask.pool.size": (14, 14, 14),
    "mask.convs": (4, 4, 4),
    "mask.targets": ("soft", "polygon", "threshold"),
    "detections.score_threshold": (0.05, 0.05, 0.05),
    "detections.nms_threshold": (0.5, 0.5, 0.5),
    "detections.per_image": (100, 100, 100),
    "detections.min_side": (1e-2, 0, 0),
    "detections.rescale_rule": ("multiply", "multiply_and_clip", "divide"),
    "detections.paste_rule": ("whole_pixels", "grid_sample", "grid_sample"),
    "compute.weight_decay_exempts_norm": (False, True, False),
    # of cascades, which torchvision does not have
    "regions.later_stages": ("match", "match", "sample"),
    "regions.empty_boxes": ("drop", "drop", "keep"),
    "box.stage_scores": ("probability", "probability", "logit"),
    "box.stage_gradient": ("whole", "divided", "whole"),
    "mask.heads": ("one", "one", "each_stage"),
    "rpn.border": (-1, -1, -1),
}


@pytest.mark.parametrize("field", CONVENTIONS)
def test_conventions_of_each_library(field):
    assert tuple(model_config(name).get(field) for name in (TV, D2, MM)) == CONVENTIONS[field]


# Typed in from the sources' config files, not from the registry.
X101 = {"backbone.depth": 101, "backbone.groups": 32, "backbone.width_per_group": 8}
FOUR_CONV = {"box.convs": 4, "box.fcs": 1}
BGR_STD = (57.375, 57.12, 58.395)
D2_X101 = {**X101, "backbone.stride_in_1x1": False, "input.pixel_std": BGR_STD}
D2_GN = {
    **FOUR_CONV,
    "backbone.norm": "gn",
    "neck.norm": "gn",
    "box.norm": "gn",
    "mask.norm": "gn",
    "backbone.stride_in_1x1": False,
}
BN = {**FOUR_CONV, "backbone.norm": "bn", "neck.norm": "bn", "box.norm": "bn", "mask.norm": "bn"}
LVIS = {
    "num_classes": 1203,
    "categories": LVIS_V1_1203,
    "detections.score_threshold": 0.0001,
    "detections.per_image": 300,
}
MSRA_INPUT = {
    "input.channel_order": "bgr",
    "input.pixel_mean": (103.53, 116.28, 123.675),
    "input.pixel_std": (1.0, 1.0, 1.0),
}
CAFFE = {**MSRA_INPUT, "backbone.stride_in_1x1": True, "backbone.norm": "frozen_bn"}
MM_GN = {**FOUR_CONV, "backbone.norm": "gn", "neck.norm": "gn", "box.norm": "gn", "mask.norm": "gn"}
BOX_ONLY = {"mask": None, "regions.low_quality": "none"}  # MMDetection's
REGNET = {
    "backbone.kind": "regnet",
    "input.channel_order": "bgr",
    "input.pixel_mean": (103.53, 116.28, 123.675),
    "input.pixel_std": BGR_STD,
}
X4GF = {
    **REGNET,
    "backbone.w0": 96,
    "backbone.wa": 38.65,
    "backbone.wm": 2.43,
    "backbone.depth": 23,
    "backbone.group_width": 40,
}
Y4GF = {
    **REGNET,
    "backbone.w0": 96,
    "backbone.wa": 31.41,
    "backbone.wm": 2.24,
    "backbone.depth": 22,
    "backbone.group_width": 64,
    "backbone.squeeze_ratio": 0.25,
}
X400MF = {
    **REGNET,
    "backbone.norm": "bn_eval",
    "backbone.w0": 24,
    "backbone.wa": 24.48,
    "backbone.wm": 2.54,
    "backbone.depth": 22,
    "backbone.group_width": 16,
}
C4 = {
    "backbone.outputs": (4,),
    "neck": None,
    "trunk": "res5",
    "input.pad_divisor": 1,
    "rpn.anchors.sizes": ((32, 64, 128, 256, 512),),
    "rpn.pre_nms_train": 12000,
    "rpn.pre_nms_test": 6000,
    "rpn.post_nms_train": 2000,
    "box.pool.size": 14,
    "box.fcs": 0,
    "box.average": True,
    "mask.convs": 0,
}
DC5 = {
    **{path: value for path, value in C4.items() if path in ("neck", "input.pad_divisor") or "rpn." in path},
    "backbone.outputs": (5,),
    "backbone.dilated_c5": True,
}
DCN = {"backbone.deformable_stages": (3, 4, 5)}


def cascade(**weights_and_losses):
    """Three stages: deltas times these weights, for the centre and for the sides, and weights of losses."""
    stages = zip((0.5, 0.6, 0.7), *weights_and_losses.values(), strict=True)
    return tuple(
        BoxStageConfig(foreground_iou=iou, box_weights=(centre, centre, side, side), loss_weight=loss)
        for iou, centre, side, loss in stages
    )


D2_CASCADE = {
    "box.class_agnostic": True,
    "box.stages": cascade(centre=(10, 20, 30), side=(5, 10, 15), loss=(1, 1, 1)),
    "rpn.post_nms_train": 2000,
}
MM_CASCADE = {
    "box.class_agnostic": True,
    "box.stages": cascade(centre=(10, 20, 1 / 0.033), side=(5, 10, 1 / 0.067), loss=(1, 0.5, 0.25)),
    "rpn.post_nms_train": 2000,
    "rpn.border": 0,
    "rpn.loss.beta": 1 / 9,
    "box.loss.beta": 1.0,
    "regions.low_quality": "none",
}

DIFFERENCES = {
    "detectron2/cascade_mask_rcnn_R_50_FPN_1x": D2_CASCADE,
    "mmdet/cascade-mask-rcnn_r50_fpn_1x_coco": MM_CASCADE,
    "mmdet/cascade-rcnn_r101-caffe_fpn_1x_coco": {**MM_CASCADE, **CAFFE, "backbone.depth": 101, "mask": None},
    "mmdet/cascade-mask-rcnn_x101-32x4d-syncbn_fpn_1x_coco": {
        **MM_CASCADE,
        "backbone.depth": 101,
        "backbone.groups": 32,
        "backbone.width_per_group": 4,
        "backbone.norm": "bn",
    },
    "mmdet/cascade-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco": {
        **MM_CASCADE,
        "backbone.depth": 18,
        "mask": None,
        "rpn.border": -1,
    },
    "mmdet/cascade-mask-rcnn_regnetx-400MF_fpn_ms-3x_coco": {**MM_CASCADE, **X400MF},
    "mmdet/cascade-mask-rcnn_r50-rsb-pre_fpn_1x_coco": {
        **MM_CASCADE,
        "compute.weight_decay_exempts_norm": True,
    },
    "torchvision/maskrcnn_resnet50_fpn_v2": {**BN, "backbone.norm_epsilon": 1e-5, "rpn.convs": 2},
    "torchvision/fasterrcnn_resnet50_fpn": {"mask": None},
    "torchvision/fasterrcnn_resnet50_fpn_v2": {
        **{path: value for path, value in BN.items() if not path.startswith("mask.")},
        "backbone.norm_epsilon": 1e-5,
        "rpn.convs": 2,
        "mask": None,
    },
    "detectron2/mask_rcnn_R_50_FPN_1x": {},
    "detectron2/mask_rcnn_R_101_FPN_3x": {"backbone.depth": 101},
    "detectron2/mask_rcnn_X_101_32x8d_FPN_3x": D2_X101,
    "detectron2/faster_rcnn_R_50_FPN_1x": {"mask": None},
    "detectron2/faster_rcnn_X_101_32x8d_FPN_3x": {**D2_X101, "mask": None},
    "detectron2/mask_rcnn_R_50_FPN_1x_cls_agnostic": {
        "box.class_agnostic": True,
        "mask.class_agnostic": True,
    },
    "detectron2/mask_rcnn_R_50_FPN_3x_gn": D2_GN,
    "detectron2/scratch_mask_rcnn_R_50_FPN_3x_gn": {**D2_GN, "backbone.freeze_at": 0},
    "detectron2/scratch_mask_rcnn_R_50_FPN_9x_gn": {
        **D2_GN,
        "backbone.freeze_at": 0,
        "input.pixel_std": BGR_STD,
    },
    "detectron2/mask_rcnn_R_50_FPN_3x_syncbn": BN,
    "detectron2/scratch_mask_rcnn_R_50_FPN_9x_syncbn": {
        **BN,
        "backbone.freeze_at": 0,
        "input.pixel_std": BGR_STD,
        "backbone.stride_in_1x1": False,
    },
    "detectron2/mask_rcnn_R_101_FPN_400ep_LSJ": {
        **BN,
        "backbone.freeze_at": 0,
        "rpn.convs": 2,
        "backbone.depth": 101,
    },
    "detectron2/Cityscapes/mask_rcnn_R_50_FPN": {
        "num_classes": 8,
        "categories": CITYSCAPES_8,
        "input.test_min_size": 1024,
        "input.test_max_size": 2048,
    },
    "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": LVIS,
    "detectron2/LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x": {
        **LVIS,
        **D2_X101,
        "num_classes": 1230,
        "categories": LVIS_V05_1230,
    },
    "mmdet/mask-rcnn_r50_fpn_1x_cityscapes": {
        "num_classes": 8,
        "categories": CITYSCAPES_8,
        "input.test_min_size": 1024,
        "input.test_max_size": 2048,
        "box.loss.beta": 1.0,
    },
    "detectron2/mask_rcnn_R_50_C4_1x": C4,
    "detectron2/mask_rcnn_R_101_C4_3x": {**C4, "backbone.depth": 101},
    "detectron2/mask_rcnn_R_50_DC5_3x": DC5,
    "detectron2/faster_rcnn_R_101_DC5_3x": {**DC5, "mask": None, "backbone.depth": 101},
    "detectron2/mask_rcnn_R_50_FPN_1x_dconv_c3-c5": DCN,
    "mmdet/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco": DCN,
    "mmdet/faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco": {
        **BOX_ONLY,
        **DCN,
        "backbone.deformable_masks": True,
        "backbone.deformable_groups": 4,
    },
    "mmdet/mask-rcnn_r50-caffe-c4_1x_coco": {
        **{path: value for path, value in C4.items() if path != "input.pad_divisor"},
        **CAFFE,
        "regions.low_quality": "none",
        "rpn.border": 0,
    },
    "mmdet/faster-rcnn_r50-caffe-dc5_ms-3x_coco": {
        **{path: value for path, value in DC5.items() if path != "input.pad_divisor"},
        **CAFFE,
        **BOX_ONLY,
        "rpn.border": 0,
    },
    "detectron2/faster_rcnn_R_50_C4_3x": {
        **{path: value for path, value in C4.items() if not path.startswith("mask.")},
        "mask": None,
    },
    "detectron2/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ": {
        **BN,
        **X4GF,
        "backbone.freeze_at": 0,
        "rpn.convs": 2,
    },
    "detectron2/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ": {
        **BN,
        **Y4GF,
        "backbone.freeze_at": 0,
        "rpn.convs": 2,
    },
    "detectron2/mask_rcnn_regnety_4gf_dds_fpn_1x": Y4GF,
    "mmdet/mask-rcnn_regnetx-4GF_fpn_1x_coco": {**X4GF, "backbone.norm": "bn_eval"},
    "mmdet/faster-rcnn_regnetx-400MF_fpn_ms-3x_coco": {**BOX_ONLY, **X400MF},
    "mmdet/mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco": {
        **X400MF,
        "input.channel_order": "rgb",
        "input.pixel_mean": (123.675, 116.28, 103.53),
        "input.pixel_std": (58.395, 57.12, 57.375),
    },
    "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco": CAFFE,
    "mmdet/mask-rcnn_r101-caffe_fpn_ms-poly-3x_coco": {**CAFFE, "backbone.depth": 101},
    "mmdet/mask-rcnn_x101-64x4d_fpn_2x_coco": {
        "backbone.depth": 101,
        "backbone.groups": 64,
        "backbone.width_per_group": 4,
    },
    "mmdet/mask-rcnn_x101-32x8d_fpn_1x_coco": {
        **X101,
        **MSRA_INPUT,
        "input.pixel_std": BGR_STD,
        "backbone.norm": "frozen_bn",
    },
    "mmdet/mask-rcnn_r50_fpn_gn-all_2x_coco": dict(**MM_GN, **MSRA_INPUT),
    "mmdet/mask-rcnn_r50-contrib_fpn_gn-all_3x_coco": MM_GN,
    "mmdet/mask-rcnn_r50-scratch_fpn_gn-all_6x_coco": {
        **MM_GN,
        "backbone.freeze_at": 0,
        "compute.weight_decay_exempts_norm": True,
    },
    "mmdet/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-270k_coco": {
        **BN,
        "backbone.freeze_at": 0,
        "rpn.convs": 2,
    },
    "mmdet/mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco": {
        **BN,
        **MSRA_INPUT,
        "backbone.freeze_at": 0,
        "rpn.convs": 2,
        "backbone.stride_in_1x1": True,
    },
    "mmdet/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1": LVIS,
    "mmdet/faster-rcnn_r50_fpn_1x_coco": BOX_ONLY,
    "mmdet/faster-rcnn_r101-caffe_fpn_ms-3x_coco": {**BOX_ONLY, **CAFFE, "backbone.depth": 101},
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_models_differ_from_their_library_in_these_fields_only(name):
    base = {"torchvision": TV, "detectron2": D2, "mmdet": MM}[name.split("/")[0]]
    assert model_config(name) == model_config(base).replace(DIFFERENCES[name])


# What the zoos publish: box AP, mask AP, file.
PUBLISHED = {
    TV: (37.9, 34.6, "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
    "torchvision/maskrcnn_resnet50_fpn_v2": (47.4, 41.8, "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    "detectron2/mask_rcnn_R_50_FPN_1x": (38.6, 35.2, "model_final_a54504.pkl"),
    D2: (41.0, 37.2, "model_final_f10217.pkl"),
    "detectron2/mask_rcnn_R_50_FPN_50ep_LSJ": (None, None, None),
    "detectron2/mask_rcnn_R_50_FPN_400ep_LSJ": (47.4, 42.5, "model_final_14d201.pkl"),
    "detectron2/Cityscapes/mask_rcnn_R_50_FPN": (None, 36.5, "model_final_af9cf5.pkl"),
    "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": (None, None, None),
    "detectron2/LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": (25.6, 25.9, "model_final_824ab5.pkl"),
    "mmdet/mask-rcnn_r101_fpn_sample1e-3_ms-1x_lvis-v1": (
        24.6,
        23.6,
        "mask_rcnn_r101_fpn_sample1e-3_mstrain_1x_lvis_v1-ec55ce32.pth",
    ),
    "mmdet/mask-rcnn_r50_fpn_1x_cityscapes": (
        40.9,
        36.4,
        "mask_rcnn_r50_fpn_1x_cityscapes_20201211_133733-d2858245.pth",
    ),
    "mmdet/faster-rcnn_r50_fpn_1x_cityscapes": (
        40.3,
        None,
        "faster_rcnn_r50_fpn_1x_cityscapes_20200502-829424c0.pth",
    ),
    "detectron2/faster_rcnn_R_50_FPN_1x": (37.9, None, "model_final_b275ba.pkl"),
    "detectron2/mask_rcnn_R_101_C4_3x": (42.6, 36.7, "model_final_a2914c.pkl"),
    "detectron2/faster_rcnn_R_50_C4_1x": (35.7, None, "model_final_721ade.pkl"),
    "detectron2/mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ": (48.6, 43.5, "model_final_f1362d.pkl"),
    "detectron2/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": (46.1, 41.6, "model_final_6ba57e.pkl"),
    "detectron2/mask_rcnn_regnetx_4gf_dds_fpn_1x": (None, None, None),
    "mmdet/mask-rcnn_regnetx-12GF_fpn_1x_coco": (
        42.2,
        38.0,
        "mask_rcnn_regnetx-12GF_fpn_1x_coco_20200517_180552-b538bd8b.pth",
    ),
    "mmdet/faster-rcnn_regnetx-1.6GF_fpn_ms-3x_coco": (
        40.5,
        None,
        "faster_rcnn_regnetx-1_20210526_095325-94aa46cc.pth",
    ),
    "detectron2/mask_rcnn_R_101_DC5_3x": (41.9, 37.3, "model_final_0464b7.pkl"),
    "detectron2/faster_rcnn_R_50_DC5_1x": (37.3, None, "model_final_51d356.pkl"),
    "detectron2/mask_rcnn_R_50_FPN_3x_dconv_c3-c5": (42.7, 38.5, "model_final_821d0b.pkl"),
    "mmdet/mask-rcnn_r101-dconv-c3-c5_fpn_1x_coco": (
        43.5,
        38.9,
        "mask_rcnn_r101_fpn_dconv_c3-c5_1x_coco_20200216-a71f5bce.pth",
    ),
    "mmdet/faster-rcnn_r50-caffe-dc5_ms-3x_coco": (
        38.7,
        None,
        "faster_rcnn_r50_caffe_dc5_mstrain_3x_coco_20201028_002107-34a53b2c.pth",
    ),
    "mmdet/mask-rcnn_r50-caffe-c4_1x_coco": (None, None, None),
    MM: (38.2, 34.7, "mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth"),
    "jaxmaskrcnn/shapes": (None, None, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    info = model_info(name)
    assert (info.box_ap, info.mask_ap, info.file) == PUBLISHED[name]
    assert info.name == name


def test_regnets_differ_in_their_stages():
    """Widths and blocks that the libraries' models have, by the size in the preset's name."""
    expected = {
        "400MF": ((32, 1), (64, 2), (160, 7), (384, 12)),
        "800MF": ((64, 1), (128, 3), (288, 7), (672, 5)),
        "1.6GF": ((72, 2), (168, 4), (408, 10), (912, 2)),
        "3.2GF": ((96, 2), (192, 6), (432, 15), (1008, 2)),
        "4GF": ((80, 2), (240, 5), (560, 14), (1360, 2)),
        "6.4GF": ((168, 2), (392, 4), (784, 10), (1624, 1)),
        "8GF": ((80, 2), (240, 5), (720, 15), (1920, 1)),
        "12GF": ((224, 2), (448, 5), (896, 11), (2240, 1)),
    }
    names = [name for name in list_models() if name.startswith("mmdet") and "regnetx" in name]
    assert len(names) == 23
    for name in names:
        backbone = model_config(name).backbone
        assert backbone.stages == expected[re.search(r"regnetx-([\d.]+[MG]F)", name)[1]]
        assert (backbone.norm, backbone.squeeze_ratio) == ("bn_eval", 0)


def test_registry_is_consistent():
    infos = [model_info(name) for name in list_models()]
    files = [(info.name.split("/")[0], info.model_id, info.file) for info in infos if info.file]
    assert len(files) == len(set(files)) >= 85
    for info in infos:
        library = info.name.split("/")[0]
        assert (info.licence is None) == (info.file is None)
        assert (info.model_id is not None) == (library == "detectron2" and info.file is not None)
        if library != "jaxmaskrcnn":
            assert info.source
        if model_config(info.name).mask is None:
            assert info.mask_ap is None
        most = 70 if "openimages" in info.name else 60  # that of Open Images is at an IoU of 0.5 alone
        for ap in (info.box_ap, info.mask_ap):
            assert ap is None or 15 < ap < most
        # MMDetection's older files have the figures in their names.
        if match := re.search(r"bbox_mAP-0\.(\d+)(?:__segm_mAP-0\.(\d+))?", info.file or ""):
            named = [None if digits is None else float(f"0.{digits}") * 100 for digits in match.groups()]
            if info.name == "mmdet/mask-rcnn_r50_fpn-carafe_1x_coco":  # MMDetection's page has another figure
                assert (named[1], info.mask_ap) == (pytest.approx(35.8), 35.6)
                named[1] = info.mask_ap
            assert named == pytest.approx([info.box_ap, info.mask_ap])


def test_backbones_fit_every_library():
    names = list_backbones()
    assert len(names) == len(set(names)) == 22
    files = [file for name in names for file in backbone_info(name).files]
    # Detectron2 has two files named R-50.pkl.
    assert sorted({file for file in files if files.count(file) > 1}) == ["R-50.pkl"]
    for name in names:
        for preset in (TV, D2, MM):
            config = model_config(preset, **backbone_info(name).fields)
            assert config.backbone.norm_epsilon == (1e-6 if "MAE" in name else 1e-5)
            pixel = np.array([{"r": 255.0, "g": 0.0, "b": 0.0}[c] for c in config.input.channel_order])
            value = (pixel * config.input.pixel_scale - config.input.pixel_mean) / config.input.pixel_std
            red = value[config.input.channel_order.index("r")]
            unit = 1.0 if "MSRA" in name else 58.395
            assert red == pytest.approx((255 - 123.675) / unit, rel=1e-3)
            if config.backbone.kind == "resnet":
                assert config.backbone.stride_in_1x1 == ("MSRA" in name)
            else:
                assert config.backbone.kind == ("vit" if "MAE" in name else "swin")


@pytest.mark.parametrize(
    ("name", "depth", "groups", "width", "order"),
    [
        ("torchvision/resnet18", 18, 1, 64, "rgb"),
        ("torchvision/resnext50_32x4d", 50, 32, 4, "rgb"),
        ("torchvision/resnext101_64x4d", 101, 64, 4, "rgb"),
        ("torchvision/wide_resnet101_2", 101, 1, 128, "rgb"),
        ("detectron2/MSRA/R-101", 101, 1, 64, "bgr"),
        ("detectron2/FAIR/X-101-32x8d", 101, 32, 8, "bgr"),
        ("detectron2/torchvision/R-50", 50, 1, 64, "rgb"),
    ],
)
def test_backbone_architecture(name, depth, groups, width, order):
    config = model_config(D2, **backbone_info(name).fields)
    assert (config.backbone.depth, config.backbone.groups, config.backbone.width_per_group) == (
        depth, groups, width,
    )  # fmt: skip
    assert config.input.channel_order == order


def test_unknown_backbone_suggests():
    with pytest.raises(UserError, match="no backbone named 'resnet50'; did you mean 'torchvision/resnet50'"):
        backbone_info("resnet50")


def test_models_command(capsys):
    assert command(["models", "r_50_fpn_3x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "model",
        "box",
        "AP",
        "mask",
        "AP",
        "keypoint",
        "AP",
        "PQ",
        "weights",
        "licence",
    ]
    row = next(line for line in lines if line.startswith(f"{D2} "))
    assert row.split() == [
        D2,
        "41.0",
        "37.2",
        "-",
        "-",
        "137849600/model_final_f10217.pkl",
        "CC",
        "BY-SA",
        "3.0",
    ]
    assert len(lines) == 1 + sum("r_50_fpn_3x" in name.lower() for name in list_models())
    assert command(["models", "cls_agnostic"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == ["-"] * 6


def test_models_command_finds_by_file_and_lists_backbones(capsys):
    assert command(["models", "137849600"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["model", D2]
    assert command(["models", "11ad3fa6"]) == 0
    out = capsys.readouterr().out
    assert "ImageNet backbone" in out and "torchvision/resnet50 " in out and "box AP" not in out
    assert command(["models"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in (*list_models(), *list_backbones()))
    assert command(["models", "yolo"]) == 2
    assert "'yolo'" in capsys.readouterr().err


def test_every_preset_builds_a_hashable_config():
    names = list_models()
    assert len(names) == len(set(names)) == len(PRESETS) >= 10
    for name in names:
        config = model_config(name)
        assert isinstance(config, ModelConfig)
        hash(config)
        assert config.categories == () or len(config.categories) == config.num_classes


def test_library_bases_name_the_same_fields():
    """A convention set for one library and forgotten for another would silently be torchvision's."""
    bases = {tuple(sorted(PRESETS[name].conventions)) for name in (TV, D2, MM)}
    assert len(bases) == 1


def test_coco_categories():
    assert [c.id for c in COCO_90] == list(range(1, 91))
    unused = [c.id for c in COCO_90 if c.name == "N/A"]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [c for c in COCO_90 if c.id not in unused] == list(COCO_80)
    names = {c.id: c.name for c in COCO_80}
    assert (names[1], names[13], names[28], names[64], names[90]) == (
        "person", "stop sign", "umbrella", "potted plant", "toothbrush",
    )  # fmt: skip
    assert model_config(TV).categories == COCO_90
    assert model_config(D2).categories == model_config(MM).categories == COCO_80


def test_cityscapes_categories():
    assert [(c.id, c.name) for c in model_config("detectron2/Cityscapes/mask_rcnn_R_50_FPN").categories] == [
        (24, "person"), (25, "rider"), (26, "car"), (27, "truck"), (28, "bus"), (31, "train"),
        (32, "motorcycle"), (33, "bicycle"),
    ]  # fmt: skip


def test_num_classes_drops_categories_only_when_it_differs():
    assert model_config(D2, num_classes=80).categories == COCO_80
    config = model_config(D2, num_classes=np.int64(3))
    assert (config.num_classes, config.categories) == (3, ())
    assert type(config.num_classes) is int
    own = COCO_80[:3]
    assert model_config(D2, num_classes=3, categories=own).categories == own


def test_overrides():
    config = model_config(
        TV, **{"rpn.anchors.sizes": [16.0, 32.0, 64.0, 128.0, 256.0], "detections.score_threshold": 0.3}
    )
    assert config.rpn.anchors.sizes == ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    assert config.detections.score_threshold == 0.3
    hash(config)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("torchvision/maskrcnn_resnet50", "'torchvision/maskrcnn_resnet50_fpn'"),
        ("maskrcnn_resnet50_fpn_v2", "'torchvision/maskrcnn_resnet50_fpn_v2'"),
        ("detectron2/mask_rcnn_r_50_fpn_3x", "'detectron2/mask_rcnn_R_50_FPN_3x'"),
        ("mask_rcnn_R_50_FPN_1x", "did you mean 'detectron2/mask_rcnn_R_50_FPN_1x'"),
    ],
)
def test_unknown_preset_suggests(name, suggestion):
    with pytest.raises(UserError, match="did you mean") as error:
        model_config(name)
    assert name in str(error.value) and suggestion in str(error.value)


def test_hopeless_preset_points_to_the_list():
    with pytest.raises(
        UserError,
        match=r"no model named 'zzz'; there are \d+, such as 'detectron2.* `jaxmaskrcnn models` and list",
    ):
        model_config("zzz")


def test_unknown_override_suggests():
    match = "no setting detections.score_treshold; did you mean detections.score_threshold"
    with pytest.raises(UserError, match=match):
        model_config(TV, **{"detections.score_treshold": 0.5})


def test_a_name_of_version_1_is_answered_with_the_path_of_now():
    with pytest.raises(UserError, match=r"score_threshold is called detections\.score_threshold now"):
        model_config(TV, score_threshold=0.5)
    with pytest.raises(UserError, match=r"roi_aligned is called box\.pool\.aligned and mask\.pool\.aligned"):
        model_config(TV, roi_aligned=True)


def test_bad_values():
    with pytest.raises(ConfigError, match="resize_kernel is 'lanczos'"):
        model_config(TV, **{"input.resize_kernel": "lanczos"})
    for count in ("3", 2.0, True, 0):
        with pytest.raises(ConfigError, match="num_classes"):
            model_config(TV, num_classes=count)


def test_the_readme_counts_the_models():
    models = [name for name in list_models() if not name.startswith("jaxmaskrcnn/")]
    published = sum(model_info(name).weights is not None for name in models)
    said = f"{len(models)} models of torchvision, Detectron2, MMDetection and matterport, {published} of them"
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{said} with published weights, and {len(list_backbones())} backbones." in text


def test_a_row_that_is_replaced_is_made_anew(monkeypatch):
    """Configurations are kept, but those of another row are not given; the table is patched to have one."""
    name = "torchvision/maskrcnn_resnet50_fpn"
    before = model_config(name)
    row = PRESETS[name]
    monkeypatch.setitem(PRESETS, name, row._replace(changes={**row.changes, "detections.per_image": 7}))
    assert model_config(name).detections.per_image == 7
    monkeypatch.undo()
    assert model_config(name) == before and before.detections.per_image == 100
