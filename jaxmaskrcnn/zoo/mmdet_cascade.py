"""MMDetection's Cascade R-CNN and Cascade Mask R-CNN, by the names of the config files of version 3.3.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.config import BoxStageConfig
from jaxmaskrcnn.zoo.detectron2 import regnet
from jaxmaskrcnn.zoo.entry import R101, X101_32X4D, X101_64X4D, Preset
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS
from jaxmaskrcnn.zoo.mmdet import presets


def _stage(iou: float, centre: float, side: float, weight: float) -> BoxStageConfig:
    """Return a stage, of which MMDetection gives the standard deviations of deltas."""
    box_weights = (1 / centre, 1 / centre, 1 / side, 1 / side)
    return BoxStageConfig(foreground_iou=iou, box_weights=box_weights, loss_weight=weight)


# The last deviations are not 1/30 and 1/15, as they are in Detectron2.
CASCADE = {
    "box.class_agnostic": True,
    "box.stages": (_stage(0.5, 0.1, 0.2, 1), _stage(0.6, 0.05, 0.1, 0.5), _stage(0.7, 0.033, 0.067, 0.25)),
    "box.loss.beta": 1.0,
    "rpn.loss.beta": 1 / 9,
    "rpn.border": 0,
    "rpn.post_nms_train": 2000,
    "regions.low_quality": "none",
}

_BOX = {"mask": None}
_ANY_ANCHORS = {"rpn.border": -1}
_SYNCBN = {"backbone.norm": "bn"}  # in the backbone only
_NORM_EXEMPT = {"compute.weight_decay_exempts_norm": True}
_R18 = {"backbone.depth": 18}
_CAFFE, _X101_32X8D, _X3_2GF, _X4GF = (
    dict(OTHERS[f"mmdet/mask-rcnn_{name}_coco"].changes)
    for name in ("r50-caffe_fpn_1x", "x101-32x8d_fpn_1x", "regnetx-3.2GF_fpn_1x", "regnetx-4GF_fpn_1x")
)
_X400MF, _X800MF, _X1_6GF = ({**_X3_2GF, **regnet(f"regnetx_{size}")} for size in ("400mf", "800mf", "1.6gf"))

# As `_ROWS` in `zoo/mmdet.py`; the changes are those to CASCADE.
_ROWS = {
    "cascade_rcnn": (
        ("cascade-rcnn_r50-caffe_fpn_1x_coco", _BOX | _CAFFE, 40.4, None,
         "cascade_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.404_20200504_174853-b857be87.pth"),
        ("cascade-rcnn_r50_fpn_1x_coco", _BOX, 40.3, None,
         "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.pth"),
        ("cascade-rcnn_r50_fpn_20e_coco", _BOX, 41.0, None,
         "cascade_rcnn_r50_fpn_20e_coco_bbox_mAP-0.41_20200504_175131-e9872a90.pth"),
        ("cascade-rcnn_r101-caffe_fpn_1x_coco", _BOX | R101 | _CAFFE, 42.3, None,
         "cascade_rcnn_r101_caffe_fpn_1x_coco_bbox_mAP-0.423_20200504_175649-cab8dbd5.pth"),
        ("cascade-rcnn_r101_fpn_1x_coco", _BOX | R101, 42.0, None,
         "cascade_rcnn_r101_fpn_1x_coco_20200317-0b6a2fbf.pth"),
        ("cascade-rcnn_r101_fpn_20e_coco", _BOX | R101, 42.5, None,
         "cascade_rcnn_r101_fpn_20e_coco_bbox_mAP-0.425_20200504_231812-5057dcc5.pth"),
        ("cascade-rcnn_x101-32x4d_fpn_1x_coco", _BOX | X101_32X4D, 43.7, None,
         "cascade_rcnn_x101_32x4d_fpn_1x_coco_20200316-95c2deb6.pth"),
        ("cascade-rcnn_x101-32x4d_fpn_20e_coco", _BOX | X101_32X4D, 43.7, None,
         "cascade_rcnn_x101_32x4d_fpn_20e_coco_20200906_134608-9ae0a720.pth"),
        ("cascade-rcnn_x101-64x4d_fpn_1x_coco", _BOX | X101_64X4D, 44.7, None,
         "cascade_rcnn_x101_64x4d_fpn_1x_coco_20200515_075702-43ce6a30.pth"),
        ("cascade-rcnn_x101_64x4d_fpn_20e_coco", _BOX | X101_64X4D, 44.5, None,
         "cascade_rcnn_x101_64x4d_fpn_20e_coco_20200509_224357-051557b1.pth"),
        ("cascade-mask-rcnn_r50-caffe_fpn_1x_coco", _CAFFE, 41.2, 36.0,
         "cascade_mask_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.412__segm_mAP-0.36_20200504_174659-5004b251.pth"),  # noqa: E501
        ("cascade-mask-rcnn_r50_fpn_1x_coco", {}, 41.2, 35.9,
         "cascade_mask_rcnn_r50_fpn_1x_coco_20200203-9d4dcb24.pth"),
        ("cascade-mask-rcnn_r50_fpn_20e_coco", {}, 41.9, 36.5,
         "cascade_mask_rcnn_r50_fpn_20e_coco_bbox_mAP-0.419__segm_mAP-0.365_20200504_174711-4af8e66e.pth"),
        ("cascade-mask-rcnn_r101-caffe_fpn_1x_coco", R101 | _CAFFE, 43.2, 37.6,
         "cascade_mask_rcnn_r101_caffe_fpn_1x_coco_bbox_mAP-0.432__segm_mAP-0.376_20200504_174813-5c1e9599.pth"),  # noqa: E501
        ("cascade-mask-rcnn_r101_fpn_1x_coco", R101, 42.9, 37.3,
         "cascade_mask_rcnn_r101_fpn_1x_coco_20200203-befdf6ee.pth"),
        ("cascade-mask-rcnn_r101_fpn_20e_coco", R101, 43.4, 37.8,
         "cascade_mask_rcnn_r101_fpn_20e_coco_bbox_mAP-0.434__segm_mAP-0.378_20200504_174836-005947da.pth"),
        ("cascade-mask-rcnn_x101-32x4d_fpn_1x_coco", X101_32X4D, 44.3, 38.3,
         "cascade_mask_rcnn_x101_32x4d_fpn_1x_coco_20200201-0f411b1f.pth"),
        ("cascade-mask-rcnn_x101-32x4d_fpn_20e_coco", X101_32X4D, 45.0, 39.0,
         "cascade_mask_rcnn_x101_32x4d_fpn_20e_coco_20200528_083917-ed1f4751.pth"),
        ("cascade-mask-rcnn_x101-64x4d_fpn_1x_coco", X101_64X4D, 45.3, 39.2,
         "cascade_mask_rcnn_x101_64x4d_fpn_1x_coco_20200203-9a2db89d.pth"),
        ("cascade-mask-rcnn_x101-64x4d_fpn_20e_coco", X101_64X4D, 45.6, 39.5,
         "cascade_mask_rcnn_x101_64x4d_fpn_20e_coco_20200512_161033-bdb5126a.pth"),
        ("cascade-mask-rcnn_r50-caffe_fpn_ms-3x_coco", _CAFFE, 44.0, 38.1,
         "cascade_mask_rcnn_r50_caffe_fpn_mstrain_3x_coco_20210707_002651-6e29b3a6.pth"),
        ("cascade-mask-rcnn_r50_fpn_ms-3x_coco", {}, 44.3, 38.5,
         "cascade_mask_rcnn_r50_fpn_mstrain_3x_coco_20210628_164719-5bdc3824.pth"),
        ("cascade-mask-rcnn_r101-caffe_fpn_ms-3x_coco", R101 | _CAFFE, 45.4, 39.5,
         "cascade_mask_rcnn_r101_caffe_fpn_mstrain_3x_coco_20210707_002620-a5bd2389.pth"),
        ("cascade-mask-rcnn_r101_fpn_ms-3x_coco", R101, 45.5, 39.6,
         "cascade_mask_rcnn_r101_fpn_mstrain_3x_coco_20210628_165236-51a2d363.pth"),
        ("cascade-mask-rcnn_x101-32x4d_fpn_ms-3x_coco", X101_32X4D, 46.3, 40.1,
         "cascade_mask_rcnn_x101_32x4d_fpn_mstrain_3x_coco_20210706_225234-40773067.pth"),
        ("cascade-mask-rcnn_x101-32x8d_fpn_ms-3x_coco", _X101_32X8D, 46.1, 39.9,
         "cascade_mask_rcnn_x101_32x8d_fpn_mstrain_3x_coco_20210719_180640-9ff7e76f.pth"),
        ("cascade-mask-rcnn_x101-64x4d_fpn_ms-3x_coco", X101_64X4D, 46.6, 40.3,
         "cascade_mask_rcnn_x101_64x4d_fpn_mstrain_3x_coco_20210719_210311-d3e64ba0.pth"),
        ("cascade-rcnn_r101_fpn_8xb8-amp-lsj-200e_coco", _BOX | R101 | _ANY_ANCHORS, None, None, None),
        ("cascade-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco", _BOX | _R18 | _ANY_ANCHORS, None, None, None),
        ("cascade-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco", _BOX | _ANY_ANCHORS, None, None, None),
    ),
    "gcnet": (
        ("cascade-mask-rcnn_x101-32x4d-syncbn_fpn_1x_coco", X101_32X4D | _SYNCBN, 44.7, 38.6,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_1x_coco_20200310-d5ad2a5e.pth"),
    ),
    "instaboost": (
        ("cascade-mask-rcnn_r50_fpn_instaboost-4x_coco", {}, 43.7, 38.0,
         "cascade_mask_rcnn_r50_fpn_instaboost_4x_coco_20200307-c19d98d9.pth"),
        ("cascade-mask-rcnn_r101_fpn_instaboost-4x_coco", R101, None, None, None),
        ("cascade-mask-rcnn_x101-64x4d_fpn_instaboost-4x_coco", X101_64X4D, None, None, None),
    ),
    "regnet": (
        ("cascade-mask-rcnn_regnetx-400MF_fpn_ms-3x_coco", _X400MF, 41.6, 36.4,
         "cascade_mask_rcnn_regnetx-400MF_fpn_mstrain_3x_coco_20210715_211619-5142f449.pth"),
        ("cascade-mask-rcnn_regnetx-800MF_fpn_ms-3x_coco", _X800MF, 42.8, 37.6,
         "cascade_mask_rcnn_regnetx-800MF_fpn_mstrain_3x_coco_20210715_211616-dcbd13f4.pth"),
        ("cascade-mask-rcnn_regnetx-1.6GF_fpn_ms-3x_coco", _X1_6GF, 44.5, 39.0,
         "regnet/cascade_mask_rcnn_regnetx-1.6GF_fpn_mstrain_3x_coco/cascade_mask_rcnn_regnetx-1_20210715_211616-75f29a61.pth"),  # noqa: E501
        ("cascade-mask-rcnn_regnetx-3.2GF_fpn_ms-3x_coco", _X3_2GF, 45.8, 40.0,
         "regnet/cascade_mask_rcnn_regnetx-3.2GF_fpn_mstrain_3x_coco/cascade_mask_rcnn_regnetx-3_20210715_211616-b9c2c58b.pth"),  # noqa: E501
        ("cascade-mask-rcnn_regnetx-4GF_fpn_ms-3x_coco", _X4GF, 45.8, 40.0,
         "cascade_mask_rcnn_regnetx-4GF_fpn_mstrain_3x_coco_20210715_212034-cbb1be4c.pth"),
    ),
    "resnet_strikes_back": (
        ("cascade-mask-rcnn_r50-rsb-pre_fpn_1x_coco", _NORM_EXEMPT, 44.8, 39.9,
         "cascade_mask_rcnn_r50_fpn_rsb-pretrain_1x_coco_20220113_193636-8b9ad50f.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(
    {
        folder: [(config, {**CASCADE, **changes}, *rest) for config, changes, *rest in rows]
        for folder, rows in _ROWS.items()
    }
)
