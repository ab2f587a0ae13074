"""Record a whole torchvision MaskRCNN, stage by stage, with weights made from their names.

Usage: python tests/goldens/record_torchvision_model.py    (needs torch and torchvision; the tests do not)
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from seeded_weights import sampled, seeded_detector_weight, seeded_scene
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.misc import FrozenBatchNorm2d

# Height, width, boxes. The network sees 224 x 275 and 288 x 213 pixels on a canvas of 288 x 288, nine
# times 32: the five cells of P6 are 57 pixels apart, not 64. Objects of all sizes, some at the lower and
# right border, in the order of x1 (the library sorts them so; where sampling ends depends on the order).
SCENES = [
    (
        130, 160,
        [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 160, 130), (134, 5, 151, 16)],
    ),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7), (130, 90, 214.6, 150)]),
]  # fmt: skip
SETTINGS = dict(
    min_size=224, max_size=288,
    rpn_pre_nms_top_n_train=70, rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_train=150,
    rpn_post_nms_top_n_test=180, rpn_batch_size_per_image=64, box_batch_size_per_image=200,
    box_positive_fraction=0.04, box_detections_per_img=40,
)  # fmt: skip
CHANNELS, HIDDEN, CLASSES = 32, 32, 4  # of the pyramid, of the heads, with the background
ANCHOR_SIZES = (16, 32, 64, 128, 256)


class LowestFirst:
    """Stands in for a random sampler: of each kind, the lowest indices."""

    def __init__(self, sampler):
        self.batch = sampler.batch_size_per_image
        self.positives = int(sampler.batch_size_per_image * sampler.positive_fraction)

    def __call__(self, matched):
        positive = [torch.where(m >= 1)[0][: self.positives] for m in matched]
        negative = [
            torch.where(m == 0)[0][: self.batch - len(p)] for m, p in zip(matched, positive, strict=True)
        ]
        print("sampled", [(len(p), len(n)) for p, n in zip(positive, negative, strict=True)])
        return tuple(
            [torch.isin(torch.arange(len(m)), chosen) for m, chosen in zip(matched, kind, strict=True)]
            for kind in (positive, negative)
        )


def build():
    resnet = torchvision.models.resnet18(
        weights=None, norm_layer=functools.partial(FrozenBatchNorm2d, eps=0.0)
    )
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    model = MaskRCNN(
        BackboneWithFPN(resnet, stages, [64, 128, 256, 512], CHANNELS),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, CLASSES),
        mask_head=MaskRCNNHeads(CHANNELS, (HIDDEN, HIDDEN), 1),
        mask_predictor=MaskRCNNPredictor(HIDDEN, HIDDEN, CLASSES),
        **SETTINGS,
    )
    state = model.state_dict()
    model.load_state_dict(
        {k: torch.from_numpy(seeded_detector_weight(k, tuple(v.shape))) for k, v in state.items()}
    )
    model.rpn.fg_bg_sampler = LowestFirst(model.rpn.fg_bg_sampler)
    model.roi_heads.fg_bg_sampler = LowestFirst(model.roi_heads.fg_bg_sampler)
    return model


def predict(model, images):
    """What the parts put out at test time, by hooks; NHWC, anchors in the order row, column, ratio."""
    seen, hooks = {}, []
    parts = {
        "transform": model.transform, "features": model.backbone, "head": model.rpn.head,
        "anchors": model.rpn.anchor_generator, "rpn": model.rpn, "box": model.roi_heads.box_predictor,
    }  # fmt: skip
    for name, part in parts.items():
        hook = functools.partial(lambda name, part, inputs, output: seen.update({name: output}), name)
        hooks.append(part.register_forward_hook(hook))
    with torch.no_grad():
        detections = model.eval()(images)
    for hook in hooks:
        hook.remove()

    def per_anchor(maps, values):  # [B, A * values, h, w] of each level -> [B, N, values]
        maps = [m.permute(0, 2, 3, 1).reshape(len(m), -1, values) for m in maps]
        return torch.cat(maps, dim=1).numpy()

    inputs = seen["transform"][0]
    stages = {"input": inputs.tensors.permute(0, 2, 3, 1).numpy()}
    for i, level in enumerate(seen["features"].values()):
        stages[f"P{i + 2}"] = level.permute(0, 2, 3, 1).numpy()
    stages["objectness"], stages["deltas"] = (
        per_anchor(seen["head"][0], 1)[..., 0],
        per_anchor(seen["head"][1], 4),
    )
    proposals = [p.numpy() for p in seen["rpn"][0]]
    detections = [{k: v.numpy() for k, v in d.items()} for d in detections]
    boxes = [v.split([len(p) for p in proposals]) for v in seen["box"]]
    logits, deltas = ([v.numpy() for v in values] for values in boxes)
    return stages, inputs.image_sizes, seen["anchors"][0].numpy(), proposals, logits, deltas, detections


def losses(model, images, scenes):
    """The five losses, and each parameter's gradient of their sum."""
    dtype = images[0].dtype
    targets = [
        {
            "boxes": torch.from_numpy(s["boxes"]).to(dtype),
            "labels": torch.from_numpy(s["labels"]) + 1,
            "masks": torch.from_numpy(s["masks"]).to(torch.uint8),
        }
        for s in scenes
    ]
    model.train().zero_grad()
    values = model(images, targets)
    sum(values.values()).backward()
    gradients = {k: p.grad.numpy() for k, p in model.named_parameters()}
    return {k: float(v.detach()) for k, v in values.items()}, gradients


