"""Detectron2's own base files by name, for a yaml whose base is not on this machine.

Bases of unsupported detectors only have the settings that identify these. Source: ``configs``.
"""

from typing import Any

_PYRAMID_IN = ["res2", "res3", "res4", "res5"]
_LEVELS = ["p2", "p3", "p4", "p5"]

BASES: dict[str, dict[str, Any]] = {
    "Base-RCNN-FPN.yaml": {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
            "RESNETS": {"OUT_FEATURES": _PYRAMID_IN},
            "FPN": {"IN_FEATURES": _PYRAMID_IN},
            "ANCHOR_GENERATOR": {
                "SIZES": [[32], [64], [128], [256], [512]],
                "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            },
            "RPN": {
                "IN_FEATURES": [*_LEVELS, "p6"],
                "PRE_NMS_TOPK_TRAIN": 2000,
                "PRE_NMS_TOPK_TEST": 1000,
                "POST_NMS_TOPK_TRAIN": 1000,
                "POST_NMS_TOPK_TEST": 1000,
            },
            "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": _LEVELS},
            "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
            "ROI_MASK_HEAD": {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 4, "POOLER_RESOLUTION": 14},
        },
        "DATASETS": {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]},
        "VERSION": 2,
    },
    "Base-RCNN-C4.yaml": {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "RPN": {"PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TEST": 1000},
            "ROI_HEADS": {"NAME": "Res5ROIHeads"},
        },
        "DATASETS": {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]},
        "VERSION": 2,
    },
    "Base-RCNN-DilatedC5.yaml": {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "RESNETS": {"OUT_FEATURES": ["res5"], "RES5_DILATION": 2},
            "RPN": {"IN_FEATURES": ["res5"], "PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TEST": 1000},
            "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["res5"]},
            "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
            "ROI_MASK_HEAD": {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 4, "POOLER_RESOLUTION": 14},
        },
        "DATASETS": {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]},
        "VERSION": 2,
    },
    "Base-RetinaNet.yaml": {"MODEL": {"META_ARCHITECTURE": "RetinaNet"}},
}

_FPN = BASES["Base-RCNN-FPN.yaml"]
_MODEL: Any = _FPN["MODEL"]
BASES["Base-Keypoint-RCNN-FPN.yaml"] = {
    **_FPN,
    "MODEL": {
        **_MODEL,
        "KEYPOINT_ON": True,
        "ROI_HEADS": {**_MODEL["ROI_HEADS"], "NUM_CLASSES": 1},
        "ROI_BOX_HEAD": {**_MODEL["ROI_BOX_HEAD"], "SMOOTH_L1_BETA": 0.5},
        "RPN": {**_MODEL["RPN"], "POST_NMS_TOPK_TRAIN": 1500},
    },
    "DATASETS": {"TRAIN": ["keypoints_coco_2017_train"], "TEST": ["keypoints_coco_2017_val"]},
}
BASES["Base-PointRend-RCNN-FPN.yaml"] = {
    **_FPN,
    "MODEL": {
        **_MODEL,
        "MASK_ON": True,
        "ROI_BOX_HEAD": {**_MODEL["ROI_BOX_HEAD"], "TRAIN_ON_PRED_BOXES": True},
        "ROI_MASK_HEAD": {
            **_MODEL["ROI_MASK_HEAD"],
            "NAME": "PointRendMaskHead",
            "POOLER_TYPE": "",
            "FC_DIM": 1024,
            "NUM_FC": 2,
            "OUTPUT_SIDE_RESOLUTION": 7,
            "IN_FEATURES": ["p2"],
            "POINT_HEAD_ON": True,
        },
        "POINT_HEAD": {"FC_DIM": 256, "NUM_FC": 3, "IN_FEATURES": ["p2"]},
    },
    "INPUT": {"MASK_FORMAT": "bitmask"},
}
BASES["Base-Panoptic-FPN.yaml"] = {
    **_FPN,
    "MODEL": {
        **_MODEL,
        "META_ARCHITECTURE": "PanopticFPN",
        "MASK_ON": True,
        "SEM_SEG_HEAD": {"LOSS_WEIGHT": 0.5},
    },
    "DATASETS": {
        "TRAIN": ["coco_2017_train_panoptic_separated"],
        "TEST": ["coco_2017_val_panoptic_separated"],
    },
}
