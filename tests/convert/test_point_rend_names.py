"""PointRend's weights and settings, to other libraries and back."""

import re

import numpy as np
import pytest
from detectors import random_model

from jaxmaskrcnn.config import BoxStageConfig, PointRendConfig
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.zoo.lookup import list_models, model_config, model_info

MODELS = [name for name in list_models() if re.search("point-?rend", name)]
PRESETS = {
    "detectron2": "detectron2/pointrend_rcnn_R_50_FPN_3x_coco",
    "mmdet": "mmdet/point-rend_r50-caffe_fpn_ms-1x_coco",
}
# What the libraries' own models have (Detectron2 02b5c4e2, MMDetection 3.3).
OF_LIBRARIES = {
    "detectron2": {
        "mask_head.coarse_head.reduce_spatial_dim_conv.weight": (256, 256, 2, 2),
        "mask_head.coarse_head.fc1.weight": (1024, 12544),
        "mask_head.coarse_head.fc2.weight": (1024, 1024),
        "mask_head.coarse_head.prediction.weight": (3920, 1024),
        "mask_head.point_head.fc1.weight": (256, 336, 1),
        "mask_head.point_head.fc2.weight": (256, 336, 1),
        "mask_head.point_head.fc3.weight": (256, 336, 1),
        "mask_head.point_head.predictor.weight": (80, 336, 1),
    },
    "mmdet": {
        "mask_head.downsample_conv.conv.weight": (256, 256, 2, 2),
        "mask_head.fcs.0.weight": (1024, 12544),
        "mask_head.fcs.1.weight": (1024, 1024),
        "mask_head.fc_logits.weight": (3920, 1024),
        "point_head.fcs.0.conv.weight": (256, 336, 1),
        "point_head.fcs.1.conv.weight": (256, 336, 1),
        "point_head.fcs.2.conv.weight": (256, 336, 1),
        "point_head.fc_logits.weight": (80, 336, 1),
    },
}
NARROW = {
    "backbone.depth": 18, "backbone.width": 8, "neck.channels": 8, "box.fc_dim": 8, "mask.dim": 8,
    "mask.fc_dim": 12, "mask.point_dim": 8,
}  # fmt: skip
# Settings that have an effect on arrays, and others.
OTHER = {
    "detectron2": {
        "mask.grid": 10, "mask.grid_levels": 2, "mask.coarse_side": 6, "mask.fcs": 1, "mask.point_levels": 3,
        "mask.point_fcs": 2, "mask.coarse_each_layer": False, "mask.class_agnostic": True,
        "mask.train_points": 50, "mask.oversampling": 2.0, "mask.importance": 0.5, "mask.subdivisions": 4,
        "mask.subdivision_points": 100,
    },
    "mmdet": {
        "mask.grid": 12, "mask.grid_levels": 2, "mask.coarse_side": 6, "mask.fcs": 1, "mask.point_levels": 2,
        "mask.point_fcs": 2, "mask.coarse_each_layer": False, "mask.train_points": 50,
        "mask.oversampling": 2.5, "mask.importance": 0.5, "mask.subdivisions": 4,
        "mask.subdivision_points": 100,
    },
}  # fmt: skip
TWO_STAGES = {
    "box.class_agnostic": True, "box.stages": (BoxStageConfig(),) * 2, "regions.head_boxes": "sampled",
}  # fmt: skip
both = pytest.mark.parametrize("library", PRESETS)


def narrow(library):
    classes = {"num_classes": 3, "categories": ()}
    return model_config(PRESETS[library], **classes, **NARROW, **OTHER[library])


def test_published_models():
    assert len(MODELS) == 7
    for name in MODELS:
        config, info = model_config(name), model_info(name)
        assert config.mask.map_sides == (28, 56, 112, 224) and info.mask_ap > 35 and info.file
        detectron2 = name.startswith("detectron2/")
        assert config.regions.head_boxes == ("predicted" if detectron2 else "sampled")
        assert (info.box_ap is None) == detectron2


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_written_and_read_back(name):
    library = name.split("/")[0]
    text, differences = export_settings(model_config(name), library)
    assert differences == ()
    assert ("NAME: PointRendMaskHead" in text) if library == "detectron2" else ("type='PointRend'" in text)