def main():
    scenes = [seeded_scene(*scene) for scene in SCENES]
    images = [torch.from_numpy(s["image"]).permute(2, 0, 1).float() / 255 for s in scenes]
    model = build()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "settings": json.dumps(SETTINGS),
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()}

    stages, sizes, anchors, proposals, logits, deltas, detections = predict(model, images)
    golden["image_sizes"] = np.array(sizes)
    for name, values in stages.items():
        golden[f"{name}/shape"] = np.array(values.shape)
        golden[f"{name}/values"] = sampled(name, values, 400)
        print(name, values.shape, "rms", np.sqrt(np.mean(values**2)), "largest", np.abs(values).max())
    golden["anchors"] = np.concatenate([anchors[:12], anchors[-12:]])
    for i, found in enumerate(detections):
        golden[f"{i}/proposals"] = proposals[i]
        golden[f"{i}/logits"], golden[f"{i}/box_deltas"] = logits[i][:20], deltas[i][:20]
        for key in ("boxes", "scores", "labels"):
            golden[f"{i}/{key}"] = found[key]
        masks = found["masks"][:5, 0]
        # Most of an image is zero; half of the places are where a mask is not.
        inside = np.flatnonzero(masks)
        rng = np.random.RandomState(i)
        place = np.concatenate([rng.choice(inside, 500), rng.randint(masks.size, size=500)]).astype(np.int32)
        golden[f"{i}/mask_index"], golden[f"{i}/mask_values"] = place, masks.ravel()[place]
        print(
            i,
            len(proposals[i]),
            "proposals",
            len(found["scores"]),
            "detections",
            found["labels"],
            found["scores"],
        )
        print("   logits", logits[i].std(0), "deltas", deltas[i].std(), "masks", masks.ravel()[inside].std())

    empty = seeded_scene(*SCENES[1][:2], [])
    cases = {"objects": scenes, "one_empty": [scenes[0], empty]}
    for case, targets in cases.items():
        values, gradients = losses(model, images, targets)
        print(case, values)
        for name, value in values.items():
            golden[f"{case}/{name}"] = np.float32(value)
        for name, gradient in gradients.items():
            golden[f"{case}/gradient/{name}"] = np.append(
                sampled(name, gradient, 20), np.linalg.norm(gradient.astype(np.float64))
            ).astype(np.float32)
        print("   zero gradients", [k for k, g in gradients.items() if not g.any()])

    # Nothing recorded may hang on a rounding error: in float64, the same decisions.
    double = predict(model.double(), [x.double() for x in images])
    for ours, theirs in zip(proposals, double[3], strict=True):
        assert np.abs(ours - theirs).max() < 1e-2
    for ours, theirs in zip(detections, double[6], strict=True):
        assert (ours["labels"] == theirs["labels"]).all() and np.abs(
            ours["boxes"] - theirs["boxes"]
        ).max() < 1e-2
    for case, targets in cases.items():
        for name, value in losses(model, [x.double() for x in images], targets)[0].items():
            assert abs(golden[f"{case}/{name}"] / value - 1) < 1e-5, (case, name)

    path = Path(__file__).with_name("torchvision_model.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
