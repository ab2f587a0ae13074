"""MMDetection's models with deformable convolutions, on C4 and on DC5, beside what MMDetection computed.

That is in `goldens/mmdet_backbones.npz` and `goldens/mmdet_regnet.npz` (see
`record_mmdet_backbones.py`). ``pytest -s`` prints the largest
errors.
"""

import numpy as np
import pytest
from backbone_helpers import Recorded
from goldens.seeded_weights import seeded_mmdet_dcn_weight, seeded_mmdet_map_weight

from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

SMALL = {
    "backbone.freeze_at": 0,
    "rpn.pre_nms_train": 70,
    "rpn.post_nms_train": 80,
    "rpn.pre_nms_test": 40,
    "rpn.post_nms_test": 30,
    "rpn.batch_size": 64,
    "regions.batch_size": 100,
    "regions.positive_fraction": 0.5,
    "input.test_min_size": 94,
    "input.test_max_size": 126,
    "detections.per_image": 12,
}
NARROW = {**SMALL, "backbone.width": 8, "box.fc_dim": 32}
PYRAMID = {"neck.channels": 16, "rpn.anchors.sizes": ((10.0,), (20.0,), (40.0,), (80.0,), (160.0,))}
MAP = {"rpn.anchors.sizes": ((12.0, 24.0, 40.0, 64.0, 96.0),)}
REGNET = {f"backbone.{k}": v for k, v in dict(w0=8, wa=10.0, wm=2.0, depth=6, group_width=4).items()}
MASKS = {"mask.convs": 1, "mask.dim": 16}


def recorded(case, preset, changes, seeded, file="backbones"):
    return Recorded("mmdet", case, model_config(f"mmdet/{preset}", num_classes=3, **changes), seeded, file)


CASES = {
    case: recorded(case, *rest)
    for case, *rest in (
        ("dcn", "mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco", NARROW | PYRAMID | MASKS, seeded_mmdet_dcn_weight),
        (
            "dcnv2",
            "faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco",
            NARROW | PYRAMID,
            seeded_mmdet_dcn_weight,
        ),
        ("dc5", "faster-rcnn_r50-caffe-dc5_1x_coco", NARROW | MAP, seeded_mmdet_map_weight),
        ("c4", "mask-rcnn_r50-caffe-c4_1x_coco", SMALL | MAP | {"mask.dim": 16}, seeded_mmdet_map_weight),
        (
            "regnet",
            "mask-rcnn_regnetx-3.2GF-mdconv-c3-c5_fpn_1x_coco",
            SMALL | REGNET | {"box.fc_dim": 32} | PYRAMID | MASKS,
            seeded_mmdet_dcn_weight,
            "regnet",
        ),
    )
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.slow  # test_deform_conv.py compares the operator with torchvision's in every run
@cases
def test_features(case):
    case.check_maps()


@pytest.mark.slow
@cases
def test_detections(case):
    case.check_detections()


@pytest.mark.slow
@cases
def test_losses_and_gradients(case):
    case.check_training()


@pytest.mark.slow
@cases
def test_names_go_both_ways(case):
    case.check_names()


@cases
def test_config_file(case, tmp_path):
    """MMDetection's own config, changed as recorded, is the config of these tests; so is what is written."""
    (tmp_path / "config.py").write_text(str(case.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == case.config
    text, differences = export_settings(case.config, "mmdet")
    assert differences == ()
    (tmp_path / "written.py").write_text(text)
    assert config_from_file(tmp_path / "written.py") == case.config


def test_older_names_of_offsets(tmp_path):
    """Files of 2019 and 2020 have "conv2_offset" where later ones have "conv2.conv_offset"."""
    case = CASES["dcn"]
    older = {k.replace("conv2.conv_offset", "conv2_offset"): v for k, v in case.weights.items()}
    assert older.keys() != case.weights.keys()
    model = from_state_dict(older, case.config, "mmdet")
    layer = model.backbone.body.layer3[1].conv2.offset
    name = "backbone.layer3.1.conv2.conv_offset"
    kernel = case.weights[f"{name}.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(layer.kernel[...], kernel)
    np.testing.assert_array_equal(layer.bias[...], case.weights[f"{name}.bias"])


@pytest.mark.slow
def test_a_file_of_c4_is_loaded(tmp_path):
    """Its arrays show the trunk."""
    case = CASES["c4"]
    shown = LIBRARIES["mmdet"].structure(case.weights)
    assert (shown["neck"], shown["trunk"], shown["backbone.outputs"]) == (None, "res5", (4,))
    np.savez(tmp_path / "epoch_12.npz", **case.weights)
    model = load_detector(tmp_path / "epoch_12.npz", case.config)[0]
    name = "roi_head.shared_head.layer4.2.conv3.weight"
    kernel = model.trunk.layer4[2].conv3.kernel[...]
    np.testing.assert_array_equal(kernel, case.weights[name].transpose(2, 3, 1, 0))


def changed(tmp_path, case, old, new):
    """The message about a recorded config in which a text is replaced."""
    text = str(CASES[case].arrays["config"])
    assert old in text
    (tmp_path / "model.py").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        config_from_file(tmp_path / "model.py")
    return str(error.value)


@pytest.mark.parametrize(
    ("case", "old", "new", "message"),
    [
        ("dcn", "type='DCN'", "type='DCNv3'", "backbone.dcn.type is 'DCNv3'; supported: 'DCN' or 'DCNv2'"),
        (
            "dcn",
            "fallback_on_stride=False",
            "fallback_on_stride=True",
            "fallback_on_stride is True; supported",
        ),
        ("dcn", "stage_with_dcn=(", "stage_with_dcn=(True, ", "backbone.stage_with_dcn is "),
        (
            "dc5",
            "num_stages=4",
            "num_stages=3",
            "backbone.num_stages is 3; supported: 4, with the last stage",
        ),
        (
            "dc5",
            "            2,\n        ),",
            "            4,\n        ),",
            "supported: strides (1, 2, 2, 2) with",
        ),
        ("c4", "stage=3", "stage=2", "roi_head.shared_head.stage is 2; supported: 3"),
        (
            "c4",
            "depth=50,\n            dilation",
            "depth=101,\n            dilation",
            "that of the backbone, 50",
        ),
        ("c4", "with_avg_pool=True", "with_avg_pool=False", "with_avg_pool is False; supported: True"),
        ("c4", "mask_size=14", "mask_size=28", "supported: 14, twice the shared head's output_size"),
    ],
)
def test_settings_that_are_refused(case, old, new, message, tmp_path):
    assert message in changed(tmp_path, case, old, new)
