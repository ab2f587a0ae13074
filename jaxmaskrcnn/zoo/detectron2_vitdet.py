"""Mask R-CNN and cascades of Detectron2's project ViTDet, by the names of their config files.

LVIS models have the folder before their names, because COCO's have the same.

Source: ``projects/ViTDet/configs`` for the settings, ``projects/ViTDet/README.md`` for AP and addresses. Some
names of that page are not those of the config files.
"""

from typing import Any

from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.conventions import DETECTRON2
from jaxmaskrcnn.zoo.detectron2 import CASCADE
from jaxmaskrcnn.zoo.entry import FOUR_CONV_ONE_FC, LVIS_V1, Backbone, Preset, PublishedFile
from jaxmaskrcnn.zoo.mmdet_vision import swin

LICENCE = "none stated (code: Apache-2.0)"
_PAGE = "projects/ViTDet/README.md"

# Square canvases, ImageNet's normalisation in RGB, layer norm behind every convolution of pyramid and heads.
_SQUARE: dict[str, Any] = {
    "input.channel_order": "rgb",
    "input.pixel_mean": (123.675, 116.28, 103.53),
    "input.pixel_std": (58.395, 57.12, 57.375),
    "input.test_min_size": 1024,
    "input.test_max_size": 1024,
    "input.pad_divisor": 1024,
    "neck.norm": "ln",
    "neck.norm_epsilon": 1e-6,
    "rpn.convs": 2,
    **FOUR_CONV_ONE_FC,
    "box.norm": "ln",
    "box.norm_epsilon": 1e-6,
    "mask.norm": "ln",
    "mask.norm_epsilon": 1e-6,
    "compute.weight_decay_exempts_norm": True,
}
_CASCADE = {**_SQUARE, **CASCADE, "rpn.post_nms_train": 1000}
# Federated classes: 50 of each image, by the square roots of their frequencies.
_LVIS = {
    **LVIS_V1, "detections.score_threshold": 0.02, "box.scores": "sigmoid", "box.federated": "federated",
}  # fmt: skip
_SWIN_B, _SWIN_L = ({**swin(size), "backbone.drop_path": 0.4} for size in ("base", "large"))
_OF_LVIS = {"backbone.drop_path": 0.3}

# folder: config, changes, box AP, mask AP, folder and model id in the address, file
_ROWS = {
    "COCO": (
        ("cascade_mask_rcnn_swin_b_in21k_50ep", _CASCADE | _SWIN_B, 53.9, 46.2,
         "cascade_mask_rcnn_swin_b_in21k/f342979038", "model_final_246a82.pkl"),
        ("cascade_mask_rcnn_swin_l_in21k_50ep", _CASCADE | _SWIN_L, 55.0, 47.2,
         "cascade_mask_rcnn_swin_l_in21k/f342979186", "model_final_7c897e.pkl"),
    ),
    "LVIS": (
        ("cascade_mask_rcnn_swin_b_in21k_50ep", _CASCADE | _SWIN_B | _OF_LVIS | _LVIS, 44.0, 39.6,
         "cascade_mask_rcnn_swin_b_in21k/329222304", "model_final_a3a348.pkl"),
        ("cascade_mask_rcnn_swin_l_in21k_50ep", _CASCADE | _SWIN_L | _OF_LVIS | _LVIS, 46.0, 41.4,
         "cascade_mask_rcnn_swin_l_in21k/329222724", "model_final_2b94db.pkl"),
    ),
}  # fmt: skip

PRESETS = {
    f"detectron2/ViTDet/{'LVIS/' if folder == 'LVIS' else ''}{config}": Preset(
        DETECTRON2,
        changes,
        box_ap,
        mask_ap,
        PublishedFile(f"{hosts.DETECTRON2.prefix}ViTDet/{folder}/{place}/{file}", LICENCE, _PAGE),
        place.rpartition("/")[2].removeprefix("f"),
        f"projects/ViTDet/configs/{folder}/{config}.py",
    )
    for folder, rows in _ROWS.items()
    for config, changes, box_ap, mask_ap, place, file in rows
}

_IMAGENET = {
    **{path: _SQUARE[path] for path in ("input.channel_order", "input.pixel_mean", "input.pixel_std")},
    "input.pixel_scale": 1.0,
}
# fields, file, config file that starts from it
BACKBONES = {
    f"detectron2/{file.removesuffix('.pth')}": Backbone(
        {**fields, **_IMAGENET},
        (PublishedFile(f"{hosts.DETECTRON2.prefix}ImageNetPretrained/{file}", LICENCE, config),),
        LICENCE,
        config,
    )
    for file, fields, config in (
        ("swin/swin_base_patch4_window7_224_22k.pth", swin("base"),
         "projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py"),
        ("swin/swin_large_patch4_window7_224_22k.pth", swin("large"),
         "projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_l_in21k_50ep.py"),
    )
}  # fmt: skip
