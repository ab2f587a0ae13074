"""Detectron2's Cascade Mask R-CNN: each stage gets what Detectron2's own previous one put out.

What Detectron2 computed is in `goldens/detectron2_cascade.npz` (see `record_detectron2_cascade.py`). ``pytest
-s`` prints the largest error of each stage.
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
from goldens.seeded_weights import seeded_detectron2_cascade_weight, seeded_polygons, seeded_scene
from training_helpers import check_gradients, flat, gradient_function

from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

GOLDEN = dict(np.load(GOLDENS / "detectron2_cascade.npz"))
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
# What the recording script says to Detectron2, in this library's words.
CONFIG = model_config(
    "detectron2/cascade_mask_rcnn_R_50_FPN_3x",
    num_classes=3,
    **{
        "backbone.depth": 18,
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
        "mask.convs": 1,
        "mask.dim": 16,
        "input.test_min_size": 96,
        "input.test_max_size": 128,
        "detections.per_image": 12,
    },
)
WEIGHTS = {
    name: seeded_detectron2_cascade_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}


def whole_model():
    return from_state_dict(WEIGHTS, CONFIG, "detectron2")


@functools.cache
def heads():
    """The model with the recorded feature maps in place of its backbone."""
    model = whole_model()
    model.backbone = given_levels(GOLDEN)
    return model


def batch_of(targets=False):
    images, given = [scene["image"] for scene in SCENES], None
    if targets:
        given = [
            {"boxes": s["boxes"], "labels": s["labels"], "polygons": seeded_polygons(s["boxes"])}
            for s in SCENES
        ]
    return make_batch(CONFIG, images, given, max_objects=5 if targets else 0)


@functools.cache
def prediction():
    return results(heads(), batch_of(), GOLDEN)


@pytest.mark.slow
def test_images_have_their_own_size():
    np.testing.assert_array_equal(batch_of().image_sizes, prediction()[1]["size"])


@pytest.mark.parametrize("stage", STAGES)
def test_heads(stage):
    """Each stage has its own weights."""
    ours, theirs, _ = prediction()
    for name in (f"logits{stage}", f"deltas{stage}"):
        check(f"{name}, relative", relative(ours[name], theirs[name]), 1e-4)
    others = {str(k): ours[f"logits{k}"] for k in STAGES if k != stage}
    assert all(relative(other, theirs[f"logits{stage}"]).max() > 0.1 for other in others.values())


@pytest.mark.parametrize("stage", [1, 2])
def test_boxes_between_stages(stage):
    """Decoded with the stage's own weights and clipped to the image."""
    ours, theirs, _ = prediction()
    check(f"boxes of stage {stage}, px", np.abs(ours[f"boxes{stage}"] - theirs[f"boxes{stage}"]), 1e-3)
    inside = theirs["size"][:, None, ::-1]
    assert (theirs[f"boxes{stage}"][..., 2:] == inside).any() and (theirs[f"boxes{stage}"] == 0).any()


def test_detections():
    """The mean of the three stages' probabilities, and the boxes of the last."""
    ours, theirs, valid = prediction()
    check_detections("detections", ours["detections"], theirs, valid, scores=1e-6, boxes=1e-3)


def test_masks():
    ours, theirs, _ = prediction()
    check("mask probabilities", np.abs(ours["masks"] - theirs["masks"]), 1e-4)


@pytest.mark.slow
def test_everything_behind_the_feature_maps():
    _, theirs, valid = prediction()
    ours = jax.jit(lambda model, batch: model.detect(batch))(heads(), batch_of())
    check_detections("whole", ours, theirs, valid, scores=1e-5, boxes=1e-2)
    check("whole, masks", np.abs(ours.masks - theirs["masks"]), 1e-3)


@pytest.mark.slow
def test_losses_and_gradients_of_the_heads():
    """Every parameter's, and what reaches the feature maps: a third of each stage's."""
    run, params = gradient_function(heads())
    gradient, losses = run(params, batch_of(targets=True))
    check_losses("heads", losses, GOLDEN)
    gradient = flat(gradient)
    check_map_gradients(gradient, GOLDEN)
    names = [name for name in WEIGHTS if f"heads/gradient/{name}" in GOLDEN]
    golden = {name: GOLDEN[f"heads/gradient/{name}"] for name in names}
    table = LIBRARIES["detectron2"].table(CONFIG)
    check_gradients("heads", gradient, golden, {name: WEIGHTS[name] for name in names}, table)


