"""Presets: conventions by library, categories, and the errors of a mistyped name."""

import dataclasses

import numpy as np
import pytest

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.presets import COCO_80, COCO_90, PRESETS, list_models, model_config

TV, D2, MM = (
    "torchvision/maskrcnn_resnet50_fpn",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_1x_coco",
)

# One row per convention, typed in from the libraries' documentation and sources and not from the
# presets: torchvision, Detectron2, MMDetection.
CONVENTIONS = {
    "num_classes": (90, 80, 80),
    "channel_order": ("rgb", "bgr", "rgb"),
    "normalise_before_resize": (True, False, False),
    "resize_kernel": ("torch", "pil", "cv2"),
    "size_rule": ("torchvision", "detectron2", "mmdet"),
    "test_min_size": (800, 800, 800),
    "test_max_size": (1333, 1333, 1333),
    "pad_divisor": (32, 32, 32),
    "backbone_depth": (50, 50, 50),
    "backbone_stride_in_1x1": (False, True, False),
    "backbone_norm": ("frozen_bn", "frozen_bn", "bn_eval"),
    "norm_epsilon": (0.0, 1e-5, 1e-5),
    "freeze_at": (2, 2, 2),
    "fpn_norm": ("none", "none", "none"),
    "anchor_sizes": ((32, 64, 128, 256, 512),) * 3,
    "anchor_ratios": ((0.5, 1, 2),) * 3,
    "anchor_rounding": (True, False, False),
    "anchor_stride": ("derived", "fixed", "fixed"),
    "rpn_convs": (1, 1, 1),
    "rpn_ranking": ("logit", "logit", "probability"),
    "rpn_pre_nms_train": (2000, 2000, 2000),
    "rpn_pre_nms_test": (1000, 1000, 1000),
    "rpn_post_nms_train": (2000, 1000, 1000),
    "rpn_post_nms_test": (1000, 1000, 1000),
    "rpn_nms_threshold": (0.7, 0.7, 0.7),
    "rpn_min_side": (1e-3, 0, 0),
    "delta_clamp": ("max", "max", "both"),
    "rpn_foreground_iou": (0.7, 0.7, 0.7),
    "rpn_background_iou": (0.3, 0.3, 0.3),
    "rpn_low_quality": ("label", "label", "reassign"),
    "rpn_low_quality_min_iou": (0, 0, 0.3),
    "rpn_batch_size": (256, 256, 256),
    "rpn_positive_fraction": (0.5, 0.5, 0.5),
    "rpn_loss_count": ("sampled", "constant", "sampled"),
    "iou_epsilon": (0, 0, 1e-6),
    "ground_truth_proposals": ("append", "append", "prepend"),
    "roi_batch_size": (512, 512, 512),
    "roi_positive_fraction": (0.25, 0.25, 0.25),
    "roi_foreground_iou": (0.5, 0.5, 0.5),
    "roi_low_quality": (False, False, True),
    "roi_aligned": (False, True, True),
    "roi_sampling_ratio": (2, 0, 0),
    "roi_level_rule": ("torchvision", "detectron2", "mmdet"),
    "roi_scale": ("inferred", "stride", "stride"),
    "box_pool_size": (7, 7, 7),
    "box_convs": (0, 0, 0),
    "box_fcs": (2, 2, 2),
    "box_fc_dim": (1024, 1024, 1024),
    "head_norm": ("none", "none", "none"),
    "background": ("first", "last", "last"),
    "box_weights": ((10, 10, 5, 5),) * 3,
    "smooth_l1_beta": (1 / 9, 0, 0),
    "mask_head": (True, True, True),
    "mask_pool_size": (14, 14, 14),
    "mask_convs": (4, 4, 4),
    "mask_targets": ("soft", "threshold", "threshold"),
    "score_threshold": (0.05, 0.05, 0.05),
    "nms_threshold": (0.5, 0.5, 0.5),
    "detections_per_image": (100, 100, 100),
    "detection_min_side": (1e-2, 0, 0),
    "rescale_rule": ("torchvision", "detectron2", "mmdet"),
    "paste_rule": ("torchvision", "detectron2", "detectron2"),
    "weight_decay_exempts_norm": (False, True, False),
}


