"""Records Detectron2's federated loss, its sigmoid scores, and both libraries' repeat factors.

Writes federated.npz. Needs torch, detectron2 and mmengine (0.10). Run from the root of the repository:
``python tests/goldens/record_federated.py``.
"""

from pathlib import Path

import numpy as np
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from mmengine.dataset import BaseDataset, ClassBalancedDataset

HERE = Path(__file__).parent
CLASSES, REGIONS, WANTED = 30, 24, 12
DRAWS = 20000
THRESHOLD = 0.2


def head(counts, *, federated=True):
    return FastRCNNOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=CLASSES,
        test_score_thresh=0.3,
        use_sigmoid_ce=True,
        use_fed_loss=federated,
        fed_loss_num_classes=WANTED,
        get_fed_loss_cls_weights=lambda: torch.tensor(counts, dtype=torch.float32) ** 0.5,
    )


def record_losses(out, rng, counts):
    """Loss and gradient, with the classes that counted; the last case has more classes than are wanted."""
    labels = [rng.choice([0, 3, 4, 9, CLASSES], REGIONS), np.full(REGIONS, CLASSES), np.arange(REGIONS) % 20]
    for case, own in enumerate(labels):
        for federated in (True, False):
            layers, chosen = head(counts, federated=federated), []
            original = layers.get_fed_loss_classes

            def remembering(*args, original=original, chosen=chosen, **kwargs):
                chosen.append(original(*args, **kwargs))
                return chosen[-1]

            layers.get_fed_loss_classes = remembering
            logits = torch.tensor(rng.normal(size=(REGIONS, CLASSES + 1)) * 3, dtype=torch.float32)
            logits.requires_grad_()
            loss = layers.sigmoid_cross_entropy_loss(logits, torch.tensor(own))
            loss.backward()
            name = f"{'federated' if federated else 'all'}_{case}"
            out[f"{name}_labels"], out[f"{name}_logits"] = own, logits.detach().numpy()
            out[f"{name}_loss"], out[f"{name}_gradient"] = loss.detach().numpy(), logits.grad.numpy()
            if federated:
                out[f"{name}_classes"] = np.sort(chosen[0].numpy())


def record_draws(out, counts):
    """How often each class counts, where the labels are 3, 9 and the background."""
    layers, labels = head(counts), torch.tensor([3, 9, CLASSES, CLASSES])
    times, both = np.zeros(CLASSES + 1, int), 0
    for _ in range(DRAWS):
        drawn = layers.get_fed_loss_classes(labels, WANTED, CLASSES, layers.fed_loss_cls_weights).numpy()
        times[drawn] += 1
        both += {0, 1} <= set(drawn.tolist())
    out["times"], out["both"], out["draws"] = times, np.array(both), np.array(DRAWS)


def record_detections(out, rng, counts):
    """Scores are sigmoids, the last channel is left out."""
    proposals = Instances((200, 200))
    corners = rng.uniform(0, 100, (REGIONS, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 90, (REGIONS, 2))], 1).astype(np.float32)
    proposals.proposal_boxes = Boxes(torch.tensor(boxes))
    logits = torch.tensor(rng.normal(size=(REGIONS, CLASSES + 1)) - 1.5, dtype=torch.float32)
    deltas = torch.tensor(rng.normal(size=(REGIONS, CLASSES * 4)), dtype=torch.float32)
    (found,), _ = head(counts).inference((logits, deltas), [proposals])
    out |= {"proposals": boxes, "logits": logits.numpy(), "deltas": deltas.numpy()}
    out |= {"boxes": found.pred_boxes.tensor.numpy(), "scores": found.scores.numpy()}
    out["classes"] = found.pred_classes.numpy()


class Images(BaseDataset):
    """Classes of images, in the form that ClassBalancedDataset takes."""

    def __init__(self, lists):
        self.lists = lists
        super().__init__(lazy_init=True)

    def __len__(self):
        return len(self.lists)

    def get_cat_ids(self, index):
        return self.lists[index]

    def full_init(self):
        pass


def record_repeats(out, rng):
    shares = 1 / np.arange(1, 15) ** 1.5
    lists = [np.flatnonzero(rng.random(14) < shares).tolist() for _ in range(150)]
    dicts = [{"annotations": [{"category_id": k} for k in own]} for own in lists]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, THRESHOLD)
    balanced = ClassBalancedDataset(Images(lists), THRESHOLD)
    out["pairs"] = np.array([(image, k) for image, own in enumerate(lists) for k in own])
    out["factors"], out["repeated"] = factors.numpy(), np.bincount(balanced.repeat_indices, minlength=150)


def main():
    torch.manual_seed(0)
    rng, out = np.random.default_rng(0), {}
    counts = np.round(1000 / np.arange(1, CLASSES + 1) ** 1.2).astype(int)
    out["counts"], out["wanted"] = counts, np.array(WANTED)
    record_losses(out, rng, counts)
    record_draws(out, counts)
    record_detections(out, rng, counts)
    record_repeats(out, rng)
    np.savez_compressed(HERE / "federated.npz", **out)


if __name__ == "__main__":
    main()
