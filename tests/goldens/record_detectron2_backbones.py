"""Record small Detectron2 detectors on other backbones: features, detections, losses and their gradients.

Usage: python tests/goldens/record_detectron2_backbones.py [NAME ...]    (needs torch and detectron2; the
tests do not)

NAME is a file of `FILES` without its ending; all are recorded without it.

"dconv" has deformable convolutions as the zoo's mask_rcnn_R_50_FPN_1x_dconv_c3-c5, but of version 2 and with
two groups of offsets; "dc5" is mask_rcnn_R_50_DC5; "x152" is cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv
with the depth of a ResNeXt-50, four groups and two convolutions in the mask head. All are narrow, with
weights made from their names. The heads' own stages are recorded by other scripts.

Of Detectron2's compiled operators, only those of deformable convolutions would be called;
`detectron2_deform_conv.py` replaces them. Installation is described in `record_detectron2_c4.py`.
"""

import copy
import json
import sys
from pathlib import Path

from detectron2_deform_conv import LAYERS

# isort: split

import detectron2
import numpy as np
import record_detectron2_losses as losses
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from record_detectron2_model import COMMON, inputs_of, nhwc
from seeded_weights import (
    sampled,
    seeded_detectron2_dc5_weight,
    seeded_detectron2_weight,
    seeded_detectron2_x152_weight,
    seeded_scene,
)

# Height, width, boxes in the order of x1. DC5 pads to the largest image and no further.
SCENES = [
    (
        94, 126,
        [(0, 20.5, 41, 60), (2, 1, 120, 92), (45.5, 30, 85, 91.2), (90, 44, 126, 94), (100, 5, 117, 16)],
    ),
    (126, 94, [(5, 33, 60, 90), (31, 11, 50, 28.7), (40, 60.3, 94, 126), (50, 30, 84.6, 60)]),
]  # fmt: skip
NARROW = {
    "MODEL.DEVICE": "cpu",
    "MODEL.MASK_ON": True,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 80,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 40,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    # All proposals: where a quota ended among them, their order by score would decide.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 100,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "INPUT.MIN_SIZE_TEST": 94,
    "INPUT.MAX_SIZE_TEST": 126,
    "TEST.DETECTIONS_PER_IMAGE": 12,
}
CASES = {
    "dconv": COMMON | NARROW | {
        "MODEL.FPN.OUT_CHANNELS": 16,
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
        "MODEL.RESNETS.DEFORM_MODULATED": True,
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": 2,
    },
    "dc5": {key: value for key, value in COMMON.items() if "FPN" not in key} | NARROW | {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[12, 24, 40, 64, 96]],
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
    },
    # Group norm has 32 groups.
    "x152": COMMON | NARROW | {
        "MODEL.FPN.OUT_CHANNELS": 16,
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
        "MODEL.RESNETS.NUM_GROUPS": 4,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_BOX_HEAD.CONV_DIM": 32,
        "MODEL.ROI_BOX_HEAD.NORM": "GN",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
        "MODEL.ROI_MASK_HEAD.NORM": "GN",
    },
}  # fmt: skip
WEIGHTS = {
    "dconv": seeded_detectron2_weight, "dc5": seeded_detectron2_dc5_weight,
    "x152": seeded_detectron2_x152_weight,
}  # fmt: skip
MAPS, GRADIENTS = 1000, 30  # values of a feature map and of a parameter's gradient


