"""Detectron2's yaml files: read without running anything, mapped or refused."""

import logging
import textwrap
from pathlib import Path

import pytest
import yaml
from conversion_helpers import refusal, write_config
from folders import ROOT

from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.zoo.lookup import COCO_80, model_config

SHARED = ROOT / ".." / "shared"
D2_R50 = "detectron2/mask_rcnn_R_50_FPN_3x"

D2_MODELS = {
    D2_R50: "MODEL: {MASK_ON: True, RESNETS: {DEPTH: 50}, WEIGHTS: somewhere.pkl}",
    "detectron2/faster_rcnn_R_101_FPN_3x": "MODEL: {MASK_ON: False, RESNETS: {DEPTH: 101}}",
    "detectron2/mask_rcnn_X_101_32x8d_FPN_3x": """
        MODEL:
          MASK_ON: True
          PIXEL_STD: [57.375, 57.120, 58.395]
          RESNETS: {STRIDE_IN_1X1: False, NUM_GROUPS: 32, WIDTH_PER_GROUP: 8, DEPTH: 101}
        SOLVER: {STEPS: "(210000, 250000)", MAX_ITER: 270000}
        """,
    "detectron2/scratch_mask_rcnn_R_50_FPN_9x_gn": """
        MODEL:
          MASK_ON: True
          PIXEL_STD: [57.375, 57.12, 58.395]
          BACKBONE: {FREEZE_AT: 0}
          RESNETS: {NORM: GN, STRIDE_IN_1X1: False}
          FPN: {NORM: GN}
          ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: GN}
          ROI_MASK_HEAD: {NORM: GN}
        """,
    "detectron2/mask_rcnn_R_50_FPN_3x_syncbn": """
        MODEL:
          MASK_ON: True
          RESNETS: {NORM: SyncBN}
          FPN: {NORM: SyncBN}
          ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: SyncBN}
          ROI_MASK_HEAD: {NORM: SyncBN}
        TEST: {PRECISE_BN: {ENABLED: True}}
        """,
    "detectron2/mask_rcnn_R_50_FPN_400ep_LSJ": """
        MODEL:
          MASK_ON: True
          BACKBONE: {FREEZE_AT: 0}
          RESNETS: {NORM: SyncBN}
          FPN: {NORM: SyncBN}
          RPN: {CONV_DIMS: [-1, -1]}
          ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: naiveSyncBN_N}
          ROI_MASK_HEAD: {NORM: naiveSyncBN_N}
        """,
    "detectron2/mask_rcnn_R_50_FPN_1x_cls_agnostic": """
        MODEL:
          MASK_ON: True
          ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}
          ROI_MASK_HEAD: {CLS_AGNOSTIC_MASK: True}
        """,
    "detectron2/Cityscapes/mask_rcnn_R_50_FPN": """
        MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 8}}
        INPUT: {MIN_SIZE_TEST: 1024, MAX_SIZE_TEST: 2048, MIN_SIZE_TRAIN: "(800, 1024)"}
        DATASETS: {TEST: '("cityscapes_fine_instance_seg_val",)'}
        """,
    "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": """
        MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 1203, SCORE_THRESH_TEST: 1e-4}}
        DATASETS: {TEST: '("lvis_v1_val",)'}
        TEST: {DETECTIONS_PER_IMAGE: 300}
        """,
    "detectron2/LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": """
        MODEL: {MASK_ON: True, RESNETS: {DEPTH: 101}, ROI_HEADS: {NUM_CLASSES: 1230, SCORE_THRESH_TEST: 1e-4}}
        DATASETS: {TEST: '("lvis_v0.5_val",)'}
        TEST: {DETECTIONS_PER_IMAGE: 300}
        """,
}


@pytest.mark.parametrize("name", D2_MODELS)
def test_yaml_gives_the_preset(name, tmp_path):
    """The base is not there: Detectron2's own bases are known by name."""
    text = '_BASE_: "../Base-RCNN-FPN.yaml"\n' + textwrap.dedent(D2_MODELS[name])
    assert config_from_file(write_config(tmp_path, "model.yaml", text)) == model_config(name)


