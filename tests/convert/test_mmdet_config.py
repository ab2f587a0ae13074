"""MMDetection's Python config files and config texts: read without running them, mapped or refused."""

import logging
import os
import textwrap

import pytest
from conversion_helpers import refusal, write_config

from jaxmaskrcnn.convert.config_files import config_from_file, config_from_mmdet_text
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import CITYSCAPES_8, model_config

MM_R50 = "mmdet/mask-rcnn_r50_fpn_1x_coco"

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
    "mmdet/mask-rcnn_r101_fpn_sample1e-3_ms-2x_lvis-v0.5": V3.format(
        model="mask-rcnn_r50_fpn", data="lvis_v0.5_instance"
    )
    + """
model = dict(
    backbone=dict(depth=101),
    roi_head=dict(bbox_head=dict(num_classes=1230), mask_head=dict(num_classes=1230)),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)))
""",
    "mmdet/mask-rcnn_r50_fpn_1x_cityscapes": V3.format(model="mask-rcnn_r50_fpn", data="cityscapes_instance")
    + """
model = dict(
    backbone=dict(init_cfg=None),
    roi_head=dict(
        bbox_head=dict(
            type='Shared2FCBBoxHead', num_classes=8,
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
        mask_head=dict(num_classes=8)))
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
    assert config_from_file(write_config(tmp_path, "model.py", MM_MODELS[name])) == model_config(name)


def test_whole_config_of_version_2(tmp_path):
    assert config_from_file(write_config(tmp_path, "model.py", V2_WHOLE)) == model_config(MM_R50)
    assert config_from_mmdet_text(V2_WHOLE, "x.pth") == model_config(MM_R50)


def test_text_of_a_checkpoint_may_hold_several_files():
    """Each behind its path, those that it builds on first."""
    own = "_base_ = './whole.py'\nmodel = dict(backbone=dict(depth=101))\n"
    text = f"/data/configs/whole.py\n{V2_WHOLE}\n/data/configs/own.py\n{own}"
    assert config_from_mmdet_text(text, "x.pth") == model_config(MM_R50, **{"backbone.depth": 101})


def test_text_of_version_2_repeats_the_settings_of_the_regions():
    """Its checkpoints' text was written after building the model, which copies them into roi_head."""
    text = V2_WHOLE.replace(
        "roi_head=dict(", "roi_head=dict(train_cfg=dict(mask_size=28), test_cfg=dict(score_thr=0.5), ", 1
    )
    assert text != V2_WHOLE
    assert config_from_mmdet_text(text, "x.pth") == model_config(MM_R50)


