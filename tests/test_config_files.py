"""Detectron2 yaml and MMDetection config files: read without running them, mapped or refused."""

import dataclasses
import logging
import os
import textwrap
from pathlib import Path

import pytest
import yaml

from jaxmaskrcnn.convert.configs.config_files import config_from_file, config_from_mmdet_text
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.presets import CITYSCAPES_8, COCO_80, model_config

SHARED = Path(__file__).parents[1] / ".." / "shared"

D2_R50 = "detectron2/mask_rcnn_R_50_FPN_3x"
MM_R50 = "mmdet/mask-rcnn_r50_fpn_1x_coco"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def refusal(path, **options) -> str:
    with pytest.raises(UserError) as error:
        config_from_file(path, **options)
    return str(error.value)


# -- Detectron2

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
}


@pytest.mark.parametrize("name", D2_MODELS)
def test_yaml_gives_the_preset(name, tmp_path):
    """The base is not there: Detectron2's own bases are known by name."""
    text = '_BASE_: "../Base-RCNN-FPN.yaml"\n' + textwrap.dedent(D2_MODELS[name])
    assert config_from_file(write(tmp_path, "model.yaml", text)) == model_config(name)


# Every key that goes to a field of its own: value in the yaml, value of the field.
D2_FIELDS = {
    "MODEL.MASK_ON": ("mask_head", False, False),
    "INPUT.FORMAT": ("channel_order", "RGB", "rgb"),
    "MODEL.PIXEL_MEAN": ("pixel_mean", [1, 2, 3.5], (1.0, 2.0, 3.5)),
    "MODEL.PIXEL_STD": ("pixel_std", [4, 5, 6], (4.0, 5.0, 6.0)),
    "INPUT.MIN_SIZE_TEST": ("test_min_size", 448, 448),
    "INPUT.MAX_SIZE_TEST": ("test_max_size", 640, 640),
    "MODEL.BACKBONE.FREEZE_AT": ("freeze_at", 5, 5),
    "MODEL.RESNETS.DEPTH": ("backbone_depth", 152, 152),
    "MODEL.RESNETS.NUM_GROUPS": ("backbone_groups", 64, 64),
    "MODEL.RESNETS.WIDTH_PER_GROUP": ("backbone_width_per_group", 4, 4),
    "MODEL.RESNETS.STRIDE_IN_1X1": ("backbone_stride_in_1x1", False, False),
    "MODEL.RESNETS.NORM": ("backbone_norm", "BN", "bn"),
    "MODEL.FPN.OUT_CHANNELS": ("fpn_channels", 128, 128),
    "MODEL.FPN.NORM": ("fpn_norm", "GN", "gn"),
    "MODEL.ANCHOR_GENERATOR.SIZES": ("anchor_sizes", "[[8], [16], [32], [64], [128]]", (8, 16, 32, 64, 128)),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ("anchor_ratios", [[0.25, 4]], (0.25, 4.0)),
    "MODEL.RPN.CONV_DIMS": ("rpn_convs", [-1, -1, -1], 3),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": ("rpn_batch_size", 64, 64),
    "MODEL.RPN.POSITIVE_FRACTION": ("rpn_positive_fraction", 0.25, 0.25),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": ("rpn_pre_nms_train", 500, 500),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": ("rpn_pre_nms_test", 501, 501),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": ("rpn_post_nms_train", 502, 502),
    "MODEL.RPN.POST_NMS_TOPK_TEST": ("rpn_post_nms_test", 503, 503),
    "MODEL.RPN.NMS_THRESH": ("rpn_nms_threshold", 0.8, 0.8),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": ("roi_batch_size", 128, 128),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": ("roi_positive_fraction", 0.5, 0.5),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": ("roi_foreground_iou", [0.6], 0.6),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": ("score_threshold", 0, 0.0),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": ("nms_threshold", 0.3, 0.3),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": ("box_pool_size", 9, 9),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": ("box_convs", 2, 2),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": ("box_conv_dim", 64, 64),
    "MODEL.ROI_BOX_HEAD.NUM_FC": ("box_fcs", 1, 1),
    "MODEL.ROI_BOX_HEAD.FC_DIM": ("box_fc_dim", 512, 512),
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": ("class_agnostic_boxes", True, True),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": ("box_weights", "(20, 20, 10, 10)", (20.0, 20.0, 10.0, 10.0)),
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": ("mask_pool_size", 10, 10),
    "MODEL.ROI_MASK_HEAD.NUM_CONV": ("mask_convs", 8, 8),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": ("mask_dim", 128, 128),
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": ("class_agnostic_masks", True, True),
    "MODEL.ROI_MASK_HEAD.NORM": ("head_norm", "GN", "gn"),
    "TEST.DETECTIONS_PER_IMAGE": ("detections_per_image", 300, 300),
    "SOLVER.WEIGHT_DECAY_NORM": ("weight_decay_exempts_norm", 0.0001, False),
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
    return write(folder, "model.yaml", yaml.safe_dump(values | ({"_BASE_": base} if base else {})))


@pytest.mark.parametrize("key", D2_FIELDS)
def test_yaml_key_goes_to_its_field(key, tmp_path):
    field, given, expected = D2_FIELDS[key]
    config = config_from_file(write_yaml(tmp_path, {key: given}))
    assert config == dataclasses.replace(model_config(D2_R50), **{field: expected})


def test_yaml_settings_for_both_heads(tmp_path):
    given = {
        f"MODEL.ROI_{head}_HEAD.{key}": value
        for head in ("BOX", "MASK")
        for key, value in (("POOLER_TYPE", "ROIAlign"), ("POOLER_SAMPLING_RATIO", 2))
    }
    given |= {"MODEL.RPN.SMOOTH_L1_BETA": 0.5, "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5}
    given |= {"MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.6]}
    expected = dict(
        roi_aligned=False,
        roi_sampling_ratio=2,
        smooth_l1_beta=0.5,
        rpn_background_iou=0.2,
        rpn_foreground_iou=0.6,
    )
    config = config_from_file(write_yaml(tmp_path, given))
    assert config == dataclasses.replace(model_config(D2_R50), **expected)


def test_yaml_categories_come_from_the_data_sets(tmp_path):
    assert config_from_file(write_yaml(tmp_path, {})).categories == COCO_80
    own = {"DATASETS.TEST": ["mine"], "DATASETS.TRAIN": ["coco_2017_train"]}
    assert config_from_file(write_yaml(tmp_path, own)).categories == ()
    few = {"MODEL.ROI_HEADS.NUM_CLASSES": 3}
    assert config_from_file(write_yaml(tmp_path, few)).categories == ()


def test_yaml_bases_are_followed_and_overridden(tmp_path):
    write(
        tmp_path, "a/base.yaml", "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True, RESNETS: {DEPTH: 101}}"
    )
    write(tmp_path, "a/middle.yaml", "_BASE_: base.yaml\nMODEL: {ROI_HEADS: {NUM_CLASSES: 7}}")
    path = write(
        tmp_path, "b/model.yaml", "_BASE_: ../a/middle.yaml\nMODEL: {ROI_HEADS: {NMS_THRESH_TEST: 0.4}}"
    )
    expected = model_config(D2_R50, 7, backbone_depth=101, nms_threshold=0.4)
    assert config_from_file(path) == expected
    write(tmp_path, "b/absolute.yaml", f"_BASE_: {tmp_path / 'a' / 'middle.yaml'}\nMODEL: {{MASK_ON: False}}")
    config = config_from_file(tmp_path / "b" / "absolute.yaml")
    assert config == dataclasses.replace(expected, mask_head=False, nms_threshold=0.5)


def test_yaml_on_disk_comes_before_the_known_base(tmp_path):
    write(tmp_path, "Base-RCNN-FPN.yaml", "MODEL: {META_ARCHITECTURE: RetinaNet}")
    assert "MODEL.META_ARCHITECTURE is 'RetinaNet'" in refusal(write_yaml(tmp_path, {}))


def test_yaml_base_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "mine.yaml", "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True}")
    assert config_from_file(write_yaml(tmp_path, {}, "~/mine.yaml")) == model_config(D2_R50)


REFUSED_KEYS = {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.KEYPOINT_ON": True,
    "MODEL.LOAD_PROPOSALS": True,
    "INPUT.FORMAT": "L",
    "INPUT.MIN_SIZE_TEST": 0,
    "MODEL.PIXEL_MEAN": [0, 0, 0, 0],
    "MODEL.BACKBONE.NAME": "build_regnet_fpn_backbone",
    "MODEL.RESNETS.DEPTH": 26,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 128,
    "MODEL.FPN.FUSE_TYPE": "avg",
    "MODEL.FPN.NORM": "LN",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0], [2.0], [1.0], [1.0], [1.0]],
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RPN.HEAD_NAME": "MyRPNHead",
    "MODEL.RPN.CONV_DIMS": [64],
    "MODEL.RPN.BBOX_REG_WEIGHTS": [2.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.NMS_THRESH": "high",
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 0,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5, 0.6],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": -1,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "MODEL.ROI_MASK_HEAD.NAME": "PointRendMaskHead",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",  # the box head's is ROIAlignV2
    "VERSION": 1,
}


