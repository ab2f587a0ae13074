"""PointRend of Detectron2's project of that name and of MMDetection, by the names of their config files.

Source: ``projects/PointRend`` of Detectron2's repository, whose README has AP, model ids and addresses; for
MMDetection as in `zoo/mmdet.py`. The README has no box AP.
"""

from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8
from jaxmaskrcnn.zoo.conventions import DETECTRON2
from jaxmaskrcnn.zoo.detectron2 import BGR_STD
from jaxmaskrcnn.zoo.entry import R101, X101_32X8D, Preset, PublishedFile
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS
from jaxmaskrcnn.zoo.mmdet import presets

LICENCE = "none stated (code: Apache-2.0)"

_POINT_REND = {"mask": "point_rend", "regions.head_boxes": "predicted"}
_X101 = {**X101_32X8D, "backbone.stride_in_1x1": False, "input.pixel_std": BGR_STD}
_CITYSCAPES = {
    "num_classes": 8, "categories": CITYSCAPES_8, "input.test_min_size": 1024, "input.test_max_size": 2048,
}  # fmt: skip
_FOLDER = "InstanceSegmentation"

# config, changes to _POINT_REND, mask AP, model id, file
PRESETS: dict[str, Preset] = {
    f"detectron2/{config}": Preset(
        DETECTRON2,
        {**_POINT_REND, **changes},
        None,
        mask_ap,
        PublishedFile(
            f"{hosts.DETECTRON2.prefix}PointRend/{_FOLDER}/{config}/{model_id}/{file}",
            LICENCE,
            "projects/PointRend/README.md",
        ),
        model_id,
        f"projects/PointRend/configs/{_FOLDER}/{config}.yaml",
    )
    for config, changes, mask_ap, model_id, file in (
        ("pointrend_rcnn_R_50_FPN_1x_coco", {}, 36.2, "164254221", "model_final_736f5a.pkl"),
        ("pointrend_rcnn_R_50_FPN_3x_coco", {}, 38.3, "164955410", "model_final_edd263.pkl"),
        ("pointrend_rcnn_R_101_FPN_3x_coco", R101, 40.1, "28119983", "model_final_3f4d2a.pkl"),
        ("pointrend_rcnn_X_101_32x8d_FPN_3x_coco", _X101, 41.1, "28119989", "model_final_ba17b9.pkl"),
        ("pointrend_rcnn_R_50_FPN_1x_cityscapes", _CITYSCAPES, 35.9, "164255101", "model_final_115bfb.pkl"),
    )
}

_MMDET = {
    **OTHERS["mmdet/mask-rcnn_r50-caffe_fpn_1x_coco"].changes,
    "mask": "point_rend",
    "mask.channel_conv": False,
    "mask.first_map": "coarse",
}
PRESETS |= presets(
    {
        "point_rend": (
            ("point-rend_r50-caffe_fpn_ms-1x_coco", _MMDET, 38.4, 36.3,
             "point_rend_r50_caffe_fpn_mstrain_1x_coco-1bcb5fb4.pth"),
            ("point-rend_r50-caffe_fpn_ms-3x_coco", _MMDET, 41.0, 38.0,
             "point_rend_r50_caffe_fpn_mstrain_3x_coco-e0ebb6b7.pth"),
        ),
    }
)  # fmt: skip