# Every key that goes to a setting of its own: its path, value in the yaml, value here.
D2_SETTINGS = {
    "MODEL.MASK_ON": ("mask", False, None),
    "INPUT.FORMAT": ("input.channel_order", "RGB", "rgb"),
    "MODEL.PIXEL_MEAN": ("input.pixel_mean", [1, 2, 3.5], (1.0, 2.0, 3.5)),
    "MODEL.PIXEL_STD": ("input.pixel_std", [4, 5, 6], (4.0, 5.0, 6.0)),
    "INPUT.MIN_SIZE_TEST": ("input.test_min_size", 448, 448),
    "INPUT.MAX_SIZE_TEST": ("input.test_max_size", 640, 640),
    "MODEL.BACKBONE.FREEZE_AT": ("backbone.freeze_at", 5, 5),
    "MODEL.RESNETS.DEPTH": ("backbone.depth", 152, 152),
    "MODEL.RESNETS.NUM_GROUPS": ("backbone.groups", 64, 64),
    "MODEL.RESNETS.WIDTH_PER_GROUP": ("backbone.width_per_group", 4, 4),
    "MODEL.RESNETS.STRIDE_IN_1X1": ("backbone.stride_in_1x1", False, False),
    "MODEL.RESNETS.NORM": ("backbone.norm", "BN", "bn"),
    "MODEL.FPN.OUT_CHANNELS": ("neck.channels", 128, 128),
    "MODEL.FPN.NORM": ("neck.norm", "GN", "gn"),
    "MODEL.ANCHOR_GENERATOR.SIZES": (
        "rpn.anchors.sizes",
        "[[8], [16], [32], [64], [128]]",
        (8, 16, 32, 64, 128),
    ),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ("rpn.anchors.ratios", [[0.25, 4]], (0.25, 4.0)),
    "MODEL.RPN.CONV_DIMS": ("rpn.convs", [-1, -1, -1], 3),
    "MODEL.RPN.SMOOTH_L1_BETA": ("rpn.loss.beta", 0.5, 0.5),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": ("rpn.batch_size", 64, 64),
    "MODEL.RPN.POSITIVE_FRACTION": ("rpn.positive_fraction", 0.25, 0.25),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": ("rpn.pre_nms_train", 500, 500),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": ("rpn.pre_nms_test", 501, 501),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": ("rpn.post_nms_train", 502, 502),
    "MODEL.RPN.POST_NMS_TOPK_TEST": ("rpn.post_nms_test", 503, 503),
    "MODEL.RPN.NMS_THRESH": ("rpn.nms_threshold", 0.8, 0.8),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": ("regions.batch_size", 128, 128),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": ("regions.positive_fraction", 0.5, 0.5),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": ("box.stages.0.foreground_iou", [0.6], 0.6),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": ("detections.score_threshold", 0, 0.0),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": ("detections.nms_threshold", 0.3, 0.3),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": ("box.pool.size", 9, 9),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("box.pool.aligned", "ROIAlign", False),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": ("box.pool.sampling_ratio", 2, 2),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": ("box.loss.beta", 0.5, 0.5),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": ("box.convs", 2, 2),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": ("box.conv_dim", 64, 64),
    "MODEL.ROI_BOX_HEAD.NUM_FC": ("box.fcs", 1, 1),
    "MODEL.ROI_BOX_HEAD.FC_DIM": ("box.fc_dim", 512, 512),
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": ("box.class_agnostic", True, True),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (
        "box.stages.0.box_weights",
        "(20, 20, 10, 10)",
        (20.0, 20.0, 10.0, 10.0),
    ),
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": ("mask.pool.size", 10, 10),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("mask.pool.aligned", "ROIAlign", False),
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": ("mask.pool.sampling_ratio", 3, 3),
    "MODEL.ROI_MASK_HEAD.NUM_CONV": ("mask.convs", 8, 8),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": ("mask.dim", 128, 128),
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": ("mask.class_agnostic", True, True),
    "MODEL.ROI_MASK_HEAD.NORM": ("mask.norm", "GN", "gn"),
    "TEST.DETECTIONS_PER_IMAGE": ("detections.per_image", 300, 300),
    "SOLVER.WEIGHT_DECAY_NORM": ("compute.weight_decay_exempts_norm", 0.0001, False),
}


def nested(settings: dict) -> dict:
    """Dotted keys to nested dictionaries."""
    values: dict = {}
    for key, value in settings.items():
        *parts, last = key.split(".")
        section = values
        for part in parts:
            section = section.setdefault(part, {})
        section[last] = value
    return values


def write_yaml(folder: Path, settings: dict, base: str | None = "Base-RCNN-FPN.yaml") -> Path:
    values = nested({"MODEL.MASK_ON": True, **settings})
    return write_config(folder, "model.yaml", yaml.safe_dump(values | ({"_BASE_": base} if base else {})))