def test_yaml_refuses_all_at_once(tmp_path):
    given = {key: value for key, value in REFUSED_KEYS.items() if key != "MODEL.ROI_MASK_HEAD.POOLER_TYPE"}
    head, *lines = refusal(write_yaml(tmp_path, given)).splitlines()
    assert "model.yaml has 31 settings that cannot be reproduced here:" in head
    assert sorted(line.split()[0] for line in lines) == sorted(given)
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
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 10.0,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
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
    assert dataclasses.replace(config, weight_decay_exempts_norm=True) == model_config(D2_R50)


def test_yaml_unknown_keys_are_listed_with_suggestions(tmp_path):
    message = refusal(write_yaml(tmp_path, {"TEST.DETECTION_PER_IMAGE": 10, "MODEL.ROI_HEAD.NUM_CLASSES": 2}))
    assert "TEST.DETECTION_PER_IMAGE is no setting of Detectron2's that is known" in message
    assert "did you mean TEST.DETECTIONS_PER_IMAGE?" in message
    assert "did you mean MODEL.ROI_HEADS.NUM_CLASSES?" in message


def test_yaml_without_a_base_has_the_defaults_of_a_c4_detector(tmp_path):
    message = refusal(write_yaml(tmp_path, {}, base=None))
    assert "nothing sets MODEL.BACKBONE.NAME" in message and "'Res5ROIHeads'" in message
    assert "'Res5ROIHeads'" in refusal(write_yaml(tmp_path, {}, base="../Base-RCNN-C4.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_BASE_: nowhere.yaml", "nowhere.yaml, which does not exist"),
        ("_BASE_: model.yaml", "is its own _BASE_"),
        ("_BASE_: https://example.org/x.yaml", "save that file"),
        ("_BASE_: [1]", "give the path of a yaml file"),
        ("_BASE_: 1", "give the path of a yaml file"),
        ("MODEL: !!python/object/apply:os.system ['touch ran']", "not allowed to run code"),
        ("MODEL: !!python/tuple [1, 2]", "not allowed to run code"),
        ("MODEL: {A: &a [*a]", "no valid yaml in line"),
        ("A: &a {B: *a}", "nests its settings too deeply"),
        ("A: 2020-99-99", "no valid yaml"),
        ("- 1", "holds no settings by name"),
        ("", "holds no settings by name"),
        ("MODEL: 3\n_BASE_: Base-RCNN-FPN.yaml", "MODEL is no setting"),
    ],
)
def test_yaml_that_is_wrong(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expected in refusal(write(tmp_path, "model.yaml", text))
    assert not (tmp_path / "ran").exists()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is no text file" in refusal(tmp_path / "binary.yaml")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    assert "is no text file" in refusal(tmp_path / "binary.py")
    for name in ("absent.yaml", "absent.py"):
        assert f"{name} cannot be read (No such file or directory)" in refusal(tmp_path / name)
    assert "has the ending '.json'" in refusal(tmp_path / "model.json")


def test_yaml_bombs_end_quickly(tmp_path):
    """Aliases make a small file a tree of a billion settings."""
    rows = ["a0: &a0 {x: 1}"] + [
        f"a{i}: &a{i} {{" + ", ".join(f"k{j}: *a{i - 1}" for j in range(10)) + "}" for i in range(1, 10)
    ]
    assert "settings" in refusal(write(tmp_path, "bomb.yaml", "\n".join(rows)))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/checkpoints/detectron2_balloon.yaml")
def test_whole_config_as_detectron2_writes_it():
    config = config_from_file(SHARED / "checkpoints" / "detectron2_balloon.yaml")
    expected = dict(test_min_size=448, test_max_size=640, roi_batch_size=128)
    assert config == model_config(D2_R50, 1, **expected)


# -- MMDetection

V3 = """
_base_ = [
    '../_base_/models/{model}.py', '../_base_/datasets/{data}.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
"""
V3_MASK = V3.format(model="mask-rcnn_r50_fpn", data="coco_instance")
V3_FASTER = V3.format(model="faster-rcnn_r50_fpn", data="coco_detection")
V2_MASK = V3.format(model="mask_rcnn_r50_fpn", data="coco_instance")

CAFFE_3 = """
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(norm_cfg=dict(requires_grad=False), style='caffe', init_cfg=None))
"""
CAFFE_2 = """
model = dict(backbone=dict(norm_cfg=dict(requires_grad=False), style='caffe'))
img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(1333, 800),
        flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ])
]
data = dict(test=dict(pipeline=test_pipeline))
"""
MM_MODELS = {
    MM_R50: V3_MASK,
    "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco": V3_MASK + CAFFE_3,
    "mmdet/mask-rcnn_r50-caffe_fpn_ms-poly-2x_coco": V2_MASK + CAFFE_2,
    "mmdet/faster-rcnn_r50_fpn_1x_coco": V3_FASTER,
    "mmdet/mask-rcnn_x101-32x8d_fpn_1x_coco": V3_MASK
    + """
model = dict(
    data_preprocessor=dict(
        mean=[103.530, 116.280, 123.675], std=[57.375, 57.120, 58.395], bgr_to_rgb=False),
    backbone=dict(
        type='ResNeXt', depth=101, groups=32, base_width=8,
        norm_cfg=dict(type='BN', requires_grad=False)))
""",
    "mmdet/mask-rcnn_r50-scratch_fpn_gn-all_6x_coco": V3_MASK
    + """
norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)
model = dict(
    backbone=dict(frozen_stages=-1, zero_init_residual=False, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.))
""",
    "mmdet/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco": V3_MASK
    + """
norm_cfg = dict(type='SyncBN', requires_grad=True)
head_norm_cfg = dict(type='MMSyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(
        pad_size_divisor=32, batch_augments=[dict(type='BatchFixedSizePad', size=(1024, 1024))]),
    backbone=dict(frozen_stages=-1, norm_eval=False, norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=head_norm_cfg),
        mask_head=dict(norm_cfg=head_norm_cfg)))
""",
    "mmdet/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1": V3.format(
        model="mask-rcnn_r50_fpn", data="lvis_v1_instance"
    )
    + """
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)))
""",
}

# A whole config of version 2.0, in the spelling of that time.
V2_WHOLE = """
model = dict(
    type='MaskRCNN',
    pretrained='torchvision://resnet50',
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch'),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=256, feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', out_size=7, sample_num=0),
            out_channels=256, featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', out_size=14, sample_num=0),
            out_channels=256, featmap_strides=[4, 8, 16, 32]),
        mask_head=dict(
            type='FCNMaskHead', num_convs=4, in_channels=256, conv_out_channels=256, num_classes=80,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))))
train_cfg = dict(
    rpn=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True,
            ignore_iof_thr=-1),
        sampler=dict(
            type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
        allowed_border=-1, pos_weight=-1, debug=False),
    rpn_proposal=dict(
        nms_across_levels=False, nms_pre=2000, nms_post=1000, max_num=1000, nms_thr=0.7, min_bbox_size=0),
    rcnn=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=True,
            ignore_iof_thr=-1),
        sampler=dict(
            type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
        mask_size=28, pos_weight=-1, debug=False))
test_cfg = dict(
    rpn=dict(
        nms_across_levels=False, nms_pre=1000, nms_post=1000, max_num=1000, nms_thr=0.7, min_bbox_size=0),
    rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=100, mask_thr_binary=0.5))
dataset_type = 'CocoDataset'
data_root = 'data/coco/'
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=(1333, 800), flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
data = dict(
    samples_per_gpu=2,
    test=dict(type=dataset_type, ann_file=data_root + 'instances_val2017.json', pipeline=test_pipeline))
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
"""


@pytest.mark.parametrize("name", MM_MODELS)
def test_python_gives_the_preset(name, tmp_path):
    """The bases are not there: MMDetection's own are known by name."""
    assert config_from_file(write(tmp_path, "model.py", MM_MODELS[name])) == model_config(name)


def test_whole_config_of_version_2(tmp_path):
    assert config_from_file(write(tmp_path, "model.py", V2_WHOLE)) == model_config(MM_R50)
    assert config_from_mmdet_text(V2_WHOLE, "x.pth") == model_config(MM_R50)


def test_text_of_a_checkpoint_may_hold_several_files():
    """Each behind its path, those that it builds on first."""
    own = "_base_ = './whole.py'\nmodel = dict(backbone=dict(depth=101))\n"
    text = f"/data/configs/whole.py\n{V2_WHOLE}\n/data/configs/own.py\n{own}"
    assert config_from_mmdet_text(text, "x.pth") == model_config(MM_R50, backbone_depth=101)


# Assignment behind the usual bases, fields that change.
MM_FIELDS = [
    ("model = dict(backbone=dict(depth=152))", dict(backbone_depth=152)),
    ("model = dict(backbone=dict(frozen_stages=0))", dict(freeze_at=1)),
    ("model = dict(backbone=dict(norm_eval=False))", dict(backbone_norm="bn")),
    ("model = dict(backbone=dict(norm_cfg=dict(eps=1e-3)))", dict(norm_epsilon=1e-3)),
    ("model = dict(backbone=dict(type='ResNeXt', groups=1, base_width=4))", {}),
    (
        "model = dict(neck=dict(out_channels=128), rpn_head=dict(feat_channels=128))",
        dict(fpn_channels=128),
    ),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=[4], ratios=[1.0, 3.0])))",
        dict(anchor_sizes=(16.0, 32.0, 64.0, 128.0, 256.0), anchor_ratios=(1.0, 3.0)),
    ),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=[2], base_sizes=[4, 9, 16, 32, 64])))",
        dict(anchor_sizes=(8.0, 18.0, 32.0, 64.0, 128.0)),
    ),
    (
        "b = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)\n"
        "model = dict(rpn_head=dict(loss_bbox=b), roi_head=dict(bbox_head=dict(loss_bbox=b)))",
        dict(smooth_l1_beta=1 / 9),
    ),
    (
        "r = dict(roi_layer=dict(sampling_ratio=2, aligned=False))\n"
        "model = dict(roi_head=dict(bbox_roi_extractor=r, mask_roi_extractor=r))",
        dict(roi_sampling_ratio=2, roi_aligned=False),
    ),
    (
        "model = dict(roi_head=dict(bbox_head=dict("
        "_delete_=True, type='ConvFCBBoxHead', num_shared_convs=1, num_shared_fcs=3, conv_out_channels=64,"
        " fc_out_channels=512, num_classes=80, reg_class_agnostic=True,"
        " loss_cls=dict(type='CrossEntropyLoss'), "
        "loss_bbox=dict(type='L1Loss'))))",
        dict(box_convs=1, box_fcs=3, box_conv_dim=64, box_fc_dim=512, class_agnostic_boxes=True),
    ),
    (
        "model = dict(roi_head=dict(bbox_head=dict(bbox_coder=dict(target_stds=[0.05, 0.05, 0.1, 0.1]))))",
        dict(box_weights=(20.0, 20.0, 10.0, 10.0)),
    ),
    (  # A coder that is there has other defaults than one that is left out.
        "c = dict(_delete_=True, type='DeltaXYWHBBoxCoder')\n"
        "model = dict(roi_head=dict(bbox_head=dict(bbox_coder=c)))",
        dict(box_weights=(1.0, 1.0, 1.0, 1.0)),
    ),
    (
        "a = dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])\n"
        "model = dict(rpn_head=dict(_delete_=True, type='RPNHead', anchor_generator=a,"
        " loss_bbox=dict(type='L1Loss')))",
        {},
    ),
    (
        "model = dict(roi_head=dict(mask_head=dict(num_convs=2, conv_out_channels=64, class_agnostic=True)))",
        dict(mask_convs=2, mask_dim=64, class_agnostic_masks=True),
    ),
    (
        "model = dict(roi_head=dict(mask_roi_extractor=dict(roi_layer=dict(output_size=7))),"
        " train_cfg=dict(rcnn=dict(mask_size=14)))",
        dict(mask_pool_size=7),
    ),
    (
        "n = dict(type='nms', iou_threshold=0.6)\n"
        "model = dict(train_cfg=dict(rpn_proposal=dict(nms_pre=11, max_per_img=12, nms=n)),"
        " test_cfg=dict(rpn=dict(nms_pre=13, max_per_img=14, nms=n)))",
        dict(
            rpn_nms_threshold=0.6, rpn_pre_nms_train=11, rpn_post_nms_train=12,
            rpn_pre_nms_test=13, rpn_post_nms_test=14,
        ),
    ),
    (
        "t = dict(nms=dict(iou_threshold=0.3), score_thr=0.2, mask_thr_binary=0.4)\n"
        "model = dict(test_cfg=dict(rcnn=t))",
        dict(nms_threshold=0.3, score_threshold=0.2, mask_threshold=0.4),
    ),
    (
        "model = dict(train_cfg=dict(rpn=dict("
        "assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.2, min_pos_iou=0.1),"
        " sampler=dict(num=64, pos_fraction=0.25)), rcnn=dict(assigner=dict(pos_iou_thr=0.4, neg_iou_thr=0.4,"
        " match_low_quality=False), sampler=dict(num=128, pos_fraction=0.5))))",
        dict(
            rpn_foreground_iou=0.6, rpn_background_iou=0.2, rpn_low_quality_min_iou=0.1, rpn_batch_size=64,
            rpn_positive_fraction=0.25, roi_foreground_iou=0.4, roi_low_quality=False, roi_batch_size=128,
            roi_positive_fraction=0.5,
        ),
    ),
    (
        "test_pipeline = [dict(type='Resize', scale=(480, 640), keep_ratio=True, backend='pillow')]\n"
        "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))",
        dict(test_min_size=480, test_max_size=640, resize_kernel="pil"),
    ),
    ("model = dict(data_preprocessor=dict(pad_size_divisor=64))", dict(pad_divisor=64)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "changes"), MM_FIELDS)
