"""What an exporter writes, read back: each field of ModelConfig is as it was, or the report names it."""

import dataclasses

import numpy as np
import pytest

from jaxmaskrcnn.config import _CHOICES, ConfigError, ModelConfig
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.fields import get_field, with_fields
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.presets import CITYSCAPES_8, COCO_80, COCO_90, list_models, model_config
from jaxmaskrcnn.structures import Category

# Values to change a field to, beside those of the enumerations and the opposite of each flag.
VALUES = {
    "num_classes": [1, 7, 8, 80, 90],
    "categories": [(), COCO_80, COCO_90, CITYSCAPES_8, (Category(3, "a cat"), Category(9, "dog"))],
    "pixel_scale": [1.0, 1 / 255, 0.5],
    "pixel_mean": [(0.0, 0.0, 0.0), (1.5, 2.5, 3.123456789012), (0.45, 0.45, 0.45), (-1.0, 0.0, 1.0)],
    "pixel_std": [(1.0, 1.0, 1.0), (4.0, 5.0, 6.123456789012), (0.225, 0.225, 0.225)],
    "test_min_size": [480],
    "test_max_size": [640, 2048],
    "pad_divisor": [1, 40, 64, 128],
    "backbone_width": [32, 96],
    "backbone_groups": [2, 32],
    "backbone_width_per_group": [4, 5, 128],
    "norm_epsilon": [0.0, 1e-3],
    "fpn_channels": [128],
    "anchor_sizes": [(16.0, 32.0, 64.0, 128.0, 256.0), (20.0, 32.0, 64.5, 130.0, 256.0)],
    "anchor_ratios": [(1.0,), (0.25, 0.5, 1.0, 2.0)],
    "rpn_convs": [2, 3],
    "rpn_pre_nms_train": [11],
    "rpn_pre_nms_test": [12],
    "rpn_post_nms_train": [13],
    "rpn_post_nms_test": [14],
    "rpn_nms_threshold": [0.65],
    "rpn_min_side": [0.0, 1e-3, 4.0, 4.5],
    "rpn_foreground_iou": [0.65],
    "rpn_background_iou": [0.25],
    "rpn_low_quality_min_iou": [0.0, 0.2],
    "rpn_batch_size": [64],
    "rpn_positive_fraction": [0.25],
    "iou_epsilon": [0.0, 1e-6, 1e-3],
    "roi_batch_size": [128],
    "roi_positive_fraction": [0.5],
    "roi_foreground_iou": [0.6],
    "crowd_overlap": [0.7],
    "roi_sampling_ratio": [0, 2, 3],
    "box_pool_size": [9],
    "box_convs": [1, 4],
    "box_conv_dim": [128],
    "box_fcs": [0, 1, 3],
    "box_fc_dim": [512],
    "box_weights": [(1.0, 1.0, 1.0, 1.0), (3.0, 7.0, 0.3, 30.3)],
    "smooth_l1_beta": [0.0, 1 / 9, 0.5],
    "mask_pool_size": [7],
    "mask_convs": [0, 2],
    "mask_dim": [128],
    "score_threshold": [0.0, 0.3],
    "nms_threshold": [0.55],
    "detections_per_image": [33],
    "detection_min_side": [0.0, 1e-2, 1.0],
    "mask_threshold": [0.4],
}
# What a field takes part in only together with another value of these.
TOGETHER = {
    "box_conv_dim": {"box_convs": 4},
    "box_fcs": {"box_convs": 4},
}
# Combinations that no single field makes.
COMBINATIONS = [
    {"mask_head": False, "box_convs": 4, "box_fcs": 1, "head_norm": "bn"},
    {"box_convs": 4, "box_fcs": 1, "head_norm": "gn", "box_fc_dim": 512, "mask_dim": 64},
    {"mask_convs": 0, "box_convs": 2, "head_norm": "bn", "box_conv_dim": 32},
    {"box_convs": 2, "box_fcs": 0, "box_conv_dim": 16},
    {"mask_convs": 0, "mask_dim": 32, "fpn_channels": 64, "box_pool_size": 5},
    {"backbone_groups": 32, "backbone_width_per_group": 4, "backbone_depth": 101},
    {"backbone_groups": 32, "backbone_width_per_group": 8, "backbone_width": 32},
    {"backbone_norm": "gn", "fpn_norm": "gn", "norm_epsilon": 1e-3},
    {"backbone_norm": "bn", "norm_epsilon": 1e-3, "freeze_at": 0},
    {"normalise_before_resize": False, "resize_kernel": "pil"},
    {"normalise_before_resize": False, "resize_kernel": "cv2"},
    {"num_classes": 2, "categories": (Category(3, "a cat"), Category(9, 'the "dog"'))},
    {"anchor_sizes": (20.0, 32.0, 64.5, 130.0, 256.0), "anchor_ratios": (1.0,), "rpn_convs": 2},
]


