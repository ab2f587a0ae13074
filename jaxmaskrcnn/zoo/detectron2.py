"""Detectron2's Faster, Mask and Keypoint R-CNN, its Panoptic FPN, its cascades, and its ImageNet ResNets.

A preset has the name of its config file, preceded by the folder if the same name exists in several
folders, as in the model zoo ("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x").

Source: the files of ``configs/`` for the settings, ``MODEL_ZOO.md`` and ``model_zoo.py`` for AP,
model ids and addresses.
"""

from typing import Any

from jaxmaskrcnn.config import BoxStageConfig
from jaxmaskrcnn.config.backbones import REGNETS
from jaxmaskrcnn.zoo import hosts, torchvision
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, VOC_20
from jaxmaskrcnn.zoo.conventions import DETECTRON2, DETECTRON2_KEYPOINTS, DETECTRON2_PANOPTIC
from jaxmaskrcnn.zoo.entry import (
    BN_ALL,
    FOUR_CONV_ONE_FC,
    GN_ALL,
    LVIS_V05,
    LVIS_V1,
    R101,
    X101_32X8D,
    X152_32X8D,
    Backbone,
    Preset,
    PublishedFile,
)

LICENCE = "CC BY-SA 3.0"


def regnet(name: str) -> dict[str, Any]:
    """Return the settings of a RegNet's layers, except its norm.

    Args:
        name: One of `config.backbones.REGNETS`.

    Example:
        >>> regnet("regnetx_3.2gf")["backbone.depth"]
        25
    """
    return {"backbone.kind": "regnet", **{f"backbone.{key}": value for key, value in REGNETS[name].items()}}


# ImageNet's standard deviation in BGR, for weights whose first convolution has not absorbed it (as MSRA's).
BGR_STD = (57.375, 57.120, 58.395)

_X101 = {**X101_32X8D, "backbone.stride_in_1x1": False, "input.pixel_std": BGR_STD}
_BOX = {"mask": None}
_GN = {**GN_ALL, "backbone.stride_in_1x1": False}
_SCRATCH = {"backbone.freeze_at": 0}
_SCRATCH_9X = {**_SCRATCH, "backbone.stride_in_1x1": False, "input.pixel_std": BGR_STD}
_LSJ = {**BN_ALL, **_SCRATCH, "rpn.convs": 2}
# With the standard deviation that pycls trained with, because its weights are used.
_X4GF = {**regnet("regnetx_4.0gf"), "input.pixel_std": BGR_STD}
_Y4GF = {**regnet("regnety_4.0gf"), "input.pixel_std": BGR_STD}
_AGNOSTIC = {"box.class_agnostic": True, "mask.class_agnostic": True}
# No pyramid: one feature map with a stride of 16, and the ResNet's last stage is applied to pooled regions.
C4 = {
    "backbone.outputs": (4,),
    "neck": None,
    "trunk": "res5",
    "input.pad_divisor": 1,
    "rpn.anchors.sizes": ((32.0, 64.0, 128.0, 256.0, 512.0),),
    "rpn.pre_nms_train": 12000,
    "rpn.pre_nms_test": 6000,
    "rpn.post_nms_train": 2000,
    "box.pool.size": 14,
    "box.fcs": 0,
    "box.average": True,
    "mask.convs": 0,
}
# No pyramid either; the last stage is in the backbone, with C4's stride.
DC5 = {
    "backbone.outputs": (5,),
    "backbone.dilated_c5": True,
    **{path: value for path, value in C4.items() if path in ("neck", "input.pad_divisor") or "rpn." in path},
}
_DEFORMABLE = {"backbone.deformable_stages": (3, 4, 5)}
# Source: detectron2/config/defaults.py, MODEL.ROI_BOX_CASCADE_HEAD.
CASCADE = {
    "box.class_agnostic": True,
    "box.stages": tuple(
        BoxStageConfig(foreground_iou=iou, box_weights=(10.0 * i, 10.0 * i, 5.0 * i, 5.0 * i))
        for i, iou in enumerate((0.5, 0.6, 0.7), 1)
    ),
    "rpn.post_nms_train": 2000,
}
# The pixels' standard deviation is in the first convolution of its ImageNet weights, which Caffe2 trained.
_X152_GN_DCONV = {
    **CASCADE, **_DEFORMABLE, **X152_32X8D, **FOUR_CONV_ONE_FC,
    "backbone.stride_in_1x1": False, "box.norm": "gn", "mask.norm": "gn", "mask.convs": 8,
}  # fmt: skip
_CITYSCAPES = {
    "num_classes": 8, "categories": CITYSCAPES_8, "input.test_min_size": 1024, "input.test_max_size": 2048,
}  # fmt: skip
_VOC = {"num_classes": 20, "categories": VOC_20}