@both
def test_other_settings_are_written_and_read_back(library):
    config = model_config(PRESETS[library], **OTHER[library])
    text, differences = export_settings(config, library)
    assert differences == () and LIBRARIES[library].read_settings(text, "the text").mask == config.mask


@both
def test_arrays_have_the_librarys_names_and_shapes(library):
    found = _shapes(model_config(PRESETS[library]), library)
    prefix = {"detectron2": "roi_heads.", "mmdet": "roi_head."}[library]
    own = {key: shape for key, shape in found.items() if re.search("mask_head|point_head", key)}
    assert {f"{prefix}{key}": shape for key, shape in OF_LIBRARIES[library].items()}.items() <= own.items()
    assert len(own) == 16


def _shapes(config, library):
    from jaxmaskrcnn.convert.state_dict import variables_by_path

    variables = variables_by_path(abstract_model(config))
    values = {path: np.broadcast_to(np.float32(0), variable.shape) for path, variable in variables.items()}
    return {key: value.shape for key, value in LIBRARIES[library].table(config).export(values).items()}


@both
def test_round_trip_is_bit_for_bit_and_the_structure_is_told(library):
    config = narrow(library)
    arrays = to_state_dict(random_model(config), library)
    found = LIBRARIES[library].structure(arrays, "it")
    assert found == config_structure(config) and found["mask"] == "point_rend"
    again = to_state_dict(from_state_dict(arrays, config, library), library)
    assert arrays.keys() == again.keys()
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


@pytest.mark.slow
@both
def test_other_classes_need_new_layers(library):
    config = narrow(library)
    arrays = to_state_dict(random_model(config), library)
    other = config.replace({"num_classes": 5})
    with pytest.raises(UserError, match="point"):
        from_state_dict(arrays, other, library)
    changed = to_state_dict(from_state_dict(arrays, other, library, allow_new_heads=True), library)
    same = {name for name in arrays if np.array_equal(arrays[name], changed[name])}
    coarse = "coarse_head.fc1" if library == "detectron2" else "mask_head.fcs.0"
    assert any(coarse in name for name in same) and all(np.isfinite(x).all() for x in changed.values())


def test_names_of_2020_are_read():
    """The heads and their layers had other names, which Detectron2's project still reads."""
    config = narrow("detectron2")
    arrays = to_state_dict(random_model(config), "detectron2")
    older = {}
    for name, value in arrays.items():
        old = re.sub(r"mask_head\.coarse_head\.fc(?=\d)", "mask_head.coarse_head.coarse_mask_fc", name)
        older[re.sub(r"mask_head\.(coarse|point)_head", r"mask_\1_head", old)] = value
    assert "roi_heads.mask_coarse_head.coarse_mask_fc1.weight" in older and older.keys() != arrays.keys()
    again = to_state_dict(from_state_dict(older, config, "detectron2"), "detectron2")
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


@pytest.mark.parametrize("library, changes, match", [
    ("torchvision", {}, "not first"),
    ("torchvision", {"background": "first"}, "its mask head is 'point_rend', which no"),
    ("detectron2", {"mask.dim": 512}, "with more channels"),
    ("detectron2", {"mask.grid_levels": 2, "mask.channel_conv": False}, "from many channels without"),
    ("mmdet", {"mask.point_levels": 2}, "not of the points' feature maps"),
    ("mmdet", {"mask.coarse_side": 8}, "twice their side"),
    ("mmdet", {"mask.class_agnostic": True}, "its points are class-agnostic"),
    ("mmdet", TWO_STAGES, "one mask head for several box stages"),
])  # fmt: skip
def test_what_a_library_cannot_express_is_refused(library, changes, match):
    config = model_config(PRESETS["detectron2"], **changes)
    with pytest.raises(UserError, match=match):
        export_settings(config, library)