# Assignment behind the usual bases, settings that change.
MM_SETTINGS = [
    ("model = dict(backbone=dict(depth=152))", {"backbone.depth": 152}),
    ("model = dict(backbone=dict(frozen_stages=0))", {"backbone.freeze_at": 1}),
    ("model = dict(backbone=dict(norm_eval=False))", {"backbone.norm": "bn"}),
    ("model = dict(backbone=dict(norm_cfg=dict(eps=1e-3)))", {"backbone.norm_epsilon": 1e-3}),
    ("model = dict(backbone=dict(type='ResNeXt', groups=1, base_width=4))", {}),
    (
        "model = dict(neck=dict(out_channels=128), rpn_head=dict(feat_channels=128))",
        {"neck.channels": 128},
    ),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=[4], ratios=[1.0, 3.0])))",
        {"rpn.anchors.sizes": (16.0, 32.0, 64.0, 128.0, 256.0), "rpn.anchors.ratios": (1.0, 3.0)},
    ),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=[2], base_sizes=[4, 9, 16, 32, 64])))",
        {"rpn.anchors.sizes": (8.0, 18.0, 32.0, 64.0, 128.0)},
    ),
    (
        "b = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)\n"
        "model = dict(rpn_head=dict(loss_bbox=b), roi_head=dict(bbox_head=dict(loss_bbox=b)))",
        {"rpn.loss.beta": 1 / 9, "box.loss.beta": 1 / 9},
    ),
    (
        "model = dict(roi_head=dict(bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0))))",
        {"box.loss.beta": 1.0},
    ),
    (
        "model = dict(roi_head=dict(mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=3))))",
        {"mask.pool.sampling_ratio": 3},
    ),
    (
        "h = dict(type='Shared4Conv1FCBBoxHead', norm_cfg=dict(type='BN'))\n"
        "model = dict(roi_head=dict(bbox_head=h))",
        {"box.convs": 4, "box.fcs": 1, "box.norm": "bn"},
    ),
    ("model = dict(roi_head=dict(mask_head=dict(norm_cfg=dict(type='BN'))))", {"mask.norm": "bn"}),
    (
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=[4, 8], scale_major=False)))",
        {
            "rpn.anchors.sizes": ((16, 32), (32, 64), (64, 128), (128, 256), (256, 512)),
            "rpn.anchors.order": "size",
        },
    ),
    (
        "r = dict(roi_layer=dict(sampling_ratio=2, aligned=False))\n"
        "model = dict(roi_head=dict(bbox_roi_extractor=r, mask_roi_extractor=r))",
        {
            "box.pool.sampling_ratio": 2,
            "mask.pool.sampling_ratio": 2,
            "box.pool.aligned": False,
            "mask.pool.aligned": False,
        },
    ),
    (
        "model = dict(roi_head=dict(bbox_head=dict("
        "_delete_=True, type='ConvFCBBoxHead', num_shared_convs=1, num_shared_fcs=3, conv_out_channels=64,"
        " fc_out_channels=512, num_classes=80, reg_class_agnostic=True,"
        " loss_cls=dict(type='CrossEntropyLoss'), "
        "loss_bbox=dict(type='L1Loss'))))",
        {"box.convs": 1, "box.fcs": 3, "box.conv_dim": 64, "box.fc_dim": 512, "box.class_agnostic": True},
    ),
    (
        "model = dict(roi_head=dict(bbox_head=dict(bbox_coder=dict(target_stds=[0.05, 0.05, 0.1, 0.1]))))",
        {"box.stages.0.box_weights": (20.0, 20.0, 10.0, 10.0)},
    ),
    (  # A coder that is there has other defaults than one that is left out.
        "c = dict(_delete_=True, type='DeltaXYWHBBoxCoder')\n"
        "model = dict(roi_head=dict(bbox_head=dict(bbox_coder=c)))",
        {"box.stages.0.box_weights": (1.0, 1.0, 1.0, 1.0)},
    ),
    (
        "a = dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])\n"
        "model = dict(rpn_head=dict(_delete_=True, type='RPNHead', anchor_generator=a,"
        " loss_bbox=dict(type='L1Loss')))",
        {},
    ),
    (
        "model = dict(roi_head=dict(mask_head=dict(num_convs=2, conv_out_channels=64, class_agnostic=True)))",
        {"mask.convs": 2, "mask.dim": 64, "mask.class_agnostic": True},
    ),
    (
        "model = dict(roi_head=dict(mask_roi_extractor=dict(roi_layer=dict(output_size=7))),"
        " train_cfg=dict(rcnn=dict(mask_size=14)))",
        {"mask.pool.size": 7},
    ),
    (
        "n = dict(type='nms', iou_threshold=0.6)\n"
        "model = dict(train_cfg=dict(rpn_proposal=dict(nms_pre=11, max_per_img=12, nms=n)),"
        " test_cfg=dict(rpn=dict(nms_pre=13, max_per_img=14, nms=n)))",
        {
            "rpn.nms_threshold": 0.6,
            "rpn.pre_nms_train": 11,
            "rpn.post_nms_train": 12,
            "rpn.pre_nms_test": 13,
            "rpn.post_nms_test": 14,
        },
    ),
    (
        "t = dict(nms=dict(iou_threshold=0.3), score_thr=0.2, mask_thr_binary=0.4)\n"
        "model = dict(test_cfg=dict(rcnn=t))",
        {
            "detections.nms_threshold": 0.3,
            "detections.score_threshold": 0.2,
            "detections.mask_threshold": 0.4,
        },
    ),
    (
        "model = dict(train_cfg=dict(rpn=dict("
        "assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.2, min_pos_iou=0.1),"
        " sampler=dict(num=64, pos_fraction=0.25)), rcnn=dict(assigner=dict(pos_iou_thr=0.4, neg_iou_thr=0.4,"
        " match_low_quality=False), sampler=dict(num=128, pos_fraction=0.5))))",
        {
            "rpn.foreground_iou": 0.6,
            "rpn.background_iou": 0.2,
            "rpn.low_quality_min_iou": 0.1,
            "rpn.batch_size": 64,
            "rpn.positive_fraction": 0.25,
            "box.stages.0.foreground_iou": 0.4,
            "regions.low_quality": "none",
            "regions.batch_size": 128,
            "regions.positive_fraction": 0.5,
        },
    ),
    (
        "test_pipeline = [dict(type='Resize', scale=(480, 640), keep_ratio=True, backend='pillow')]\n"
        "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))",
        {"input.test_min_size": 480, "input.test_max_size": 640, "input.resize_kernel": "pil"},
    ),
    ("model = dict(data_preprocessor=dict(pad_size_divisor=64))", {"input.pad_divisor": 64}),
]


