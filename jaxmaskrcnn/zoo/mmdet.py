"""MMDetection's Faster and Mask R-CNN and Panoptic FPN, by the names of the config files of version 3.3.

Source: the files of ``configs/`` for the settings, their ``metafile.yml`` for AP and addresses.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.conventions import DETECTRON2, MMDET, MMDET_PANOPTIC
from jaxmaskrcnn.zoo.detectron2 import BGR_STD, regnet
from jaxmaskrcnn.zoo.entry import (
    BN_ALL,
    GN_ALL,
    LVIS_V05,
    LVIS_V1,
    R101,
    X101_32X4D,
    X101_32X8D,
    X101_64X4D,
    Preset,
    PublishedFile,
)

LICENCE = "Apache-2.0"

_R18 = {"backbone.depth": 18}
_BOX = {"mask": None, "regions.low_quality": "none"}
# Input of weights that Caffe and Caffe2 trained; MSRA's have absorbed the standard deviation.
_BGR = {"input.channel_order": "bgr", "input.pixel_mean": DETECTRON2["input.pixel_mean"]}
_MSRA_INPUT = {**_BGR, "input.pixel_std": (1.0, 1.0, 1.0)}
_CAFFE = {**_MSRA_INPUT, "backbone.stride_in_1x1": True, "backbone.norm": "frozen_bn"}
_X101_32X8D = {**X101_32X8D, **_BGR, "input.pixel_std": BGR_STD, "backbone.norm": "frozen_bn"}
_SYNCBN = {**BN_ALL, "backbone.freeze_at": 0, "rpn.convs": 2}
_SYNCBN_CAFFE = {**_SYNCBN, **_MSRA_INPUT, "backbone.stride_in_1x1": True}
_NORM_EXEMPT = {"compute.weight_decay_exempts_norm": True}
_SCRATCH = {"backbone.freeze_at": 0, **_NORM_EXEMPT}
_REGNET = {**_BGR, "input.pixel_std": BGR_STD, "backbone.norm": "bn_eval"}
_X400MF, _X800MF, _X1_6GF, _X3_2GF, _X4GF, _X6_4GF, _X8GF, _X12GF = (
    _REGNET | regnet(f"regnetx_{size}")
    for size in ("400mf", "800mf", "1.6gf", "3.2gf", "4.0gf", "6.4gf", "8.0gf", "12gf")
)
# Four of them use the input of torchvision's weights, which they inherit from their base config.
_OBJECTS365 = {"num_classes": 365, "categories": ()}
_RGB = {path: MMDET[path] for path in ("input.channel_order", "input.pixel_mean", "input.pixel_std")}

# folder of configs/: config, changes, box AP, mask AP, file. None where the metafile has none. A file whose
# folder is not the usual one of `_published` has it before its name.
#
# The file names of two RegNets were cut at the dot of their size when they were published.
#
# faster-rcnn_r101-caffe_fpn_ms-3x_coco differs from its config file of version 3, which lacks the BGR input
# of version 2 with which its weights (of 2021) were trained.
_ROWS = {
    "mask_rcnn": (
        ("mask-rcnn_r50-caffe_fpn_1x_coco", _CAFFE, 38.0, 34.4,
         "mask_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.38__segm_mAP-0.344_20200504_231812-0ebd1859.pth"),
        ("mask-rcnn_r50_fpn_1x_coco", {}, 38.2, 34.7,
         "mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth"),
        ("mask-rcnn_r50_fpn_amp-1x_coco", {}, 38.1, 34.7,
         "fp16/mask_rcnn_r50_fpn_fp16_1x_coco/mask_rcnn_r50_fpn_fp16_1x_coco_20200205-59faf7e4.pth"),
        ("mask-rcnn_r50_fpn_2x_coco", {}, 39.2, 35.4,
         "mask_rcnn_r50_fpn_2x_coco_bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40.pth"),
        ("mask-rcnn_r101-caffe_fpn_1x_coco", R101 | _CAFFE, 40.4, 36.4,
         "mask_rcnn_r101_caffe_fpn_1x_coco_20200601_095758-805e06c1.pth"),
        ("mask-rcnn_r101_fpn_1x_coco", R101, 40.0, 36.1,
         "mask_rcnn_r101_fpn_1x_coco_20200204-1efe0ed5.pth"),
        ("mask-rcnn_r101_fpn_2x_coco", R101, 40.8, 36.6,
         "mask_rcnn_r101_fpn_2x_coco_bbox_mAP-0.408__segm_mAP-0.366_20200505_071027-14b391c7.pth"),
        ("mask-rcnn_x101-32x4d_fpn_1x_coco", X101_32X4D, 41.9, 37.5,
         "mask_rcnn_x101_32x4d_fpn_1x_coco_20200205-478d0b67.pth"),
        ("mask-rcnn_x101-32x4d_fpn_2x_coco", X101_32X4D, 42.2, 37.8,
         "mask_rcnn_x101_32x4d_fpn_2x_coco_bbox_mAP-0.422__segm_mAP-0.378_20200506_004702-faef898c.pth"),
        ("mask-rcnn_x101-64x4d_fpn_1x_coco", X101_64X4D, 42.8, 38.4,
         "mask_rcnn_x101_64x4d_fpn_1x_coco_20200201-9352eb0d.pth"),
        ("mask-rcnn_x101-64x4d_fpn_2x_coco", X101_64X4D, 42.7, 38.1,
         "mask_rcnn_x101_64x4d_fpn_2x_coco_20200509_224208-39d6f70c.pth"),
        ("mask-rcnn_x101-32x8d_fpn_1x_coco", _X101_32X8D, 42.8, 38.3,
         "mask_rcnn_x101_32x8d_fpn_1x_coco_20220630_173841-0aaf329e.pth"),
        ("mask-rcnn_r50-caffe_fpn_ms-poly-2x_coco", _CAFFE, 40.3, 36.5,
         "mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco_bbox_mAP-0.403__segm_mAP-0.365_20200504_231822-a75c98ce.pth"),  # noqa: E501
        ("mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco", _CAFFE, 40.8, 37.0,
         "mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco_bbox_mAP-0.408__segm_mAP-0.37_20200504_163245-42aa3d00.pth"),  # noqa: E501
        ("mask-rcnn_r50_fpn_ms-poly-3x_coco", {}, 40.9, 37.1,
         "mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth"),
        ("mask-rcnn_r101_fpn_ms-poly-3x_coco", R101, 42.7, 38.5,
         "mask_rcnn_r101_fpn_mstrain-poly_3x_coco_20210524_200244-5675c317.pth"),
        ("mask-rcnn_r101-caffe_fpn_ms-poly-3x_coco", R101 | _CAFFE, 42.9, 38.5,
         "mask_rcnn_r101_caffe_fpn_mstrain-poly_3x_coco_20210526_132339-3c33ce02.pth"),
        ("mask-rcnn_x101-32x4d_fpn_ms-poly-3x_coco", X101_32X4D, 43.6, 39.0,
         "mask_rcnn_x101_32x4d_fpn_mstrain-poly_3x_coco_20210524_201410-abcd7859.pth"),
        ("mask-rcnn_x101-32x8d_fpn_ms-poly-1x_coco", _X101_32X8D, 43.4, 39.0,
         "mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco_20220630_170346-b4637974.pth"),
        ("mask-rcnn_x101-32x8d_fpn_ms-poly-3x_coco", _X101_32X8D, 44.3, None,
         "mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco_20210607_161042-8bd2c639.pth"),
        ("mask-rcnn_x101-64x4d_fpn_ms-poly_3x_coco", X101_64X4D, 44.5, 39.7,
         "mask_rcnn_x101_64x4d_fpn_mstrain-poly_3x_coco_20210526_120447-c376f129.pth"),
        ("mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco", _R18, None, None, None),
        ("mask-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco", {}, None, None, None),
        ("mask-rcnn_r101_fpn_8xb8-amp-lsj-200e_coco", R101, None, None, None),
    ),
    "gn": (
        ("mask-rcnn_r50_fpn_gn-all_2x_coco", GN_ALL | _MSRA_INPUT, 40.2, 36.4,
         "mask_rcnn_r50_fpn_gn-all_2x_coco_20200206-8eee02a6.pth"),
        ("mask-rcnn_r50_fpn_gn-all_3x_coco", GN_ALL | _MSRA_INPUT, 40.5, 36.7,
         "mask_rcnn_r50_fpn_gn-all_3x_coco_20200214-8b23b1e5.pth"),
        ("mask-rcnn_r101_fpn_gn-all_2x_coco", R101 | GN_ALL | _MSRA_INPUT, 41.9, 37.6,
         "mask_rcnn_r101_fpn_gn-all_2x_coco_20200205-d96b1b50.pth"),
        ("mask-rcnn_r101_fpn_gn-all_3x_coco", R101 | GN_ALL | _MSRA_INPUT, 42.1, 38.0,
         "mask_rcnn_r101_fpn_gn-all_3x_coco_20200513_181609-0df864f4.pth"),
        ("mask-rcnn_r50-contrib_fpn_gn-all_2x_coco", GN_ALL, 40.0, 36.1,
         "mask_rcnn_r50_fpn_gn-all_contrib_2x_coco_20200207-20d3e849.pth"),
        ("mask-rcnn_r50-contrib_fpn_gn-all_3x_coco", GN_ALL, 40.1, 36.2,
         "mask_rcnn_r50_fpn_gn-all_contrib_3x_coco_20200225-542aefbc.pth"),
    ),
    "scratch": (
        ("faster-rcnn_r50-scratch_fpn_gn-all_6x_coco", _BOX | GN_ALL | _SCRATCH, 40.7, None,
         "scratch/faster_rcnn_r50_fpn_gn-all_scratch_6x_coco/scratch_faster_rcnn_r50_fpn_gn_6x_bbox_mAP-0.407_20200201_193013-90813d01.pth"),
        ("mask-rcnn_r50-scratch_fpn_gn-all_6x_coco", GN_ALL | _SCRATCH, 41.2, 37.4,
         "scratch/mask_rcnn_r50_fpn_gn-all_scratch_6x_coco/scratch_mask_rcnn_r50_fpn_gn_6x_bbox_mAP-0.412__segm_mAP-0.374_20200201_193051-1e190a40.pth"),
    ),
    "strong_baselines": (
        ("mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco", _SYNCBN_CAFFE, 44.7, 40.4,
         None),
        ("mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-400e_coco", _SYNCBN_CAFFE, None, None,
         None),
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco", _SYNCBN, None, None, None),
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-50e_coco", _SYNCBN, None, None, None),
    ),
    "simple_copy_paste": (
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-270k_coco", _SYNCBN, 43.5, 39.1,
         "mask_rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_32x2_270k_coco_20220324_182940-33a100c5.pth"),
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-90k_coco", _SYNCBN, 43.3, 39.0,
         "mask_rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_32x2_90k_coco_20220316_181409-f79c84c5.pth"),
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-270k_coco", _SYNCBN, 45.1, 40.3,
         "mask_rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_scp_32x2_270k_coco_20220324_201229-80ee90b7.pth"),
        ("mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-90k_coco", _SYNCBN, 43.8, 39.2,
         "mask_rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_scp_32x2_90k_coco_20220316_181307-6bc5726f.pth"),
    ),
    "regnet": (
        ("mask-rcnn_regnetx-3.2GF_fpn_1x_coco", _X3_2GF, 40.3, 36.6,
         "mask_rcnn_regnetx-3.2GF_fpn_1x_coco_20200520_163141-2a9d1814.pth"),
        ("mask-rcnn_regnetx-4GF_fpn_1x_coco", _X4GF, 41.5, 37.4,
         "mask_rcnn_regnetx-4GF_fpn_1x_coco_20200517_180217-32e9c92d.pth"),
        ("mask-rcnn_regnetx-6.4GF_fpn_1x_coco", _X6_4GF, 41.0, 37.1,
         "mask_rcnn_regnetx-6.4GF_fpn_1x_coco_20200517_180439-3a7aae83.pth"),
        ("mask-rcnn_regnetx-8GF_fpn_1x_coco", _X8GF, 41.7, 37.5,
         "mask_rcnn_regnetx-8GF_fpn_1x_coco_20200517_180515-09daa87e.pth"),
        ("mask-rcnn_regnetx-12GF_fpn_1x_coco", _X12GF, 42.2, 38.0,
         "mask_rcnn_regnetx-12GF_fpn_1x_coco_20200517_180552-b538bd8b.pth"),
        ("faster-rcnn_regnetx-3.2GF_fpn_1x_coco", _BOX | _X3_2GF, 39.9, None,
         "faster_rcnn_regnetx-3.2GF_fpn_1x_coco_20200517_175927-126fd9bf.pth"),
        ("faster-rcnn_regnetx-3.2GF_fpn_2x_coco", _BOX | _X3_2GF, 41.1, None,
         "faster_rcnn_regnetx-3.2GF_fpn_2x_coco_20200520_223955-e2081918.pth"),
        ("faster-rcnn_regnetx-400MF_fpn_ms-3x_coco", _BOX | _X400MF, 37.1, None,
         "faster_rcnn_regnetx-400MF_fpn_mstrain_3x_coco_20210526_095112-e1967c37.pth"),
        ("faster-rcnn_regnetx-800MF_fpn_ms-3x_coco", _BOX | _X800MF, 38.8, None,
         "faster_rcnn_regnetx-800MF_fpn_mstrain_3x_coco_20210526_095118-a2c70b20.pth"),
        ("faster-rcnn_regnetx-1.6GF_fpn_ms-3x_coco", _BOX | _X1_6GF, 40.5, None,
         "regnet/faster_rcnn_regnetx-1.6GF_fpn_mstrain_3x_coco/faster_rcnn_regnetx-1_20210526_095325-94aa46cc.pth"),
        ("faster-rcnn_regnetx-3.2GF_fpn_ms-3x_coco", _BOX | _X3_2GF, 42.3, None,
         "regnet/faster_rcnn_regnetx-3.2GF_fpn_mstrain_3x_coco/faster_rcnn_regnetx-3_20210526_095152-e16a5227.pth"),
        ("faster-rcnn_regnetx-4GF_fpn_ms-3x_coco", _BOX | _X4GF, 42.8, None,
         "faster_rcnn_regnetx-4GF_fpn_mstrain_3x_coco_20210526_095201-65eaf841.pth"),
        ("mask-rcnn_regnetx-3.2GF_fpn_ms-3x_coco", _X3_2GF, 43.1, 38.7,
         "mask_rcnn_regnetx-3.2GF_fpn_mstrain_3x_coco_20200521_202221-99879813.pth"),
        ("mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco", _X400MF | _RGB, 37.6, 34.4,
         "mask_rcnn_regnetx-400MF_fpn_mstrain-poly_3x_coco_20210601_235443-8aac57a4.pth"),
        ("mask-rcnn_regnetx-800MF_fpn_ms-poly-3x_coco", _X800MF | _RGB, 39.5, 36.1,
         "mask_rcnn_regnetx-800MF_fpn_mstrain-poly_3x_coco_20210602_210641-715d51f5.pth"),
        ("mask-rcnn_regnetx-1.6GF_fpn_ms-poly-3x_coco", _X1_6GF | _RGB, 40.9, 37.5,
         "regnet/mask_rcnn_regnetx-1.6GF_fpn_mstrain-poly_3x_coco/mask_rcnn_regnetx-1_20210602_210641-6764cff5.pth"),
        ("mask-rcnn_regnetx-4GF_fpn_ms-poly-3x_coco", _X4GF | _RGB, 43.4, 39.2,
         "mask_rcnn_regnetx-4GF_fpn_mstrain-poly_3x_coco_20210602_032621-00f0331c.pth"),
    ),
    "lvis": (
        ("mask-rcnn_r50_fpn_sample1e-3_ms-2x_lvis-v0.5", LVIS_V05, 26.1, 25.9,
         "mask_rcnn_r50_fpn_sample1e-3_mstrain_2x_lvis-dbd06831.pth"),
        ("mask-rcnn_r101_fpn_sample1e-3_ms-2x_lvis-v0.5", R101 | LVIS_V05, 27.1, 27.0,
         "mask_rcnn_r101_fpn_sample1e-3_mstrain_2x_lvis-54582ee2.pth"),
        ("mask-rcnn_x101-32x4d_fpn_sample1e-3_ms-2x_lvis-v0.5", X101_32X4D | LVIS_V05, 26.7, 26.9,
         "mask_rcnn_x101_32x4d_fpn_sample1e-3_mstrain_2x_lvis-3cf55ea2.pth"),
        ("mask-rcnn_x101-64x4d_fpn_sample1e-3_ms-2x_lvis-v0.5", X101_64X4D | LVIS_V05, 26.4, 26.0,
         "mask_rcnn_x101_64x4d_fpn_sample1e-3_mstrain_2x_lvis-1c99a5ad.pth"),
        ("mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1", LVIS_V1, 22.5, 21.7,
         "mask_rcnn_r50_fpn_sample1e-3_mstrain_1x_lvis_v1-aa78ac3d.pth"),
        ("mask-rcnn_r101_fpn_sample1e-3_ms-1x_lvis-v1", R101 | LVIS_V1, 24.6, 23.6,
         "mask_rcnn_r101_fpn_sample1e-3_mstrain_1x_lvis_v1-ec55ce32.pth"),
        ("mask-rcnn_x101-32x4d_fpn_sample1e-3_ms-1x_lvis-v1", X101_32X4D | LVIS_V1, 26.7, 25.5,
         "mask_rcnn_x101_32x4d_fpn_sample1e-3_mstrain_1x_lvis_v1-ebbc5c81.pth"),
        ("mask-rcnn_x101-64x4d_fpn_sample1e-3_ms-1x_lvis-v1", X101_64X4D | LVIS_V1, 27.2, 25.8,
         "mask_rcnn_x101_64x4d_fpn_sample1e-3_mstrain_1x_lvis_v1-43d9edfe.pth"),
    ),
    "faster_rcnn": (
        ("faster-rcnn_r50-caffe_fpn_1x_coco", _BOX | _CAFFE, 37.8, None,
         "faster_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.378_20200504_180032-c5925ee5.pth"),
        ("faster-rcnn_r50_fpn_1x_coco", _BOX, 37.4, None,
         "faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth"),
        ("faster-rcnn_r50_fpn_amp-1x_coco", _BOX, 37.5, None,
         "fp16/faster_rcnn_r50_fpn_fp16_1x_coco/faster_rcnn_r50_fpn_fp16_1x_coco_20200204-d4dc1471.pth"),
        ("faster-rcnn_r50_fpn_2x_coco", _BOX, 38.4, None,
         "faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth"),
        ("faster-rcnn_r101-caffe_fpn_1x_coco", _BOX | R101 | _CAFFE, 39.8, None,
         "faster_rcnn_r101_caffe_fpn_1x_coco_bbox_mAP-0.398_20200504_180057-b269e9dd.pth"),
        ("faster-rcnn_r101_fpn_1x_coco", _BOX | R101, 39.4, None,
         "faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth"),
        ("faster-rcnn_r101_fpn_2x_coco", _BOX | R101, 39.8, None,
         "faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth"),
        ("faster-rcnn_x101-32x4d_fpn_1x_coco", _BOX | X101_32X4D, 41.2, None,
         "faster_rcnn_x101_32x4d_fpn_1x_coco_20200203-cff10310.pth"),
        ("faster-rcnn_x101-32x4d_fpn_2x_coco", _BOX | X101_32X4D, 41.2, None,
         "faster_rcnn_x101_32x4d_fpn_2x_coco_bbox_mAP-0.412_20200506_041400-64a12c0b.pth"),
        ("faster-rcnn_x101-64x4d_fpn_1x_coco", _BOX | X101_64X4D, 42.1, None,
         "faster_rcnn_x101_64x4d_fpn_1x_coco_20200204-833ee192.pth"),
        ("faster-rcnn_x101-64x4d_fpn_2x_coco", _BOX | X101_64X4D, 41.6, None,
         "faster_rcnn_x101_64x4d_fpn_2x_coco_20200512_161033-5961fa95.pth"),
        ("faster-rcnn_r50-caffe_fpn_ms-2x_coco", _BOX | _CAFFE, 39.7, None,
         "faster_rcnn_r50_caffe_fpn_mstrain_2x_coco_bbox_mAP-0.397_20200504_231813-10b2de58.pth"),
        ("faster-rcnn_r50-caffe_fpn_ms-3x_coco", _BOX | _CAFFE, 39.9, None,
         "faster_rcnn_r50_caffe_fpn_mstrain_3x_coco_20210526_095054-1f77628b.pth"),
        ("faster-rcnn_r50_fpn_ms-3x_coco", _BOX, 40.3, None,
         "faster_rcnn_r50_fpn_mstrain_3x_coco_20210524_110822-e10bd31c.pth"),
        ("faster-rcnn_r101-caffe_fpn_ms-3x_coco", _BOX | R101 | _CAFFE, 42.0, None,
         "faster_rcnn_r101_caffe_fpn_mstrain_3x_coco_20210526_095742-a7ae426d.pth"),
        ("faster-rcnn_r101_fpn_ms-3x_coco", _BOX | R101, 41.8, None,
         "faster_rcnn_r101_fpn_mstrain_3x_coco_20210524_110822-4d4d2ca8.pth"),
        ("faster-rcnn_x101-32x4d_fpn_ms-3x_coco", _BOX | X101_32X4D, 42.5, None,
         "faster_rcnn_x101_32x4d_fpn_mstrain_3x_coco_20210524_124151-16b9b260.pth"),
        ("faster-rcnn_x101-32x8d_fpn_ms-3x_coco", _BOX | _X101_32X8D, 42.4, None,
         "faster_rcnn_x101_32x8d_fpn_mstrain_3x_coco_20210604_182954-002e082a.pth"),
        ("faster-rcnn_x101-64x4d_fpn_ms-3x_coco", _BOX | X101_64X4D, 43.1, None,
         "faster_rcnn_x101_64x4d_fpn_mstrain_3x_coco_20210524_124528-26c63de6.pth"),
        ("faster-rcnn_r50-tnr-pre_fpn_1x_coco", _BOX | _NORM_EXEMPT, 40.2, None,
         "faster_rcnn_r50_fpn_tnr-pretrain_1x_coco_20220320_085147-efedfda4.pth"),
        ("faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco", _BOX | _R18, None, None, None),
        ("faster-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco", _BOX, None, None, None),
        ("faster-rcnn_r101_fpn_8xb8-amp-lsj-200e_coco", _BOX | R101, None, None, None),
    ),
    "instaboost": (
        ("mask-rcnn_r50_fpn_instaboost-4x_coco", {}, 40.6, 36.6,
         "mask_rcnn_r50_fpn_instaboost_4x_coco_20200307-d025f83a.pth"),
        ("mask-rcnn_r101_fpn_instaboost-4x_coco", R101, 42.5, 38.0,
         "mask_rcnn_r101_fpn_instaboost_4x_coco_20200703_235738-f23f3a5f.pth"),
        ("mask-rcnn_x101-64x4d_fpn_instaboost-4x_coco", X101_64X4D, 44.7, 39.7,
         "mask_rcnn_x101_64x4d_fpn_instaboost_4x_coco_20200515_080947-8ed58c1b.pth"),
    ),
    "objects365": (
        ("faster-rcnn_r50_fpn_16xb4-1x_objects365v1", _BOX | _OBJECTS365, 19.6, None,
         "objects365/faster_rcnn_r50_fpn_16x4_1x_obj365v1/faster_rcnn_r50_fpn_16x4_1x_obj365v1_20221219_181226-9ff10f95.pth"),
        ("faster-rcnn_r50-syncbn_fpn_1350k_objects365v1", _BOX | _OBJECTS365, 22.3, None,
         "objects365/faster_rcnn_r50_fpn_syncbn_1350k_obj365v1/faster_rcnn_r50_fpn_syncbn_1350k_obj365v1_20220510_142457-337d8965.pth"),
        ("faster-rcnn_r50_fpn_16xb4-1x_objects365v2", _BOX | _OBJECTS365, 19.8, None,
         "objects365/faster_rcnn_r50_fpn_16x4_1x_obj365v2/faster_rcnn_r50_fpn_16x4_1x_obj365v2_20221220_175040-5910b015.pth"),
    ),
    "resnet_strikes_back": (
        ("faster-rcnn_r50-rsb-pre_fpn_1x_coco", _BOX | _NORM_EXEMPT, 40.8, None,
         "faster_rcnn_r50_fpn_rsb-pretrain_1x_coco_20220113_162229-32ae82a9.pth"),
        ("mask-rcnn_r50-rsb-pre_fpn_1x_coco", _NORM_EXEMPT, 41.2, 38.2,
         "mask_rcnn_r50_fpn_rsb-pretrain_1x_coco_20220113_174054-06ce8ba0.pth"),
    ),
}  # fmt: skip


def _published(folder: str, file: str) -> PublishedFile:
    """A file in the folder of its config, in one that has its name without figures, date and hash."""
    if "/" not in file:
        own = re.sub(r"(_bbox_mAP.*)?(_\d{8}(_\d{6})?)?-[0-9a-f]{8}\.pth$", "", file)
        file = f"{folder.replace('+', '%2B')}/{own}/{file}"
    address = f"{hosts.MMDET.prefix}mmdetection/v2.0/{file}"
    return PublishedFile(address, LICENCE, f"configs/{folder}/metafile.yml")


def presets(rows_by_folder: Mapping[str, Iterable[Sequence[Any]]]) -> dict[str, Preset]:
    """Return presets by name.

    Args:
        rows_by_folder: Rows like those above by the folder of their configs.
    """
    return {
        f"mmdet/{config}": Preset(
            MMDET,
            changes,
            box_ap,
            mask_ap,
            _published(folder, file) if file else None,
            source=f"configs/{folder}/{config}.py",
        )
        for folder, rows in rows_by_folder.items()
        for config, changes, box_ap, mask_ap, file in rows
    }


PRESETS = presets(_ROWS)
_PANOPTIC = "panoptic_fpn"
# config, changes, PQ, file. The pages have no AP.
PRESETS |= {
    f"mmdet/{config}": Preset(
        MMDET,
        changes,
        weights=_published(_PANOPTIC, file),
        source=f"configs/{_PANOPTIC}/{config}.py",
        pq=pq,
    )
    for config, changes, pq, file in (
        ("panoptic-fpn_r50_fpn_1x_coco", MMDET_PANOPTIC, 40.2,
         "panoptic_fpn_r50_fpn_1x_coco_20210821_101153-9668fd13.pth"),
        ("panoptic-fpn_r50_fpn_ms-3x_coco", MMDET_PANOPTIC, 42.5,
         "panoptic_fpn_r50_fpn_mstrain_3x_coco_20210824_171155-5650f98b.pth"),
        ("panoptic-fpn_r101_fpn_1x_coco", MMDET_PANOPTIC | R101, 42.2,
         "panoptic_fpn_r101_fpn_1x_coco_20210820_193950-ab9157a2.pth"),
        ("panoptic-fpn_r101_fpn_ms-3x_coco", MMDET_PANOPTIC | R101, 44.1,
         "panoptic_fpn_r101_fpn_mstrain_3x_coco_20210823_114712-9c99acc4.pth"),
    )
}  # fmt: skip
