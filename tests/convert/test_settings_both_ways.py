"""What an exporter writes, read back: each setting of ModelConfig is as it was, or the report names it."""

import itertools
import random
import typing

import numpy as np
import pytest

from jaxmaskrcnn.config import (
    BoxStageConfig,
    CarafeConfig,
    ConfigError,
    ExtraConfig,
    FederatedConfig,
    GRoIEConfig,
    KeypointConfig,
    ModelConfig,
    SemanticConfig,
)
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.lookup import CITYSCAPES_8, COCO_80, COCO_90, list_models, model_config

# Values to change a setting to, beside those of the enumerations and the opposite of each flag.
SEVERAL_SIZES = tuple((4.0 * 2**i, 8.0 * 2**i) for i in range(5))
DETECTRON2_KEYPOINTS = KeypointConfig(
    pool=model_config("detectron2/mask_rcnn_R_50_FPN_3x").mask.pool, offset=0.5, score="softmax"
)
VALUES = {
    "heads": [()],
    "extra": [(), (ExtraConfig(name="depth"),)],
    "build_model": ["", "mine:build_model"],
    "num_classes": [1, 7, 8, 80, 90],
    "backbone.outputs": [(2, 3, 4, 5)],
    "trunk": [None, "res5"],
    "extractor": [None, GRoIEConfig(), GRoIEConfig(kernel=3, heads=4, key_stride=1)],
    "keypoints": [None, DETECTRON2_KEYPOINTS],
    "semantic": [None, SemanticConfig(), SemanticConfig(things="last", loss_at="map", score_threshold=0.0)],
    "categories": [(), COCO_80, COCO_90, CITYSCAPES_8, (Category(3, "a cat"), Category(9, "dog"))],
    "input.pixel_scale": [1.0, 1 / 255, 0.5],
    "input.pixel_mean": [(0.0, 0.0, 0.0), (1.5, 2.5, 3.123456789012), (0.45, 0.45, 0.45), (-1.0, 0.0, 1.0)],
    "input.pixel_std": [(1.0, 1.0, 1.0), (4.0, 5.0, 6.123456789012), (0.225, 0.225, 0.225)],
    "input.test_min_size": [480],
    "input.test_max_size": [640, 2048],
    "input.pad_divisor": [1, 40, 64, 128],
    "input.pixels.channels": [1],
    "input.pixels.pages": ["channels"],
    "input.pixels.intensity_range": [(0.0, 4095.0)],
    "input.pixels.page": [2],
    "input.pixels.max_pixels": [300_000_000],
    "backbone.width": [32, 96],
    "backbone.kind": ["resnet", "regnet"],
    "backbone.groups": [2, 32],
    "backbone.width_per_group": [4, 5, 128],
    "backbone.norm_epsilon": [0.0, 1e-3],
    "backbone.deformable_stages": [(3, 4, 5), (5,), ()],
    "backbone.deformable_groups": [2],
    "backbone.context_stages": [(3, 4, 5), (5,), ()],
    "backbone.context_reduction": [4],
    "neck.channels": [128],
    "neck.kind": ["fpn", "simple_pyramid", "carafe_fpn"],
    "neck.norm_epsilon": [0.0, 1e-3],
    "rpn.anchors.sizes": [
        (16.0, 32.0, 64.0, 128.0, 256.0),
        (20.0, 32.0, 64.5, 130.0, 256.0),
        SEVERAL_SIZES,
        tuple((size, 1.5 * size) for size in (20.0, 32.0, 64.5, 130.0, 256.0)),
        ((16.0, 20.0), *((size, 2 * size) for size in (32.0, 64.0, 128.0, 256.0))),
    ],
    "rpn.anchors.ratios": [
        (1.0,),
        (0.25, 0.5, 1.0, 2.0),
        ((0.5, 1.0, 3.0),) * 5,
        ((0.5, 1.0, 3.0), *((0.5, 1.0, 2.0),) * 4),
    ],
    "rpn.anchors.offset": [0.5],
    "rpn.convs": [2, 3],
    "rpn.conv_dim": [0, 64, 512],
    "rpn.box_weights": [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (3.0, 7.0, 0.3, 30.3)],
    "rpn.pre_nms_train": [11],
    "rpn.pre_nms_test": [12],
    "rpn.post_nms_train": [13],
    "rpn.post_nms_test": [14],
    "rpn.nms_threshold": [0.65],
    "rpn.min_side": [0.0, 1e-3, 4.0, 4.5],
    "rpn.foreground_iou": [0.65],
    "rpn.background_iou": [0.25],
    "rpn.low_quality_min_iou": [0.0, 0.2],
    "rpn.batch_size": [64],
    "rpn.positive_fraction": [0.25],
    "rpn.iou_epsilon": [0.0, 1e-6, 1e-3],
    "regions.iou_epsilon": [0.0, 1e-6, 1e-3],
    "regions.batch_size": [128],
    "regions.positive_fraction": [0.5],
    "box.stages.0.foreground_iou": [0.6],
    "box.stages.0.loss_weight": [0.5],
    "rpn.border": [-1, 0, 16],
    "rpn.crowd_overlap": [0.7],
    "regions.crowd_overlap": [0.7],
    "box.pool.sampling_ratio": [0, 2, 3],
    "mask.pool.sampling_ratio": [0, 2, 3],
    "box.pool.size": [9],
    "box.convs": [1, 4],
    "box.conv_dim": [128],
    "box.fcs": [0, 1, 3],
    "box.fc_dim": [512],
    "box.norm_epsilon": [1e-5, 1e-3],
    "mask.norm_epsilon": [1e-5, 1e-3],
    "box.stages.0.box_weights": [(1.0, 1.0, 1.0, 1.0), (3.0, 7.0, 0.3, 30.3)],
    "box.federated": [None, FederatedConfig(), FederatedConfig(classes=7, power=0.25)],
    "rpn.loss.beta": [0.0, 1 / 9, 0.5],
    "rpn.loss.weight": [0.0, 10.0],
    "rpn.loss.gamma": [1.5],
    "rpn.loss.alpha": [0.5],
    "rpn.loss.objectness_weight": [0.0, 2.0],
    "box.loss.beta": [0.0, 1 / 9, 0.5],
    "box.loss.weight": [0.0, 10.0],
    "box.class_loss.gamma": [1.5],
    "box.class_loss.alpha": [0.5],
    "box.class_loss.class_weights": [(1.0, 2.0)],
    "box.class_loss.background_weight": [0.5],
    "box.class_loss.label_smoothing": [0.1],
    "box.class_loss.weight": [0.0, 2.0],
    "box.class_loss.mitigation": [0.5],
    "box.class_loss.compensation": [1.0],
    "box.cosine_scale": [0.0, 7.5],
    "mask.cosine_scale": [0.0, 20.0],
    "mask.loss.cross_entropy": [0.5],
    "mask.loss.dice": [1.0],
    "mask.loss.boundary": [0.1],
    "mask.pool.size": [7],
    "mask.kind": ["fcn", "point_rend", "mask_scoring"],
    "mask.convs": [0, 2],
    "mask.upsample": [None, CarafeConfig(), CarafeConfig(kernel=3, encoder_kernel=5, channels=32)],
    "mask.dim": [128],
    "detections.score_threshold": [0.0, 0.3],
    "detections.nms_threshold": [0.55],
    "detections.per_image": [33],
    "detections.nms_sigma": [0.25],
    "detections.nms_min_score": [0.0, 0.01],
    "detections.min_side": [0.0, 1e-2, 1.0],
    "detections.mask_threshold": [0.4],
}
CASCADE = {
    "box.class_agnostic": True,
    "box.stages": (BoxStageConfig(), BoxStageConfig(foreground_iou=0.6, box_weights=(21.0, 19.0, 8.0, 9.5))),
}
# What a setting takes part in only together with another value of these.
TOGETHER = {
    **dict.fromkeys(
        (
            "box.stage_scores",
            "box.stage_gradient",
            "regions.later_stages",
            "regions.empty_boxes",
            "mask.heads",
        ),
        CASCADE,
    ),
    "box.federated": {"box.scores": "sigmoid"},
    "box.class_loss.form": {"box.scores": "sigmoid"},
    "box.class_loss.mitigation": {"box.scores": "two_softmaxes"},
    "box.class_loss.compensation": {"box.scores": "two_softmaxes"},
    "rpn.loss.gamma": {"rpn.loss.objectness": "focal"},
    "rpn.loss.alpha": {"rpn.loss.objectness": "focal"},
    "box.class_loss.gamma": {"box.class_loss.form": "focal"},
    "box.class_loss.alpha": {"box.scores": "sigmoid", "box.class_loss.form": "focal"},
    "box.conv_dim": {"box.convs": 4},
    "box.fcs": {"box.convs": 4},
    "box.norm": {"box.convs": 4},
    "box.norm_epsilon": {"box.convs": 4, "box.norm": "bn"},
    "mask.norm_epsilon": {"mask.norm": "bn"},
    "detections.nms_sigma": {"detections.nms_method": "gaussian"},
    "detections.nms_min_score": {"detections.nms_method": "linear"},
    "neck.norm_epsilon": {"neck.norm": "bn"},
    "mask.conv_bias": {"mask.norm": "bn"},
    "rpn.anchors.order": {"rpn.anchors.sizes": SEVERAL_SIZES},
    "backbone.dilated_c5": {
        "backbone.outputs": (5,),
        "neck": None,
        "rpn.anchors.sizes": ((32.0, 64.0, 128.0),),
    },
    "backbone.deformable_masks": {"backbone.deformable_stages": (4, 5)},
    "backbone.deformable_groups": {"backbone.deformable_stages": (4, 5)},
    "backbone.context_reduction": {"backbone.context_stages": (4, 5)},
    "input.pixels.channels": {
        "input.channel_order": "rgb",
        "input.pixel_mean": (0.5,),
        "input.pixel_std": (0.5,),
    },
    "input.pixels.intensity_range": {"input.pixels.intensity": "range"},
    "trunk": {
        "backbone.outputs": (4,),
        "neck": None,
        "rpn.anchors.sizes": ((32.0, 64.0, 128.0),),
        "box.pool.size": 14,
    },
}
# Combinations that no single setting makes.
COMBINATIONS = [
    {"mask": None},
    {"mask": None, "box.convs": 4, "box.fcs": 1, "box.norm": "bn"},
    {"box.convs": 4, "box.fcs": 1, "box.norm": "gn", "mask.norm": "gn", "box.fc_dim": 512, "mask.dim": 64},
    {"box.convs": 4, "box.fcs": 1, "box.norm": "gn", "mask.norm": "bn"},
    {"mask.convs": 0, "box.convs": 2, "box.norm": "bn", "box.conv_dim": 32},
    {"box.convs": 2, "box.fcs": 0, "box.conv_dim": 16},
    {"mask.convs": 0, "mask.dim": 32, "neck.channels": 64, "box.pool.size": 5},
    {"backbone.groups": 32, "backbone.width_per_group": 4, "backbone.depth": 101},
    {"backbone.groups": 32, "backbone.width_per_group": 8, "backbone.width": 32},
    {"backbone.norm": "gn", "neck.norm": "gn", "backbone.norm_epsilon": 1e-3},
    {"backbone.norm": "bn", "backbone.norm_epsilon": 1e-3, "backbone.freeze_at": 0},
    {"input.normalise_before_resize": False, "input.resize_kernel": "pil"},
    {"input.normalise_before_resize": False, "input.resize_kernel": "cv2"},
    {"num_classes": 2, "categories": (Category(3, "a cat"), Category(9, 'the "dog"'))},
    {"rpn.anchors.sizes": (20.0, 32.0, 64.5, 130.0, 256.0), "rpn.anchors.ratios": (1.0,), "rpn.convs": 2},
    {"rpn.anchors.sizes": SEVERAL_SIZES, "rpn.anchors.ratios": (1.0, 2.0), "rpn.convs": 2},
]