# folder of configs/: config, changes, box AP, mask AP, model id, file. The zoo has no weights for models
# without a file, and no box AP for Cityscapes.
_ROWS = {
    "COCO-InstanceSegmentation": (
        ("mask_rcnn_R_50_FPN_1x", {}, 38.6, 35.2, "137260431", "model_final_a54504.pkl"),
        ("mask_rcnn_R_50_FPN_3x", {}, 41.0, 37.2, "137849600", "model_final_f10217.pkl"),
        ("mask_rcnn_R_101_FPN_3x", R101, 42.9, 38.6, "138205316", "model_final_a3ec72.pkl"),
        ("mask_rcnn_X_101_32x8d_FPN_3x", _X101, 44.3, 39.5, "139653917", "model_final_2d9806.pkl"),
        ("mask_rcnn_regnetx_4gf_dds_fpn_1x", _X4GF, None, None, None, None),
        ("mask_rcnn_regnety_4gf_dds_fpn_1x", _Y4GF, None, None, None, None),
        ("mask_rcnn_R_50_C4_1x", C4, 36.8, 32.2, "137259246", "model_final_9243eb.pkl"),
        ("mask_rcnn_R_50_C4_3x", C4, 39.8, 34.4, "137849525", "model_final_4ce675.pkl"),
        ("mask_rcnn_R_101_C4_3x", C4 | R101, 42.6, 36.7, "138363239", "model_final_a2914c.pkl"),
        ("mask_rcnn_R_50_DC5_1x", DC5, 38.3, 34.2, "137260150", "model_final_4f86c3.pkl"),
        ("mask_rcnn_R_50_DC5_3x", DC5, 40.0, 35.9, "137849551", "model_final_84107b.pkl"),
        ("mask_rcnn_R_101_DC5_3x", DC5 | R101, 41.9, 37.3, "138363294", "model_final_0464b7.pkl"),
    ),
    "new_baselines": (
        ("mask_rcnn_R_50_FPN_50ep_LSJ", _LSJ, None, None, None, None),
        ("mask_rcnn_R_50_FPN_100ep_LSJ", _LSJ, 44.6, 40.3, "42047764", "model_final_bb69de.pkl"),
        ("mask_rcnn_R_50_FPN_200ep_LSJ", _LSJ, 46.3, 41.7, "42047638", "model_final_89a8d3.pkl"),
        ("mask_rcnn_R_50_FPN_400ep_LSJ", _LSJ, 47.4, 42.5, "42019571", "model_final_14d201.pkl"),
        ("mask_rcnn_R_101_FPN_100ep_LSJ", _LSJ | R101, 46.4, 41.6, "42025812", "model_final_4f7b58.pkl"),
        ("mask_rcnn_R_101_FPN_200ep_LSJ", _LSJ | R101, 48.0, 43.1, "42131867", "model_final_0bb7ae.pkl"),
        ("mask_rcnn_R_101_FPN_400ep_LSJ", _LSJ | R101, 48.9, 43.7, "42073830", "model_final_f96b26.pkl"),
        ("mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ", _LSJ | _X4GF, 46.0, 41.3,
         "42047771", "model_final_b7fbab.pkl"),
        ("mask_rcnn_regnetx_4gf_dds_FPN_200ep_LSJ", _LSJ | _X4GF, 48.1, 43.1,
         "42132721", "model_final_5d87c1.pkl"),
        ("mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ", _LSJ | _X4GF, 48.6, 43.5,
         "42025447", "model_final_f1362d.pkl"),
        ("mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ", _LSJ | _Y4GF, 46.1, 41.6,
         "42047784", "model_final_6ba57e.pkl"),
        ("mask_rcnn_regnety_4gf_dds_FPN_200ep_LSJ", _LSJ | _Y4GF, 47.8, 43.0,
         "42047642", "model_final_27b9c1.pkl"),
        ("mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ", _LSJ | _Y4GF, 48.2, 43.3,
         "42045954", "model_final_ef3a80.pkl"),
    ),
    "Misc": (
        ("cascade_mask_rcnn_R_50_FPN_1x", CASCADE, 42.1, 36.4, "138602847", "model_final_e9d89b.pkl"),
        ("cascade_mask_rcnn_R_50_FPN_3x", CASCADE, 44.3, 38.5, "144998488", "model_final_480dd8.pkl"),
        ("cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv", _X152_GN_DCONV, 50.2, 44.0,
         "18131413", "model_0039999_e76410.pkl"),
        ("mask_rcnn_R_50_FPN_1x_cls_agnostic", _AGNOSTIC, None, None, None, None),
        ("mask_rcnn_R_50_FPN_1x_dconv_c3-c5", _DEFORMABLE, 41.5, 37.5, "138602867", "model_final_65c703.pkl"),
        ("mask_rcnn_R_50_FPN_3x_dconv_c3-c5", _DEFORMABLE, 42.7, 38.5, "144998336", "model_final_821d0b.pkl"),
        ("mask_rcnn_R_50_FPN_3x_gn", _GN, 42.6, 38.6, "138602888", "model_final_dc5d9e.pkl"),
        ("mask_rcnn_R_50_FPN_3x_syncbn", BN_ALL, 41.9, 37.8, "169527823", "model_final_3b3c51.pkl"),
        ("scratch_mask_rcnn_R_50_FPN_3x_gn", _GN | _SCRATCH, 39.9, 36.6,
         "138602908", "model_final_01ca85.pkl"),
        ("scratch_mask_rcnn_R_50_FPN_9x_gn", _GN | _SCRATCH_9X, 43.7, 39.6,
         "183808979", "model_final_da7b4c.pkl"),
        ("scratch_mask_rcnn_R_50_FPN_9x_syncbn", BN_ALL | _SCRATCH_9X, 43.6, 39.3,
         "184226666", "model_final_5ce33e.pkl"),
    ),
    "COCO-Detection": (
        ("faster_rcnn_R_50_FPN_1x", _BOX, 37.9, None, "137257794", "model_final_b275ba.pkl"),
        ("faster_rcnn_R_50_FPN_3x", _BOX, 40.2, None, "137849458", "model_final_280758.pkl"),
        ("faster_rcnn_R_101_FPN_3x", _BOX | R101, 42.0, None, "137851257", "model_final_f6e8b1.pkl"),
        ("faster_rcnn_X_101_32x8d_FPN_3x", _BOX | _X101, 43.0, None, "139173657", "model_final_68b088.pkl"),
        ("faster_rcnn_R_50_C4_1x", _BOX | C4, 35.7, None, "137257644", "model_final_721ade.pkl"),
        ("faster_rcnn_R_50_C4_3x", _BOX | C4, 38.4, None, "137849393", "model_final_f97cb7.pkl"),
        ("faster_rcnn_R_101_C4_3x", _BOX | C4 | R101, 41.1, None, "138204752", "model_final_298dad.pkl"),
        ("faster_rcnn_R_50_DC5_1x", _BOX | DC5, 37.3, None, "137847829", "model_final_51d356.pkl"),
        ("faster_rcnn_R_50_DC5_3x", _BOX | DC5, 39.0, None, "137849425", "model_final_68d202.pkl"),
        ("faster_rcnn_R_101_DC5_3x", _BOX | DC5 | R101, 40.6, None, "138204841", "model_final_3e0943.pkl"),
    ),
    "PascalVOC-Detection": (
        ("faster_rcnn_R_50_C4", _BOX | C4 | _VOC, 51.9, None, "142202221", "model_final_b1acc2.pkl"),
    ),
    "Cityscapes": (
        ("mask_rcnn_R_50_FPN", _CITYSCAPES, None, 36.5, "142423278", "model_final_af9cf5.pkl"),
    ),
    "LVISv0.5-InstanceSegmentation": (
        ("mask_rcnn_R_50_FPN_1x", LVIS_V05, 23.6, 24.4, "144219072", "model_final_571f7c.pkl"),
        ("mask_rcnn_R_101_FPN_1x", LVIS_V05 | R101, 25.6, 25.9, "144219035", "model_final_824ab5.pkl"),
        ("mask_rcnn_X_101_32x8d_FPN_1x", LVIS_V05 | _X101, 26.7, 27.1, "144219108", "model_final_5e3439.pkl"),
    ),
    "LVISv1-InstanceSegmentation": (
        ("mask_rcnn_R_50_FPN_1x", LVIS_V1, None, None, None, None),
        ("mask_rcnn_R_101_FPN_1x", LVIS_V1 | R101, None, None, None, None),
        ("mask_rcnn_X_101_32x8d_FPN_1x", LVIS_V1 | _X101, None, None, None, None),
    ),
}  # fmt: skip