def test_python_settings_go_to_their_fields(text, changes, tmp_path):
    config = config_from_file(write(tmp_path, "model.py", V3_MASK + text))
    assert config == dataclasses.replace(model_config(MM_R50), **changes)


def test_python_categories_come_from_the_data_set(tmp_path):
    classes = (
        "model = dict(roi_head=dict(bbox_head=dict(num_classes={0}), mask_head=dict(num_classes={0})))\n"
    )
    city = V3.format(model="mask-rcnn_r50_fpn", data="cityscapes_instance")
    config = config_from_file(write(tmp_path, "city.py", city + classes.format(8)))
    assert config.categories == CITYSCAPES_8 and (config.test_min_size, config.test_max_size) == (1024, 2048)
    balloon = "test_dataloader = dict(dataset=dict(metainfo=dict(classes=('balloon', ))))\n"
    config = config_from_file(write(tmp_path, "balloon.py", V3_MASK + classes.format(1) + balloon))
    assert config == model_config(MM_R50, 1)
    # Eighty classes, but not COCO's.
    assert config_from_file(write(tmp_path, "other.py", V3_MASK + balloon)).categories == ()


SYNTAX = [
    # names, arithmetic, text
    ("depth = 50 * 2 + 1\nmodel = dict(backbone=dict(depth=depth))", 101),
    ("depth: int = 100\ndepth += 1\nmodel = dict(backbone=dict(depth=depth))", 101),
    ("a, b = 34, 101\nmodel = dict(backbone=dict(depth=b))", 101),
    ("s = 'Res'\nmodel = dict(backbone=dict(type=s + 'Net', depth=101))", 101),
    ("s = 'Res'\nmodel = dict(backbone=dict(type=f'{s}Net', depth=101))", 101),
    ("model = dict(backbone=dict(type='%sNet' % 'Res', depth=101))", 101),
    ("depths = [18, 101]\nmodel = {'backbone': {'depth': depths[-1]}}", 101),
    ("common = dict(depth=101)\nmodel = dict(backbone=dict(**common))", 101),
    ("more = [34, 101]\nall = [18, *more]\nmodel = dict(backbone=dict(depth=all[2]))", 101),
    ("model = dict(dict(backbone=dict(depth=101)))", 101),
    ("model = dict(backbone=dict(depth=18))\nmodel['backbone']['depth'] = 101", 101),
    # bases
    ("model = dict(backbone=dict(depth={{_base_.model.backbone.depth}}))", 50),
    ("model = dict(backbone=dict(depth='{{_base_.model.backbone.depth}}'))", 50),
    ("model = dict(backbone=dict(depth=_base_.model.backbone.depth * 2 + 1))", 101),
    ("_base_.model.backbone.depth = 101", 101),
    ("_base_.optim_wrapper.type = 'AmpOptimWrapper'\n_base_.param_scheduler[1].milestones = [16, 23]", 50),
    # what a detector does not need may be anything
    ("import os.path as osp\nwork_dir = osp.join('a', 'b')", 50),
    ("def f(x):\n    return x\ntrain_pipeline = [f(i) for i in range(3)]", 50),
    ("model = dict(backbone=dict(init_cfg=dict(checkpoint=open('x').read())))", 50),
]