@pytest.mark.parametrize("key", D2_SETTINGS)
def test_yaml_key_goes_to_its_setting(key, tmp_path):
    path, given, expected = D2_SETTINGS[key]
    config = config_from_file(write_yaml(tmp_path, {key: given}))
    assert config == model_config(D2_R50).replace({path: expected})


def test_yaml_thresholds_of_anchors_are_one_list(tmp_path):
    config = config_from_file(write_yaml(tmp_path, {"MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.6]}))
    expected = {"rpn.background_iou": 0.2, "rpn.foreground_iou": 0.6}
    assert config == model_config(D2_R50).replace(expected)


def test_yaml_norm_of_a_box_head_with_convolutions(tmp_path):
    """The mask head has its own; a box head without convolutions has no norm layers, whatever is set."""
    given = {"MODEL.ROI_BOX_HEAD.NORM": "BN"}
    assert config_from_file(write_yaml(tmp_path, given)) == model_config(D2_R50)
    given |= {"MODEL.ROI_BOX_HEAD.NUM_CONV": 4, "MODEL.ROI_MASK_HEAD.NORM": "GN"}
    expected = {"box.convs": 4, "box.norm": "bn", "mask.norm": "gn"}
    assert config_from_file(write_yaml(tmp_path, given)) == model_config(D2_R50).replace(expected)


LEVELS = range(5)


@pytest.mark.parametrize(
    ("sizes", "ratios", "expected_sizes", "expected_ratios"),
    [
        ([[32, 64]], [[1.0]], [(32, 64)] * 5, (1.0,)),
        ([[8 * 2**i, 10] for i in LEVELS], [[1, 2]], [(8 * 2**i, 10) for i in LEVELS], (1, 2)),
        ([[8]], [[1, 2 + i] for i in LEVELS], [(8,)] * 5, [(1, 2 + i) for i in LEVELS]),
        ([[8]], [[1, 2]] * 5, [(8,)] * 5, (1, 2)),
        # Two sizes and one ratio, or the other way round: as many anchors.
        ([[8, 9]] + [[8]] * 4, [[1]] + [[1, 2]] * 4, [(8, 9)] + [(8,)] * 4, [(1,)] + [(1, 2)] * 4),
    ],
)
def test_yaml_anchors_of_each_level(sizes, ratios, expected_sizes, expected_ratios, tmp_path):
    given = {"MODEL.ANCHOR_GENERATOR.SIZES": sizes, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ratios}
    expected = {"rpn.anchors.sizes": expected_sizes, "rpn.anchors.ratios": expected_ratios}
    assert config_from_file(write_yaml(tmp_path, given)) == model_config(D2_R50).replace(expected)


def test_yaml_anchors_that_are_not_equally_many(tmp_path):
    given = {"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0], [1.0, 2.0], [1.0], [1.0], [1.0]]}
    message = refusal(write_yaml(tmp_path, given), training=False)
    assert "MODEL.ANCHOR_GENERATOR.SIZES and MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS give" in message
    assert "[1, 2, 1, 1, 1] anchors per cell; supported: as many on each level" in message


def test_yaml_categories_come_from_the_data_sets(tmp_path):
    assert config_from_file(write_yaml(tmp_path, {})).categories == COCO_80
    own = {"DATASETS.TEST": ["mine"], "DATASETS.TRAIN": ["coco_2017_train"]}
    assert config_from_file(write_yaml(tmp_path, own)).categories == ()
    few = {"MODEL.ROI_HEADS.NUM_CLASSES": 3}
    assert config_from_file(write_yaml(tmp_path, few)).categories == ()


def test_yaml_bases_are_followed_and_overridden(tmp_path):
    write_config(
        tmp_path, "a/base.yaml", "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True, RESNETS: {DEPTH: 101}}"
    )
    write_config(tmp_path, "a/middle.yaml", "_BASE_: base.yaml\nMODEL: {ROI_HEADS: {NUM_CLASSES: 7}}")
    path = write_config(
        tmp_path, "b/model.yaml", "_BASE_: ../a/middle.yaml\nMODEL: {ROI_HEADS: {NMS_THRESH_TEST: 0.4}}"
    )
    expected = model_config(D2_R50, 7, **{"backbone.depth": 101, "detections.nms_threshold": 0.4})
    assert config_from_file(path) == expected
    write_config(
        tmp_path, "b/absolute.yaml", f"_BASE_: {tmp_path / 'a' / 'middle.yaml'}\nMODEL: {{MASK_ON: False}}"
    )
    config = config_from_file(tmp_path / "b" / "absolute.yaml")
    assert config == expected.replace({"mask": None, "detections.nms_threshold": 0.5})


def test_yaml_on_disk_comes_before_the_known_base(tmp_path):
    write_config(tmp_path, "Base-RCNN-FPN.yaml", "MODEL: {META_ARCHITECTURE: RetinaNet}")
    assert "MODEL.META_ARCHITECTURE is 'RetinaNet'" in refusal(write_yaml(tmp_path, {}))


def test_yaml_base_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_config(tmp_path, "mine.yaml", "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True}")
    assert config_from_file(write_yaml(tmp_path, {}, "~/mine.yaml")) == model_config(D2_R50)


REFUSED_KEYS = {
    "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
    "MODEL.LOAD_PROPOSALS": True,
    "INPUT.FORMAT": "L",
    "INPUT.MIN_SIZE_TEST": 0,
    "MODEL.PIXEL_MEAN": [0, 0, 0, 0],
    "MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone",
    "MODEL.RESNETS.DEPTH": 26,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True],
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES5_DILATION": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 128,
    "MODEL.FPN.FUSE_TYPE": "avg",
    "MODEL.FPN.NORM": "LN",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0], [2.0], [1.0]],
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RPN.HEAD_NAME": "MyRPNHead",
    "MODEL.RPN.CONV_DIMS": [64],
    "MODEL.RPN.BBOX_REG_WEIGHTS": [2.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.NMS_THRESH": "high",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256.5,
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 0,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5, 0.6],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": -1,
    "MODEL.ROI_MASK_HEAD.NAME": "ImplicitPointRendMaskHead",
    "VERSION": 1,
}


def test_yaml_refuses_all_at_once(tmp_path):
    head, *lines = refusal(write_yaml(tmp_path, REFUSED_KEYS)).splitlines()
    assert "model.yaml has 30 settings that cannot be reproduced here:" in head
    assert sorted(line.split()[0] for line in lines) == sorted(REFUSED_KEYS)
    assert all("supported: " in line for line in lines)
    assert "  MODEL.FPN.FUSE_TYPE is 'avg'; supported: 'sum'" in lines


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_yaml_refuses_each_also_without_training(key, tmp_path):
    message = refusal(write_yaml(tmp_path, {key: REFUSED_KEYS[key]}), training=False)
    assert f"\n  {key} is " in message and "has a setting that" in message


TRAINING_KEYS = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.RPN.BOUNDARY_THRESH": 0,
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 10.0,
    "SOLVER.WEIGHT_DECAY_NORM": 0.5,
}