# Fields that no library has a setting for.
NOWHERE = {
    "anchor_rounding", "anchor_stride", "categories", "crowd_overlap", "crowd_regions", "delta_clamp",
    "detection_min_side", "dtype", "ground_truth_proposals", "iou_epsilon", "mask_targets", "paste_rule",
    "remat", "rescale_rule", "resize_kernel", "roi_level_rule", "roi_scale", "rpn_loss_count",
    "rpn_low_quality", "rpn_min_side", "rpn_ranking", "size_rule",
}  # fmt: skip
# Fields that the report names for some value, besides these.
NAMED = {
    "torchvision": {
        "backbone_norm", "backbone_width", "channel_order", "fpn_channels", "mask_threshold",
        "normalise_before_resize", "pixel_mean", "roi_aligned", "roi_low_quality", "rpn_low_quality_min_iou",
        "smooth_l1_beta", "weight_decay_exempts_norm",
    },
    "detectron2": {
        "backbone_norm", "mask_threshold", "norm_epsilon", "pad_divisor", "pixel_mean", "roi_low_quality",
        "rpn_low_quality_min_iou",
    },
    # Of 30.3 the reciprocal is no number of Python's: read back, it is off by its last digit.
    "mmdet": {"box_weights", "pad_divisor", "pixel_mean", "test_min_size"},
}  # fmt: skip


def changed(config: ModelConfig, changes) -> ModelConfig | None:
    """The configuration with the changes, and what has to go with them; None where there is no such one."""
    if "categories" in changes:
        changes = {"num_classes": len(changes["categories"]) or get_field(config, "num_classes"), **changes}
    elif "num_classes" in changes:
        changes = {"categories": (), **changes}
    try:
        return with_fields(config, changes)
    except ConfigError:
        return None


def values_of(field: str, default) -> list:
    if field in VALUES:
        return VALUES[field]
    if field in _CHOICES:
        return list(_CHOICES[field])
    assert isinstance(default, bool), f"no values to try for {field}"
    return [True, False]


def variants(config: ModelConfig):
    """Each field in turn with each of its values, and the combinations."""
    for field in dataclasses.fields(ModelConfig):
        for value in values_of(field.name, field.default):
            yield {**TOGETHER.get(field.name, {}), field.name: value}
    yield from COMBINATIONS


