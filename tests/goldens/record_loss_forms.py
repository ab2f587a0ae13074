"""Records losses of torch, torchvision, MMDetection and SciPy's distances, with their gradients.

Writes loss_forms.npz. Needs torch, torchvision, mmdet (3.3) and scipy. Run from the root of the repository:
``python tests/goldens/record_loss_forms.py``.
"""

import importlib.machinery
import sys
import types
from pathlib import Path
from unittest import mock

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, sigmoid_focal_loss


class NoOperators(types.ModuleType):
    """In the place of ``mmcv._ext``, which mmcv-lite does not have; nothing here calls its operators."""

    __spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


sys.modules["mmcv._ext"] = NoOperators("mmcv._ext")
mmcv.__version__ = "2.1.0"  # MMDetection 3.3.0 refuses 2.2.0 by its number alone

from mmdet.models.losses import DiceLoss  # noqa: E402
from mmdet.models.losses.gfocal_loss import quality_focal_loss  # noqa: E402
from mmdet.models.losses.iou_loss import ciou_loss, diou_loss  # noqa: E402
from mmdet.models.task_modules.samplers import OHEMSampler  # noqa: E402

CLASSES, REGIONS, SIDE = 5, 40, 14


def with_gradient(out, name, values, loss):
    """A loss of each region, and the gradient of their sum."""
    leaf = torch.tensor(values, requires_grad=True)
    found = loss(leaf)
    found.sum().backward()
    out[name], out[f"{name}_gradient"] = found.detach().numpy(), leaf.grad.numpy()


def record_classes(out, rng):
    logits = (3 * rng.normal(size=(REGIONS, CLASSES + 1))).astype(np.float32)
    labels = rng.integers(0, CLASSES + 1, REGIONS)  # the last is the background
    weights = np.array([0.5, 2.0, 1.0, 0.0, 3.0, 0.25], np.float32)
    quality = rng.random(REGIONS).astype(np.float32)
    out |= {"logits": logits, "labels": labels, "weights": weights, "quality": quality}
    target, weight = torch.tensor(labels), torch.tensor(weights)
    hot = F.one_hot(target, CLASSES + 1)[:, :CLASSES].float()

    def focal(x, weight=None):
        entropy = F.cross_entropy(x, target, reduction="none")
        scale = 1.0 if weight is None else weight[target]
        return scale * (1 - torch.exp(-entropy)) ** 1.5 * entropy

    def weighted_sigmoid(x):
        return F.binary_cross_entropy_with_logits(
            x[:, :CLASSES], hot, pos_weight=weight[:CLASSES], reduction="none"
        ).sum(1)

    def sigmoid_focal(x):
        return sigmoid_focal_loss(x[:, :CLASSES], hot, alpha=0.3, gamma=1.5, reduction="none").sum(1)

    def quality_focal(x):
        score = torch.tensor(quality) * (target < CLASSES)
        return quality_focal_loss(x[:, :CLASSES], (target, score), beta=1.5, reduction="none")

    cases = {
        "weighted": lambda x: F.cross_entropy(x, target, weight=weight, reduction="none"),
        "smoothed": lambda x: F.cross_entropy(x, target, label_smoothing=0.1, reduction="none"),
        "weighted_smoothed": lambda x: F.cross_entropy(
            x, target, weight=weight, label_smoothing=0.1, reduction="none"
        ),
        "focal": focal,
        "weighted_focal": lambda x: focal(x, weight),
        "sigmoid_weighted": weighted_sigmoid,
        "sigmoid_focal": sigmoid_focal,
        "quality_focal": quality_focal,
    }
    for name, loss in cases.items():
        with_gradient(out, name, logits, loss)


def record_boxes(out, rng):
    corner = rng.uniform(0, 60, (REGIONS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 40, (REGIONS, 2))], 1).astype(np.float32)
    objects = boxes + rng.normal(size=boxes.shape).astype(np.float32) * rng.choice([0.5, 4.0], (REGIONS, 1))
    objects[:, 2:] = np.maximum(objects[:, 2:], objects[:, :2] + 1)
    objects[:4] += 200  # far away
    objects = objects.astype(np.float32)
    out |= {"boxes": boxes, "objects": objects}
    other = torch.tensor(objects)
    with_gradient(out, "diou", boxes, lambda x: distance_box_iou_loss(x, other))
    with_gradient(out, "ciou", boxes, lambda x: complete_box_iou_loss(x, other))
    with_gradient(out, "mmdet_diou", boxes, lambda x: diou_loss(x, other, reduction="none"))
    with_gradient(out, "mmdet_ciou", boxes, lambda x: ciou_loss(x, other, reduction="none"))


def record_masks(out, rng):
    logits = (3 * rng.normal(size=(6, SIDE, SIDE))).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE]
    discs = [(y - a) ** 2 + (x - b) ** 2 < r**2 for a, b, r in ((7, 6, 4), (2, 11, 5), (13, 0, 3))]
    masks = np.stack([*discs, rng.random((SIDE, SIDE)) < 0.5, np.zeros((SIDE, SIDE), bool), y >= 0])
    out |= {"mask_logits": logits, "masks": masks}
    soft = rng.random(masks.shape).astype(np.float32) * masks
    out["soft_masks"] = soft
    loss = DiceLoss(reduction="none")
    with_gradient(out, "dice", logits, lambda x: loss(x, torch.tensor(soft)))
    # The signed distances of Kervadec et al.: outer cells to the mask, inner ones to its outside, less 1.
    distances = np.zeros(masks.shape)
    for distance, mask in zip(distances, masks, strict=True):
        if mask.any() and not mask.all():
            distance[:] = distance_transform_edt(~mask) * ~mask - (distance_transform_edt(mask) - 1) * mask
    out["distances"] = distances
    with_gradient(out, "boundary", logits, lambda x: (x.sigmoid() * torch.tensor(distances)).mean(dim=(1, 2)))


def record_hard(out, rng):
    """Which of some candidates MMDetection's sampler takes, for given losses."""
    count, number = 60, 16
    positive = rng.random(count) < 0.3
    losses = rng.random(count).astype(np.float32)
    sampler = OHEMSampler(num=number, pos_fraction=0.25, context=mock.Mock(spec=["bbox_head"]))

    def mining(inds, wanted, *_):
        return inds[torch.tensor(losses)[inds].topk(wanted)[1]]

    sampler.hard_mining, sampler.bbox_head.num_classes = mining, 1
    result = mock.Mock(gt_inds=torch.tensor(positive.astype(int)), labels=torch.zeros(count))
    boxes = torch.zeros(count, 4)
    chosen = sampler._sample_pos(result, int(number * 0.25), bboxes=boxes)
    background = sampler._sample_neg(result, number - len(chosen), bboxes=boxes)
    out |= {"hard_positive": positive, "hard_losses": losses}
    out |= {"hard_chosen": chosen.numpy(), "hard_background": background.numpy()}


def main():
    rng, out = np.random.default_rng(0), {}
    for record in (record_classes, record_boxes, record_masks, record_hard):
        record(out, rng)
    np.savez_compressed(Path(__file__).with_name("loss_forms.npz"), **out)


if __name__ == "__main__":
    main()
