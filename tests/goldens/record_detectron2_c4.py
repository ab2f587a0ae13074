"""Record a small Detectron2 detector without a pyramid (C4): its stages, its losses and their gradients.

Usage: python tests/goldens/record_detectron2_c4.py    (needs torch and detectron2; the tests do not)

The settings are those of the zoo's mask_rcnn_R_50_C4, narrow, with weights made from their names. No side
of an image or a batch is a multiple of the stride: Detectron2 pads C4 batches to their largest image and
no further. The last stage of the ResNet runs on pooled regions, at test time twice: on the proposals for
the boxes and on the final boxes for the masks ("mask_" below).

A pooled region is large here (14 x 14 x 128). Of pooled and res5 features samples are recorded; what follows
from them, their mean over each region and the masks' logits, is recorded in full.

Faster R-CNN is the same model without its mask head, which the script asserts.

Detectron2 needs no build: of its compiled operators none is called. Besides torch and torchvision:

    pip install fvcore 'iopath<0.1.10' 'omegaconf<2.4' hydra-core pycocotools yacs tabulate cloudpickle \
        termcolor matplotlib packaging
    PYTHONPATH=path/to/detectron2 python tests/goldens/record_detectron2_c4.py
"""

import copy
import functools
import json
from pathlib import Path

import detectron2
import numpy as np
import record_detectron2_losses as losses
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes
from record_detectron2_model import LARGE_BOXES, check_in_float64, inputs_of, instances_of, nhwc
from seeded_weights import sampled, seeded_detectron2_c4_weight, seeded_scene

# Height, width, boxes. The network sees 75 x 97, 99 x 68 and 22 x 99 pixels: the short side counts, the
# long one limits, and one has two rows of features only. The pair's canvas is 99 x 97. The first two were
# chosen among others: there no activation is so near to zero that rounding errors decide over a ReLU, which
# in a model this narrow changes gradients by 0.2 %.
LANDSCAPE = (66, 85, [(0, 10.5, 21, 30), (2, 1, 78, 59), (22.5, 15, 42, 55.2), (50, 32, 79, 60)])
PORTRAIT = (132, 90, [(5, 13, 40, 66), (20, 60.3, 90, 129), (31, 10, 70, 38.7), (12, 70, 74.6, 110)])
FLAT = (24, 110, [(3, 2, 30, 20), (50, 0, 80, 24)])
CASES = {"pair": [LANDSCAPE, PORTRAIT], "alone": [FLAT]}
SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.MASK_ON": True,
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[12, 24, 40, 64, 96]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.IN_FEATURES": ["res4"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 400,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 60,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 300,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    # All proposals: where a quota ended among them, their order by score would decide.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 80,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "INPUT.MIN_SIZE_TEST": 75,
    "INPUT.MAX_SIZE_TEST": 99,
    "TEST.DETECTIONS_PER_IMAGE": 9,
}
SAMPLED = 600  # values of an image's pooled features
GRADIENTS = 30  # values of a parameter's gradient