# Settings that no library has.
NOWHERE = {
    "backbone.pool_padding", "box.delta_clamp", "box.norm_epsilon", "neck.norm_epsilon",
    "box.pool.level_rule", "box.pool.scale", "box_edges", "categories", "compute.dtype", "compute.remat",
    "detections.classes_per_region", "detections.min_side", "detections.paste_rule",
    "detections.rescale_rule", "input.padding", "input.placement", "mask.norm_epsilon", "rpn.clip",
    "box.pool.method", "mask.pool.method", "rpn.empty_boxes", "rpn.nms_scope",
    "input.pixels.intensity", "input.pixels.intensity_range", "input.pixels.page",
    "input.pixels.max_pixels",
    "input.resize_kernel", "input.size_rule", "mask.pool.level_rule", "mask.pool.scale", "mask.targets",
    "regions.crowd", "regions.crowd_overlap", "regions.ground_truth_proposals", "regions.iou_epsilon",
    "box.pool.inclusive", "mask.pool.inclusive", "rpn.anchors.base", "rpn.anchors.offset",
    "rpn.anchors.rounding", "rpn.anchors.stride", "rpn.crowd", "rpn.crowd_overlap", "rpn.delta_clamp",
    "rpn.iou_epsilon", "rpn.loss_count", "rpn.low_quality", "rpn.min_side", "rpn.ranking",
    "box.stage_gradient", "box.stage_scores", "box.stages.0.loss_weight", "regions.empty_boxes",
    "regions.later_stages", "regions.sampling", "rpn.batch_padding",
    "box.class_loss.form", "box.class_loss.gamma", "box.class_loss.alpha", "box.class_loss.class_weights",
    "box.class_loss.background_weight", "box.class_loss.label_smoothing", "box.class_loss.weight",
    "mask.loss.cross_entropy", "mask.loss.dice", "mask.loss.boundary", "rpn.loss.form", "rpn.loss.weight",
    "rpn.loss.objectness", "rpn.loss.gamma", "rpn.loss.alpha", "rpn.loss.objectness_weight",
}  # fmt: skip
SIGMOIDS = {
    "box.scores", "box.federated", "box.federated.classes", "box.federated.power",
    "box.federated.image_counts",
}  # fmt: skip
# Only MMDetection has them.
SOFT_NMS = {"detections.nms_method", "detections.nms_sigma", "detections.nms_min_score"}
# Settings that the report names for some value, besides these.
NAMED = {
    "torchvision": {
        *SOFT_NMS, "detections.nms_scope", "regions.head_boxes",
        *SIGMOIDS, "backbone.norm", "backbone.width", "box.loss.beta", "box.pool.aligned",
        "compute.weight_decay_exempts_norm", "detections.mask_threshold", "input.channel_order",
        "input.normalise_before_resize", "input.pixel_mean", "mask.pool.aligned", "neck.channels",
        "regions.low_quality", "rpn.border", "rpn.box_weights", "rpn.loss.beta", "rpn.low_quality_min_iou",
    },
    "detectron2": {
        *SOFT_NMS, "detections.nms_scope",
        "backbone.norm", "backbone.norm_epsilon", "detections.mask_threshold", "input.pad_divisor",
        "input.pixel_mean", "regions.low_quality", "rpn.border", "rpn.box_weights", "rpn.low_quality_min_iou",
    },
    # Of 30.3 the reciprocal is no number of Python's: read back, it is off by its last digit.
    "mmdet": {
        *SIGMOIDS, "regions.head_boxes",
        "box.stages.0.box_weights", "input.pad_divisor", "input.pixel_mean", "input.test_min_size",
        "regions.low_quality", "rpn.box_weights",
    },
    # One value there stands for two settings, such as PRE_NMS_LIMIT; others are not in its class.
    "matterport": {
        *SOFT_NMS,
        "detections.nms_scope", "regions.head_boxes",
        *SIGMOIDS,
        "backbone.freeze_at", "backbone.norm", "backbone.norm_epsilon", "box.fc_norm", "box.loss.beta",
        "box.pool.aligned", "box.pool.sampling_ratio", "box.stages.0.box_weights",
        "box.stages.0.foreground_iou", "compute.weight_decay_exempts_norm", "detections.mask_threshold",
        "input.channel_order", "input.pad_divisor", "input.pixel_mean", "input.pixel_std",
        "input.test_max_size", "mask.norm", "mask.pool.aligned", "mask.pool.sampling_ratio",
        "regions.low_quality", "rpn.background_iou", "rpn.border", "rpn.box_weights", "rpn.foreground_iou",
        "rpn.loss.beta", "rpn.low_quality_min_iou", "rpn.positive_fraction", "rpn.pre_nms_test",
        "rpn.pre_nms_train",
    },
}  # fmt: skip
NAMED["mmdet"] |= {"box.loss.form"}  # its CIoULoss is another one
for _library in ("torchvision", "detectron2", "matterport"):
    NAMED[_library] |= {"box.loss.form"} | ({"box.loss.weight"} if _library != "detectron2" else set())