@pytest.mark.parametrize("key", TRAINING_KEYS)
def test_yaml_refuses_what_changes_training_only_unless_told(key, tmp_path, caplog):
    path = write_yaml(tmp_path, {key: TRAINING_KEYS[key]})
    assert f"  {key} is " in refusal(path)
    with caplog.at_level(logging.WARNING):
        config = config_from_file(path, training=False)
    assert key in caplog.text and "training here would differ" in caplog.text
    # What detects does not depend on it.
    assert config.replace({"compute.weight_decay_exempts_norm": True}) == model_config(D2_R50)


def test_the_weight_of_the_box_loss_is_read(tmp_path):
    path = write_yaml(tmp_path, {"MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 10.0})
    assert config_from_file(path).box.loss.weight == 10.0


def test_yaml_unknown_keys_are_listed_with_suggestions(tmp_path):
    message = refusal(write_yaml(tmp_path, {"TEST.DETECTION_PER_IMAGE": 10, "MODEL.ROI_HEAD.NUM_CLASSES": 2}))
    assert "TEST.DETECTION_PER_IMAGE is not a known setting of Detectron2" in message
    assert "did you mean TEST.DETECTIONS_PER_IMAGE?" in message
    assert "did you mean MODEL.ROI_HEADS.NUM_CLASSES?" in message


def test_heads_on_one_map_of_the_backbone(tmp_path):
    """Detectron2's ordinary heads need no pyramid: any map of the ResNet will do."""
    maps = {"MODEL.RESNETS.OUT_FEATURES": ["res5"], "MODEL.RPN.IN_FEATURES": ["res5"]}
    heads = {
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    }
    config = config_from_file(write_yaml(tmp_path, maps | heads, base=None))
    assert (config.neck, config.trunk, config.backbone.outputs) == (None, None, (5,))
    assert config.input.pad_divisor == 1 and config.region_channels == 2048
    text, differences = export_settings(config, "detectron2")
    (tmp_path / "again.yaml").write_text(text)
    assert differences == () and config_from_file(tmp_path / "again.yaml") == config
    message = refusal(write_yaml(tmp_path, maps | heads | {"MODEL.ROI_BOX_HEAD.NUM_FC": 0}, base=None))
    assert "MODEL.ROI_BOX_HEAD.NUM_FC is 0; supported: 1 or more" in message
    message = refusal(write_yaml(tmp_path, maps | heads | {"MODEL.BACKBONE.NAME": "build_vgg"}, base=None))
    assert "supported: 'build_resnet_fpn_backbone' or 'build_resnet_backbone'" in message


def test_yaml_without_a_base_has_the_defaults_of_a_c4_detector(tmp_path):
    c4 = model_config("detectron2/mask_rcnn_R_50_C4_3x")
    assert config_from_file(write_yaml(tmp_path, {}, base="../Base-RCNN-C4.yaml")) == c4
    bare = write_yaml(tmp_path, {"MODEL.MASK_ON": True}, base=None)
    assert config_from_file(bare) == c4.replace({"categories": ()})
    message = refusal(
        write_yaml(tmp_path, {"MODEL.FPN.NORM": "GN", "MODEL.RPN.IN_FEATURES": ["p2"]}, base=None)
    )
    assert "MODEL.BACKBONE.NAME is not set" in message and "MODEL.RPN.IN_FEATURES is ['p2']" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_BASE_: nowhere.yaml", "nowhere.yaml, which does not exist"),
        ("_BASE_: model.yaml", "is its own _BASE_"),
        (
            "_BASE_: https://example.org/x.yaml",
            "has the URL https://example.org/x.yaml as its _BASE_; download that file",
        ),
        ("_BASE_: [1]", "give the path of a yaml file"),
        ("_BASE_: 1", "give the path of a yaml file"),
        ("MODEL: !!python/object/apply:os.system ['touch ran']", "config files may not run code"),
        ("MODEL: !!python/tuple [1, 2]", "config files may not run code"),
        ("MODEL: {A: &a [*a]", "is not valid yaml in line"),
        ("A: &a {B: *a}", "nests its settings too deeply"),
        ("A: 2020-99-99", "is not valid yaml"),
        ("- 1", "has no named settings"),
        ("", "has no named settings"),
        ("MODEL: 3\n_BASE_: Base-RCNN-FPN.yaml", "MODEL is not a known setting"),
    ],
)
def test_yaml_that_is_wrong(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expected in refusal(write_config(tmp_path, "model.yaml", text))
    assert not (tmp_path / "ran").exists()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refusal(tmp_path / "binary.yaml")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refusal(tmp_path / "binary.py")
    for name in ("absent.yaml", "absent.py"):
        assert f"{name} cannot be read (No such file or directory)" in refusal(tmp_path / name)
    assert "has the suffix '.json'" in refusal(tmp_path / "model.json")


def test_yaml_bombs_end_quickly(tmp_path):
    """Aliases make a small file a tree of a billion settings."""
    rows = ["a0: &a0 {x: 1}"] + [
        f"a{i}: &a{i} {{" + ", ".join(f"k{j}: *a{i - 1}" for j in range(10)) + "}" for i in range(1, 10)
    ]
    assert "holds more than 100000 values" in refusal(write_config(tmp_path, "bomb.yaml", "\n".join(rows)))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/checkpoints/detectron2_balloon.yaml")
def test_whole_config_as_detectron2_writes_it():
    config = config_from_file(SHARED / "checkpoints" / "detectron2_balloon.yaml")
    expected = {"input.test_min_size": 448, "input.test_max_size": 640, "regions.batch_size": 128}
    assert config == model_config(D2_R50, 1, **expected)


def test_a_federated_loss_is_read_with_its_settings(tmp_path):
    """Those of the library's configs of LVIS, on another model."""
    keys = {
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
        "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
        "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 40,
        "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.25,
    }
    box = config_from_file(write_yaml(tmp_path, keys)).box
    assert (box.scores, box.federated.classes, box.federated.power) == ("sigmoid", 40, 0.25)
    keys["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE"] = False
    assert "USE_SIGMOID_CE is False; supported: True with USE_FED_LOSS" in refusal(write_yaml(tmp_path, keys))
