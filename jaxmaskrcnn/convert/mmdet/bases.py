"""MMDetection's own ``_base_`` files by name, for a config whose bases are not on this machine.

They only have what a detector needs. Versions 2 and 3 share some file names, so the files of data sets
have the settings of both. Source: ``configs/_base_``.
"""

import copy
from typing import Any

_IOU_7 = {"type": "nms", "iou_threshold": 0.7}


def assigner(positive: float, negative: float, least: float, low_quality: bool) -> dict[str, Any]:
    """Return the settings that match anchors or proposals with objects, by IoU."""
    return {
        "type": "MaxIoUAssigner", "pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": least,
        "match_low_quality": low_quality, "ignore_iof_thr": -1,
    }  # fmt: skip


def sampler(count: int, positive_fraction: float, add_objects: bool) -> dict[str, Any]:
    """Return the settings that sample anchors or proposals for training."""
    return {
        "type": "RandomSampler", "num": count, "pos_fraction": positive_fraction, "neg_pos_ub": -1,
        "add_gt_as_proposals": add_objects,
    }  # fmt: skip


def _extractor(side: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": side, "sampling_ratio": 0},
        "out_channels": 256,
        "featmap_strides": [4, 8, 16, 32],
    }


def _coder(stds: list[float]) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": stds}


_PREPROCESSOR = {
    "type": "DetDataPreprocessor", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True, "pad_size_divisor": 32,
}  # fmt: skip

_FASTER = {
    "type": "FasterRCNN",
    "backbone": {
        "type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3), "frozen_stages": 1,
        "norm_cfg": {"type": "BN", "requires_grad": True}, "norm_eval": True, "style": "pytorch",
    },
    "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
    "rpn_head": {
        "type": "RPNHead", "in_channels": 256, "feat_channels": 256,
        "anchor_generator": {
            "type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0],
            "strides": [4, 8, 16, 32, 64],
        },
        "bbox_coder": _coder([1.0] * 4),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    },
    "roi_head": {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": _extractor(7),
        "bbox_head": {
            "type": "Shared2FCBBoxHead", "in_channels": 256, "fc_out_channels": 1024, "roi_feat_size": 7,
            "num_classes": 80, "bbox_coder": _coder([0.1, 0.1, 0.2, 0.2]), "reg_class_agnostic": False,
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": assigner(0.7, 0.3, 0.3, True), "sampler": sampler(256, 0.5, False),
            "allowed_border": -1, "pos_weight": -1, "debug": False,
        },
        "rpn_proposal": {"nms_pre": 2000, "max_per_img": 1000, "nms": _IOU_7, "min_bbox_size": 0},
        "rcnn": {
            "assigner": assigner(0.5, 0.5, 0.5, False), "sampler": sampler(512, 0.25, True),
            "pos_weight": -1, "debug": False,
        },
    },
    "test_cfg": {
        "rpn": {"nms_pre": 1000, "max_per_img": 1000, "nms": _IOU_7, "min_bbox_size": 0},
        "rcnn": {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100},
    },
}  # fmt: skip


def _mask(faster: dict[str, Any]) -> dict[str, Any]:
    model = copy.deepcopy(faster)
    model["type"] = "MaskRCNN"
    model["roi_head"] |= {
        "mask_roi_extractor": _extractor(14),
        "mask_head": {
            "type": "FCNMaskHead", "num_convs": 4, "in_channels": 256, "conv_out_channels": 256,
            "num_classes": 80,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }  # fmt: skip
    model["train_cfg"]["rcnn"] |= {"assigner": assigner(0.5, 0.5, 0.5, True), "mask_size": 28}
    model["test_cfg"]["rcnn"]["mask_thr_binary"] = 0.5
    return model


def _cascade(model: dict[str, Any]) -> dict[str, Any]:
    model = copy.deepcopy(model)
    model["type"] = "CascadeRCNN"
    roi_head, train = model["roi_head"], model["train_cfg"]
    smooth = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}
    model["rpn_head"]["loss_bbox"] = smooth | {"beta": 1.0 / 9.0}
    head = roi_head["bbox_head"] | {"reg_class_agnostic": True, "loss_bbox": smooth}
    stds = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
    roi_head |= {
        "type": "CascadeRoIHead", "num_stages": 3, "stage_loss_weights": [1, 0.5, 0.25],
        "bbox_head": [head | {"bbox_coder": _coder(own)} for own in stds],
    }  # fmt: skip
    train["rpn"]["allowed_border"] = 0
    train["rpn_proposal"]["max_per_img"] = 2000
    train["rcnn"] = [
        train["rcnn"] | {"assigner": assigner(iou, iou, iou, low_quality=False)} for iou in (0.5, 0.6, 0.7)
    ]
    return model