@pytest.mark.parametrize(("text", "changes"), MM_SETTINGS)
def test_python_settings_go_to_their_places(text, changes, tmp_path):
    config = config_from_file(write_config(tmp_path, "model.py", V3_MASK + text))
    assert config == model_config(MM_R50).replace(changes)


def test_python_categories_come_from_the_data_set(tmp_path):
    classes = (
        "model = dict(roi_head=dict(bbox_head=dict(num_classes={0}), mask_head=dict(num_classes={0})))\n"
    )
    city = V3.format(model="mask-rcnn_r50_fpn", data="cityscapes_instance")
    config = config_from_file(write_config(tmp_path, "city.py", city + classes.format(8)))
    assert config.categories == CITYSCAPES_8 and (config.input.test_min_size, config.input.test_max_size) == (
        1024,
        2048,
    )
    balloon = "test_dataloader = dict(dataset=dict(metainfo=dict(classes=('balloon', ))))\n"
    config = config_from_file(write_config(tmp_path, "balloon.py", V3_MASK + classes.format(1) + balloon))
    assert config == model_config(MM_R50, 1)
    # Eighty classes, but not COCO's.
    assert config_from_file(write_config(tmp_path, "other.py", V3_MASK + balloon)).categories == ()


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
    path = write_config(tmp_path, "model.py", V3_MASK + text)
    assert config_from_file(path) == model_config(MM_R50, **{"backbone.depth": depth})


