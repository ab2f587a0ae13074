"""Record a small Detectron2 detector with masks and keypoints: head, detections, losses and gradients.

Usage: python tests/goldens/record_detectron2_keypoints.py    (needs torch and detectron2; the tests do not)
"""

import json
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data.detection_utils import annotations_to_instances, transform_instance_annotations
from detectron2.data.transforms import HFlipTransform, ResizeShortestEdge, TransformList
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import roi_heads
from detectron2.structures import BoxMode, Keypoints
from detectron2.structures.keypoints import heatmaps_to_keypoints
from detectron2.utils.events import EventStorage
from record_detectron2_losses import lowest_first
from record_detectron2_model import COMMON
from seeded_weights import (
    DECODED_BOXES,
    sampled,
    seeded_heatmaps,
    seeded_keypoint_weight,
    seeded_keypoints,
    seeded_polygons,
    seeded_projection,
    seeded_scene,
)

KEYPOINTS, CONVS, DIM = 5, 3, 24
# Which keypoints change places in a mirrored image.
FLIPS = (0, 2, 1, 4, 3)
SCENES = [
    (130, 164, [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 164, 130)]),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7)]),
]
SETTINGS = COMMON | {
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": KEYPOINTS,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [DIM] * CONVS,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 150,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 160,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "TEST.DETECTIONS_PER_IMAGE": 10,
    "INPUT.MIN_SIZE_TEST": 158,
    "INPUT.MAX_SIZE_TEST": 200,
}
# The loss divided by a constant, with its weight, as the library's comment on it says.
CONSTANT = {
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
    "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT": 4.0,
}
LOSSES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_loc": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg", "loss_mask": "loss_mask", "loss_keypoint": "loss_keypoint",
}  # fmt: skip
rpn.subsample_labels = roi_heads.subsample_labels = lowest_first


def build(**changes):
    cfg = get_cfg()
    for key, value in (SETTINGS | changes).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)
    weights = {
        name: torch.from_numpy(seeded_keypoint_weight(name, tuple(v.shape), "detectron2"))
        for name, v in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return cfg, model


def inputs_of(cfg, scenes, flip=False):
    """What Detectron2's DatasetMapper gives a model in training; its data set adds 0.5 to keypoints."""
    inputs = []
    for scene in scenes:
        image = np.ascontiguousarray(scene["image"][:, :, ::-1])
        resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        transforms = [resize.get_transform(image)]
        resized = transforms[0].apply_image(image)
        if flip:
            transforms.append(HFlipTransform(resized.shape[1]))
            resized = transforms[1].apply_image(resized)
        points = seeded_keypoints(scene["boxes"], KEYPOINTS) + np.float32([0.5, 0.5, 0])
        annotations = [
            {
                "bbox": box.tolist(), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0,
                "segmentation": polygons, "keypoints": own.ravel().tolist(),
            }
            for box, polygons, own in zip(
                scene["boxes"], seeded_polygons(scene["boxes"]), points, strict=True
            )
        ]  # fmt: skip
        annotations = [
            transform_instance_annotations(
                a, TransformList(transforms), resized.shape[:2], keypoint_hflip_indices=np.array(FLIPS)
            )
            for a in annotations
        ]
        tensor = torch.as_tensor(np.ascontiguousarray(resized.astype("float32").transpose(2, 0, 1)))
        instances = annotations_to_instances(annotations, resized.shape[:2])
        inputs.append({
            "image": tensor, "instances": instances,
            "height": image.shape[0], "width": image.shape[1],
        })  # fmt: skip
    return inputs


def functions():
    boxes = torch.tensor(DECODED_BOXES, dtype=torch.float32)
    found = heatmaps_to_keypoints(torch.from_numpy(seeded_heatmaps(len(boxes), 17)), boxes)
    keypoints = torch.from_numpy(seeded_keypoints(boxes.numpy(), 17))
    keypoints[0, 0] = torch.tensor([210.0, 120.0, 1.0])  # on the right and the lower edge
    cells, inside = Keypoints(keypoints).to_heatmap(boxes, 56)
    return {
        "decoded": found[..., [0, 1, 3]].numpy(),
        "cells": cells.numpy().astype(np.int32),
        "inside": inside.numpy().astype(bool),
    }


def main():
    cfg, model = build()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "yaml": cfg.dump(),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()} | functions()
    regions = torch.from_numpy(seeded_projection("regions", (4, 32, 14, 14)))
    with torch.no_grad():
        golden["head"] = sampled("head", model.roi_heads.keypoint_head.layers(regions).numpy(), 5000)
    scenes = [seeded_scene(*scene) for scene in SCENES]
    inputs = inputs_of(cfg, scenes)
    for name, given in (("targets", inputs), ("mirrored", inputs_of(cfg, scenes, flip=True))):
        for i, x in enumerate(given):
            golden[f"{name}/{i}"] = x["instances"].gt_keypoints.tensor.numpy()
    with EventStorage():
        values = model.train()(inputs)
        sum(values.values()).backward()
        constant = build(**CONSTANT)[1].train()(inputs)["loss_keypoint"]
    print({k: float(v.detach()) for k, v in values.items()}, float(constant.detach()))
    golden |= {f"losses/{LOSSES[k]}": np.float64(v.detach()) for k, v in values.items()}
    golden["constant"] = np.float64(constant.detach())
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        golden[f"gradient/{name}"] = np.append(sampled(name, gradient.numpy(), 100), gradient.double().norm())
    with torch.no_grad():
        # One by one, as ours are predicted.
        for i, x in enumerate(inputs):
            out = model.eval()([x])[0]["instances"]
            print(i, len(out), out.scores[:3].numpy(), out.pred_keypoints[:2, :, 2].numpy())
            golden[f"found/{i}/boxes"] = out.pred_boxes.tensor.numpy()
            golden[f"found/{i}/scores"] = out.scores.numpy()
            golden[f"found/{i}/keypoints"] = out.pred_keypoints.numpy()
    path = Path(__file__).with_name("detectron2_keypoints.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