def test_differences_are_told():
    few = model_config(PRESETS["detectron2"], **{"mask.subdivision_points": 100})
    assert any(line.startswith("mask.first_map is") for line in export_settings(few, "mmdet")[1])
    assert export_settings(few, "detectron2")[1] == ()
    too_many = model_config(PRESETS["detectron2"], **{"mask.subdivisions": 1})
    (line,) = export_settings(too_many, "detectron2")[1]
    assert line.startswith("it fails where mask.subdivision_points are more")


def test_yaml_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("_BASE_: Base-PointRend-RCNN-FPN.yaml\nMODEL:\n  RESNETS:\n    DEPTH: 50\n")
    assert config_from_yaml(path) == model_config(PRESETS["detectron2"])
    # A cascade has one mask head, which learns from the first stage's proposals.
    path.write_text(
        "_BASE_: Base-PointRend-RCNN-FPN.yaml\nMODEL:\n  ROI_HEADS:\n    NAME: CascadeROIHeads\n"
        "  ROI_BOX_HEAD:\n    CLS_AGNOSTIC_BBOX_REG: True\n"
    )
    config = config_from_yaml(path)
    assert len(config.box.stages) == 3 and config.regions.head_boxes == "sampled"
    assert isinstance(config.mask, PointRendConfig) and export_settings(config, "detectron2")[1] == ()
    # Files of 2020 have other names for the heads.
    path.write_text(
        "_BASE_: Base-RCNN-FPN.yaml\nMODEL:\n  MASK_ON: True\n  ROI_HEADS:\n    NAME: PointRendROIHeads\n"
        "  ROI_BOX_HEAD:\n    TRAIN_ON_PRED_BOXES: True\n  ROI_MASK_HEAD:\n    NAME: CoarseMaskHead\n"
        "    POINT_HEAD_ON: True\nINPUT:\n  MASK_FORMAT: bitmask\n"
    )
    assert config_from_yaml(path) == model_config(PRESETS["detectron2"]).replace({"backbone.depth": 50})
    base = "_BASE_: Base-PointRend-RCNN-FPN.yaml\nMODEL:\n  POINT_HEAD:\n    "
    for text, match in (
        ("IN_FEATURES: [p3]\n", r"IN_FEATURES is \['p3'\]; supported: the first ones"),
        ("NUM_CLASSES: 8\n", "NUM_CLASSES is 8; supported: the same as MODEL.ROI_HEADS.NUM_CLASSES"),
        ("NAME: ImplicitPointHead\n", "NAME is 'ImplicitPointHead'"),
        ("FC_DIM: 256\nINPUT:\n  MASK_FORMAT: polygon\n", "MASK_FORMAT is 'polygon'; supported: 'bitmask'"),
    ):
        path.write_text(base + text)
        with pytest.raises(UserError, match=match):
            config_from_file(path)
    path.write_text(
        "_BASE_: Base-RCNN-C4.yaml\nMODEL:\n  MASK_ON: True\n  ROI_MASK_HEAD:\n    NAME: PointRendMaskHead\n"
        "    POOLER_TYPE: ''\n    POINT_HEAD_ON: True\nINPUT:\n  MASK_FORMAT: bitmask\n"
    )
    with pytest.raises(
        UserError, match="NAME is 'PointRendMaskHead'; supported: 'MaskRCNNConvUpsampleHead' with"
    ):
        config_from_file(path)


def test_mmdetection_files():
    text = export_settings(model_config(PRESETS["mmdet"]), "mmdet")[0]
    for old, new, match in (
        ("featmap_strides=[4],", "featmap_strides=[8],", "the first ones of the levels' strides"),
        ("roi_feat_size=14,", "roi_feat_size=12,", "roi_feat_size is 12; supported: the roi_layer's"),
        ("mask_size=7,", "mask_size=14,", "half of the roi_layer's output_size, 7"),
        ("type='PointRendRoIHead'", "type='StandardRoIHead'", "supported: 'PointRendRoIHead'"),
        ("type='SimpleRoIAlign'", "type='RoIAlign'", "supported: 'SimpleRoIAlign'"),
        ("scale_factor=2,", "scale_factor=4,", "scale_factor is 4; supported: 2"),
    ):
        assert old in text
        with pytest.raises(UserError, match=match):
            config_from_mmdet_text(text.replace(old, new), "it")
