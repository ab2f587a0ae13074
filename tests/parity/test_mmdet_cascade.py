"""MMDetection's Cascade R-CNN, with and without masks: each stage gets MMDetection's own previous one.

What MMDetection computed is in `goldens/mmdet_cascade_*.npz` (see `record_mmdet_cascade.py`): "masks" has one
box for all classes and a mask head for each stage, "boxes" a box for each class and no masks. ``pytest -s``
prints the largest error of each stage. All that runs the networks is slow; of Detectron2's some is not.
"""

import functools
import json

import jax
import numpy as np
import pytest
from cascade_helpers import (
    STAGES,
    check_detections,
    check_losses,
    check_map_gradients,
    given_levels,
    results,
)
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import seeded_mmdet_cascade_weight, seeded_scene
from training_helpers import check_gradients, flat, gradient_function

from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

# What the recording script changes in MMDetection's config, in this library's words.
SMALL = {
    "backbone.depth": 18,
    "backbone.width": 8,
    "backbone.freeze_at": 0,
    "neck.channels": 16,
    "rpn.anchors.sizes": (10.0, 20.0, 40.0, 80.0, 160.0),
    "rpn.pre_nms_train": 70,
    "rpn.post_nms_train": 80,
    "rpn.pre_nms_test": 40,
    "rpn.post_nms_test": 30,
    "rpn.batch_size": 64,
    "regions.batch_size": 100,
    "regions.positive_fraction": 0.5,
    "box.fc_dim": 32,
    "input.test_min_size": 94,
    "input.test_max_size": 126,
    "detections.per_image": 20,
}
MASKS = {"mask.convs": 1, "mask.dim": 16}
CONFIGS = {
    "masks": model_config("mmdet/cascade-mask-rcnn_r50_fpn_1x_coco", num_classes=3, **SMALL, **MASKS),
    "boxes": model_config(
        "mmdet/cascade-rcnn_r50_fpn_1x_coco", num_classes=3, **SMALL, **{"box.class_agnostic": False}
    ),
}
both = pytest.mark.parametrize("variant", CONFIGS)


@functools.cache
def golden(variant):
    return dict(np.load(GOLDENS / f"mmdet_cascade_{variant}.npz"))


@functools.cache
def scenes():
    return [seeded_scene(*scene) for scene in json.loads(str(golden("masks")["scenes"]))]


@functools.cache
def weights(variant):
    names = json.loads(str(golden(variant)["names"]))
    return {name: seeded_mmdet_cascade_weight(name, tuple(shape)) for name, shape in names.items()}


def whole_model(variant):
    return from_state_dict(weights(variant), CONFIGS[variant], "mmdet")


@functools.cache
def heads(variant):
    """The model with the recorded feature maps in place of its backbone."""
    model = whole_model(variant)
    model.backbone = given_levels(golden(variant))
    return model


def batch_of(variant, targets=False):
    images, given = [scene["image"] for scene in scenes()], None
    if targets:
        given = [{name: s[name] for name in ("boxes", "labels", "masks")} for s in scenes()]
    return make_batch(CONFIGS[variant], images, given, max_objects=5 if targets else 0)


@functools.cache
def prediction(variant):
    return results(heads(variant), batch_of(variant), golden(variant))


@pytest.mark.slow
def test_images_have_their_own_size():
    np.testing.assert_array_equal(batch_of("masks").image_sizes, prediction("masks")[1]["size"])


@pytest.mark.slow
@both
@pytest.mark.parametrize("stage", STAGES)
def test_heads(variant, stage):
    """Each stage has its own weights."""
    ours, theirs, _ = prediction(variant)
    for name in (f"logits{stage}", f"deltas{stage}"):
        check(f"{variant} {name}, relative", relative(ours[name], theirs[name]), 1e-4)


@pytest.mark.slow
@both
@pytest.mark.parametrize("stage", [1, 2])
def test_boxes_between_stages(variant, stage):
    """Decoded with the stage's own weights, of the most probable class, and clipped to the image."""
    ours, theirs, _ = prediction(variant)
    check(
        f"{variant} boxes of stage {stage}, px", np.abs(ours[f"boxes{stage}"] - theirs[f"boxes{stage}"]), 1e-3
    )


@pytest.mark.slow
@both
def test_detections(variant):
    """The softmax of the mean of the three stages' logits, and the boxes of the last."""
    ours, theirs, valid = prediction(variant)
    check_detections(variant, ours["detections"], theirs, valid, scores=1e-6, boxes=1e-3)
    assert len(np.unique(theirs["labels"])) > 1


@pytest.mark.slow
def test_masks():
    """The mean of three mask heads' probabilities."""
    ours, theirs, _ = prediction("masks")
    check("mask probabilities", np.abs(ours["masks"] - theirs["masks"]), 1e-4)


@pytest.mark.slow
@both
def test_everything_behind_the_feature_maps(variant):
    _, theirs, valid = prediction(variant)
    ours = jax.jit(lambda model, batch: model.detect(batch))(heads(variant), batch_of(variant))
    check_detections(f"{variant} whole", ours, theirs, valid, scores=1e-5, boxes=1e-2)
    if variant == "masks":
        check("whole, masks", np.abs(ours.masks - theirs["masks"]), 1e-3)


