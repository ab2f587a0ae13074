"""MMDetection's models with deformable convolutions, by the names of the config files of version 3.3.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.zoo.entry import R101, X101_32X4D, Preset
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS
from jaxmaskrcnn.zoo.mmdet import presets
from jaxmaskrcnn.zoo.mmdet_cascade import CASCADE

_REGNET = dict(OTHERS["mmdet/mask-rcnn_regnetx-3.2GF_fpn_1x_coco"].changes)
_BOX = {"mask": None, "regions.low_quality": "none"}
_DCN = {"backbone.deformable_stages": (3, 4, 5)}
_DCN_V2 = {**_DCN, "backbone.deformable_masks": True}

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "dcn": (
        ("mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco", _DCN, 41.8, 37.4,
         "mask_rcnn_r50_fpn_dconv_c3-c5_1x_coco_20200203-4d9ad43b.pth"),
        ("mask-rcnn_r50-dconv-c3-c5_fpn_amp-1x_coco", _DCN, 41.9, 37.5,
         "fp16/mask_rcnn_r50_fpn_fp16_dconv_c3-c5_1x_coco/mask_rcnn_r50_fpn_fp16_dconv_c3-c5_1x_coco_20210520_180247-c06429d2.pth"),
        ("mask-rcnn_r101-dconv-c3-c5_fpn_1x_coco", _DCN | R101, 43.5, 38.9,
         "mask_rcnn_r101_fpn_dconv_c3-c5_1x_coco_20200216-a71f5bce.pth"),
        ("faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco", _BOX | _DCN, 41.3, None,
         "faster_rcnn_r50_fpn_dconv_c3-c5_1x_coco_20200130-d68aed1e.pth"),
        ("faster-rcnn_r101-dconv-c3-c5_fpn_1x_coco", _BOX | _DCN | R101, 42.7, None,
         "faster_rcnn_r101_fpn_dconv_c3-c5_1x_coco_20200203-1377f13d.pth"),
        ("faster-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco", _BOX | _DCN | X101_32X4D, 44.5, None,
         "faster_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco_20200203-4f85c69c.pth"),
        ("cascade-rcnn_r50-dconv-c3-c5_fpn_1x_coco", CASCADE | {"mask": None} | _DCN, 43.8, None,
         "cascade_rcnn_r50_fpn_dconv_c3-c5_1x_coco_20200130-2f1fca44.pth"),
        ("cascade-rcnn_r101-dconv-c3-c5_fpn_1x_coco", CASCADE | {"mask": None} | _DCN | R101, 45.0, None,
         "cascade_rcnn_r101_fpn_dconv_c3-c5_1x_coco_20200203-3b2f0594.pth"),
        ("cascade-mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco", CASCADE | _DCN, 44.4, 38.6,
         "cascade_mask_rcnn_r50_fpn_dconv_c3-c5_1x_coco_20200202-42e767a2.pth"),
        ("cascade-mask-rcnn_r101-dconv-c3-c5_fpn_1x_coco", CASCADE | _DCN | R101, 45.8, 39.7,
         "cascade_mask_rcnn_r101_fpn_dconv_c3-c5_1x_coco_20200204-df0c5f10.pth"),
        ("cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco", CASCADE | _DCN | X101_32X4D, 47.3, 41.1,
         "cascade_mask_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco-e75f90c8.pth"),
    ),
    "dcnv2": (
        ("mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco", _DCN_V2, 41.5, 37.1,
         "dcn/mask_rcnn_r50_fpn_mdconv_c3-c5_1x_coco/mask_rcnn_r50_fpn_mdconv_c3-c5_1x_coco_20200203-ad97591f.pth"),
        ("mask-rcnn_r50-mdconv-c3-c5_fpn_amp-1x_coco", _DCN_V2, 42.0, 37.6,
         "fp16/mask_rcnn_r50_fpn_fp16_mdconv_c3-c5_1x_coco/mask_rcnn_r50_fpn_fp16_mdconv_c3-c5_1x_coco_20210520_180434-cf8fefa5.pth"),
        ("faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco", _BOX | _DCN_V2, 41.4, None,
         "dcn/faster_rcnn_r50_fpn_mdconv_c3-c5_1x_coco/faster_rcnn_r50_fpn_mdconv_c3-c5_1x_coco_20200130-d099253b.pth"),
        ("faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco",
         _BOX | _DCN_V2 | {"backbone.deformable_groups": 4}, 41.5, None,
         "dcn/faster_rcnn_r50_fpn_mdconv_c3-c5_group4_1x_coco/faster_rcnn_r50_fpn_mdconv_c3-c5_group4_1x_coco_20200130-01262257.pth"),
    ),
    "regnet": (
        ("mask-rcnn_regnetx-3.2GF-mdconv-c3-c5_fpn_1x_coco", _REGNET | _DCN_V2, 40.3, 36.6,
         "regnet/mask_rcnn_regnetx-3.2GF_fpn_mdconv_c3-c5_1x_coco/mask_rcnn_regnetx-3.2GF_fpn_mdconv_c3-c5_1x_coco_20200520_172726-75f40794.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(_ROWS)