# What is refused for some value, because the library cannot build such a model.
KERAS = {
    "backbone.conv_bias", "box.fc_norm", "box.norm", "mask.conv_bias", "mask.norm", "rpn.conv_dim",
    "rpn.objectness",
}  # fmt: skip
OF_CASCADES = {
    "box.stage_gradient", "box.stage_scores", "mask.heads", "regions.empty_boxes", "regions.later_stages",
}  # fmt: skip
CONTEXT = {"backbone.context_stages", "backbone.context_reduction"}
OF_RESNETS = {
    *CONTEXT, "backbone.deformable_stages", "backbone.deformable_masks", "backbone.deformable_groups",
    "backbone.dilated_c5",
}  # fmt: skip
REFUSED = {
    "torchvision": {
        *KERAS, *OF_CASCADES, *OF_RESNETS,
        "backbone.norm", "background", "backbone.kind", "backbone.stride_in_1x1", "box.average", "mask.kind",
        "box.class_agnostic", "mask.class_agnostic", "neck.norm", "rpn.anchors.order", "rpn.norm", "trunk",
        "keypoints", "semantic",
    },
    "detectron2": {
        *KERAS, *CONTEXT, "backbone.norm", "background", "backbone.kind", "box.average", "mask.heads",
        "neck.norm",
        "rpn.anchors.order",
        "rpn.norm", "trunk", "semantic",
    },
    "mmdet": {
        *KERAS, "background", "backbone.width_per_group", "box.average", "mask.heads", "neck.norm",
        "rpn.anchors.ratios", "rpn.anchors.sizes", "rpn.norm", "trunk", "keypoints", "semantic",
    },
    "matterport": {
        *OF_CASCADES, *OF_RESNETS, "mask.kind",
        "backbone.conv_bias", "backbone.depth", "backbone.groups", "backbone.kind",
        "backbone.norm",
        "backbone.stride_in_1x1", "backbone.width", "backbone.width_per_group", "background", "box.average",
        "box.class_agnostic", "box.conv_dim", "box.convs", "box.fc_norm", "box.fcs", "box.norm",
        "box.norm_epsilon", "mask.class_agnostic", "mask.conv_bias", "mask.convs", "mask.dim", "mask.norm",
        "neck.norm", "neck.norm_epsilon", "rpn.anchors.order", "rpn.anchors.ratios", "rpn.anchors.sizes",
        "rpn.conv_dim",
        "rpn.convs", "rpn.norm", "rpn.objectness", "trunk", "keypoints",
    },
}  # fmt: skip
for _library in REFUSED:
    REFUSED[_library] |= {"extra", "build_model", "input.pixels.channels", "input.pixels.pages"}
    REFUSED[_library] |= {"box.cosine_scale", "mask.cosine_scale"} if _library != "mmdet" else set()
    REFUSED[_library] |= {"neck.kind", "mask.upsample"} if _library != "mmdet" else set()
    # Regions of matterport's heads are pooled in another way.
    REFUSED[_library] |= {"extractor"} if _library not in ("mmdet", "matterport") else set()
