"""MMDetection's models with other layers in their parts, by the names of the config files of version 3.3.

These are weight standardisation before group norm, global context blocks, ResNeSt, Res2Net, HRNet, PAFPN,
losses of boxes by their IoU, and Mask Scoring R-CNN.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.zoo.entry import FOUR_CONV_ONE_FC, GN_ALL, R101, X101_32X4D, X101_64X4D, Preset
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS
from jaxmaskrcnn.zoo.mmdet import presets
from jaxmaskrcnn.zoo.mmdet_cascade import CASCADE

_BOX = {"mask": None, "regions.low_quality": "none"}
_X50_32X4D = {**X101_32X4D, "backbone.depth": 50}
_GN_WS = {path: "gn_ws" if value == "gn" else value for path, value in GN_ALL.items()}
_SYNCBN = {"backbone.norm": "bn"}  # in the backbone only
_DCN = {"backbone.deformable_stages": (3, 4, 5)}
_GCB_R16, _GCB_R4 = (
    {"backbone.context_stages": (3, 4, 5), "backbone.context_reduction": reduction} for reduction in (16, 4)
)
# Batch norm in the backbone and the heads, not in the pyramid.
_S50 = {
    **FOUR_CONV_ONE_FC, "backbone.kind": "resnest", "backbone.norm": "bn", "box.norm": "bn",
    "mask.norm": "bn", "input.pixel_mean": (123.68, 116.779, 103.939),
    "input.pixel_std": (58.393, 57.12, 57.375),
}  # fmt: skip
_S101 = {**_S50, **R101, "backbone.stem": 128}
_RES2NET = {**R101, "backbone.kind": "res2net", "backbone.norm": "bn_eval"}
_W18, _W32, _W40 = (
    {
        "backbone.kind": "hrnet", "backbone.width": width, "backbone.norm": "bn_eval", "neck.kind": "hrfpn",
    }
    for width in (18, 32, 40)
)  # fmt: skip
# The smooth L1 of the deltas, and where it begins to be linear, is not used.
_IOU, _GIOU, _BOUNDED_IOU = (
    {"box.loss.form": form, "box.loss.weight": 10.0} for form in ("iou", "giou", "bounded_iou")
)
_CARAFE = {"neck.kind": "carafe_fpn", "input.pad_divisor": 64}
_SOFT_NMS = {"detections.nms_method": "linear"}
_GROIE = {"extractor": "groie", "box.pool.sampling_ratio": 2, "mask.pool.sampling_ratio": 2}
_SCORING = {"mask": "mask_scoring"}
_SCORING_CAFFE = {**OTHERS["mmdet/mask-rcnn_r50-caffe_fpn_1x_coco"].changes, **_SCORING}

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "gn+ws": (
        ("faster-rcnn_r50_fpn_gn-ws-all_1x_coco", _BOX | _GN_WS, 39.7, None,
         "faster_rcnn_r50_fpn_gn_ws-all_1x_coco_20200130-613d9fe2.pth"),
        ("faster-rcnn_r101_fpn_gn-ws-all_1x_coco", _BOX | R101 | _GN_WS, 41.7, None,
         "faster_rcnn_r101_fpn_gn_ws-all_1x_coco_20200205-a93b0d75.pth"),
        ("faster-rcnn_x50-32x4d_fpn_gn-ws-all_1x_coco", _BOX | _X50_32X4D | _GN_WS, 40.7, None,
         "faster_rcnn_x50_32x4d_fpn_gn_ws-all_1x_coco_20200203-839c5d9d.pth"),
        ("faster-rcnn_x101-32x4d_fpn_gn-ws-all_1x_coco", _BOX | X101_32X4D | _GN_WS, 42.1, None,
         "faster_rcnn_x101_32x4d_fpn_gn_ws-all_1x_coco_20200212-27da1bc2.pth"),
        ("mask-rcnn_r50_fpn_gn-ws-all_2x_coco", _GN_WS, 40.6, 36.6,
         "mask_rcnn_r50_fpn_gn_ws-all_2x_coco_20200226-16acb762.pth"),
        ("mask-rcnn_r101_fpn_gn-ws-all_2x_coco", R101 | _GN_WS, 42.0, 37.7,
         "mask_rcnn_r101_fpn_gn_ws-all_2x_coco_20200212-ea357cd9.pth"),
        ("mask-rcnn_x50-32x4d_fpn_gn-ws-all_2x_coco", _X50_32X4D | _GN_WS, 41.1, 37.0,
         "mask_rcnn_x50_32x4d_fpn_gn_ws-all_2x_coco_20200216-649fdb6f.pth"),
        ("mask-rcnn_x101-32x4d_fpn_gn-ws-all_2x_coco", X101_32X4D | _GN_WS, 42.1, 37.9,
         "mask_rcnn_x101_32x4d_fpn_gn_ws-all_2x_coco_20200319-33fb95b5.pth"),
        ("mask-rcnn_r50_fpn_gn-ws-all_20-23-24e_coco", _GN_WS, 41.1, 37.1,
         "mask_rcnn_r50_fpn_gn_ws-all_20_23_24e_coco_20200213-487d1283.pth"),
        ("mask-rcnn_r101_fpn_gn-ws-all_20-23-24e_coco", R101 | _GN_WS, 43.1, 38.6,
         "mask_rcnn_r101_fpn_gn_ws-all_20_23_24e_coco_20200213-57b5a50f.pth"),
        ("mask-rcnn_x50-32x4d_fpn_gn-ws-all_20-23-24e_coco", _X50_32X4D | _GN_WS, 42.1, 38.0,
         "mask_rcnn_x50_32x4d_fpn_gn_ws-all_20_23_24e_coco_20200226-969bcb2c.pth"),
        ("mask-rcnn_x101-32x4d_fpn_gn-ws-all_20-23-24e_coco", X101_32X4D | _GN_WS, 42.7, 38.5,
         "mask_rcnn_x101_32x4d_fpn_gn_ws-all_20_23_24e_coco_20200316-e6cd35ef.pth"),
    ),
    "gcnet": (
        ("mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco", _GCB_R16, 39.7, 35.9,
         "mask_rcnn_r50_fpn_r16_gcb_c3-c5_1x_coco_20200515_211915-187da160.pth"),
        ("mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco", _GCB_R4, 39.9, 36.0,
         "mask_rcnn_r50_fpn_r4_gcb_c3-c5_1x_coco_20200204-17235656.pth"),
        ("mask-rcnn_r101-gcb-r16-c3-c5_fpn_1x_coco", R101 | _GCB_R16, 41.3, 37.2,
         "mask_rcnn_r101_fpn_r16_gcb_c3-c5_1x_coco_20200205-e58ae947.pth"),
        ("mask-rcnn_r101-gcb-r4-c3-c5_fpn_1x_coco", R101 | _GCB_R4, 42.2, 37.8,
         "mask_rcnn_r101_fpn_r4_gcb_c3-c5_1x_coco_20200206-af22dc9d.pth"),
        ("mask-rcnn_r50-syncbn-gcb-r16-c3-c5_fpn_1x_coco", _SYNCBN | _GCB_R16, 40.4, 36.2,
         "mask_rcnn_r50_fpn_syncbn-backbone_r16_gcb_c3-c5_1x_coco_20200202-587b99aa.pth"),
        ("mask-rcnn_r50-syncbn-gcb-r4-c3-c5_fpn_1x_coco", _SYNCBN | _GCB_R4, 40.7, 36.5,
         "mask_rcnn_r50_fpn_syncbn-backbone_r4_gcb_c3-c5_1x_coco_20200202-50b90e5c.pth"),
        ("mask-rcnn_r101-syncbn-gcb-r16-c3-c5_fpn_1x_coco", R101 | _SYNCBN | _GCB_R16, 42.2, 37.8,
         "mask_rcnn_r101_fpn_syncbn-backbone_r16_gcb_c3-c5_1x_coco_20200207-945e77ca.pth"),
        ("mask-rcnn_r101-syncbn-gcb-r4-c3-c5_fpn_1x_coco", R101 | _SYNCBN | _GCB_R4, 42.2, 37.8,
         "mask_rcnn_r101_fpn_syncbn-backbone_r4_gcb_c3-c5_1x_coco_20200206-8407a3f0.pth"),
        ("mask-rcnn_x101-32x4d-syncbn-gcb-r16-c3-c5_fpn_1x_coco", X101_32X4D | _SYNCBN | _GCB_R16, 43.5, 38.6,
         "mask_rcnn_x101_32x4d_fpn_syncbn-backbone_r16_gcb_c3-c5_1x_coco_20200211-cbed3d2c.pth"),
        ("mask-rcnn_x101-32x4d-syncbn-gcb-r4-c3-c5_fpn_1x_coco", X101_32X4D | _SYNCBN | _GCB_R4, 43.9, 39.0,
         "mask_rcnn_x101_32x4d_fpn_syncbn-backbone_r4_gcb_c3-c5_1x_coco_20200212-68164964.pth"),
        ("cascade-mask-rcnn_x101-32x4d-syncbn-r16-gcb-c3-c5_fpn_1x_coco",
         CASCADE | X101_32X4D | _SYNCBN | _GCB_R16, 46.2, 39.7,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_r16_gcb_c3-c5_1x_coco_20200211-10bf2463.pth"),
        ("cascade-mask-rcnn_x101-32x4d-syncbn-r4-gcb-c3-c5_fpn_1x_coco",
         CASCADE | X101_32X4D | _SYNCBN | _GCB_R4, 46.4, 40.1,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_r4_gcb_c3-c5_1x_coco_20200703_180653-ed035291.pth"),
        ("cascade-mask-rcnn_x101-32x4d-syncbn-dconv-c3-c5-r16-gcb-c3-c5_fpn_1x_coco",
         CASCADE | X101_32X4D | _SYNCBN | _DCN | _GCB_R16, 48.0, 41.3,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_dconv_c3-c5_r16_gcb_c3-c5_1x_coco_20210615_215648-44aa598a.pth"),
        ("cascade-mask-rcnn_x101-32x4d-syncbn-dconv-c3-c5-r4-gcb-c3-c5_fpn_1x_coco",
         CASCADE | X101_32X4D | _SYNCBN | _DCN | _GCB_R4, 47.9, 41.1,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_dconv_c3-c5_r4_gcb_c3-c5_1x_coco_20210615_161851-720338ec.pth"),
    ),
    "resnest": (
        ("faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco", _BOX | _S50, 42.0, None,
         "faster_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20200926_125502-20289c16.pth"),
        ("faster-rcnn_s101_fpn_syncbn-backbone+head_ms-range-1x_coco", _BOX | _S101, 44.5, None,
         "faster_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201006_021058-421517f1.pth"),
        ("mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco", _S50, 42.6, 38.1,
         "mask_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20200926_125503-8a2c3d47.pth"),
        ("mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco", _S101, 45.2, 40.2,
         "mask_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201005_215831-af60cdf9.pth"),
        ("cascade-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco",
         CASCADE | {"mask": None} | _S50, 44.5, None,
         "cascade_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201122_213640-763cc7b5.pth"),
        ("cascade-rcnn_s101_fpn_syncbn-backbone+head_ms-range-1x_coco",
         CASCADE | {"mask": None} | _S101, 46.8, None,
         "cascade_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201005_113242-b9459f8f.pth"),
        ("cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco", CASCADE | _S50, 45.4, 39.5,
         "cascade_mask_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201122_104428-99eca4c7.pth"),
        ("cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco", CASCADE | _S101, 47.7, 41.4,
         "cascade_mask_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201005_113243-42607475.pth"),
    ),
    "res2net": (
        ("faster-rcnn_res2net-101_fpn_2x_coco", _BOX | _RES2NET, 43.0, None,
         "faster_rcnn_r2_101_fpn_2x_coco-175f1da6.pth"),
        ("mask-rcnn_res2net-101_fpn_2x_coco", _RES2NET, 43.6, 38.7,
         "mask_rcnn_r2_101_fpn_2x_coco-17f061e8.pth"),
        ("cascade-rcnn_res2net-101_fpn_20e_coco", CASCADE | {"mask": None} | _RES2NET, 45.7, None,
         "cascade_rcnn_r2_101_fpn_20e_coco-f4b7b7db.pth"),
        ("cascade-mask-rcnn_res2net-101_fpn_20e_coco", CASCADE | _RES2NET, 46.4, 40.0,
         "cascade_mask_rcnn_r2_101_fpn_20e_coco-8a7b41e1.pth"),
    ),
    "hrnet": (
        ("faster-rcnn_hrnetv2p-w18-1x_coco", _BOX | _W18, 36.9, None,
         "faster_rcnn_hrnetv2p_w18_1x_coco_20200130-56651a6d.pth"),
        ("faster-rcnn_hrnetv2p-w18-2x_coco", _BOX | _W18, 38.9, None,
         "faster_rcnn_hrnetv2p_w18_2x_coco_20200702_085731-a4ec0611.pth"),
        ("faster-rcnn_hrnetv2p-w32-1x_coco", _BOX | _W32, 40.2, None,
         "faster_rcnn_hrnetv2p_w32_1x_coco_20200130-6e286425.pth"),
        ("faster-rcnn_hrnetv2p-w32_2x_coco", _BOX | _W32, 41.4, None,
         "faster_rcnn_hrnetv2p_w32_2x_coco_20200529_015927-976a9c15.pth"),
        ("faster-rcnn_hrnetv2p-w40-1x_coco", _BOX | _W40, 41.2, None,
         "faster_rcnn_hrnetv2p_w40_1x_coco_20200210-95c1f5ce.pth"),
        ("faster-rcnn_hrnetv2p-w40_2x_coco", _BOX | _W40, 42.1, None,
         "faster_rcnn_hrnetv2p_w40_2x_coco_20200512_161033-0f236ef4.pth"),
        ("mask-rcnn_hrnetv2p-w18-1x_coco", _W18, 37.7, 34.2,
         "mask_rcnn_hrnetv2p_w18_1x_coco_20200205-1c3d78ed.pth"),
        ("mask-rcnn_hrnetv2p-w18-2x_coco", _W18, 39.8, 36.0,
         "mask_rcnn_hrnetv2p_w18_2x_coco_20200212-b3c825b1.pth"),
        ("mask-rcnn_hrnetv2p-w32-1x_coco", _W32, 41.2, 37.1,
         "mask_rcnn_hrnetv2p_w32_1x_coco_20200207-b29f616e.pth"),
        ("mask-rcnn_hrnetv2p-w32-2x_coco", _W32, 42.5, 37.8,
         "mask_rcnn_hrnetv2p_w32_2x_coco_20200213-45b75b4d.pth"),
        ("mask-rcnn_hrnetv2p-w40_1x_coco", _W40, 42.1, 37.5,
         "mask_rcnn_hrnetv2p_w40_1x_coco_20200511_015646-66738b35.pth"),
        ("mask-rcnn_hrnetv2p-w40-2x_coco", _W40, 42.8, 38.2,
         "mask_rcnn_hrnetv2p_w40_2x_coco_20200512_163732-aed5e4ab.pth"),
        ("cascade-rcnn_hrnetv2p-w18-20e_coco", CASCADE | {"mask": None} | _W18, 41.2, None,
         "cascade_rcnn_hrnetv2p_w18_20e_coco_20200210-434be9d7.pth"),
        ("cascade-rcnn_hrnetv2p-w32-20e_coco", CASCADE | {"mask": None} | _W32, 43.3, None,
         "cascade_rcnn_hrnetv2p_w32_20e_coco_20200208-928455a4.pth"),
        ("cascade-rcnn_hrnetv2p-w40-20e_coco", CASCADE | {"mask": None} | _W40, 43.8, None,
         "cascade_rcnn_hrnetv2p_w40_20e_coco_20200512_161112-75e47b04.pth"),
        ("cascade-mask-rcnn_hrnetv2p-w18_20e_coco", CASCADE | _W18, 41.6, 36.4,
         "cascade_mask_rcnn_hrnetv2p_w18_20e_coco_20200210-b543cd2b.pth"),
        ("cascade-mask-rcnn_hrnetv2p-w32_20e_coco", CASCADE | _W32, 44.3, 38.6,
         "cascade_mask_rcnn_hrnetv2p_w32_20e_coco_20200512_154043-39d9cf7b.pth"),
        ("cascade-mask-rcnn_hrnetv2p-w40-20e_coco", CASCADE | _W40, 45.1, 39.3,
         "cascade_mask_rcnn_hrnetv2p_w40_20e_coco_20200527_204922-969c4610.pth"),
    ),
    "faster_rcnn": (
        ("faster-rcnn_r50_fpn_iou_1x_coco", _BOX | _IOU, 37.9, None,
         "faster_rcnn_r50_fpn_iou_1x_coco_20200506_095954-938e81f0.pth"),
        ("faster-rcnn_r50_fpn_giou_1x_coco", _BOX | _GIOU, 37.6, None,
         "faster_rcnn/faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_giou_1x_coco-0eada910.pth"),
        ("faster-rcnn_r50_fpn_bounded-iou_1x_coco", _BOX | _BOUNDED_IOU, 37.4, None,
         "faster_rcnn/faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_bounded_iou_1x_coco-98ad993b.pth"),
        # Neither weights nor AP are published; it reads the weights of the model without Soft-NMS.
        ("faster-rcnn_r50_fpn_soft-nms_1x_coco", _BOX | _SOFT_NMS, None, None, None),
    ),
    "pafpn": (
        ("faster-rcnn_r50_pafpn_1x_coco", _BOX | {"neck.kind": "pafpn"}, 37.5, None,
         "faster_rcnn_r50_pafpn_1x_coco_bbox_mAP-0.375_20200503_105836-b7b4b9bd.pth"),
    ),
    "carafe": (
        ("faster-rcnn_r50_fpn-carafe_1x_coco", _BOX | _CARAFE, 38.6, None,
         "faster_rcnn_r50_fpn_carafe_1x_coco_bbox_mAP-0.386_20200504_175733-385a75b7.pth"),
        ("mask-rcnn_r50_fpn-carafe_1x_coco", _CARAFE | {"mask.upsample": "carafe"}, 39.3, 35.6,
         "mask_rcnn_r50_fpn_carafe_1x_coco_bbox_mAP-0.393__segm_mAP-0.358_20200503_135957-8687f195.pth"),
    ),
    "groie": (
        ("faste-rcnn_r50_fpn_groie_1x_coco", _BOX | _GROIE, 38.3, None,
         "faster_rcnn_r50_fpn_groie_1x_coco_20200604_211715-66ee9516.pth"),
        ("mask-rcnn_r50_fpn_groie_1x_coco", _GROIE, 39.0, 36.0,
         "mask_rcnn_r50_fpn_groie_1x_coco_20200604_211715-50d90c74.pth"),
        ("mask-rcnn_r50_fpn_syncbn-r4-gcb-c3-c5-groie_1x_coco", _SYNCBN | _GCB_R4 | _GROIE, 41.0, 37.8,
         "mask_rcnn_r50_fpn_syncbn-backbone_r4_gcb_c3-c5_groie_1x_coco_20200604_211715-42eb79e1.pth"),
        ("mask-rcnn_r101_fpn_syncbn-r4-gcb_c3-c5-groie_1x_coco",
         R101 | _SYNCBN | _GCB_R4 | _GROIE, 42.6, 38.7,
         "mask_rcnn_r101_fpn_syncbn-backbone_r4_gcb_c3-c5_groie_1x_coco_20200607_224507-8daae01c.pth"),
    ),
    "ms_rcnn": (
        ("ms-rcnn_r50-caffe_fpn_1x_coco", _SCORING_CAFFE, 38.2, 36.0,
         "ms_rcnn_r50_caffe_fpn_1x_coco_20200702_180848-61c9355e.pth"),
        ("ms-rcnn_r50-caffe_fpn_2x_coco", _SCORING_CAFFE, 38.8, 36.3,
         "ms_rcnn_r50_caffe_fpn_2x_coco_bbox_mAP-0.388__segm_mAP-0.363_20200506_004738-ee87b137.pth"),
        ("ms-rcnn_r101-caffe_fpn_1x_coco", R101 | _SCORING_CAFFE, 40.4, 37.6,
         "ms_rcnn_r101_caffe_fpn_1x_coco_bbox_mAP-0.404__segm_mAP-0.376_20200506_004755-b9b12a37.pth"),
        ("ms-rcnn_r101-caffe_fpn_2x_coco", R101 | _SCORING_CAFFE, 41.1, 38.1,
         "ms_rcnn_r101_caffe_fpn_2x_coco_bbox_mAP-0.411__segm_mAP-0.381_20200506_011134-5f3cc74f.pth"),
        ("ms-rcnn_x101-32x4d_fpn_1x_coco", X101_32X4D | _SCORING, 41.8, 38.7,
         "ms_rcnn_x101_32x4d_fpn_1x_coco_20200206-81fd1740.pth"),
        ("ms-rcnn_x101-64x4d_fpn_1x_coco", X101_64X4D | _SCORING, 43.0, 39.5,
         "ms_rcnn_x101_64x4d_fpn_1x_coco_20200206-86ba88d2.pth"),
        ("ms-rcnn_x101-64x4d_fpn_2x_coco", X101_64X4D | _SCORING, 42.6, 39.5,
         "ms_rcnn_x101_64x4d_fpn_2x_coco_20200308-02a445e2.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(_ROWS)
