"""Mask R-CNN and cascades of Detectron2's projects ViTDet and MViTv2, by the names of their config files.

LVIS models have the folder before their names, because COCO's have the same.

Source: ``projects/*/configs`` for the settings, ``projects/*/README.md`` for AP and addresses. Some names of
those pages are not those of the config files.
"""

from typing import Any

from jaxmaskrcnn.config.mvit import MVITS
from jaxmaskrcnn.config.vit import VITS
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
_MVIT_T, _MVIT_S, _MVIT_B, _MVIT_L, _MVIT_H = (
    {"backbone.kind": "mvit", **{f"backbone.{key}": value for key, value in MVITS[size].items()}}
    for size in ("tiny", "small", "base", "large", "huge")
)
_VIT_B, _VIT_L, _VIT_H = (
    {
        "backbone.kind": "vit",
        **{f"backbone.{key}": value for key, value in VITS[size].items()},
        "neck.kind": "simple_pyramid",
    }
    for size in ("base", "large", "huge")
)
_SWIN_B, _SWIN_L = ({**swin(size), "backbone.drop_path": 0.4} for size in ("base", "large"))
_OF_LVIS, _HUGE_OF_LVIS = {"backbone.drop_path": 0.3}, {"backbone.drop_path": 0.4}

# folder: config, changes, box AP, mask AP, folder and model id in the address, file
_ROWS = {
    "COCO": (
        ("mask_rcnn_vitdet_b_100ep", _SQUARE | _VIT_B, 51.6, 45.9,
         "mask_rcnn_vitdet_b/f325346929", "model_final_61ccd1.pkl"),
        ("mask_rcnn_vitdet_l_100ep", _SQUARE | _VIT_L, 55.5, 49.2,
         "mask_rcnn_vitdet_l/f325599698", "model_final_6146ed.pkl"),
        ("mask_rcnn_vitdet_h_75ep", _SQUARE | _VIT_H, 56.7, 50.2,
         "mask_rcnn_vitdet_h/f329145471", "model_final_7224f1.pkl"),
        ("cascade_mask_rcnn_vitdet_b_100ep", _CASCADE | _VIT_B, 54.0, 46.7,
         "cascade_mask_rcnn_vitdet_b/f325358525", "model_final_435fa9.pkl"),
        ("cascade_mask_rcnn_vitdet_l_100ep", _CASCADE | _VIT_L, 57.6, 50.0,
         "cascade_mask_rcnn_vitdet_l/f328021305", "model_final_1a9f28.pkl"),
        ("cascade_mask_rcnn_vitdet_h_75ep", _CASCADE | _VIT_H, 58.7, 51.0,
         "cascade_mask_rcnn_vitdet_h/f328730692", "model_final_f05665.pkl"),
        ("cascade_mask_rcnn_swin_b_in21k_50ep", _CASCADE | _SWIN_B, 53.9, 46.2,
         "cascade_mask_rcnn_swin_b_in21k/f342979038", "model_final_246a82.pkl"),
        ("cascade_mask_rcnn_swin_l_in21k_50ep", _CASCADE | _SWIN_L, 55.0, 47.2,
         "cascade_mask_rcnn_swin_l_in21k/f342979186", "model_final_7c897e.pkl"),
        ("cascade_mask_rcnn_mvitv2_b_in21k_100ep", _CASCADE | _MVIT_B, 55.6, 48.1,
         "cascade_mask_rcnn_mvitv2_b_in21k/f325820315", "model_final_8c3da3.pkl"),
        ("cascade_mask_rcnn_mvitv2_l_in21k_50ep", _CASCADE | _MVIT_L, 55.7, 48.3,
         "cascade_mask_rcnn_mvitv2_l_in21k/f325607715", "model_final_2141b0.pkl"),
        ("cascade_mask_rcnn_mvitv2_h_in21k_36ep", _CASCADE | _MVIT_H, 55.9, 48.3,
         "cascade_mask_rcnn_mvitv2_h_in21k/f326187358", "model_final_2234d7.pkl"),
    ),
    "LVIS": (
        ("cascade_mask_rcnn_mvitv2_b_in21k_100ep", _CASCADE | _MVIT_B | _LVIS, 46.3, 42.0,
         "cascade_mask_rcnn_mvitv2_b_in21k/329477206", "model_final_a00567.pkl"),
        ("cascade_mask_rcnn_mvitv2_l_in21k_50ep", _CASCADE | _MVIT_L | _LVIS, 49.4, 44.2,
         "cascade_mask_rcnn_mvitv2_l_in21k/329661552", "model_final_7838a5.pkl"),
        ("cascade_mask_rcnn_mvitv2_h_in21k_50ep", _CASCADE | _MVIT_H | _LVIS, 49.5, 44.1,
         "cascade_mask_rcnn_mvitv2_h_in21k/330445165", "model_final_ad4220.pkl"),
        ("mask_rcnn_vitdet_b_100ep", _SQUARE | _VIT_B | _LVIS, 40.2, 38.2,
         "mask_rcnn_vitdet_b/329225748", "model_final_5251c5.pkl"),
        ("mask_rcnn_vitdet_l_100ep", _SQUARE | _VIT_L | _LVIS, 46.1, 43.6,
         "mask_rcnn_vitdet_l/329211570", "model_final_021b3a.pkl"),
        ("mask_rcnn_vitdet_h_100ep", _SQUARE | _VIT_H | _HUGE_OF_LVIS | _LVIS, 49.1, 46.0,
         "mask_rcnn_vitdet_h/332434656", "model_final_866730.pkl"),
        ("cascade_mask_rcnn_vitdet_b_100ep", _CASCADE | _VIT_B | _LVIS, 43.0, 38.9,
         "cascade_mask_rcnn_vitdet_b/329226874", "model_final_df306f.pkl"),
        ("cascade_mask_rcnn_vitdet_l_100ep", _CASCADE | _VIT_L | _LVIS, 49.2, 44.5,
         "cascade_mask_rcnn_vitdet_l/329042206", "model_final_3e81c2.pkl"),
        ("cascade_mask_rcnn_vitdet_h_100ep", _CASCADE | _VIT_H | _HUGE_OF_LVIS | _LVIS, 51.5, 46.6,
         "cascade_mask_rcnn_vitdet_h/332552778", "model_final_11bbb7.pkl"),
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

_BN_HEADS = {**FOUR_CONV_ONE_FC, "box.norm": "bn", "mask.norm": "bn", "rpn.convs": 2}
_OWN_INPUT = {path: _SQUARE[path] for path in ("input.channel_order", "input.pixel_mean", "input.pixel_std")}
_OWN_INPUT["compute.weight_decay_exempts_norm"] = True
_MVIT_CASCADE = {**_OWN_INPUT, **CASCADE, **_BN_HEADS, "rpn.post_nms_train": 1000}
# config, changes, box AP, mask AP, folder and model id in the address, file
PRESETS |= {
    f"detectron2/MViTv2/{config}": Preset(
        DETECTRON2,
        changes,
        box_ap,
        mask_ap,
        PublishedFile(
            f"{hosts.DETECTRON2.prefix}MViTv2/{place}/{file}", LICENCE, "projects/MViTv2/README.md"
        ),
        place.rpartition("/f")[2],
        f"projects/MViTv2/configs/{config}.py",
    )
    for config, changes, box_ap, mask_ap, place, file in (
        ("mask_rcnn_mvitv2_t_3x", _OWN_INPUT | _MVIT_T, 48.3, 43.8,
         "mask_rcnn_mvitv2_t_3x/f307611773", "model_final_1a1c30.pkl"),
        ("cascade_mask_rcnn_mvitv2_t_3x", _MVIT_CASCADE | _MVIT_T, 52.2, 45.0,
         "cascade_mask_rcnn_mvitv2_t_3x/f308344828", "model_final_c6967a.pkl"),
        ("cascade_mask_rcnn_mvitv2_s_3x", _MVIT_CASCADE | _MVIT_S, 53.2, 46.0,
         "cascade_mask_rcnn_mvitv2_s_3x/f308344647", "model_final_279baf.pkl"),
        ("cascade_mask_rcnn_mvitv2_b_3x", _MVIT_CASCADE | _MVIT_B, 54.1, 46.7,
         "cascade_mask_rcnn_mvitv2_b_3x/f308109448", "model_final_421a91.pkl"),
        ("cascade_mask_rcnn_mvitv2_b_in21k_3x", _MVIT_CASCADE | _MVIT_B, 54.9, 47.4,
         "cascade_mask_rcnn_mvitv2_b_in12k_3x/f309003202", "model_final_be5168.pkl"),
        ("cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep", _MVIT_CASCADE | _MVIT_L, 55.8, 48.3,
         "cascade_mask_rcnn_mvitv2_l_in12k_lsj_50ep/f308099658", "model_final_c41c5a.pkl"),
        ("cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x", _MVIT_CASCADE | _MVIT_H, 56.1, 48.5,
         "cascade_mask_rcnn_mvitv2_h_in12k_lsj_3x/f309013744", "model_final_30d36b.pkl"),
    )
}  # fmt: skip

# fields of a detector, as in `BACKBONES`, for the networks that MAE trained
_MAE = {
    f"mae_pretrain_vit_{name}": {
        "backbone.kind": "vit", **{f"backbone.{key}": value for key, value in VITS[size].items()},
        "neck.kind": "simple_pyramid",
    }
    for name, size in (("base", "base"), ("large", "large"), ("huge_p14to16", "huge"))
}  # fmt: skip
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
        *(
            (f"MAE/{name}.pth", fields, f"projects/ViTDet/configs/COCO/mask_rcnn_vitdet_{config}.py")
            for (name, fields), config in zip(_MAE.items(), ("b_100ep", "l_100ep", "h_75ep"), strict=True)
        ),
    )
}  # fmt: skip