def _published(place: str, found: str) -> PublishedFile:
    return PublishedFile(f"{hosts.DETECTRON2.prefix}{place}", LICENCE, found)


_NAMED_WITH_FOLDER = ("Cityscapes", "LVISv0.5-InstanceSegmentation", "LVISv1-InstanceSegmentation")

PRESETS = {
    f"detectron2/{folder}/{config}" if folder in _NAMED_WITH_FOLDER else f"detectron2/{config}": Preset(
        DETECTRON2,
        changes,
        box_ap,
        mask_ap,
        _published(f"{folder}/{config}/{model_id}/{file}", "detectron2/model_zoo/model_zoo.py")
        if file
        else None,
        model_id,
        f"configs/{folder}/{config}.{'py' if folder == 'new_baselines' or 'regnet' in config else 'yaml'}",
    )
    for folder, rows in _ROWS.items()
    for config, changes, box_ap, mask_ap, model_id, file in rows
}

_KEYPOINT = {**DETECTRON2_KEYPOINTS, **_BOX}
_KEYPOINT_FOLDER = "COCO-Keypoints"
# config, changes, box AP, keypoint AP, model id, file
PRESETS |= {
    f"detectron2/{config}": Preset(
        DETECTRON2,
        changes,
        box_ap,
        None,
        _published(f"{_KEYPOINT_FOLDER}/{config}/{model_id}/{file}", "detectron2/model_zoo/model_zoo.py"),
        model_id,
        f"configs/{_KEYPOINT_FOLDER}/{config}.yaml",
        keypoint_ap,
    )
    for config, changes, box_ap, keypoint_ap, model_id, file in (
        ("keypoint_rcnn_R_50_FPN_1x", _KEYPOINT, 53.6, 64.0, "137261548", "model_final_04e291.pkl"),
        ("keypoint_rcnn_R_50_FPN_3x", _KEYPOINT, 55.4, 65.5, "137849621", "model_final_a6e10b.pkl"),
        ("keypoint_rcnn_R_101_FPN_3x", _KEYPOINT | R101, 56.4, 66.1, "138363331", "model_final_997cc7.pkl"),
        ("keypoint_rcnn_X_101_32x8d_FPN_3x", _KEYPOINT | _X101, 57.3, 66.0,
         "139686956", "model_final_5ad38f.pkl"),
    )
}  # fmt: skip