@pytest.mark.parametrize(("text", "depth"), SYNTAX)
def test_python_syntax_is_evaluated(text, depth, tmp_path):
    path = write(tmp_path, "model.py", V3_MASK + text)
    assert config_from_file(path) == model_config(MM_R50, backbone_depth=depth)


def test_python_bases_on_disk_merge(tmp_path):
    """Dictionaries merge, lists replace, _delete_ replaces, {{ fileDirname }} is the file's folder."""
    write(tmp_path, "configs/whole.py", V2_WHOLE.replace("depth=50", "depth=101"))
    write(
        tmp_path,
        "configs/sub/a.py",
        "_base_ = '../whole.py'\nmodel = dict(rpn_head=dict(anchor_generator=dict(ratios=[1.0])))",
    )
    text = """
        _base_ = ['{{ fileDirname }}/a.py']
        model = dict(
            test_cfg=dict(
                rpn=dict(nms_pre=10, max_per_img=5, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
                rcnn={{_base_.test_cfg.rcnn}}),
            neck=dict(_delete_=True, type='FPN', out_channels=256, num_outs=5, norm_cfg=dict(type='BN')))
        """
    config = config_from_file(write(tmp_path, "configs/sub/own.py", text))
    changes = dict(
        backbone_depth=101, anchor_ratios=(1.0,), rpn_pre_nms_test=10, rpn_post_nms_test=5, fpn_norm="bn"
    )
    assert config == model_config(MM_R50, **changes)


