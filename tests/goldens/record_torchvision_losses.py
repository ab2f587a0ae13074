"""Record the training of a narrow torchvision MaskRCNN: losses, whole gradients, and twenty steps of SGD.

Usage: python tests/goldens/record_torchvision_losses.py    (needs torch and torchvision; the tests do not)

Nothing recorded may hang on a rounding error: the steps are recorded in float64 (behind the preprocessing,
which is float32), and the script stops where float32 or a little noise in the images gives another curve.
So the learning rate is low; at four times the rate, the sums of torchvision's own losses in float32 and
in float64 were 47 % apart.
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
RATE, MOMENTUM, WEIGHT_DECAY, STEPS = 2.0**-13, 0.9, 0.01, 20
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


def main():
    scenes = [seeded_scene(*scene) for scene in SCENES]
    images = [torch.from_numpy(s["image"]).permute(2, 0, 1).float() / 255 for s in scenes]
    targets = targets_of(scenes)
    model = build()
    values, gradients = losses_of(model, images, targets)
    curve, moved = twenty_steps(in_float64(model), images, targets)
    print(curve.round(4))

    exact, _ = losses_of(in_float64(model), images, targets)
    assert np.abs(values / exact - 1).max() < 1e-5
    noisy = [x + 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) for x in images]
    for kind, inputs in {"float32": images, "noise": noisy}.items():
        other, _ = twenty_steps(copy.deepcopy(model), inputs, targets)
        print(kind, "changes the losses by", np.abs(other / curve - 1).max(0))
        assert np.abs(other / curve - 1).max() < 1e-3

    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "settings": json.dumps(SETTINGS),
        "steps": json.dumps({"rate": RATE, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}),
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
        "losses": values,
        "curve": curve,
        "moved": list(moved.values()),
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    for name, gradient in gradients.items():
        # 11 bits a value, as far from the largest as the gradient's own; the norm is exact.
        golden[f"gradient/{name}"] = (gradient / np.abs(gradient).max()).astype(np.float16)
        golden[f"norm/{name}"] = np.linalg.norm(gradient.astype(np.float64))
    path = Path(__file__).with_name("torchvision_losses.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