# A demonstration of what a large model reaches; its box head has no convolutions, so no norm layers either.
_LARGE_PANOPTIC = {
    **DETECTRON2_PANOPTIC,
    **R101,
    **CASCADE,
    **_DEFORMABLE,
    "backbone.norm": "gn",
    "backbone.stride_in_1x1": False,
    "neck.norm": "gn",
    "mask.norm": "gn",
}
_PANOPTIC_FOLDER = "COCO-PanopticSegmentation"
# folder, config, changes, box AP, mask AP, PQ, model id, file
PRESETS |= {
    f"detectron2/{config}": Preset(
        DETECTRON2,
        changes,
        box_ap,
        mask_ap,
        _published(f"{folder}/{config}/{model_id}/{file}", "detectron2/model_zoo/model_zoo.py"),
        model_id,
        f"configs/{folder}/{config}.yaml",
        pq=pq,
    )
    for folder, config, changes, box_ap, mask_ap, pq, model_id, file in (
        (_PANOPTIC_FOLDER, "panoptic_fpn_R_50_1x", DETECTRON2_PANOPTIC, 37.6, 34.7, 39.4,
         "139514544", "model_final_dbfeb4.pkl"),
        (_PANOPTIC_FOLDER, "panoptic_fpn_R_50_3x", DETECTRON2_PANOPTIC, 40.0, 36.5, 41.5,
         "139514569", "model_final_c10459.pkl"),
        (_PANOPTIC_FOLDER, "panoptic_fpn_R_101_3x", DETECTRON2_PANOPTIC | R101, 42.4, 38.5, 43.0,
         "139514519", "model_final_cafdb1.pkl"),
        ("Misc", "panoptic_fpn_R_101_dconv_cascade_gn_3x", _LARGE_PANOPTIC, 47.4, 41.3, 46.1,
         "139797668", "model_final_be35db.pkl"),
    )
}  # fmt: skip
_BGR = {
    "backbone.norm_epsilon": 1e-5,
    "input.channel_order": "bgr",
    "input.pixel_scale": 1.0,
    "input.pixel_mean": DETECTRON2["input.pixel_mean"],
    "input.pixel_std": DETECTRON2["input.pixel_std"],
}
_BGR_STD = {"input.pixel_std": BGR_STD}
_RESNET = {"backbone.groups": 1, "backbone.width_per_group": 64}
_RGB_255 = {
    **torchvision.INPUT,
    "input.pixel_scale": 1.0,
    "input.pixel_mean": (123.675, 116.280, 103.530),
    "input.pixel_std": (58.395, 57.120, 57.375),
}
_CONVERTER = "tools/convert-torchvision-to-d2.py"

