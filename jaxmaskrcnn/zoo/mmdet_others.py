"""MMDetection's models of further data sets and norms, by the names of the config files of version 3.3.

The box AP on Open Images is its own mean AP, at an IoU of 0.5 and with the hierarchy of classes, and not
COCO's. The names of its classes are in files that come with the data set, so these models have none.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.zoo.entry import R101, X101_32X4D, Preset
from jaxmaskrcnn.zoo.mmdet import presets
from jaxmaskrcnn.zoo.mmdet_cascade import CASCADE

_SYNCBN = {"backbone.norm": "bn"}  # in the backbone only
_DCN = {"backbone.deformable_stages": (3, 4, 5)}
_OPEN_IMAGES = {
    "mask": None, "regions.low_quality": "none", "num_classes": 601, "categories": (),
    "input.test_min_size": 800, "input.test_max_size": 1024,
}  # fmt: skip
_CHALLENGE = {**_OPEN_IMAGES, "num_classes": 500, "detections.score_threshold": 0.01}

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "albu_example": (
        ("mask-rcnn_r50_fpn_albu-1x_coco", {}, 38.0, 34.5,
         "mask_rcnn_r50_fpn_albu_1x_coco_20200208-ab203bcd.pth"),
    ),
    "gcnet": (
        ("mask-rcnn_r50-syncbn_fpn_1x_coco", _SYNCBN, 38.4, 34.6,
         "mask_rcnn_r50_fpn_syncbn-backbone_1x_coco_20200202-bb3eb55c.pth"),
        ("mask-rcnn_r101-syncbn_fpn_1x_coco", R101 | _SYNCBN, 40.5, 36.3,
         "mask_rcnn_r101_fpn_syncbn-backbone_1x_coco_20200210-81658c8a.pth"),
        ("mask-rcnn_x101-32x4d-syncbn_fpn_1x_coco", X101_32X4D | _SYNCBN, 42.4, 37.7,
         "mask_rcnn_x101_32x4d_fpn_syncbn-backbone_1x_coco_20200211-7584841c.pth"),
        ("cascade-mask-rcnn_x101-32x4d-syncbn-dconv-c3-c5_fpn_1x_coco", CASCADE | X101_32X4D | _SYNCBN | _DCN,
         47.5, 40.9,
         "cascade_mask_rcnn_x101_32x4d_fpn_syncbn-backbone_dconv_c3-c5_1x_coco_20210615_211019-abbc39ea.pth"),
    ),
    "openimages": (
        ("faster-rcnn_r50_fpn_32xb2-1x_openimages", _OPEN_IMAGES, 51.6, None,
         "faster_rcnn_r50_fpn_32x2_1x_openimages_20211130_231159-e87ab7ce.pth"),
        ("faster-rcnn_r50_fpn_32xb2-cas-1x_openimages", _OPEN_IMAGES, 60.0, None,
         "faster_rcnn_r50_fpn_32x2_cas_1x_openimages_20220306_202424-98c630e5.pth"),
        ("faster-rcnn_r50_fpn_32xb2-1x_openimages-challenge", _CHALLENGE, 54.9, None,
         "faster_rcnn_r50_fpn_32x2_1x_openimages_challenge_20220114_045100-0e79e5df.pth"),
        ("faster-rcnn_r50_fpn_32xb2-cas-1x_openimages-challenge", _CHALLENGE, 65.0, None,
         "faster_rcnn_r50_fpn_32x2_cas_1x_openimages_challenge_20220221_192021-34c402d9.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(_ROWS)
