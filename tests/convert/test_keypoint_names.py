"""Keypoint R-CNN's weights and settings, to other libraries and back."""

import numpy as np
import pytest
from detectors import random_model

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.heads.keypoint_names import names
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.names.tables import Table
from jaxmaskrcnn.zoo.lookup import list_models, model_config, model_info

KEYPOINT_MODELS = [name for name in list_models() if "keypoint" in name]
# What the libraries' own models have (torchvision 0.29, Detectron2 02b5c4e2).
FIRST_AND_LAST = {
    "torchvision": {
        "roi_heads.keypoint_head.0.weight": (512, 256, 3, 3),
        "roi_heads.keypoint_head.14.bias": (512,),
        "roi_heads.keypoint_predictor.kps_score_lowres.weight": (512, 17, 4, 4),
        "roi_heads.keypoint_predictor.kps_score_lowres.bias": (17,),
    },
    "detectron2": {
        "roi_heads.keypoint_head.conv_fcn1.weight": (512, 256, 3, 3),
        "roi_heads.keypoint_head.conv_fcn8.bias": (512,),
        "roi_heads.keypoint_head.score_lowres.weight": (512, 17, 4, 4),
        "roi_heads.keypoint_head.score_lowres.bias": (17,),
    },
}
NARROW = {
    "backbone.width": 8, "neck.channels": 8, "box.fc_dim": 8, "keypoints.convs": 2, "keypoints.dim": 8,
}  # fmt: skip


def test_published_models():
    assert len(KEYPOINT_MODELS) == 6
    for name in KEYPOINT_MODELS:
        config, info = model_config(name), model_info(name)
        assert config.mask is None and config.keypoints.points[0] == "nose" and config.num_classes == 1
        assert config.categories[0].name == "person" and info.mask_ap is None
        assert info.keypoint_ap > info.box_ap > 50 and info.file
    legacy, newer = (model_config(f"torchvision/keypointrcnn_resnet50_fpn{x}") for x in ("_legacy", ""))
    assert (legacy.backbone.norm_epsilon, newer.backbone.norm_epsilon) == (1e-5, 0)


@pytest.mark.parametrize("name", KEYPOINT_MODELS)
def test_settings_are_written_and_read_back(name):
    text, differences = export_settings(model_config(name), name.split("/")[0])
    assert differences == () and ("KEYPOINT_ON: true" in text or "KeypointRCNN(" in text)


@pytest.mark.parametrize("library", FIRST_AND_LAST)
def test_arrays_have_the_librarys_names_and_shapes(library):
    name = {"torchvision": "keypointrcnn_resnet50_fpn", "detectron2": "keypoint_rcnn_R_50_FPN_3x"}[library]
    config = model_config(f"{library}/{name}")
    head = abstract_model(config).keypoint_head
    values = {
        f"keypoint_head.{path}": np.broadcast_to(np.float32(0), variable.shape)
        for path, variable in _variables(head).items()
    }
    found = {
        key: value.shape for key, value in Table.of([names(library, config.keypoints)]).export(values).items()
    }
    assert len(found) == 18
    assert FIRST_AND_LAST[library].items() <= found.items()


def _variables(head):
    return {
        "logits.kernel": head.logits.kernel,
        "logits.bias": head.logits.bias,
        **{f"convs.{i}.conv.kernel": layer.conv.kernel for i, layer in enumerate(head.convs)},
        **{f"convs.{i}.conv.bias": layer.conv.bias for i, layer in enumerate(head.convs)},
    }


@pytest.mark.slow_except("detectron2-detectron2/keypoint_rcnn_R_50_FPN_3x")
@pytest.mark.parametrize("library, preset", [
    ("torchvision", "torchvision/keypointrcnn_resnet50_fpn"),
    ("detectron2", "detectron2/keypoint_rcnn_R_50_FPN_3x"),
])  # fmt: skip
def test_round_trip_is_bit_for_bit_and_the_structure_is_told(library, preset):
    config = model_config(preset, **{**NARROW, "keypoints.points": ("head", "left_foot", "right_foot")})
    model = random_model(config)
    arrays = to_state_dict(model, library)
    assert LIBRARIES[library].structure(arrays, "it") == config_structure(config)
    again = to_state_dict(from_state_dict(arrays, config, library), library)
    assert arrays.keys() == again.keys()
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    # Another number of keypoints needs another last layer, and nothing else.
    other = config.replace({"keypoints.points": ("a", "b")})
    with pytest.raises(UserError, match="roi_heads.keypoint"):
        from_state_dict(arrays, other, library)
    changed = to_state_dict(from_state_dict(arrays, other, library, allow_new_heads=True), library)
    different = [name for name in arrays if not np.array_equal(arrays[name], changed[name])]
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in different} <= {
        "kps_score_lowres", "score_lowres"
    }  # fmt: skip


def test_other_libraries_and_combinations_are_refused():
    config = model_config("torchvision/keypointrcnn_resnet50_fpn")
    both = config.replace({"mask": True, "keypoints": "heatmap"})
    with pytest.raises(UserError, match="a mask head and a keypoint head"):
        export_settings(both, "torchvision")
    other = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco").replace({"keypoints": KeypointConfig()})
    with pytest.raises(UserError, match="its keypoint head is 'heatmap', which no"):
        export_settings(other, "mmdet")


def test_yaml_with_masks_and_keypoints(tmp_path):
    from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml

    path = tmp_path / "both.yaml"
    path.write_text(
        "_BASE_: Base-Keypoint-RCNN-FPN.yaml\nMODEL:\n  MASK_ON: True\n  ROI_KEYPOINT_HEAD:\n"
        "    NUM_KEYPOINTS: 3\n    CONV_DIMS: [64, 64]\n    LOSS_WEIGHT: 4.0\n"
        "    NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS: False\n    MIN_KEYPOINTS_PER_IMAGE: 2\n"
    )
    config = config_from_yaml(path)
    part = config.keypoints
    assert config.mask is not None and config.categories[0].name == "person"
    assert (part.convs, part.dim, part.loss_weight, part.loss_count) == (2, 64, 4.0, "constant")
    assert (len(part.points), part.min_per_image, part.offset, part.score) == (3, 2, 0.5, "softmax")
    assert (config.rpn.post_nms_train, config.box.loss.beta, part.pool.aligned) == (1500, 0.5, True)
    assert export_settings(config, "detectron2")[1] == ()


def test_yaml_of_different_widths_and_c4_are_refused(tmp_path):
    from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml

    path = tmp_path / "wrong.yaml"
    path.write_text(
        "_BASE_: Base-Keypoint-RCNN-FPN.yaml\nMODEL:\n  ROI_KEYPOINT_HEAD:\n    CONV_DIMS: [64, 32]\n"
    )
    with pytest.raises(UserError, match="CONV_DIMS is .*; supported: a list of equal whole numbers"):
        config_from_yaml(path)
    path.write_text("_BASE_: Base-RCNN-C4.yaml\nMODEL:\n  KEYPOINT_ON: True\n")
    with pytest.raises(UserError, match="MODEL.KEYPOINT_ON is True"):
        config_from_yaml(path)
