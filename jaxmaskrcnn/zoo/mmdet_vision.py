"""MMDetection's Mask R-CNN on Swin transformers and ConvNeXts, by the names of version 3.3's config files.

Source: as in `zoo/mmdet.py`; the licence of the ImageNet weights is that of their authors' code.
"""

from typing import Any

from jaxmaskrcnn.config.convnext import CONVNEXTS
from jaxmaskrcnn.config.swin import SWINS
from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.conventions import MMDET
from jaxmaskrcnn.zoo.entry import FOUR_CONV_ONE_FC, Backbone, Preset, PublishedFile
from jaxmaskrcnn.zoo.mmdet import presets
from jaxmaskrcnn.zoo.mmdet_cascade import CASCADE


def swin(size: str) -> dict[str, Any]:
    """Return the settings of a Swin transformer.

    Args:
        size: One of `config.swin.SWINS`.

    Example:
        >>> swin("small")["backbone.blocks"]
        (2, 2, 18, 2)
    """
    return {"backbone.kind": "swin", **{f"backbone.{key}": value for key, value in SWINS[size].items()}}


def convnext(size: str) -> dict[str, Any]:
    """Return the settings of a ConvNeXt.

    Args:
        size: One of `config.convnext.CONVNEXTS`.

    Example:
        >>> convnext("small")["backbone.blocks"]
        (3, 3, 27, 3)
    """
    numbers = {f"backbone.{key}": value for key, value in CONVNEXTS[size].items()}
    return {"backbone.kind": "convnext", **numbers}


# Heads that predict a box for each class, whose IoU counts.
_GIOU = {
    **CASCADE, **FOUR_CONV_ONE_FC, "box.norm": "bn", "box.class_agnostic": False, "box.loss.form": "giou",
    "box.loss.weight": 10.0, "box.loss.beta": MMDET["box.loss.beta"],
}  # fmt: skip
_NORM_EXEMPT = {"compute.weight_decay_exempts_norm": True}
_SWIN_T, _SWIN_S = ({**swin(size), **_NORM_EXEMPT} for size in ("tiny", "small"))

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "swin": (
        ("mask-rcnn_swin-t-p4-w7_fpn_1x_coco", _SWIN_T, 42.7, 39.3,
         "mask_rcnn_swin-t-p4-w7_fpn_1x_coco_20210902_120937-9d6b7cfa.pth"),
        ("mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco", _SWIN_T, 46.0, 41.6,
         "mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth"),
        ("mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco", _SWIN_T, 46.0, 41.7,
         "mask_rcnn_swin-t-p4-w7_fpn_fp16_ms-crop-3x_coco_20210908_165006-90a4008c.pth"),
        ("mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco", _SWIN_S, 48.2, 43.2,
         "mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth"),
    ),
    "convnext": (
        ("mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco", convnext("tiny"), 46.2, 41.7,
         "mask_rcnn_convnext-t_p4_w7_fpn_fp16_ms-crop_3x_coco_20220426_154953-050731f4.pth"),
        ("cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco", convnext("tiny") | _GIOU,
         50.3, 43.6,
         "cascade_mask_rcnn_convnext-t_p4_w7_fpn_giou_4conv1f_fp16_ms-crop_3x_coco_20220509_204200-8f07c40b.pth"),
        ("cascade-mask-rcnn_convnext-s-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco",
         convnext("small") | _GIOU | {"backbone.drop_path": 0.6}, 51.8, 44.8,
         "cascade_mask_rcnn_convnext-s_p4_w7_fpn_giou_4conv1f_fp16_ms-crop_3x_coco_20220510_201004-3d24f5a4.pth"),
    ),
}  # fmt: skip
PRESETS: dict[str, Preset] = presets(_ROWS)

_INPUT = {
    path: MMDET[path] for path in MMDET if path.startswith("input.pixel_") or path == "input.channel_order"
}
# fields, file, config file that starts from it. The addresses are those of the authors.
BACKBONES = {
    f"mmdet/{file.removesuffix('.pth')}": Backbone(
        {**fields, **_INPUT},
        (PublishedFile(f"{hosts.SWIN.prefix}{file}", "MIT", f"configs/swin/{config}.py"),),
        "MIT",
        f"configs/swin/{config}.py",
    )
    for file, fields, config in (
        ("swin_tiny_patch4_window7_224.pth", swin("tiny"), "mask-rcnn_swin-t-p4-w7_fpn_1x_coco"),
        (
            "swin_small_patch4_window7_224.pth",
            swin("small"),
            "mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco",
        ),
    )
}