REFUSED["detectron2"].add("mask.kind")
# Of the others, with the background first, no model has two softmaxes.
REFUSED["detectron2"] |= {"box.scores", "box.class_loss.mitigation", "box.class_loss.compensation"}


def changed(config: ModelConfig, changes) -> ModelConfig | None:
    """The configuration with the changes, and what has to go with them; None where there is no such one."""
    if "categories" in changes:
        changes = {"num_classes": len(changes["categories"]) or config.num_classes, **changes}
    elif "num_classes" in changes:
        changes = {"categories": (), **changes}
    try:
        return config.replace(changes)
    except ConfigError:
        return None


def values_of(path: str, expected) -> list:
    """The values to try for a setting, by its type."""
    if path in VALUES:
        return VALUES[path]
    if typing.get_origin(expected) is typing.Literal:
        return list(typing.get_args(expected))
    assert expected is bool, f"no values to try for {path}"
    return [True, False]


def variants(config: ModelConfig):
    """Each setting in turn with each of its values, and the combinations."""
    for path, _, expected in settings(config):
        for value in values_of(path, expected):
            yield path, {**TOGETHER.get(path, {}), path: value}
    yield from ((None, changes) for changes in COMBINATIONS)


def same_input(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether pixels of 0 and 255 enter the network as the same numbers, whatever the unit of the mean."""
    ends = [
        [
            (x * config.input.pixel_scale - np.array(config.input.pixel_mean))
            / np.array(config.input.pixel_std)
            for x in (0.0, 255.0)
        ]
        for config in (a, b)
    ]
    return np.allclose(*ends, rtol=1e-6, atol=1e-6)


def by_path(config: ModelConfig) -> dict:
    """Every setting; equal groups of ratios for all levels as one."""
    values = {path: value for path, value, _ in settings(config)}
    _, values["rpn.anchors.ratios"] = zip(*config.rpn.anchors.per_level, strict=True)
    return values


def unlike(a: ModelConfig, b: ModelConfig) -> set[str]:
    """The settings in which two configurations differ; a part that only one has is one of them."""
    a_values, b_values = by_path(a), by_path(b)
    missing = object()
    paths = {*a_values, *b_values}
    found = {path for path in paths if a_values.get(path, missing) != b_values.get(path, missing)}
    return found - INPUT if same_input(a, b) else found


INPUT = {"input.pixel_scale", "input.pixel_mean", "input.pixel_std"}


STRUCTURE = (
    "background", "backbone.", "neck.", "rpn.anchors", "rpn.convs", "rpn.norm", "extractor", "trunk",
    "box.convs", "box.fcs", "box.conv_dim", "box.fc_dim", "box.norm", "box.average", "box.class_agnostic",
    "box.pool.size", "mask.convs", "mask.dim", "mask.norm", "mask.class_agnostic", "mask.upsample",
    "mask.pool.size",
)  # fmt: skip
# Structures that no setting above makes alone.
STRUCTURES = [
    ("backbone.outputs", {"backbone.outputs": (3, 4, 5), "rpn.anchors.sizes": (32, 64, 128, 256)}),
    ("backbone.outputs", {"backbone.outputs": (2, 3), "rpn.anchors.sizes": (32, 64, 128)}),
    ("backbone.outputs", {"backbone.outputs": (4,), "rpn.anchors.sizes": (32, 64)}),
    ("neck", {"backbone.outputs": (5,), "neck": None, "rpn.anchors.sizes": ((32, 64, 128),)}),
    ("box.convs", {"box.convs": 0}),
    ("box.fcs", {"box.fcs": 0}),
    ("box.stages", {"box.stages": (BoxStageConfig(), BoxStageConfig(foreground_iou=0.6))}),
]


def structures(config: ModelConfig):
    """What determines the layers: each setting with each of its values."""
    yield from ((p, changes) for p, changes in variants(config) if p and p.startswith(STRUCTURE))
    yield from STRUCTURES


def pairs(config: ModelConfig):
    """Two settings of the structure at a time, of those that make a model."""
    for (first, one), (second, other) in itertools.combinations(structures(config), 2):
        if first != second and (both := changed(config, {**one, **other})) is not None:
            yield {**one, **other}, both


def check_pairs(library, chosen):
    """Settings are written and read back, or refused with what the library cannot express."""
    for changes, config in chosen:
        try:
            export_settings(config, library)
        except UserError as error:
            assert f"{LIBRARIES[library].title} cannot express this model: " in str(error), changes
            assert "\n" not in str(error), changes


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.slow
def test_pairs_of_structural_settings(library):
    """A sample; the slow test has all."""
    start = ModelConfig().replace(LIBRARIES[library].convention)
    singles = [(changes, changed(start, changes)) for _, changes in structures(start)]
    check_pairs(library, [(changes, config) for changes, config in singles if config is not None])
    all_pairs = list(itertools.combinations(structures(start), 2))
    chosen = random.Random(0).sample(all_pairs, 150)
    both = [({**one, **other}, changed(start, {**one, **other})) for (_, one), (_, other) in chosen]
    check_pairs(library, [(changes, config) for changes, config in both if config is not None])


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_all_pairs_of_structural_settings(library):
    check_pairs(library, pairs(ModelConfig().replace(LIBRARIES[library].convention)))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "changes, said",
    [
        (STRUCTURES[0][1], "its feature pyramid is not on C2 to C5"),
        (STRUCTURES[1][1], "its feature pyramid is not on C2 to C5"),
        (STRUCTURES[2][1], "its feature pyramid is not on C2 to C5"),
        ({"box.fcs": 0}, "its box head "),
    ],
)
def test_structures_that_are_written_for_no_library(library, changes, said):
    """They are refused by the library's limits and not by the reading of its text."""
    with pytest.raises(UserError) as error:
        export_settings(ModelConfig().replace({**LIBRARIES[library].convention, **changes}), library)
    assert f"{LIBRARIES[library].title} cannot express this model: {said}" in str(error.value)


@pytest.mark.parametrize("library", ["torchvision", "matterport"])
def test_libraries_without_cascades(library):
    with pytest.raises(UserError) as error:
        export_settings(ModelConfig().replace({**LIBRARIES[library].convention, **CASCADE}), library)
    said = f"{LIBRARIES[library].title} cannot express this model: its box head has several stages"
    assert said in str(error.value)


def test_widths_that_detectron2_has_no_setting_for():
    start = ModelConfig().replace(LIBRARIES["detectron2"].convention)
    for width, per_group, fits in ((96, 5, False), (96, 64, True), (64, 5, True), (80, 7, False)):
        config = start.replace({"backbone.width": width, "backbone.width_per_group": per_group})
        if fits:
            export_settings(config, "detectron2")
        else:
            with pytest.raises(UserError, match="cannot express this model: the channels of its bottlenecks"):
                export_settings(config, "detectron2")


@pytest.mark.slow_except("mmdet")
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_setting_comes_back_or_is_named(library):
    start = ModelConfig().replace(LIBRARIES[library].convention)
    silent, refused, all_named = [], set(), set()
    for path, changes in variants(start):
        config = changed(start, changes)
        if config is None or path == "label_order":  # which comes with the library and not with a file
            continue
        try:
            text, differences = export_settings(config, library)
        except UserError as error:
            assert f"{LIBRARIES[library].title} cannot express this model" in str(error), changes
            assert path is not None or library == "matterport", changes
            refused.update({path} - {None})
            continue
        read = LIBRARIES[library].read_settings(text, "the settings")
        named = {difference.split()[0] for difference in differences}
        all_named |= named
        # In a head of the usual size, these have no effect; test_point_rend_names.py has others.
        passed = named | ({"mask.channel_conv", "mask.first_map"} if path == "mask.kind" else set())
        if missing := unlike(config, read) - (passed | INPUT if "input.pixel_std" in named else passed):
            silent.append((changes, missing))
        # Nothing is named that is as it was.
        # A standard deviation that the library does not have is named in its unit.
        allowed = INPUT if "input.pixel_scale" in changes and "input.pixel_std" in named else set()
        assert not named & set(by_path(config)) - unlike(config, read) - allowed, changes
    assert not silent
    # What is refused together with a setting of another layer is not named.
    # Nor is what no configuration has: batch_padding "ignore" needs images in the corner.
    impossible = {"mmdet": {"input.placement"}, "matterport": {"rpn.batch_padding"}}.get(library, set())
    assert all_named == NOWHERE - REFUSED[library] - impossible | NAMED[library]
    assert refused == REFUSED[library]


# Detectron2 describes these in Python, in config files that make no yaml.
IN_PYTHON = ("detectron2/mask_rcnn_regnet", "detectron2/ViTDet/", "detectron2/MViTv2/")
OWN = [name for name in list_models() if name.split("/")[0] in LIBRARIES and not name.startswith(IN_PYTHON)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if i % 6 == 0 else pytest.mark.slow) for i, name in enumerate(OWN)]
)
def test_presets_are_the_same_in_their_own_library(name):
    config, library = model_config(name), name.split("/")[0]
    settings, differences = export_settings(config, library)
    assert not differences
    assert LIBRARIES[library].read_settings(settings, "the settings") == config