def check_training(variant, case, model):
    run, params = gradient_function(model)
    gradient, losses = run(params, batch_of(variant, targets=True))
    recorded = golden(variant)
    check_losses(case, losses, recorded)
    gradient = flat(gradient)
    if case == "heads":
        check_map_gradients(gradient, recorded)
    own = {name: x for name, x in weights(variant).items() if f"{case}/gradient/{name}" in recorded}
    expected = {name: recorded[f"{case}/gradient/{name}"] for name in own}
    check_gradients(case, gradient, expected, own, LIBRARIES["mmdet"].table(CONFIGS[variant]))


@pytest.mark.slow
@both
def test_losses_and_gradients_of_the_heads(variant):
    """Every parameter's, and what reaches the feature maps; "boxes" decodes the own class's boxes."""
    check_training(variant, "heads", heads(variant))


@pytest.mark.slow
def test_losses_and_gradients_of_the_whole_model():
    check_training("masks", "train", whole_model("masks"))


@both
def test_names_go_both_ways(variant):
    """Every array comes back bit by bit, and the arrays show the structure."""
    model, own = whole_model(variant), weights(variant)
    back = to_state_dict(model, "mmdet")
    assert back.keys() == own.keys()
    for name, value in own.items():
        np.testing.assert_array_equal(back[name], value)
    found = LIBRARIES["mmdet"].structure(own)
    norm = {"backbone.norm": "bn"}  # arrays do not tell whether statistics are fixed
    assert found == config_structure(CONFIGS[variant].replace(norm))
    assert (found.get("mask.heads"), found["box.class_agnostic"]) == (
        ("each_stage", True) if variant == "masks" else (None, False)
    )


@both
def test_config_text(variant):
    """What MMDetection itself writes of the recorded config is read as the config of these tests."""
    config = CONFIGS[variant]
    assert config_from_mmdet_text(str(golden(variant)["config"]), "it").replace({"categories": ()}) == config
    text, differences = export_settings(config, "mmdet")
    assert differences == () and "CascadeRoIHead" in text
    assert config_from_mmdet_text(text, "it").replace({"categories": ()}) == config


@pytest.mark.slow
def test_a_file_is_loaded_with_a_config(tmp_path):
    np.savez(tmp_path / "epoch_12.npz", **weights("masks"))
    (tmp_path / "cascade.py").write_text(export_settings(CONFIGS["masks"], "mmdet")[0])
    model = load_detector(tmp_path / "epoch_12.npz", tmp_path / "cascade.py")[0]
    assert model.config.replace({"label_order": "id"}) == CONFIGS["masks"]
    kernel = model.mask_head[1].logits.kernel[...]
    np.testing.assert_array_equal(
        kernel, weights("masks")["roi_head.mask_head.1.conv_logits.weight"].transpose(2, 3, 1, 0)
    )


BASE = """
_base_ = ['../_base_/models/cascade-mask-rcnn_r50_fpn.py', '../_base_/datasets/coco_instance.py']
"""
HEAD = "dict(type='Shared2FCBBoxHead', num_classes=80, reg_class_agnostic=True, fc_out_channels={fc}, "
HEAD += "bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]), "
HEAD += "loss_bbox=dict(type='SmoothL1Loss', beta=1.0))"


def heads_text(*widths):
    return f"model = dict(roi_head=dict(bbox_head=[{', '.join(HEAD.format(fc=fc) for fc in widths)}]))"


def test_one_dictionary_for_all_stages(tmp_path):
    """As MMDetection repeats it; the stages then have the same deviations."""
    (tmp_path / "c.py").write_text(BASE + f"model = dict(roi_head=dict(bbox_head={HEAD.format(fc=1024)}))")
    config = config_from_file(tmp_path / "c.py")
    assert [stage.box_weights for stage in config.box.stages] == [(10, 10, 5, 5)] * 3
    assert [stage.foreground_iou for stage in config.box.stages] == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            heads_text(1024, 512, 1024),
            r"roi_head.bbox_head\[1\].fc_out_channels is 512; supported: 1024, as in the first stage",
        ),
        (heads_text(1024, 1024), "roi_head.bbox_head has no entry for some of the 3 stages"),
        (
            "model = dict(roi_head=dict(num_stages=1))",
            "num_stages is 1; supported: whole numbers of at least 2",
        ),
        (
            "model = dict(roi_head=dict(stage_loss_weights=[1, 1]))",
            r"weights is \(1.0, 1.0\); supported: a list of 3",
        ),
        (
            "model = dict(roi_head=dict(type='StandardRoIHead'))",
            "roi_head.bbox_head is a list; supported: a dict",
        ),
        (
            "model = dict(roi_head=dict(type='HybridTaskCascadeRoIHead'))",
            "type is 'HybridTaskCascadeRoIHead'; su",
        ),
    ],
)
def test_stages_that_are_refused(text, message, tmp_path):
    (tmp_path / "c.py").write_text(BASE + text)
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "c.py")
