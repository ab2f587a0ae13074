"""Detectron2's models with deformable convolutions and on a dilated C5, beside what Detectron2 computed.

That is in `goldens/detectron2_backbones.npz`, `detectron2_x152.npz` and `detectron2_x152_training.npz` (see
`record_detectron2_backbones.py`). ``pytest -s`` prints the largest errors.
"""

import dataclasses

import numpy as np
import pytest
from backbone_helpers import Recorded
from detectors import random_model
from goldens.seeded_weights import (
    seeded_detectron2_dc5_weight,
    seeded_detectron2_weight,
    seeded_detectron2_x152_weight,
)

from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

NARROW = {
    "backbone.width": 8,
    "backbone.freeze_at": 0,
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
    "input.test_min_size": 94,
    "input.test_max_size": 126,
    "detections.per_image": 12,
}
CASES = {
    "dconv": Recorded(
        "detectron2",
        "dconv",
        model_config(
            "detectron2/mask_rcnn_R_50_FPN_1x_dconv_c3-c5",
            num_classes=3,
            **NARROW,
            **{
                "backbone.deformable_masks": True,
                "backbone.deformable_groups": 2,
                "neck.channels": 16,
                "rpn.anchors.sizes": (10.0, 20.0, 40.0, 80.0, 160.0),
            },
        ),
        seeded_detectron2_weight,
    ),
    "dc5": Recorded(
        "detectron2",
        "dc5",
        model_config(
            "detectron2/mask_rcnn_R_50_DC5_3x",
            num_classes=3,
            **NARROW,
            **{"rpn.anchors.sizes": ((12.0, 24.0, 40.0, 64.0, 96.0),)},
        ),
        seeded_detectron2_dc5_weight,
    ),
    "x152": Recorded(
        "detectron2",
        "x152",
        model_config(
            "detectron2/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv",
            num_classes=3,
            **NARROW
            | {
                "backbone.depth": 50,
                "backbone.groups": 4,
                "backbone.width_per_group": 32,
                "neck.channels": 16,
                "rpn.anchors.sizes": (10.0, 20.0, 40.0, 80.0, 160.0),
                "box.conv_dim": 32,
                "mask.convs": 2,
                "mask.dim": 32,
            },
        ),
        seeded_detectron2_x152_weight,
        "x152",
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.slow
@cases
def test_features(case):
    case.check_maps()


@pytest.mark.slow
@cases
def test_detections(case):
    case.check_detections()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [CASES["dconv"], CASES["dc5"], dataclasses.replace(CASES["x152"], file="x152_training")],
    ids=["dconv", "dc5", "x152"],
)
def test_losses_and_gradients(case):
    case.check_training()


@pytest.mark.slow
@cases
def test_names_go_both_ways(case):
    case.check_names()


@pytest.mark.slow_except("x152")
@cases
def test_a_file_is_loaded_with_a_preset_and_with_a_yaml(case, tmp_path):
    np.savez(tmp_path / "model_final.npz", **case.weights)
    with pytest.raises(UserError, match="no preset has its structure"):
        load_detector(tmp_path / "model_final.npz")
    text, differences = export_settings(case.config, "detectron2")
    assert differences == ()
    (tmp_path / "model.yaml").write_text(text)
    name = next(name for name in case.weights if name.endswith("res5.0.conv2.weight"))
    for config in (case.config, tmp_path / "model.yaml"):
        model = load_detector(tmp_path / "model_final.npz", config)[0]
        assert model.config == case.config
        kernel = model.backbone.body.layer4[0].conv2.kernel[...]
        np.testing.assert_array_equal(kernel, case.weights[name].transpose(2, 3, 1, 0))


@cases
def test_config_file(case, tmp_path):
    """What Detectron2 itself writes of the recorded config is read as the config of these tests."""
    (tmp_path / "config.yaml").write_text(str(case.arrays["yaml"]))
    assert config_from_file(tmp_path / "config.yaml") == case.config


@pytest.mark.parametrize(
    ("preset", "base", "lines"),
    [
        ("mask_rcnn_R_50_DC5_1x", "DilatedC5", ["MASK_ON: True"]),
        ("faster_rcnn_R_101_DC5_3x", "DilatedC5", ["MASK_ON: False", "RESNETS: {DEPTH: 101}"]),
        (
            "mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
            "FPN",
            ["MASK_ON: True", "RESNETS: {DEFORM_ON_PER_STAGE: [False, True, True, True]}"],
        ),
    ],
)
def test_config_files_of_the_zoo(preset, base, lines, tmp_path):
    """Their own lines, upon the library's base."""
    text = "\n".join([f"_BASE_: ../Base-RCNN-{base}.yaml", "MODEL:", *(f"  {line}" for line in lines)])
    (tmp_path / "model.yaml").write_text(text)
    expected = model_config(f"detectron2/{preset}")
    assert config_from_file(tmp_path / "model.yaml") == expected
    assert export_settings(expected, "detectron2")[1] == ()


@pytest.mark.parametrize(
    ("base", "settings", "message"),
    [
        ("FPN", "{RES5_DILATION: 2}", "RES5_DILATION is 2; supported: 1, or 2 if OUT_FEATURES are"),
        ("C4", "{RES5_DILATION: 2}", "RES5_DILATION is 2; supported: 1, or 2 if OUT_FEATURES are"),
        ("DilatedC5", "{RES5_DILATION: 4}", "RES5_DILATION is 4; supported: 1 or 2"),
        ("FPN", "{DEFORM_ON_PER_STAGE: [True]}", "supported: a list of four of True and False"),
        (
            "C4",
            "{DEFORM_ON_PER_STAGE: [False, False, True, True]}",
            "supported: False for the stages after the last of OUT_FEATURES, res4",
        ),
        (
            "FPN",
            "{DEPTH: 34, RES2_OUT_CHANNELS: 64, DEFORM_ON_PER_STAGE: [False, True, True, True]}",
            "supported: its default at a DEPTH below 50",
        ),
    ],
)
def test_stages_that_detectron2_does_not_build(base, settings, message, tmp_path):
    text = f"_BASE_: ../Base-RCNN-{base}.yaml\nMODEL: {{RESNETS: {settings}}}"
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "model.yaml")