def same_input(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether pixels of 0 and 255 enter the network as the same numbers, whatever the unit of the mean."""
    ends = [
        [
            (x * get_field(config, "pixel_scale") - np.array(get_field(config, "pixel_mean")))
            / np.array(get_field(config, "pixel_std"))
            for x in (0.0, 255.0)
        ]
        for config in (a, b)
    ]
    return np.allclose(*ends, rtol=1e-6, atol=1e-6)


def unlike(a: ModelConfig, b: ModelConfig) -> set[str]:
    """The fields in which two configurations differ."""
    names = {f.name for f in dataclasses.fields(ModelConfig)}
    found = {name for name in names if get_field(a, name) != get_field(b, name)}
    return found - {"pixel_scale", "pixel_mean", "pixel_std"} if same_input(a, b) else found


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_field_comes_back_or_is_named(library):
    start = ModelConfig(**LIBRARIES[library].convention)
    silent, refused, all_named = [], [], set()
    for changes in variants(start):
        config = changed(start, changes)
        if config is None:
            continue
        try:
            settings, differences = export_settings(config, library)
        except UserError as error:
            assert f"{LIBRARIES[library].title} cannot express this model" in str(error), changes
            refused.append(changes)
            continue
        read = LIBRARIES[library].read_settings(settings, "the settings")
        named = {difference.split()[0] for difference in differences}
        all_named |= named
        if missing := unlike(config, read) - named:
            silent.append((changes, missing))
        # Nothing is named that is as it was.
        assert not named & {f.name for f in dataclasses.fields(ModelConfig)} - unlike(config, read), changes
    assert not silent
    assert all_named == NOWHERE | NAMED[library]
    assert len(refused) < 8


@pytest.mark.parametrize("name", [n for n in list_models() if n.split("/")[0] in LIBRARIES])
def test_presets_are_the_same_in_their_own_library(name):
    config, library = model_config(name), name.split("/")[0]
    settings, differences = export_settings(config, library)
    assert not differences
    assert LIBRARIES[library].read_settings(settings, "the settings") == config


def test_differences_say_what_they_are_about():
    config = with_fields(model_config("mmdet/mask-rcnn_r50_fpn_1x_coco"), {"nms_threshold": 0.4})
    differences = export_settings(config, "detectron2")[1]
    assert "rpn_ranking is 'logit' there and 'probability' in the model" in differences
    assert "backbone_norm is 'frozen_bn' there and 'bn_eval' in the model (training only)" in differences
    assert "mask_targets is 'polygon' there" not in str(differences)  # MASK_FORMAT: bitmask
    assert "nms_threshold" not in str(differences)


def test_parts_that_a_model_does_not_have_are_not_named():
    start = ModelConfig(**LIBRARIES["detectron2"].convention)
    faster = with_fields(start, {"mask_head": False, "mask_dim": 32, "mask_threshold": 0.3})
    assert export_settings(faster, "detectron2")[1] == ()


def test_a_model_that_mmdetection_has_no_name_for():
    """Its ResNeXt with one group is a plain ResNet, whatever the width."""
    wide = with_fields(ModelConfig(**LIBRARIES["mmdet"].convention), {"backbone_width_per_group": 128})
    with pytest.raises(UserError, match="MMDetection cannot express this model: its ResNet is a wide one"):
        export_settings(wide, "mmdet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = MaskRCNN(", "is no valid Python"),
        ("model = build()", "is no call of MaskRCNN or FasterRCNN"),
        ("model = MaskRCNN(backbone=1)\nopen('ran', 'w')", "is no call of"),
        (
            "model = MaskRCNN(num_classes=len(open('ran', 'w').name))",
            "in line 1, and it is read here, not run",
        ),
        ("model = MaskRCNN(backbone)", "in line 1, and it is read here"),
        ("model = MaskRCNN(**{'num_classes': 3})", "in line 1, and it is read here"),
        ("model = MaskRCNN(num_classes=1 + " + "(" * 300 + "1" + ")" * 300 + ")", "the call"),
        ("model = MaskRCNN(num_classes=1)", "num_classes is 1; supported: whole numbers from 2 on"),
        (
            "model = MaskRCNN(num_clases=3)",
            "num_clases is no setting of torchvision's that is known; did you",
        ),
        ("model = MaskRCNN(rpn_score_thresh=0.5)", "rpn_score_thresh is 0.5; supported: 0.0"),
        ("model = MaskRCNN(box_bg_iou_thresh=0.4)", "supported: the same as box_fg_iou_thresh, 0.5"),
        ("model = MaskRCNN(mask_head=MaskRCNNHeads(layers=(8, 16)))", "supported: a tuple of equal widths"),
        ("x = '" + "a" * 100_000 + "'", "characters, which no call of a constructor has"),
    ],
)
def test_calls_of_torchvision_that_are_wrong(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        LIBRARIES["torchvision"].read_settings(text, "the call")
    assert words in str(error.value) and "the call" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_call_that_torchvision_users_write():
    """Numbers of classes count the background, and a sampling ratio of -1 is the adaptive one."""
    text = """
from torchvision.models.detection import MaskRCNN
model = MaskRCNN(
    backbone=_resnet_fpn_extractor(
        backbone=resnet101(weights=None, norm_layer=partial(BatchNorm2d, eps=1e-5)), trainable_layers=5),
    num_classes=3, box_score_thresh=0.7,
    box_roi_pool=MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=7, sampling_ratio=-1),
    mask_roi_pool=MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=14, sampling_ratio=-1),
)
"""
    changes = {
        "num_classes": 2, "categories": (), "score_threshold": 0.7, "roi_sampling_ratio": 0,
        "backbone_depth": 101, "backbone_norm": "bn", "freeze_at": 0,
    }  # fmt: skip
    expected = with_fields(ModelConfig(**LIBRARIES["torchvision"].convention), changes)
    assert LIBRARIES["torchvision"].read_settings(text, "the call") == expected
