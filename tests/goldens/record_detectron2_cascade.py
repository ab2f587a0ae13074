"""Record a small Detectron2 cascade: every stage of its prediction, its losses and their gradients.

Usage: python tests/goldens/record_detectron2_cascade.py    (needs torch and detectron2; the tests do not)

The settings are those of the zoo's cascade_mask_rcnn_R_50_FPN, narrow, on a ResNet-18, with weights made from
their names. What the cascade gets is recorded: feature maps, which are rounded to half precision, and the
images' sizes, so that the tests need no backbone. "train/" has losses and gradients of the whole model, from
the images, "heads/" those of all parts behind the rounded feature maps, with the maps' own gradients.

Images have their size in the network, so nothing is resized. In training every proposal is a region of the
first stage: where a quota ended among them, their order by score would decide. How Detectron2 is installed
is described in `record_detectron2_c4.py`.
"""

import copy
import json
from pathlib import Path

import detectron2
import numpy as np
import record_detectron2_losses as losses
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from record_detectron2_model import COMMON, inputs_of, nhwc
from seeded_weights import sampled, seeded_detectron2_cascade_weight, seeded_scene

# Height, width, boxes in the order of x1. The batch's canvas is 128 x 128.
SCENES = [
    (
        96, 128,
        [(0, 20.5, 41, 60), (2, 1, 120, 95), (45.5, 30, 85, 91.2), (90, 44, 128, 96), (100, 5, 117, 16)],
    ),
    (128, 96, [(5, 33, 60, 90), (31, 11, 50, 28.7), (40, 60.3, 96, 128), (50, 30, 84.6, 60)]),
]  # fmt: skip
SETTINGS = COMMON | {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 80,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 40,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 100,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 128,
    "TEST.DETECTIONS_PER_IMAGE": 12,
}
GRADIENTS, MAP_GRADIENTS = 30, 1500  # values of a parameter's and of a feature map's gradient
STAGES = range(3)