def test_python_base_that_cannot_be_read_stays_so(tmp_path):
    write(tmp_path, "base.py", V2_WHOLE + "test_cfg = dict(rpn=load(), rcnn=test_cfg['rcnn'])")
    path = write(tmp_path, "own.py", "_base_ = 'base.py'\ntest_cfg = dict(rpn=dict(nms_pre=10))")
    message = refusal(path)
    assert (
        "has a test_cfg.rpn that is unreadable (line" in message
        and "of base.py has a function call" in message
    )


def test_python_of_version_2_keeps_the_ratio_unless_told_otherwise():
    with_default = V2_WHOLE.replace("dict(type='Resize', keep_ratio=True)", "dict(type='Resize')")
    assert with_default != V2_WHOLE
    assert config_from_mmdet_text(with_default, "x.pth") == model_config(MM_R50)
    stretched = V2_WHOLE.replace("keep_ratio=True", "keep_ratio=False")
    with pytest.raises(UserError, match="pipeline.Resize.keep_ratio is False"):
        config_from_mmdet_text(stretched, "x.pth")


def test_norm_layers_whose_affine_part_is_fixed(tmp_path):
    """Of the pyramid they train here, so that training differs and detections do not."""
    text = "model = dict(neck=dict(norm_cfg=dict(type='BN', requires_grad=False)))"
    path = write(tmp_path, "model.py", V3_MASK + text)
    assert "neck.norm_cfg.requires_grad is False" in refusal(path)
    assert config_from_file(path, training=False) == model_config(MM_R50, fpn_norm="bn")


