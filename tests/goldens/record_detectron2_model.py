"""Record whole Detectron2 detectors, stage by stage, with weights made from their names.

Usage: python tests/goldens/record_detectron2_model.py    (needs torch and detectron2; the tests do not)

Three small models are built by Detectron2's own config system: "fpn", the R50-FPN of its zoo (frozen
batch norm, stride in the 1x1); "gn", group norm everywhere with grouped convolutions, RGB input and
class-agnostic heads; "bn", the new baselines (batch norm, two RPN convolutions, 4conv1fc).
"""

import copy
import functools
import importlib
import json
import types
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes
from seeded_weights import sampled, seeded_detectron2_weight, seeded_scene
from torchvision.ops import batched_nms

# Detectron2 gives float32 boxes to NMS, which refuses them beside the scores of the float64 model.
importlib.import_module("detectron2.layers.nms").box_ops = types.SimpleNamespace(
    batched_nms=lambda boxes, scores, *rest: batched_nms(boxes.to(scores.dtype), scores, *rest)
)

# Height, width, boxes: one whose short side counts, one that its long side limits, one that is enlarged.
LANDSCAPE = (
    130, 160,
    [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 160, 130), (134, 5, 151, 16)],
)  # fmt: skip
PORTRAIT = (230, 122, [(5, 33, 60, 120), (60, 120.3, 122, 230), (31, 20, 90, 58.7), (30, 90, 114.6, 150)])
OBLONG = (21, 100, [(3, 2, 30, 20), (50, 0, 80, 21)])
CASES = {
    "fpn": {"pair": [LANDSCAPE, PORTRAIT], "alone": [OBLONG]},
    "gn": {"pair": [LANDSCAPE, PORTRAIT], "alone": [OBLONG]},
    "bn": {"alone": [LANDSCAPE]},
}
# Of the other arrays, samples are enough: nothing is computed from them.
SAMPLED = {
    "fpn/pair": ("C",),
    "gn/pair": ("C", "P"),
}
COMMON = {
    "MODEL.DEVICE": "cpu",
    "MODEL.MASK_ON": True,
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[10], [20], [40], [80], [160]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 60,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 90,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "INPUT.MIN_SIZE_TEST": 112,
    "INPUT.MAX_SIZE_TEST": 150,
    "TEST.DETECTIONS_PER_IMAGE": 14,
}
VARIANTS = {
    "fpn": {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.RESNETS.NORM": "FrozenBN",
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
        "MODEL.FPN.OUT_CHANNELS": 16,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    },
    "gn": {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 128,
        "MODEL.RESNETS.NUM_GROUPS": 4,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.RESNETS.NORM": "GN",
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.FPN.NORM": "GN",
        "MODEL.FPN.OUT_CHANNELS": 64,
        "MODEL.ROI_BOX_HEAD.NORM": "GN",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
        "MODEL.ROI_BOX_HEAD.CONV_DIM": 64,
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.ROI_MASK_HEAD.NORM": "GN",
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 64,
        "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
        "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
        "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
        "INPUT.FORMAT": "RGB",
        "INPUT.MIN_SIZE_TEST": 56,
        "INPUT.MAX_SIZE_TEST": 90,
        "TEST.DETECTIONS_PER_IMAGE": 8,
    },
    "bn": {
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.RESNETS.NORM": "SyncBN",
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
        "MODEL.FPN.NORM": "SyncBN",
        "MODEL.FPN.OUT_CHANNELS": 16,
        "MODEL.RPN.CONV_DIMS": [-1, -1],
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.55,
        "MODEL.ROI_BOX_HEAD.NORM": "naiveSyncBN_N",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
        "MODEL.ROI_BOX_HEAD.CONV_DIM": 16,
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_MASK_HEAD.NORM": "naiveSyncBN_N",
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    },
}
# Proposals and detections whose pooled features are recorded in full, the heads' input.
REGIONS = {"fpn": 20, "gn": 6, "bn": 10}
MASK_REGIONS = {"fpn": 5, "gn": 2, "bn": 3}
# For the pooler: the proposals of small images all lie on one level.
LARGE_BOXES = [
    [0, 0, 112, 112], [-30, 5.5, 193.99, 229.4], [3, -200, 280, 250], [-150, -140, 300, 310],
    [20, 30, 20, 90], [-100, 10, 250, 60], [149, 100, 163, 140], [10.25, 7.75, 122, 119.5],
]  # fmt: skip


