"""Record the training of a narrow torchvision MaskRCNN: losses, whole gradients, and twenty steps of SGD.

Usage: python tests/goldens/record_torchvision_losses.py    (needs torch and torchvision; the tests do not)

The losses and the gradients are float32, as people train. The steps are float64 behind the float32
preprocessing: in float32 a rounding error may decide which of two proposals NMS keeps, and after that two
runs of torchvision itself differ by more than one would like to allow. Both curves are recorded.
"""

import copy
import functools
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from record_torchvision_model import LowestFirst
from record_torchvision_stages import ANCHOR_SIZES, CHANNELS, CLASSES, HIDDEN, WIDTH, Narrow
from seeded_weights import seeded_detector_weight, seeded_scene
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.misc import FrozenBatchNorm2d

# Height, width, boxes in the order of x1, as the library sorts them. The network sees 224 x 275, 288 x 213
# and 223 x 242 pixels on a canvas of 288 x 288. The third image has no objects.
SCENES = [
    (
        130, 160,
        [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 160, 130), (134, 5, 151, 16)],
    ),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7), (130, 90, 214.6, 150)]),
    (97, 105, []),
]  # fmt: skip
SETTINGS = dict(
    min_size=224, max_size=288, rpn_pre_nms_top_n_train=70, rpn_post_nms_top_n_train=150,
    rpn_batch_size_per_image=64, box_batch_size_per_image=160, box_positive_fraction=0.25,
)  # fmt: skip
# A power of two: the same number in float32 and in float64.
RATE, MOMENTUM, WEIGHT_DECAY, STEPS = 2.0**-11, 0.9, 0.01, 20
# This library's order.
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")


def build():
    resnet = Narrow(functools.partial(FrozenBatchNorm2d, eps=0.0))
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    model = MaskRCNN(
        BackboneWithFPN(resnet, stages, [4 * WIDTH * 2**i for i in range(4)], CHANNELS),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, CLASSES),
        mask_head=MaskRCNNHeads(CHANNELS, [CHANNELS] * 2, 1),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, CLASSES),
        **SETTINGS,
    )
    state = model.state_dict()
    model.load_state_dict(
        {k: torch.from_numpy(seeded_detector_weight(k, tuple(v.shape))) for k, v in state.items()}
    )
    model.rpn.fg_bg_sampler = LowestFirst(model.rpn.fg_bg_sampler)
    model.roi_heads.fg_bg_sampler = LowestFirst(model.roi_heads.fg_bg_sampler)
    return model.train()


def in_float64(model):
    """The model in float64, behind the float32 preprocessing."""

    def widen(module, inputs, outputs):
        images, targets = outputs
        images.tensors = images.tensors.double()
        return images, [t | {"boxes": t["boxes"].double()} for t in targets]

    double = copy.deepcopy(model).double()
    double.transform.register_forward_hook(widen)
    return double


def targets_of(scenes):
    return [
        {
            "boxes": torch.from_numpy(s["boxes"]),
            "labels": torch.from_numpy(s["labels"]) + 1,
            "masks": torch.from_numpy(s["masks"]).to(torch.uint8),
        }
        for s in scenes
    ]


def losses_of(model, images, targets):
    """The five losses in this library's order, and each parameter's gradient of their sum."""
    model.zero_grad()
    values = model(images, targets)
    sum(values.values()).backward()
    gradients = {k: p.grad.numpy() for k, p in model.named_parameters()}
    return np.array([float(values[name].detach()) for name in LOSSES]), gradients


def twenty_steps(model, images, targets):
    """The losses [20, 5] before each step, and how far each parameter has come."""
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    curve = []
    for _ in range(STEPS):
        curve.append(losses_of(model, images, targets)[0])
        optimizer.step()
    moved = {k: float((p.detach() - before[k]).double().norm()) for k, p in model.named_parameters()}
    return np.array(curve), moved
