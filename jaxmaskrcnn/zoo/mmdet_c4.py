"""MMDetection's Faster and Mask R-CNN on C4 and on DC5, by the names of the config files of version 3.3.

Anchors of a cell are ordered by ratio first, unlike Detectron2's, and images are padded to multiples of 32.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.zoo.detectron2 import C4, DC5
from jaxmaskrcnn.zoo.entry import Preset
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS
from jaxmaskrcnn.zoo.mmdet import presets

_CAFFE = OTHERS["mmdet/mask-rcnn_r50-caffe_fpn_1x_coco"].changes
_COMMON = {**_CAFFE, "regions.low_quality": "none", "input.pad_divisor": 32}
_C4 = {**C4, **_COMMON}
_DC5 = {**DC5, **_COMMON, "rpn.border": 0}
_BOX = {"mask": None}

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "mask_rcnn": (
        ("mask-rcnn_r50-caffe-c4_1x_coco", {**_C4, "rpn.border": 0}, None, None, None),
    ),
    "faster_rcnn": (
        ("faster-rcnn_r50-caffe_c4-1x_coco", _BOX | _C4, 35.6, None,
         "faster_rcnn_r50_caffe_c4_1x_coco_20220316_150152-3f885b85.pth"),
        ("faster-rcnn_r50-caffe-c4_ms-1x_coco", _BOX | _C4, 35.9, None,
         "faster_rcnn_r50_caffe_c4_mstrain_1x_coco_20220316_150527-db276fed.pth"),
        ("faster-rcnn_r50-caffe-dc5_1x_coco", _BOX | _DC5, 37.2, None,
         "faster_rcnn_r50_caffe_dc5_1x_coco_20201030_151909-531f0f43.pth"),
        ("faster-rcnn_r50-caffe-dc5_ms-1x_coco", _BOX | _DC5, 37.4, None,
         "faster_rcnn_r50_caffe_dc5_mstrain_1x_coco_20201028_233851-b33d21b9.pth"),
        ("faster-rcnn_r50-caffe-dc5_ms-3x_coco", _BOX | _DC5, 38.7, None,
         "faster_rcnn_r50_caffe_dc5_mstrain_3x_coco_20201028_002107-34a53b2c.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(_ROWS)
