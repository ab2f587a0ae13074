"""What an exporter writes, read back: each field of ModelConfig is as it was, or the report names it."""

import dataclasses

import numpy as np
import pytest

from jaxmaskrcnn.config import _CHOICES, ConfigError, ModelConfig
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.fields import get_field, with_fields
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.presets import CITYSCAPES_8, COCO_80, COCO_90
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
    "categories": {},
}
# Combinations that no single field makes.
COMBINATIONS = [
    {"mask_head": False, "box_convs": 4, "box_fcs": 1, "head_norm": "bn"},
    {"box_convs": 4, "box_fcs": 1, "head_norm": "gn", "box_fc_dim": 512, "mask_dim": 64},
    {"mask_convs": 0, "box_convs": 2, "head_norm": "bn", "box_conv_dim": 32},
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
    silent, refused = [], []
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
        if missing := unlike(config, read) - named:
            silent.append((changes, missing))
        # Nothing is named that is as it was.
        assert not named & {f.name for f in dataclasses.fields(ModelConfig)} - unlike(config, read), changes
    assert not silent
    assert len(refused) < 20