def build(**changes):
    cfg = get_cfg()
    for key, value in (SETTINGS | changes).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg).eval()
    weights = {
        name: torch.from_numpy(seeded_detectron2_c4_weight(name, tuple(v.shape)))
        for name, v in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return cfg, model


def predict(model, inputs):
    """Every stage's output by hooks, channels last, for the batch and for each image."""
    seen, hooks = {}, []
    heads, rpn = model.roi_heads, model.proposal_generator
    parts = {
        "body": model.backbone, "rpn": rpn.rpn_head, "anchors": rpn.anchor_generator, "proposals": rpn,
        "pooled": heads.pooler, "res5": heads.res5, "box": heads.box_predictor,
        "mask_logits": heads.mask_head.predictor,
    }  # fmt: skip
    for name, part in parts.items():
        hook = functools.partial(lambda name, part, x, out: seen.setdefault(name, []).append(out), name)
        hooks.append(part.register_forward_hook(hook))
    first = model.backbone.register_forward_pre_hook(lambda part, x: seen.update(input=x[0]))
    with torch.no_grad():
        found = model.inference(inputs, do_postprocess=False)
        for hook in [*hooks, first]:
            hook.remove()
        large_pooled = heads.pooler([seen["body"][0]["res4"][:1]], [Boxes(torch.tensor(LARGE_BOXES))])
    assert [len(x) for x in seen.values()][1:] == [1, 1, 1, 1, 2, 2, 1, 1]

    [[objectness], [deltas]] = seen["rpn"][0]
    stages = {
        "input": nhwc(seen["input"]),
        "C4": nhwc(seen["body"][0]["res4"]),
        "objectness": nhwc(objectness).reshape(len(objectness), -1),
        "deltas": nhwc(deltas).reshape(len(deltas), -1, 4),
        "anchors": seen["anchors"][0][0].tensor.numpy(),
        "large_pooled": nhwc(large_pooled),
    }
    proposals = seen["proposals"][0][0]
    counts, final = [len(p) for p in proposals], [len(f) for f in found]
    split = {
        "pooled": seen["pooled"][0].split(counts),
        "res5": seen["res5"][0].split(counts),
        "mask_pooled": seen["pooled"][1].split(final),
        "mask_res5": seen["res5"][1].split(final),
        "mask_logits": seen["mask_logits"][0].split(final),
    }
    logits, box_deltas = (x.split(counts) for x in seen["box"][0])
    images = []
    for i, (proposal, instances, new) in enumerate(zip(proposals, found, inputs, strict=True)):
        restored = detector_postprocess(copy.deepcopy(instances), new["height"], new["width"])
        images.append(
            {
                "size": np.array(instances.image_size),
                "original": np.array([new["height"], new["width"]]),
                "proposals": proposal.proposal_boxes.tensor.numpy(),
                "proposal_logits": proposal.objectness_logits.numpy(),
                "means": split["res5"][i].mean((2, 3)).numpy(),
                "logits": logits[i].numpy(),
                "box_deltas": box_deltas[i].numpy(),
                **{name: nhwc(values[i]) for name, values in split.items()},
                **instances_of("", instances),
                **instances_of("final_", restored),
            }
        )
    return stages, images


def record_prediction(golden, case, model):
    """The stages of one batch into ``golden``."""
    cfg, model = model
    inputs = inputs_of(cfg, [seeded_scene(*place) for place in CASES[case]])
    stages, images = predict(model, inputs)
    for name, values in stages.items():
        print(f"   {name} {values.shape} rms {np.sqrt(np.mean(values**2)):.3g}")
    for i, image in enumerate(images):
        sides = np.sqrt(np.prod(image["boxes"][:, 2:] - image["boxes"][:, :2], axis=1))
        print(f"   image {i}: {image['size']}, {len(image['proposals'])} proposals, {image['labels']}")
        print("     scores", image["scores"].round(3), "mask rms", image["mask_logits"].std())
        print("     sides", sides.round(), "area", image["final_masks"].mean((1, 2)).round(2))
        print(
            "     logits",
            image["logits"].mean(0),
            image["logits"].std(0),
            "deltas",
            image["box_deltas"].std(),
            image["means"].std(),
        )
    double = [x | {"image": x["image"].double()} for x in inputs]
    check_in_float64("c4", case, (stages, images), predict(copy.deepcopy(model).double(), double))
    stages["input_sum"] = stages["input"].astype(np.float64).sum((1, 2))
    for name in ("input", "large_pooled"):
        stages[f"{name}_shape"] = np.array(stages[name].shape)
        stages[name] = sampled(name, stages[name], SAMPLED)
    golden |= {f"{case}/{name}": values for name, values in stages.items()}
    for i, image in enumerate(images):
        for name in ("pooled", "res5", "mask_pooled", "mask_res5"):
            print(f"     {name} {image[name].shape} rms {np.sqrt(np.mean(image[name] ** 2)):.3g}")
            image[f"{name}_shape"] = np.array(image[name].shape)
            image[name] = sampled(name, image[name], SAMPLED)
        image["final_masks"] = np.packbits(image["final_masks"])
        golden |= {f"{case}/{i}/{name}": values for name, values in image.items()}
    return inputs


def record_losses(golden, model, faster):
    """Losses and gradients, with sampling that takes the lowest indices first."""
    cfg, model = model
    scenes = [seeded_scene(*scene) for scene in CASES["pair"]]
    empty = seeded_scene(*CASES["pair"][1][:2], []) | {"image": scenes[1]["image"]}
    cases = {"objects": losses.inputs_of(cfg, scenes), "one_empty": losses.inputs_of(cfg, [scenes[0], empty])}
    runs = [(f"train/{case}", model, inputs) for case, inputs in cases.items()]
    runs.append(("train/without_masks", faster[1], cases["objects"]))
    for case, network, inputs in runs:
        values, gradients = losses.losses_of(network.train(), inputs)
        print(case, [tuple(x["image"].shape[1:]) for x in inputs], values)
        assert len(values) == (4 if case.endswith("without_masks") else 5)
        golden |= {f"{case}/{name}": np.float64(value) for name, value in values.items()}
        for name, gradient in gradients.items():
            norm = float(gradient.double().norm())
            assert norm, name
            golden[f"{case}/gradient/{name}"] = np.append(sampled(name, gradient.numpy(), GRADIENTS), norm)

        # Nothing recorded may hang on a rounding error.
        double = [x | {"image": x["image"].double()} for x in inputs]
        twin, twins = losses.losses_of(copy.deepcopy(network).double(), double)
        print("   float64, losses:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()})
        norms = {k: abs(float(g.norm() / twins[k].norm()) - 1) for k, g in gradients.items()}
        ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
        print(f"   gradients: norms within {max(norms.values()):.0e}, differences {max(ways.values()):.0e}")
        assert max(norms.values()) < 1e-5 and max(ways.values()) < 1e-5


def main():
    model, faster = build(), build(**{"MODEL.MASK_ON": False})
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model[1].state_dict().items()}),
        "settings": json.dumps(SETTINGS),
        "cases": json.dumps(CASES),
        "yaml": model[0].dump(),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    golden["large_boxes"] = np.float32(LARGE_BOXES)  # of which each cell takes the mean of several samples
    for case in CASES:
        inputs = record_prediction(golden, case, model)
        with torch.no_grad():
            found = faster[1].inference(inputs, do_postprocess=False)
        for i, instances in enumerate(found):
            assert not instances.has("pred_masks")
            assert (instances.pred_boxes.tensor.numpy() == golden[f"{case}/{i}/boxes"]).all()
            assert (instances.scores.numpy() == golden[f"{case}/{i}/scores"]).all()
    record_losses(golden, model, faster)
    path = Path(__file__).with_name("detectron2_c4.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
