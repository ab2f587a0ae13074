"""Record a narrow torchvision KeypointRCNN: its functions, its head, its detections, losses and gradients.

Usage: python tests/goldens/record_torchvision_keypoints.py    (needs torch and torchvision; the tests do not)
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from record_torchvision_model import LowestFirst
from record_torchvision_stages import ANCHOR_SIZES, CHANNELS, HIDDEN, WIDTH, Narrow
from seeded_weights import (
    DECODED_BOXES,
    sampled,
    seeded_heatmaps,
    seeded_keypoint_weight,
    seeded_keypoints,
    seeded_projection,
    seeded_scene,
)
from torchvision.models.detection import KeypointRCNN, roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.ops.misc import FrozenBatchNorm2d

KEYPOINTS, CONVS, DIM = 5, 3, 24
# Height, width, boxes in the order of x1. The third image has no objects.
SCENES = [
    (130, 160, [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 160, 130)]),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7)]),
    (97, 105, []),
]
SETTINGS = dict(
    min_size=224, max_size=288, rpn_pre_nms_top_n_train=70, rpn_post_nms_top_n_train=150,
    rpn_batch_size_per_image=64, box_batch_size_per_image=160, box_positive_fraction=0.25,
    rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=100, box_detections_per_img=10,
)  # fmt: skip


def build():
    resnet = Narrow(functools.partial(FrozenBatchNorm2d, eps=0.0))
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    model = KeypointRCNN(
        BackboneWithFPN(resnet, stages, [4 * WIDTH * 2**i for i in range(4)], CHANNELS),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, 2),
        keypoint_head=KeypointRCNNHeads(CHANNELS, [DIM] * CONVS),
        keypoint_predictor=KeypointRCNNPredictor(DIM, KEYPOINTS),
        **SETTINGS,
    )
    state = model.state_dict()
    model.load_state_dict({
        k: torch.from_numpy(seeded_keypoint_weight(k, tuple(v.shape), "torchvision"))
        for k, v in state.items()
    })  # fmt: skip
    model.rpn.fg_bg_sampler = LowestFirst(model.rpn.fg_bg_sampler)
    model.roi_heads.fg_bg_sampler = LowestFirst(model.roi_heads.fg_bg_sampler)
    return model


def functions():
    """Decoded heat-maps, and the cells of keypoints in regions."""
    boxes = torch.tensor(DECODED_BOXES, dtype=torch.float32)
    maps = torch.from_numpy(seeded_heatmaps(len(boxes), 17))
    points, scores = roi_heads.heatmaps_to_keypoints(maps, boxes)
    keypoints = torch.from_numpy(seeded_keypoints(boxes.numpy(), 17))
    keypoints[0, 0] = torch.tensor([210.0, 120.0, 1.0])  # on the right and the lower edge
    cells, inside = roi_heads.keypoints_to_heatmap(keypoints, boxes, 56)
    return {
        "decoded": np.concatenate([points[..., :2].numpy(), scores[..., None].numpy()], 2),
        "cells": cells.numpy().astype(np.int32),
        "inside": inside.numpy().astype(bool),
    }


def main():
    model = build()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()} | functions()
    regions = torch.from_numpy(seeded_projection("regions", (4, CHANNELS, 14, 14)))
    heads = model.roi_heads
    with torch.no_grad():
        logits = heads.keypoint_predictor(heads.keypoint_head(regions))
    golden["head"] = sampled("head", logits.numpy(), 5000)

    scenes = [seeded_scene(*scene) for scene in SCENES]
    images = [torch.from_numpy(s["image"]).permute(2, 0, 1).float() / 255 for s in scenes]
    targets = [
        {
            "boxes": torch.from_numpy(s["boxes"]),
            "labels": torch.ones(len(s["boxes"]), dtype=torch.int64),
            "keypoints": torch.from_numpy(seeded_keypoints(s["boxes"], KEYPOINTS)),
        }
        for s in scenes
    ]
    values = model.train()(images, targets)
    sum(values.values()).backward()
    golden |= {f"losses/{name}": np.float64(value.detach()) for name, value in values.items()}
    print({k: float(v.detach()) for k, v in values.items()})
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        golden[f"gradient/{name}"] = np.append(sampled(name, gradient.numpy(), 100), gradient.double().norm())
    with torch.no_grad():
        for i, out in enumerate(model.eval()(images)):
            print(i, len(out["boxes"]), out["scores"][:3].numpy(), out["keypoints_scores"][:2].numpy())
            golden[f"found/{i}/boxes"] = out["boxes"].numpy()
            golden[f"found/{i}/scores"] = out["scores"].numpy()
            golden[f"found/{i}/keypoints"] = np.concatenate(
                [out["keypoints"][..., :2].numpy(), out["keypoints_scores"][..., None].numpy()], 2
            )
    path = Path(__file__).with_name("torchvision_keypoints.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