REFUSED_PYTHON = {
    "backbone.depth": "model = dict(backbone=dict(depth=26))",
    "backbone.type": "model = dict(backbone=dict(type='SwinTransformer'))",
    "backbone.dcn.type": "model = dict(backbone=dict(dcn=dict(type='DCN')))",
    "backbone.conv_cfg.type": "model = dict(backbone=dict(conv_cfg=dict(type='ConvWS')))",
    "backbone.plugins": "model = dict(backbone=dict(plugins=[dict(cfg=1)]))",
    "backbone.norm_cfg.num_groups": "model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=16)))",
    "backbone.norm_cfg.type": "model = dict(backbone=dict(norm_cfg=dict(type='LN')))",
    "data_preprocessor.pad_size_divisor": "model = dict(data_preprocessor=dict(pad_size_divisor=1))",
    "neck.type": "model = dict(neck=dict(type='PAFPN'))",
    "neck.num_outs": "model = dict(neck=dict(num_outs=4))",
    "neck.add_extra_convs": "model = dict(neck=dict(add_extra_convs='on_output'))",
    "rpn_head.type": "model = dict(rpn_head=dict(type='GARPNHead'))",
    "rpn_head.feat_channels": "model = dict(rpn_head=dict(feat_channels=128))",
    "rpn_head.anchor_generator.scales": "model = dict(rpn_head=dict(anchor_generator=dict(scales=[4, 8])))",
    "rpn_head.bbox_coder.clip_border": "model = dict(rpn_head=dict(bbox_coder=dict(clip_border=False)))",
    "roi_head.type": "model = dict(roi_head=dict(type='CascadeRoIHead'))",
    "roi_head.bbox_roi_extractor.type": (
        "model = dict(roi_head=dict(bbox_roi_extractor=dict(type='GenericRoIExtractor')))"
    ),
    "roi_head.bbox_head.type": "model = dict(roi_head=dict(bbox_head=dict(type='DoubleConvFCBBoxHead')))",
    "roi_head.bbox_head.roi_feat_size": "model = dict(roi_head=dict(bbox_head=dict(roi_feat_size=14)))",
    "roi_head.bbox_head.loss_cls.type": (
        "model = dict(roi_head=dict(bbox_head=dict(loss_cls=dict(type='SeesawLoss'))))"
    ),
    "roi_head.mask_head.type": "model = dict(roi_head=dict(mask_head=dict(type='CoarseMaskHead')))",
    "roi_head.mask_head.num_classes": "model = dict(roi_head=dict(mask_head=dict(num_classes=3)))",
    "roi_head.mask_head.norm_cfg": "model = dict(roi_head=dict(bbox_head=dict("
    "type='Shared4Conv1FCBBoxHead'), mask_head=dict(norm_cfg=dict(type='BN'))))",
    "test_cfg.rcnn.nms.type": "model = dict(test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))))",
    "test_cfg.rpn.min_bbox_size": "model = dict(test_cfg=dict(rpn=dict(min_bbox_size=4)))",
    "pipeline.Resize.keep_ratio": "test_dataloader = dict(dataset=dict(pipeline=["
    "dict(type='Resize', scale=(1333, 800))]))",
    "pipeline.Resize.scale": "test_dataloader = dict(dataset=dict(pipeline=["
    "dict(type='Resize', scale=[(1333, 800), (1333, 640)], keep_ratio=True)]))",
    "test_pipeline": "test_dataloader = dict(dataset=dict(pipeline=["
    "dict(type='Resize', scale=(1333, 800), keep_ratio=True), dict(type='PhotoMetricDistortion')]))",
    "roi_head.bbox_head.num_clases": "model = dict(roi_head=dict(bbox_head=dict(num_clases=3)))",
}