@pytest.mark.parametrize("field", CONVENTIONS)
def test_conventions_of_each_library(field):
    assert tuple(getattr(model_config(name), field) for name in (TV, D2, MM)) == CONVENTIONS[field]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (TV, {"r": (255 - 255 * 0.485) / (255 * 0.229), "g": -0.456 / 0.224, "b": -0.406 / 0.225}),
        (D2, {"r": 255 - 123.675, "g": -116.28, "b": -103.53}),
        (MM, {"r": (255 - 123.675) / 58.395, "g": -116.28 / 57.12, "b": -103.53 / 57.375}),
        ("mmdet/mask-rcnn_r50-caffe_fpn_1x_coco", {"r": 255 - 123.675, "g": -116.28, "b": -103.53}),
    ],
)
def test_red_pixel_by_channel(name, expected):
    """A swapped mean, std or scale gives other values for pure red."""
    config = model_config(name)
    pixel = np.array([{"r": 255.0, "g": 0.0, "b": 0.0}[c] for c in config.channel_order])
    value = (pixel * config.pixel_scale - config.pixel_mean) / config.pixel_std
    np.testing.assert_allclose(value, [expected[c] for c in config.channel_order], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "base", "changes"),
    [
        (
            "torchvision/maskrcnn_resnet50_fpn_v2",
            TV,
            dict(
                backbone_norm="bn", norm_epsilon=1e-5, fpn_norm="bn", rpn_convs=2,
                box_convs=4, box_fcs=1, head_norm="bn",
            ),
        ),
        ("torchvision/fasterrcnn_resnet50_fpn", TV, dict(mask_head=False)),
        ("detectron2/mask_rcnn_R_50_FPN_1x", D2, {}),
        ("detectron2/mask_rcnn_R_101_FPN_3x", D2, dict(backbone_depth=101)),
        ("detectron2/faster_rcnn_R_50_FPN_1x", D2, dict(mask_head=False)),
        (
            "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco",
            MM,
            dict(
                channel_order="bgr", pixel_mean=(103.53, 116.28, 123.675), pixel_std=(1, 1, 1),
                backbone_stride_in_1x1=True, backbone_norm="frozen_bn",
            ),
        ),
    ],
)  # fmt: skip
def test_models_differ_from_their_library_in_these_fields_only(name, base, changes):
    assert model_config(name) == dataclasses.replace(model_config(base), **changes)


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


def test_num_classes_drops_categories_only_when_it_differs():
    assert model_config(D2, num_classes=80).categories == COCO_80
    config = model_config(D2, num_classes=np.int64(3))
    assert (config.num_classes, config.categories) == (3, ())
    assert type(config.num_classes) is int
    own = COCO_80[:3]
    assert model_config(D2, num_classes=3, categories=own).categories == own


def test_overrides():
    config = model_config(TV, anchor_sizes=[16.0, 32.0, 64.0, 128.0, 256.0], score_threshold=0.3)
    assert config.anchor_sizes == (16.0, 32.0, 64.0, 128.0, 256.0)
    assert config.score_threshold == 0.3
    hash(config)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("torchvision/maskrcnn_resnet50", "'torchvision/maskrcnn_resnet50_fpn'"),
        ("maskrcnn_resnet50_fpn_v2", "'torchvision/maskrcnn_resnet50_fpn_v2'"),
        ("detectron2/mask_rcnn_r_50_fpn_3x", "'detectron2/mask_rcnn_R_50_FPN_3x'"),
    ],
)
def test_unknown_preset_suggests(name, suggestion):
    with pytest.raises(UserError, match="did you mean") as error:
        model_config(name)
    assert name in str(error.value) and suggestion in str(error.value)


def test_hopeless_preset_points_to_the_list():
    with pytest.raises(UserError, match=r"no model named 'zzz'\. list_models\(\)"):
        model_config("zzz")


def test_unknown_override_suggests():
    with pytest.raises(UserError, match="no field 'score_treshold'; did you mean 'score_threshold'"):
        model_config(TV, score_treshold=0.5)


def test_bad_values():
    with pytest.raises(ConfigError, match="resize_kernel is 'lanczos'"):
        model_config(TV, resize_kernel="lanczos")
    for count in ("3", 2.0, True, 0):
        with pytest.raises(ConfigError, match="num_classes"):
            model_config(TV, num_classes=count)
