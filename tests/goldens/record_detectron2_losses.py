"""Record the training of a small Detectron2 detector: losses, gradients, and twenty steps of SGD.

Usage: python tests/goldens/record_detectron2_losses.py    (needs torch and detectron2; the tests do not)

Annotations go through Detectron2's own transforms, and the steps are its own optimizer's. Its random sampler
is replaced by one that takes the lowest indices first.

In the steps the stem and the first stage are frozen, as in Detectron2's recipes: images have values up to 150
here and the stem's weights are small, so that SGD turns the stem over while other layers hardly move. With
the stem trained, noise of 3e-5 grey levels changed single losses by 1 to 30 % within twenty steps, at
rates from 2^-18 to 2^-12. At a rate of 2^-14 noise of 1e-5 on the gradients still does, by 1 %. The
script stops where such noise, on images and gradients, changes a loss by more than 1e-4.
"""

import copy
import json
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data.detection_utils import annotations_to_instances, transform_instance_annotations
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import roi_heads
from detectron2.solver import build_optimizer
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from record_detectron2_model import COMMON
from seeded_weights import sampled, seeded_detectron2_weight, seeded_polygons, seeded_scene

# Height, width, boxes in the order of x1, as the library sorts them: the network sees 158 x 199 and
# 200 x 148 pixels.
SCENES = [
    (
        130, 164,
        [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 164, 130), (134, 5, 151, 16)],
    ),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7), (130, 90, 214.6, 150)]),
]  # fmt: skip
FREEZE_AT, RATE, WEIGHT_DECAY, STEPS = 2, 2.0**-16, 0.01, 20  # of the steps
SETTINGS = COMMON | {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.FPN.NORM": "GN",  # a norm layer with parameters, which the weight decay leaves out
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 150,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    # All proposals: where a quota ended among them, their order by score would decide over the steps.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 160,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "INPUT.MIN_SIZE_TEST": 158,
    "INPUT.MAX_SIZE_TEST": 200,
    "SOLVER.BASE_LR": RATE,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": WEIGHT_DECAY,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
}
# This library's names of the losses, in its order.
LOSSES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_loc": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg", "loss_mask": "loss_mask",
}  # fmt: skip


def name_of(loss):
    """This library's name of a loss; those of a cascade's box stages end in _stage0 to _stage2 in both."""
    name, separator, stage = loss.partition("_stage")
    return LOSSES[name] + separator + stage


def lowest_first(labels, num_samples, positive_fraction, bg_label):
    """Stands in for Detectron2's `subsample_labels`."""
    positive = torch.where((labels != -1) & (labels != bg_label))[0]
    negative = torch.where(labels == bg_label)[0]
    positive = positive[: int(num_samples * positive_fraction)]
    return positive, negative[: num_samples - len(positive)]


rpn.subsample_labels = roi_heads.subsample_labels = lowest_first


def build(**changes):
    cfg = get_cfg()
    for key, value in (SETTINGS | changes).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)
    state = model.state_dict()
    weights = {
        name: torch.from_numpy(seeded_detectron2_weight(name, tuple(v.shape))) for name, v in state.items()
    }
    assert not set(model.load_state_dict(weights, strict=False).unexpected_keys)
    return cfg, model.train()


def inputs_of(cfg, scenes):
    """What Detectron2's DatasetMapper gives a model in training."""
    inputs = []
    for scene in scenes:
        resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        image = np.ascontiguousarray(scene["image"][:, :, ::-1])
        transform = resize.get_transform(image)
        image = transform.apply_image(image)
        annotations = [
            {
                "bbox": box.tolist(),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": label,
                "segmentation": polygons,
            }
            for box, label, polygons in zip(
                scene["boxes"], scene["labels"], seeded_polygons(scene["boxes"]), strict=True
            )
        ]
        annotations = [transform_instance_annotations(a, [transform], image.shape[:2]) for a in annotations]
        instances = annotations_to_instances(annotations, image.shape[:2])
        tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
        inputs.append({"image": tensor, "instances": instances})
    return inputs


def losses_of(model, inputs):
    """The five losses by this library's names, and each parameter's gradient of their sum."""
    model.zero_grad()
    with EventStorage():
        values = model(inputs)
    sum(values.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters()}
    return {name_of(k): float(v.detach()) for k, v in values.items()}, gradients


def twenty_steps(cfg, model, inputs, noise=0.0, generator=None):
    """The losses [20, 5] before each step, and how far each parameter has come; ``noise`` on gradients."""
    optimizer = build_optimizer(cfg, model)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    curve = []
    for _ in range(STEPS):
        values, _ = losses_of(model, inputs)
        curve.append([values[name] for name in LOSSES.values()])
        for p in model.parameters() if noise else ():
            if p.grad is not None:
                p.grad *= 1 + noise * torch.randn(p.grad.shape, generator=generator)
        optimizer.step()
    return np.array(curve), {
        k: float((p.detach() - before[k]).double().norm()) for k, p in model.named_parameters()
    }


def main():
    cfg, model = build()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "settings": json.dumps(SETTINGS),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    scenes = [seeded_scene(*scene) for scene in SCENES]
    empty = seeded_scene(*SCENES[1][:2], []) | {"image": scenes[1]["image"]}
    cases = {"objects": inputs_of(cfg, scenes), "one_empty": inputs_of(cfg, [scenes[0], empty])}
    for case, inputs in cases.items():
        values, gradients = losses_of(model, inputs)
        print(case, [tuple(x["image"].shape[1:]) for x in inputs], values)
        golden |= {f"{case}/{name}": np.float64(value) for name, value in values.items()}
        for name, gradient in gradients.items():
            norm = gradient.double().norm()
            golden[f"{case}/gradient/{name}"] = np.append(sampled(name, gradient.numpy(), 100), norm)
            if not norm:
                print("   zero gradient", name)
    cfg, model = build(**{"MODEL.BACKBONE.FREEZE_AT": FREEZE_AT})
    curve, moved = twenty_steps(cfg, copy.deepcopy(model), cases["objects"])
    golden["curve"], golden["moved"] = curve, np.array([moved[k] for k in gradients])
    golden["steps"] = np.array(
        json.dumps({"freeze_at": FREEZE_AT, "rate": RATE, "weight_decay": WEIGHT_DECAY})
    )
    print(curve.round(4)[::4])

    # How far the curve hangs on rounding errors.
    generator = torch.Generator().manual_seed(0)
    for x in cases["objects"]:
        x["image"] = x["image"] + 3e-5 * torch.randn(x["image"].shape, generator=generator)
    other, others = twenty_steps(cfg, copy.deepcopy(model), cases["objects"], 1e-5, generator)
    print("a small change of images and gradients changes the losses by", np.abs(other / curve - 1).max(0))
    print("and the steps by", max(abs(others[k] / moved[k] - 1) for k in moved if moved[k]))
    assert np.abs(other / curve - 1).max() < 1e-4

    path = Path(__file__).with_name("detectron2_losses.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