def build(case):
    cfg = get_cfg()
    for key, value in CASES[case].items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)
    weights = {
        name: torch.from_numpy(WEIGHTS[case](name, tuple(v.shape))) for name, v in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return cfg, model


def predict(model, inputs):
    """The backbone's maps, by name, and what is found."""
    maps, moves = {}, []
    hooks = [model.backbone.register_forward_hook(lambda part, x, out: maps.update(out))]
    for name, part in model.backbone.named_modules():
        if name.endswith("conv2_offset"):
            hooks.append(part.register_forward_hook(lambda part, x, out: moves.append(out)))
    with torch.no_grad():
        found = model.eval().inference(inputs, do_postprocess=False)
    for hook in hooks:
        hook.remove()
    return {k: nhwc(v) for k, v in maps.items()}, found, moves


def record_detections(golden, case):
    """The backbone's maps, detections, and the model's names and settings."""
    cfg, model = build(case)
    double = copy.deepcopy(model).double()
    scenes = [seeded_scene(*scene) for scene in SCENES]
    inputs = inputs_of(cfg, scenes)
    assert [tuple(x["image"].shape[1:]) for x in inputs] == [scene[:2] for scene in SCENES]
    maps, found, moves = predict(model, inputs)
    twin_maps, twins, _ = predict(double, [x | {"image": x["image"].double()} for x in inputs])
    print(case, "offsets rms", [round(float(x.square().mean().sqrt()), 2) for x in moves])
    for name, values in maps.items():
        print(f"  {name} {values.shape} rms {np.sqrt(np.mean(values**2)):.3g}", end="; float64: ")
        print(f"{np.abs(values - twin_maps[name]).max() / np.abs(values).max():.0e}")
        golden[f"{case}/maps/{name}/shape"] = np.array(values.shape)
        golden[f"{case}/maps/{name}/values"] = sampled(name, values, MAPS)
    for i, (instances, twin) in enumerate(zip(found, twins, strict=True)):
        labels, scores = instances.pred_classes.numpy(), instances.scores.numpy()
        boxes, masks = instances.pred_boxes.tensor.numpy(), instances.pred_masks[:, 0].numpy()
        print("  labels", labels, "scores", scores.round(3), "masks", masks.mean((1, 2)).round(2))
        print("  boxes", boxes.round(0).astype(int).tolist())
        assert (labels == twin.pred_classes.numpy()).all()
        assert np.abs(boxes - twin.pred_boxes.tensor.numpy()).max() < 2e-3
        for name, values in {"labels": labels, "scores": scores, "boxes": boxes, "masks": masks}.items():
            golden[f"{case}/{i}/{name}"] = values

    golden[f"{case}/names"] = json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()})
    golden[f"{case}/yaml"] = cfg.dump()


def record_training(golden, case):
    """Losses, samples and the norm of each parameter's gradient, and the model's names."""
    cfg, model = build(case)
    golden[f"{case}/names"] = json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()})
    double = copy.deepcopy(model).double()
    scenes = [seeded_scene(*scene) for scene in SCENES]
    training = losses.inputs_of(cfg, scenes)
    values, gradients = losses.losses_of(model.train(), training)
    twin, twins = losses.losses_of(double.train(), [x | {"image": x["image"].double()} for x in training])
    # Nothing recorded may hang on a rounding error.
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print(
        "  ", values, "\n   float64, losses:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()}
    )
    print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
    assert max(ways.values()) < (3e-3 if case == "x152" else 1e-3)
    if case == "x152":
        # Of so many values behind group norms and ReLUs some are 0 but for rounding, and so gradients differ
        # by 1e-3 between float32 and float64; those of float64 are exact.
        values, gradients = twin, twins
    for name, value in values.items():
        golden[f"{case}/train/{name}"] = np.float64(value)
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        assert norm, name
        golden[f"{case}/gradient/{name}"] = np.append(sampled(name, gradient.numpy(), GRADIENTS), norm)


FILES = {
    "detectron2_backbones": {
        "dconv": (record_detections, record_training),
        "dc5": (record_detections, record_training),
    },
    "detectron2_x152": {"x152": (record_detections,)},
    "detectron2_x152_training": {"x152": (record_training,)},
}


def main(names):
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    assert LAYERS.modulated_deform_conv.__module__ == "detectron2_deform_conv"
    for name in names or FILES:
        golden = {
            "scenes": json.dumps(SCENES),
            "versions": f"{versions}, detectron2 {detectron2.__version__}",
        }
        for case, records in FILES[name].items():
            for record in records:
                record(golden, case)
        path = Path(__file__).with_name(f"{name}.npz")
        np.savez_compressed(path, **{k: np.asarray(v) for k, v in golden.items()})
        print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main(sys.argv[1:])