def test_differences_say_what_they_are_about():
    config = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco", **{"detections.nms_threshold": 0.4})
    differences = export_settings(config, "detectron2")[1]
    assert "rpn.ranking is 'logit' there and 'probability' in the model" in differences
    assert "backbone.norm is 'frozen_bn' there and 'bn_eval' in the model (training only)" in differences
    assert "mask.targets is 'polygon' there" not in str(differences)  # MASK_FORMAT: bitmask
    assert "detections.nms_threshold" not in str(differences)


def test_parts_that_a_model_does_not_have_are_not_named():
    start = ModelConfig().replace(LIBRARIES["detectron2"].convention)
    faster = start.replace({"mask": None, "detections.mask_threshold": 0.3, "box.conv_dim": 32})
    assert export_settings(faster, "detectron2")[1] == ()


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_order_of_anchors_that_has_no_effect_is_not_named(library):
    """With one size or one ratio on each level, both orders are the same anchors."""
    start = ModelConfig().replace(LIBRARIES[library].convention)
    several = {
        "rpn.anchors.sizes": tuple((2.0**n, 1.5 * 2.0**n) for n in range(5, 10)),
        "rpn.anchors.ratios": (0.5,),
    }
    # matterport's levels have one size each.
    for changes in ({},) if library == "matterport" else ({}, several):
        for order in ("ratio", "size"):
            config = start.replace({**changes, "rpn.anchors.order": order})
            named = str(export_settings(config, library)[1])
            assert "rpn.anchors.order" not in named, (changes, order)