@pytest.mark.parametrize(("masks", "groups", "channels"), [(False, 1, 18), (True, 1, 27), (True, 4, 108)])
def test_offsets_show_the_version(masks, groups, channels):
    changes = {"backbone.deformable_masks": masks, "backbone.deformable_groups": groups}
    config = CASES["dconv"].config.replace(changes)
    assert groups * (27 if masks else 18) == channels
    shown = config_structure(config)
    assert {path: shown[path] for path in changes} == changes


@pytest.mark.parametrize("library", ["torchvision", "matterport"])
def test_other_libraries_have_no_such_model(library):
    preset = {"torchvision": "torchvision/maskrcnn_resnet50_fpn", "matterport": "matterport/mask_rcnn_coco"}
    config = model_config(preset[library])
    export_settings(config, library)
    config = config.replace({"backbone.deformable_stages": (5,)})
    with pytest.raises(UserError, match="cannot express this model: its backbone has deformable convolution"):
        export_settings(config, library)
    with pytest.raises(UserError, match="it has no neck"):
        export_settings(CASES["dc5"].config.replace({"background": "first"}), library)


@pytest.mark.parametrize("given", [False, True])
def test_backbone_weights_with_and_without_offsets(given, tmp_path):
    """Files of ordinary ResNets leave out offsets, which keep their values; others have all of them."""
    case = CASES["dconv"]
    prefix = "backbone.bottom_up."
    arrays = {k.removeprefix(prefix): v for k, v in case.weights.items() if k.startswith(prefix)}
    arrays = {k: v for k, v in arrays.items() if given or "offset" not in k}
    np.savez(tmp_path / "R-50.npz", **arrays)
    model = random_model(case.config)
    layer = model.backbone.body.layer4[0].conv2
    before = np.array(layer.offset.kernel[...])
    report = load_backbone(model, tmp_path / "R-50.npz")
    assert len(report.assigned) == len(arrays)
    name = "res5.0.conv2.weight"
    np.testing.assert_array_equal(layer.kernel[...], arrays[name].transpose(2, 3, 1, 0))
    expected = arrays["res5.0.conv2_offset.weight"].transpose(2, 3, 1, 0) if given else before
    np.testing.assert_array_equal(layer.offset.kernel[...], expected)
    del arrays["res5.1.conv2.weight"]
    np.savez(tmp_path / "R-50.npz", **arrays)
    with pytest.raises(UserError, match="without a value in the file"):
        load_backbone(model, tmp_path / "R-50.npz")