@pytest.mark.slow  # the backbone's gradient takes a minute to compile
def test_losses_and_gradients_of_the_whole_model():
    run, params = gradient_function(whole_model())
    gradient, losses = run(params, batch_of(targets=True))
    check_losses("train", losses, GOLDEN)
    names = [name for name in WEIGHTS if f"train/gradient/{name}" in GOLDEN]
    golden = {name: GOLDEN[f"train/gradient/{name}"] for name in names}
    table = LIBRARIES["detectron2"].table(CONFIG)
    check_gradients("train", flat(gradient), golden, {name: WEIGHTS[name] for name in names}, table)


def test_names_go_both_ways():
    model = whole_model()
    assert model.box_head[2].fcs[0].kernel.shape == (7 * 7 * 16, 32)
    back = to_state_dict(model, "detectron2")
    assert back.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(back[name], value)
    shown = LIBRARIES["detectron2"].structure(WEIGHTS)
    assert shown == config_structure(CONFIG)
    assert shown["stages of a cascade (box.stages)"] == 3


@pytest.mark.slow
def test_a_file_is_loaded_with_a_preset_and_with_a_yaml(tmp_path):
    np.savez(tmp_path / "model_final.npz", **WEIGHTS)
    text, differences = export_settings(CONFIG, "detectron2")
    assert differences == () and "CascadeROIHeads" in text
    (tmp_path / "cascade.yaml").write_text(text)
    for config in (CONFIG, tmp_path / "cascade.yaml"):
        model = load_detector(tmp_path / "model_final.npz", config)[0]
        assert model.config == CONFIG
        kernel = model.box_head[1].cls_score.kernel[...]
        np.testing.assert_array_equal(kernel, WEIGHTS["roi_heads.box_predictor.1.cls_score.weight"].T)
    single = CONFIG.replace({"box.stages": CONFIG.box.stages[:1]})
    with pytest.raises(UserError, match=r"stages of a cascade \(box.stages\) 3, here None"):
        load_detector(tmp_path / "model_final.npz", single)


def test_config_file(tmp_path):
    """What Detectron2 itself writes of the recorded config is read as the config of these tests."""
    (tmp_path / "config.yaml").write_text(str(GOLDEN["yaml"]))
    assert config_from_file(tmp_path / "config.yaml") == CONFIG


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: False}",
            "CLS_AGNOSTIC_BBOX_REG is False; supported: True wi",
        ),
        (
            "ROI_BOX_CASCADE_HEAD: {IOUS: [0.5, 0.6]}",
            r"HEAD.IOUS is \[0.5, 0.6\]; supported: a list of two or",
        ),
        ("ROI_BOX_CASCADE_HEAD: {IOUS: [0.4, 0.6, 0.7]}", r"IOU_THRESHOLDS is \[0.5\]; supported: \[0.4\], "),
        ("ROI_BOX_CASCADE_HEAD: {BBOX_REG_WEIGHTS: [1, 2]}", r"WEIGHTS is \[1, 2\]; supported: a list with"),
        ("ROI_BOX_CASCADE_HEAD: {IOU: [0.5]}", r"CASCADE_HEAD.IOU is not a known setting .*did you mean"),
    ],
)
def test_stages_that_detectron2_does_not_have(lines, message, tmp_path):
    text = "_BASE_: ../Base-RCNN-FPN.yaml\nMODEL:\n  MASK_ON: True\n  ROI_HEADS: {NAME: CascadeROIHeads}\n"
    text += f"  {lines}"
    if "ROI_BOX_HEAD" not in lines:
        text += "\n  ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}"
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "model.yaml")


@pytest.mark.parametrize(
    ("changes", "library", "said"),
    [
        (
            {"box.class_agnostic": False},
            "detectron2",
            "it has several box stages that are not class-agnostic",
        ),
        ({"mask.heads": "each_stage"}, "detectron2", "it has a mask head for each box stage"),
        ({}, "mmdet", "it has one mask head for several box stages"),
        ({"background": "first"}, "torchvision", "its box head has several stages"),
    ],
)
def test_cascades_that_a_library_does_not_have(changes, library, said):
    with pytest.raises(UserError, match=f"cannot express this model: {said}"):
        export_settings(CONFIG.replace(changes), library)