def test_a_width_of_layers_that_a_box_head_does_not_have_is_not_named():
    start = ModelConfig().replace(LIBRARIES["torchvision"].convention)
    for fcs, width in ((0, 1024), (1, 512)):  # what is read back
        config = start.replace({"box.convs": 4, "box.fcs": fcs, "box.fc_dim": 512})
        text, differences = export_settings(config, "torchvision")
        there = LIBRARIES["torchvision"].read_settings(text, "the settings").box.fc_dim
        assert "box.fc_dim" not in str(differences)
        assert there == width


def test_a_model_that_mmdetection_has_no_name_for():
    """Its ResNeXt with one group is a plain ResNet, whatever the width."""
    wide = ModelConfig().replace({**LIBRARIES["mmdet"].convention, "backbone.width_per_group": 128})
    said = "MMDetection cannot express this model: its backbone is a wide ResNet"
    with pytest.raises(UserError, match=said):
        export_settings(wide, "mmdet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = MaskRCNN(", "is not valid Python"),
        ("model = build()", "is not a call of MaskRCNN or FasterRCNN"),
        ("model = MaskRCNN(backbone=1)\nopen('ran', 'w')", "is not a call of"),
        (
            "model = MaskRCNN(num_classes=len(open('ran', 'w').name))",
            "in line 1, but it is read here, not run",
        ),
        ("model = MaskRCNN(backbone)", "in line 1, but it is read here"),
        ("model = MaskRCNN(**{'num_classes': 3})", "in line 1, but it is read here"),
        ("model = MaskRCNN(num_classes=1 + " + "(" * 300 + "1" + ")" * 300 + ")", "the call"),
        ("model = MaskRCNN(num_classes=1)", "num_classes is 1; supported: whole numbers of at least 2"),
        (
            "model = MaskRCNN(num_clases=3)",
            "num_clases is not a known setting of torchvision; did you",
        ),
        ("model = MaskRCNN(rpn_score_thresh=0.5)", "rpn_score_thresh is 0.5; supported: 0.0"),
        ("model = MaskRCNN(box_bg_iou_thresh=0.4)", "supported: the same as box_fg_iou_thresh, 0.5"),
        ("model = MaskRCNN(mask_head=MaskRCNNHeads(layers=(8, 16)))", "supported: a tuple of equal widths"),
        ("x = '" + "a" * 100_000 + "'", "characters, more than a constructor call can have"),
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
        "num_classes": 2,
        "categories": (),
        "detections.score_threshold": 0.7,
        "box.pool.sampling_ratio": 0,
        "mask.pool.sampling_ratio": 0,
        "backbone.depth": 101,
        "backbone.norm": "bn",
        "backbone.freeze_at": 0,
    }
    expected = ModelConfig().replace({**LIBRARIES["torchvision"].convention, **changes})
    assert LIBRARIES["torchvision"].read_settings(text, "the call") == expected