def _data(kind: str, scale: tuple[int, int]) -> dict[str, Any]:
    load = {"type": "LoadImageFromFile"}
    pipeline = [load, {"type": "Resize", "scale": scale, "keep_ratio": True}, {"type": "PackDetInputs"}]
    norm = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    steps = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "Normalize", **norm},
        {"type": "Pad", "size_divisor": 32},
    ]
    older = [load, {"type": "MultiScaleFlipAug", "img_scale": scale, "flip": False, "transforms": steps}]
    test = {"dataset": {"type": kind, "pipeline": pipeline}}
    return {
        "backend_args": None,
        "dataset_type": kind,
        "img_norm_cfg": norm,
        "train_dataloader": {"dataset": {"type": kind}},
        "val_dataloader": copy.deepcopy(test),
        "test_dataloader": test,
        "data": {use: {"type": kind, "pipeline": older} for use in ("val", "test")},
    }


_FILES = {
    "models/mask-rcnn_r50_fpn.py": {"model": {**_mask(_FASTER), "data_preprocessor": _PREPROCESSOR}},
    "models/faster-rcnn_r50_fpn.py": {"model": {**_FASTER, "data_preprocessor": _PREPROCESSOR}},
    "models/cascade-mask-rcnn_r50_fpn.py": {
        "model": {**_cascade(_mask(_FASTER)), "data_preprocessor": _PREPROCESSOR}
    },
    "models/cascade-rcnn_r50_fpn.py": {"model": {**_cascade(_FASTER), "data_preprocessor": _PREPROCESSOR}},
    "models/cascade_mask_rcnn_r50_fpn.py": {"model": _cascade(_mask(_FASTER))},
    "models/cascade_rcnn_r50_fpn.py": {"model": _cascade(_FASTER)},
    "models/mask_rcnn_r50_fpn.py": {"model": _mask(_FASTER)},
    "models/faster_rcnn_r50_fpn.py": {"model": _FASTER},
    "datasets/coco_instance.py": _data("CocoDataset", (1333, 800)),
    "datasets/coco_detection.py": _data("CocoDataset", (1333, 800)),
    "datasets/coco_panoptic.py": _data("CocoPanopticDataset", (1333, 800)),
    "datasets/cityscapes_instance.py": _data("CityscapesDataset", (2048, 1024)),
    "datasets/cityscapes_detection.py": _data("CityscapesDataset", (2048, 1024)),
    "datasets/lvis_v0.5_instance.py": _data("LVISV05Dataset", (1333, 800)),
    "datasets/lvis_v1_instance.py": _data("LVISV1Dataset", (1333, 800)),
    "schedules/schedule_1x.py": {},
    "schedules/schedule_2x.py": {},
    "schedules/schedule_20e.py": {},
    "default_runtime.py": {},
}


def known_base(path: str) -> dict[str, Any] | None:
    """Return what a file of MMDetection's ``configs/_base_`` sets for a detector; None for other paths.

    Example:
        >>> known_base("../_base_/models/mask-rcnn_r50_fpn.py")["model"]["type"]
        'MaskRCNN'
    """
    _, found, name = path.replace("\\", "/").rpartition("_base_/")
    return copy.deepcopy(_FILES.get(name)) if found else None