def build(variant):
    cfg = get_cfg()
    for key, value in (COMMON | VARIANTS[variant]).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg).eval()
    state = model.state_dict()
    weights = {
        name: torch.from_numpy(seeded_detectron2_weight(name, tuple(v.shape)))
        for name, v in state.items()
        if not name.endswith("num_batches_tracked")
    }
    assert not set(model.load_state_dict(weights, strict=False).unexpected_keys)
    return cfg, model


def inputs_of(cfg, scenes):
    """What Detectron2's DefaultPredictor gives a model: resized uint8 as float32 [C, h, w], old size."""
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    inputs = []
    for scene in scenes:
        image = scene["image"] if cfg.INPUT.FORMAT == "RGB" else scene["image"][:, :, ::-1]
        resized = resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        inputs.append({"image": tensor, "height": image.shape[0], "width": image.shape[1]})
    return inputs


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy()


def predict(model, inputs):
    """Every stage's output by hooks, channels last; anchors in the order row, column, ratio."""
    seen, hooks = {}, []
    heads = model.roi_heads
    parts = {
        "body": model.backbone.bottom_up, "levels": model.backbone, "rpn": model.proposal_generator.rpn_head,
        "anchors": model.proposal_generator.anchor_generator, "proposals": model.proposal_generator,
        "box_features": heads.box_pooler, "box": heads.box_predictor,
        "mask_features": heads.mask_pooler, "mask_logits": heads.mask_head.predictor,
    }  # fmt: skip
    for name, part in parts.items():
        hook = functools.partial(lambda name, part, inputs, output: seen.update({name: output}), name)
        hooks.append(part.register_forward_hook(hook))
    first = model.backbone.register_forward_pre_hook(lambda part, inputs: seen.update(input=inputs[0]))
    with torch.no_grad():
        found = model.inference(inputs, do_postprocess=False)
        for hook in [*hooks, first]:
            hook.remove()
        large = Boxes(torch.tensor(LARGE_BOXES))
        levels = [seen["levels"][f] for f in heads.box_in_features]
        large_features = heads.box_pooler([x[:1] for x in levels], [large])

    def per_anchor(maps, values):  # [B, A * values, h, w] of each level -> [B, N, values]
        maps = [m.permute(0, 2, 3, 1).reshape(len(m), -1, values) for m in maps]
        return torch.cat(maps, dim=1).numpy()

    stages = {"input": nhwc(seen["input"])}
    stages |= {f"C{name[-1]}": nhwc(x) for name, x in seen["body"].items()}
    stages |= {f"P{name[-1]}": nhwc(x) for name, x in seen["levels"].items()}
    stages["objectness"] = per_anchor(seen["rpn"][0], 1)[..., 0]
    stages["deltas"] = per_anchor(seen["rpn"][1], 4)
    stages["anchors"] = torch.cat([a.tensor for a in seen["anchors"]]).numpy()
    stages["large_features"] = nhwc(large_features)

    proposals = seen["proposals"][0]
    counts = [len(p) for p in proposals]
    images = []
    split = [seen["box_features"].split(counts), *(x.split(counts) for x in seen["box"])]
    masks = [seen[name].split([len(f) for f in found]) for name in ("mask_features", "mask_logits")]
    for i, (proposal, instances, new) in enumerate(zip(proposals, found, inputs, strict=True)):
        final = detector_postprocess(copy.deepcopy(instances), new["height"], new["width"])
        images.append(
            {
                "size": np.array(instances.image_size),
                "original": np.array([new["height"], new["width"]]),
                "proposals": proposal.proposal_boxes.tensor.numpy(),
                "proposal_logits": proposal.objectness_logits.numpy(),
                "box_features": nhwc(split[0][i]),
                "logits": split[1][i].numpy(),
                "box_deltas": split[2][i].numpy(),
                "mask_features": nhwc(masks[0][i]),
                "mask_logits": nhwc(masks[1][i]),
                **instances_of("", instances),
                **instances_of("final_", final),
            }
        )
    return stages, images