# fields, file, source. torchvision's ResNet-101 is not in the zoo; the library's tool converts it.
BACKBONES = {
    f"detectron2/{name}": Backbone(
        fields,
        tuple(_published(f"ImageNetPretrained/{file}", "MODEL_ZOO.md") for file in files),
        licence,
        source,
    )
    for name, fields, files, licence, source in (
        ("MSRA/R-50", {"backbone.depth": 50, **_RESNET, "backbone.stride_in_1x1": True, **_BGR},
         ("MSRA/R-50.pkl",), LICENCE, "MODEL_ZOO.md"),
        ("MSRA/R-101", {"backbone.depth": 101, **_RESNET, "backbone.stride_in_1x1": True, **_BGR},
         ("MSRA/R-101.pkl",), LICENCE, "MODEL_ZOO.md"),
        ("FAIR/X-101-32x8d", {**X101_32X8D, "backbone.stride_in_1x1": False, **_BGR, **_BGR_STD},
         ("FAIR/X-101-32x8d.pkl",), LICENCE, "MODEL_ZOO.md"),
        ("torchvision/R-50", {"backbone.depth": 50, **_RESNET, **_RGB_255},
         ("torchvision/R-50.pkl",), LICENCE, f"MODEL_ZOO.md, {_CONVERTER}"),
        ("torchvision/R-101", {"backbone.depth": 101, **_RESNET, **_RGB_255},
         (), torchvision.LICENCE, _CONVERTER),
    )
}  # fmt: skip