def test_python_bases_on_disk_merge(tmp_path):
    """Dictionaries merge, lists replace, _delete_ replaces, {{ fileDirname }} is the file's folder."""
    write_config(tmp_path, "configs/whole.py", V2_WHOLE.replace("depth=50", "depth=101"))
    write_config(
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
    config = config_from_file(write_config(tmp_path, "configs/sub/own.py", text))
    changes = {
        "backbone.depth": 101,
        "rpn.anchors.ratios": (1.0,),
        "rpn.pre_nms_test": 10,
        "rpn.post_nms_test": 5,
        "neck.norm": "bn",
    }
    assert config == model_config(MM_R50, **changes)


def test_python_base_that_cannot_be_read_stays_so(tmp_path):
    write_config(tmp_path, "base.py", V2_WHOLE + "test_cfg = dict(rpn=load(), rcnn=test_cfg['rcnn'])")
    path = write_config(tmp_path, "own.py", "_base_ = 'base.py'\ntest_cfg = dict(rpn=dict(nms_pre=10))")
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
    path = write_config(tmp_path, "model.py", V3_MASK + text)
    assert "neck.norm_cfg.requires_grad is False" in refusal(path)
    assert config_from_file(path, training=False) == model_config(MM_R50, **{"neck.norm": "bn"})


REFUSED_PYTHON = {
    "backbone.depth": "model = dict(backbone=dict(depth=26))",
    "backbone.type": "model = dict(backbone=dict(type='HourglassNet'))",
    "backbone.dcn.type": "model = dict(backbone=dict(dcn=dict(type='DCNv3')))",
    "backbone.conv_cfg.type": "model = dict(backbone=dict(conv_cfg=dict(type='ConvWS')))",
    "backbone.plugins": "model = dict(backbone=dict(plugins=[dict(cfg=1)]))",
    "backbone.norm_cfg.num_groups": "model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=16)))",
    "backbone.norm_cfg.type": "model = dict(backbone=dict(norm_cfg=dict(type='LN')))",
    "data_preprocessor.pad_size_divisor": "model = dict(data_preprocessor=dict(pad_size_divisor=1))",
    "neck.type": "model = dict(neck=dict(type='FPG'))",
    "neck.num_outs": "model = dict(neck=dict(num_outs=4))",
    "neck.add_extra_convs": "model = dict(neck=dict(add_extra_convs='on_output'))",
    "rpn_head.type": "model = dict(rpn_head=dict(type='GARPNHead'))",
    "rpn_head.feat_channels": "model = dict(rpn_head=dict(feat_channels=128))",
    "rpn_head.anchor_generator.scales": "model = dict(rpn_head=dict(anchor_generator=dict(scales=[0])))",
    "rpn_head.anchor_generator.base_sizes": (
        "model = dict(rpn_head=dict(anchor_generator=dict(base_sizes=[4, 8])))"
    ),
    "rpn_head.anchor_generator.strides": (
        "model = dict(rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64, 128])))"
    ),
    "roi_head.mask_roi_extractor.featmap_strides": (
        "model = dict(roi_head=dict(mask_roi_extractor=dict(featmap_strides=[4, 8])))"
    ),
    "rpn_head.bbox_coder.clip_border": "model = dict(rpn_head=dict(bbox_coder=dict(clip_border=False)))",
    "roi_head.type": "model = dict(roi_head=dict(type='GridRoIHead'))",
    "roi_head.bbox_roi_extractor.type": (
        "model = dict(roi_head=dict(bbox_roi_extractor=dict(type='OwnRoIExtractor')))"
    ),
    "roi_head.bbox_head.type": "model = dict(roi_head=dict(bbox_head=dict(type='DoubleConvFCBBoxHead')))",
    "roi_head.bbox_head.roi_feat_size": "model = dict(roi_head=dict(bbox_head=dict(roi_feat_size=14)))",
    "roi_head.bbox_head.loss_cls.type": (
        "model = dict(roi_head=dict(bbox_head=dict(loss_cls=dict(type='FocalLoss'))))"
    ),
    "roi_head.mask_head.type": "model = dict(roi_head=dict(mask_head=dict(type='HTCMaskHead')))",
    "roi_head.mask_head.num_classes": "model = dict(roi_head=dict(mask_head=dict(num_classes=3)))",
    "test_cfg.rcnn.nms.type": "model = dict(test_cfg=dict(rcnn=dict(nms=dict(type='nms_match'))))",
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
    message = refusal(write_config(tmp_path, "model.py", V3_MASK + REFUSED_PYTHON[key]), training=False)
    assert "has a setting that cannot be reproduced here:\n" in message
    assert message.splitlines()[1].split()[0] == key
    assert "supported: " in message or "did you mean roi_head.bbox_head.num_classes?" in message


def test_python_refuses_all_at_once(tmp_path):
    text = """
        model = dict(
            backbone=dict(depth=26, dcn=dict(type='DCNv3')),
            test_cfg=dict(rcnn=dict(nms=dict(type='nms_match'))),
            train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))
        """
    message = refusal(write_config(tmp_path, "model.py", V3_MASK + textwrap.dedent(text)))
    assert "model.py has 4 settings" in message
    for part in ("backbone.depth is 26", "'DCNv3'", "'nms_match'", "'OHEMSampler'"):
        assert part in message


TRAINING_PYTHON = [
    "model = dict(train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))",
    "model = dict(train_cfg=dict(rpn=dict(allowed_border=-2)))",
    "model = dict(train_cfg=dict(rpn_proposal=dict(nms=dict(iou_threshold=0.8))))",
    "model = dict(train_cfg=dict(rcnn=dict(assigner=dict(min_pos_iou=0.3))))",
    "model = dict(train_cfg=dict(rcnn=dict(mask_size=56)))",
    "model = dict(roi_head=dict(bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='CIoULoss'))))",
    "optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.5))",
]


@pytest.mark.parametrize("text", TRAINING_PYTHON)
def test_python_refuses_what_changes_training_only_unless_told(text, tmp_path, caplog):
    path = write_config(tmp_path, "model.py", V3_MASK + text)
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
        ("model = dict(backbone=dict(depth=unknown))", "the undefined name unknown"),
        ("from a import b\nmodel = dict(roi_head=b)", "an import (a)"),
        ("model = build()", "a model that is unreadable (line 6 of model.py has a function call)"),
        ("test_dataloader = load()", "a test pipeline that is unreadable"),
        ("model = dict(backbone=dict(depth=9 ** 9 ** 9))", "an unsupported operation"),
        ("model = dict(backbone=dict(type='a' * 10 ** 9))", "an unsupported operation"),
        ("model = dict(backbone=dict(depth=1 / 0))", "an operation that fails"),
        (
            "model = dict(backbone=dict(depth=_base_.model.nothing))",
            "a look-up of 'nothing', which does not exist",
        ),
        # what may change other values is never passed over
        ("for i in range(3):\n    model = i", "a loop in line 6"),
        ("if True:\n    model = dict()", "an if statement in line 6"),
        ("model = dict()\nmodel.update(backbone=1)", "a function call in line 7"),
        ("_base_.model.backbone.depth.x = 1", "an assignment into an unknown value in line 6"),
        ("from mmengine.config import read_base\nwith read_base():\n    from .x import *", "read_base"),
        ("from detectron2.config import LazyCall", "LazyConfig of Detectron2 (line 6"),
        ("from ..common.models.mask_rcnn_fpn import model", "LazyConfig of Detectron2"),
        ("model = dict(", "is not valid Python (line 6)"),
        ("x = " + "(" * 400 + ")" * 400, "model.py"),
        ("_base_ = ['../_base_/default_runtime.py', 'nowhere.py']", "nowhere.py, which does not exist"),
        ("_base_ = 'mmdet::rtmdet/x.py'", "mmdet::rtmdet/x.py, which does not exist"),
        ("_base_ = './model.py'", "is its own _base_"),
        ("_base_ = names()", "a _base_ that is not written out in line 6"),
        ("_base_ = '../_base_/datasets/coco_detection.py'", "two bases that set"),
        (
            "model = dict(type='SOLO')",
            "has the model 'SOLO'; supported: MaskRCNN, FasterRCNN, CascadeRCNN, PanopticFPN, "
            "MaskScoringRCNN and PointRend.",
        ),
        ("model = dict(bbox_head=dict(type='SharedFCBBoxHead'))", "MMDetection 1"),
        ("model = dict(rpn_head=dict(anchor_scales=[8]))", "MMDetection 1"),
        ("model = None", "has no model"),
    ],
)
def test_python_that_is_wrong(text, expected, tmp_path):
    message = refusal(write_config(tmp_path, "model.py", V3_MASK + text))
    assert expected in message and "model.py" in message


def test_python_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = "open('ran', 'w')"
    for text in (
        f"x = {run}", f"import os\ny = os.system('touch ran')\nz = [{run} for _ in range(2)]",
        f"def f(a={run}):\n    pass", f"class A:\n    x = {run}", f"@{run}\ndef f(): pass",
        f'x = f"{{{run}}}"',
    ):  # fmt: skip
        assert config_from_file(write_config(tmp_path, "model.py", V3_MASK + text)) == model_config(MM_R50)
    refusal(write_config(tmp_path, "model.py", V3_MASK + f"{run}\n"))
    refusal(write_config(tmp_path, "model.py", V3_MASK + f"model = dict(backbone=dict(depth={run}))\n"))
    assert os.listdir(tmp_path) == ["model.py"]


def test_python_of_version_2_needs_its_normalisation():
    text = V2_WHOLE.replace("dict(type='Normalize', **img_norm_cfg), ", "")
    with pytest.raises(UserError, match="pipeline.Normalize.mean is not set"):
        config_from_mmdet_text(text, "x.pth")
    with pytest.raises(UserError, match="a loop in line 2"):
        config_from_mmdet_text("a = 1\nfor a in b: pass", "x.pth")