def instances_of(prefix, instances):
    values = {
        "boxes": instances.pred_boxes.tensor,
        "scores": instances.scores,
        "labels": instances.pred_classes,
        "masks": instances.pred_masks if prefix else instances.pred_masks[:, 0],
    }
    return {prefix + name: value.numpy() for name, value in values.items()}


def check_in_float64(variant, case, single, double):
    """Nothing recorded may hang on a rounding error: in float64, the same decisions."""
    largest = {}
    for name, values in single[0].items():
        errors = np.abs(values - double[0][name]).max() / np.abs(values).max()
        largest[name] = f"{errors:.1e}"
    print(f"{variant}/{case}, float32 - float64, relative:", largest)
    for i, (ours, theirs) in enumerate(zip(single[1], double[1], strict=True)):
        for name in ("proposals", "boxes", "final_boxes"):
            assert ours[name].shape == theirs[name].shape, (variant, case, i, name)
            assert np.abs(ours[name] - theirs[name]).max() < 1e-2, (variant, case, i, name)
        for name in ("labels", "final_labels"):
            assert (ours[name] == theirs[name]).all(), (variant, case, i, name)
        assert (ours["final_masks"] != theirs["final_masks"]).mean() < 1e-5


def record(variant):
    cfg, model = build(variant)
    settings = json.dumps(COMMON | VARIANTS[variant])
    state = model.state_dict()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in state.items()}),
        "settings": settings,
        "cases": json.dumps(CASES[variant]),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    golden["yaml"] = np.array(cfg.dump())
    golden["large_boxes"] = np.float32(LARGE_BOXES)
    double = copy.deepcopy(model).double()
    for case, places in CASES[variant].items():
        sampled_stages = SAMPLED.get(f"{variant}/{case}", ())
        inputs = inputs_of(cfg, [seeded_scene(*place) for place in places])
        stages, images = predict(model, inputs)
        check_in_float64(
            variant, case, (stages, images),
            predict(double, [x | {"image": x["image"].double()} for x in inputs]),
        )  # fmt: skip
        for name, values in stages.items():
            if name not in ("input", "anchors"):
                print(f"   {name} {values.shape} rms {np.sqrt(np.mean(values**2)):.3g}")
        for i, image in enumerate(images):
            print(
                f"   image {i}: {image['size']}, {len(image['proposals'])} proposals, labels", image["labels"]
            )
            print("     scores", image["scores"].round(3), "mask rms", image["mask_logits"].std())
            sides = np.sqrt(np.prod(image["boxes"][:, 2:] - image["boxes"][:, :2], axis=1))
            print("     sides", sides.round(), "area", image["final_masks"].mean((1, 2)).round(2))
            image["box_features"] = image["box_features"][: REGIONS[variant]]
            image["mask_features"] = image["mask_features"][: MASK_REGIONS[variant]]
            image["mask_logits"] = image["mask_logits"][: MASK_REGIONS[variant]]
            if "P" in sampled_stages:
                del image["box_features"], image["mask_features"], image["mask_logits"]
            image["final_masks"] = np.packbits(image["final_masks"])
        if "P" in sampled_stages:
            del stages["large_features"]
        for name, values in stages.items():
            if name == "anchors":
                values = np.concatenate([values[:12], values[-12:]])
            elif name == "input":  # recorded by its sum and some of its values
                golden[f"{case}/input_shape"] = np.array(values.shape)
                golden[f"{case}/input_sum"] = values.astype(np.float64).sum((1, 2))
                values = sampled("input", values, 2000)
            elif name[0] in sampled_stages:
                golden[f"{case}/{name}_shape"] = np.array(values.shape)
                values = sampled(name, values, 2000)
            elif name == "large_features":
                values = values[..., :8]
            golden[f"{case}/{name}"] = values
        for i, image in enumerate(images):
            golden |= {f"{case}/{i}/{name}": values for name, values in image.items()}
    path = Path(__file__).with_name(f"detectron2_{variant}.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    for name in VARIANTS:
        record(name)