def build():
    cfg = get_cfg()
    for key, value in SETTINGS.items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)
    weights = {
        name: torch.from_numpy(seeded_detectron2_cascade_weight(name, tuple(v.shape)))
        for name, v in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return cfg, model


def rounded_levels(model, images):
    with torch.no_grad():
        return {k: v.half().to(v.dtype) for k, v in model.backbone(images.tensor).items()}


def watch(heads):
    """Lists of what each stage gets and puts out, filled while the heads run, and a function that ends it."""
    seen = {"boxes": [], "logits": [], "deltas": [], "masks": []}

    def pooled(part, inputs, output):
        seen["boxes"].append([boxes.tensor.detach() for boxes in inputs[1]])

    def predicted(part, inputs, output):
        for name, value in zip(("logits", "deltas"), output, strict=True):
            seen[name].append(value.detach().split([len(b) for b in seen["boxes"][-1]]))

    hooks = [heads.box_pooler.register_forward_hook(pooled)]
    hooks += [part.register_forward_hook(predicted) for part in heads.box_predictor]

    def end():
        for hook in hooks:
            hook.remove()

    return seen, end


def predict(model, inputs, levels=None):
    """The levels, and for each image what every stage puts out."""
    model.eval()
    images = model.preprocess_image(inputs)
    levels = rounded_levels(model, images) if levels is None else levels
    with torch.no_grad():
        proposals, _ = model.proposal_generator(images, levels)
        seen, end = watch(model.roi_heads)
        found, _ = model.roi_heads(images, levels, proposals)
        end()
    result = []
    for i, instances in enumerate(found):
        image = {
            "size": np.array(instances.image_size),
            "proposals": proposals[i].proposal_boxes.tensor.numpy(),
            "proposal_logits": proposals[i].objectness_logits.numpy(),
            "boxes": instances.pred_boxes.tensor.numpy(),
            "scores": instances.scores.numpy(),
            "labels": instances.pred_classes.numpy(),
            "masks": instances.pred_masks[:, 0].numpy(),
        }
        for k in STAGES:
            for name in ("boxes", "logits", "deltas"):
                image[f"{name}{k}"] = seen[name][k][i].numpy()
        result.append(image)
    return levels, result


def head_losses(model, images, levels, instances):
    """Losses behind given feature maps, the gradients of parameters and maps, and each stage's regions."""
    model.train().zero_grad()
    levels = {k: v.clone().requires_grad_() for k, v in levels.items()}
    seen, end = watch(model.roi_heads)
    with EventStorage():
        proposals, values = model.proposal_generator(images, levels, instances)
        values |= model.roi_heads(images, levels, proposals, instances)[1]
    end()
    sum(values.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    gradients |= {k: v.grad.permute(0, 2, 3, 1) for k, v in levels.items() if k != "p6"}
    return {losses.name_of(k): float(v.detach()) for k, v in values.items()}, gradients, seen


def record_gradients(golden, case, values, gradients):
    golden |= {f"{case}/{name}": np.float64(value) for name, value in values.items()}
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        assert norm, name
        count = MAP_GRADIENTS if name[0] == "p" and len(name) == 2 else GRADIENTS
        values = sampled(name, gradient.detach().contiguous().numpy(), count)
        golden[f"{case}/gradient/{name}"] = np.append(values, norm)


def check_double(case, single, double):
    """Nothing recorded may hang on a rounding error: in float64 the losses and gradients are the same."""
    (values, gradients), (twin, twins) = single[:2], double[:2]
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    worst = sorted(ways.items(), key=lambda item: -item[1])[:3]
    print(case, values, "\n  float64:", max(abs(v - twin[k]) for k, v in values.items()), worst)
    assert max(ways.values()) < 1e-4
    assert max(abs(v - twin[k]) for k, v in values.items()) < 1e-5


def main():
    cfg, model = build()
    double = copy.deepcopy(model).double()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "yaml": cfg.dump(),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    scenes = [seeded_scene(*scene) for scene in SCENES]
    inputs = inputs_of(cfg, scenes)
    assert [tuple(x["image"].shape[1:]) for x in inputs] == [scene[:2] for scene in SCENES]
    levels, images = predict(model, inputs)
    golden |= {f"levels/{name}": nhwc(x).astype(np.float16) for name, x in levels.items()}
    _, twins = predict(double, inputs, {k: v.double() for k, v in levels.items()})
    for i, (image, twin) in enumerate(zip(images, twins, strict=True)):
        print(f"image {i}: labels", image["labels"], "scores", image["scores"].round(3))
        moved = [np.abs(image[f"boxes{k + 1}"] - image[f"boxes{k}"]).mean() for k in (0, 1)]
        print("  boxes move by", moved, "px; logits", [image[f"logits{k}"].std() for k in STAGES])
        assert (image["labels"] == twin["labels"]).all()
        for name in ("proposals", "boxes"):
            assert np.abs(image[name] - twin[name]).max() < 1e-3
        golden |= {f"{i}/{name}": values for name, values in image.items()}

    training = losses.inputs_of(cfg, scenes)
    given = model.preprocess_image(training)
    instances = [x["gt_instances"] if "gt_instances" in x else x["instances"] for x in training]
    single = head_losses(model, given, levels, instances)
    twin = head_losses(double, given, {k: v.double() for k, v in levels.items()}, instances)
    check_double("heads", single, twin)
    record_gradients(golden, "heads", *single[:2])
    for k in STAGES:
        for i, boxes in enumerate(single[2]["boxes"][k]):
            golden[f"heads/{i}/regions{k}"] = boxes.numpy()
        print(f"  stage {k}: regions", [len(boxes) for boxes in single[2]["boxes"][k]])

    whole = losses.losses_of(model.train(), training)
    twin = losses.losses_of(double.train(), [x | {"image": x["image"].double()} for x in training])
    check_double("train", whole, twin)
    record_gradients(golden, "train", *whole)
    path = Path(__file__).with_name("detectron2_cascade.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