@pytest.mark.parametrize("key", REFUSED_PYTHON)
def test_python_refuses_each_also_without_training(key, tmp_path):
    message = refusal(write(tmp_path, "model.py", V3_MASK + REFUSED_PYTHON[key]), training=False)
    assert "has a setting that cannot be reproduced here:\n" in message
    assert message.splitlines()[1].split()[0] == key
    assert "supported: " in message or "did you mean roi_head.bbox_head.num_classes?" in message


def test_python_refuses_all_at_once(tmp_path):
    text = """
        model = dict(
            backbone=dict(depth=26, dcn=dict(type='DCN')),
            test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))),
            train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))
        """
    message = refusal(write(tmp_path, "model.py", V3_MASK + textwrap.dedent(text)))
    assert "model.py has 4 settings" in message
    for part in ("backbone.depth is 26", "'DCN'", "'soft_nms'", "'OHEMSampler'"):
        assert part in message


TRAINING_PYTHON = [
    "model = dict(train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))",
    "model = dict(train_cfg=dict(rpn=dict(allowed_border=0)))",
    "model = dict(train_cfg=dict(rpn_proposal=dict(nms=dict(iou_threshold=0.8))))",
    "model = dict(train_cfg=dict(rcnn=dict(assigner=dict(min_pos_iou=0.3))))",
    "model = dict(train_cfg=dict(rcnn=dict(mask_size=56)))",
    "model = dict(roi_head=dict(bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))))",
    "model = dict(roi_head=dict(bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0))))",
    "optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.5))",
]


@pytest.mark.parametrize("text", TRAINING_PYTHON)
def test_python_refuses_what_changes_training_only_unless_told(text, tmp_path, caplog):
    path = write(tmp_path, "model.py", V3_MASK + text)
    refusal(path)
    with caplog.at_level(logging.WARNING):
        assert config_from_file(path, training=False) == model_config(MM_R50)
    assert "training here would differ" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what is needed has to be readable
        ("model = dict(backbone=dict(depth=int('50')))", "line 6 of model.py has a function call"),
        ("model = dict(backbone=dict(depth=[d for d in (50,)][0]))", "line 6 of model.py has"),
        ("import os\nmodel = dict(backbone=dict(depth=os.x))", "line 7 of model.py has an attribute"),
        ("model = dict(backbone=dict(depth=unknown))", "the name unknown, which has no value"),
        ("from a import b\nmodel = dict(roi_head=b)", "an import (a)"),
        ("model = build()", "a model that is unreadable (line 6 of model.py has a function call)"),
        ("test_dataloader = load()", "a test pipeline that is unreadable"),
        ("model = dict(backbone=dict(depth=9 ** 9 ** 9))", "an operation that is not evaluated"),
        ("model = dict(backbone=dict(type='a' * 10 ** 9))", "an operation"),
        ("model = dict(backbone=dict(depth=1 / 0))", "an operation without a result"),
        ("model = dict(backbone=dict(depth=_base_.model.nothing))", "'nothing', which is not in"),
        # what may change other values is never passed over
        ("for i in range(3):\n    model = i", "a loop in line 6"),
        ("if True:\n    model = dict()", "an if statement in line 6"),
        ("model = dict()\nmodel.update(backbone=1)", "a function call in line 7"),
        ("_base_.model.backbone.depth.x = 1", "an assignment into a value that is not known in line 6"),
        ("from mmengine.config import read_base\nwith read_base():\n    from .x import *", "read_base"),
        ("from detectron2.config import LazyCall", "LazyConfig of Detectron2 (line 6"),
        ("from ..common.models.mask_rcnn_fpn import model", "LazyConfig of Detectron2"),
        ("model = dict(", "no valid Python (line 6)"),
        ("x = " + "(" * 400 + ")" * 400, "model.py"),
        ("_base_ = ['../_base_/default_runtime.py', 'nowhere.py']", "nowhere.py, which does not exist"),
        ("_base_ = 'mmdet::rtmdet/x.py'", "mmdet::rtmdet/x.py, which does not exist"),
        ("_base_ = './model.py'", "is its own _base_"),
        ("_base_ = names()", "a _base_ that is not written out in line 6"),
        ("_base_ = '../_base_/datasets/coco_detection.py'", "two bases that set"),
        ("model = dict(type='SOLO')", "has the model 'SOLO'; supported: MaskRCNN and FasterRCNN."),
        ("model = dict(bbox_head=dict(type='SharedFCBBoxHead'))", "MMDetection 1"),
        ("model = dict(rpn_head=dict(anchor_scales=[8]))", "MMDetection 1"),
        ("model = None", "has no model"),
    ],
)
def test_python_that_is_wrong(text, expected, tmp_path):
    message = refusal(write(tmp_path, "model.py", V3_MASK + text))
    assert expected in message and "model.py" in message


def test_python_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = "open('ran', 'w')"
    for text in (
        f"x = {run}", f"import os\ny = os.system('touch ran')\nz = [{run} for _ in range(2)]",
        f"def f(a={run}):\n    pass", f"class A:\n    x = {run}", f"@{run}\ndef f(): pass",
        f'x = f"{{{run}}}"',
    ):  # fmt: skip
        assert config_from_file(write(tmp_path, "model.py", V3_MASK + text)) == model_config(MM_R50)
    refusal(write(tmp_path, "model.py", V3_MASK + f"{run}\n"))
    refusal(write(tmp_path, "model.py", V3_MASK + f"model = dict(backbone=dict(depth={run}))\n"))
    assert os.listdir(tmp_path) == ["model.py"]


def test_python_of_version_2_needs_its_normalisation():
    text = V2_WHOLE.replace("dict(type='Normalize', **img_norm_cfg), ", "")
    with pytest.raises(UserError, match="pipeline.Normalize.mean is not set"):
        config_from_mmdet_text(text, "x.pth")
    with pytest.raises(UserError, match="a loop in line 2"):
        config_from_mmdet_text("a = 1\nfor a in b: pass", "x.pth")
