"""Record PointRend of Detectron2: its mask head in two variants, and a small detector with it.

Usage: python tests/goldens/record_detectron2_point_rend.py

It needs torch, detectron2, and the folder ``projects/PointRend`` of its repository on the path; the tests do
not.

"head" has the settings of the project's models, "other" different ones. Both are given seeded maps and boxes
(`point_rend_case.py`). "model" is a whole detector, from images. ``torch.rand`` draws known numbers.
"""

import json
from pathlib import Path

import detectron2_deform_conv  # noqa: F401  (a stand-in for the compiled operators, none of which is called)

# isort: split
import detectron2
import numpy as np
import point_rend_case as case
import torch
from detectron2.config import get_cfg
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import roi_heads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from point_rend import add_pointrend_config, mask_head
from record_detectron2_losses import LOSSES, lowest_first
from record_detectron2_model import COMMON
from seeded_weights import sampled, seeded_scene

LOSSES = LOSSES | {"loss_mask_point": "loss_mask_point"}
POINTS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.MASK_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": case.CLASSES,
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "MODEL.ROI_MASK_HEAD.NAME": "PointRendMaskHead",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_MASK_HEAD.FC_DIM": 24,
    "MODEL.POINT_HEAD.NUM_CLASSES": case.CLASSES,
    "MODEL.POINT_HEAD.FC_DIM": 16,
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 20,
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 3,
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 200,
    "INPUT.MASK_FORMAT": "bitmask",
}
HEAD = COMMON | POINTS | {"MODEL.FPN.OUT_CHANNELS": case.CHANNELS}
HEADS = {
    "head": HEAD,
    "other": HEAD
    | {
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 10,
        "MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION": 6,
        "MODEL.ROI_MASK_HEAD.IN_FEATURES": ["p2", "p3"],
        "MODEL.ROI_MASK_HEAD.NUM_FC": 1,
        "MODEL.POINT_HEAD.IN_FEATURES": ["p2", "p3", "p4"],
        "MODEL.POINT_HEAD.NUM_FC": 2,
        "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK": True,
        "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER": False,
        "MODEL.POINT_HEAD.OVERSAMPLE_RATIO": 2,
        "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO": 0.6,
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 100,
    },
}
# Of the detector, whose images are not resized: objects in the order of x1.
SCENES = [
    (96, 128, [(0, 20.5, 41, 60), (2, 1, 118, 94), (45.5, 30, 85, 81.2), (80, 54, 126, 92)]),
    (128, 96, [(5, 33, 60, 110), (20, 70.3, 92, 126), (31, 20, 70, 58.7)]),
]
DETECTOR = COMMON | POINTS | {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 110,
    "TEST.DETECTIONS_PER_IMAGE": 10,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 128,
}  # fmt: skip
rpn.subsample_labels = roi_heads.subsample_labels = lowest_first


def config(settings):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    for key, value in settings.items():
        cfg.merge_from_list([key, value])
    return cfg


def with_known_points(function):
    """Run a function whose random points are those of `SeededUniform`, and return them too."""
    uniform, plain, chosen = case.SeededUniform(), torch.rand, []
    choose = mask_head.get_uncertain_point_coords_with_randomness

    def remember(*arguments):
        chosen.append(choose(*arguments))
        return chosen[-1]

    torch.rand = lambda *shape, **options: torch.from_numpy(uniform(*shape))
    mask_head.get_uncertain_point_coords_with_randomness = remember
    try:
        result = function()
    finally:
        torch.rand, mask_head.get_uncertain_point_coords_with_randomness = plain, choose
    assert uniform.calls == 2
    return result, chosen[0].numpy()


def record_head(variant):
    cfg = config(HEADS[variant])
    shapes = {f"p{i}": ShapeSpec(channels=case.CHANNELS, stride=2**i) for i in (2, 3, 4, 5)}
    head = mask_head.PointRendMaskHead(cfg, shapes)
    names = {f"roi_heads.mask_head.{k}": tuple(v.shape) for k, v in head.state_dict().items()}
    weights = {k: torch.from_numpy(case.seeded_point_rend_weight(k, shape)) for k, shape in names.items()}
    head.load_state_dict({k.removeprefix("roi_heads.mask_head."): v for k, v in weights.items()})
    golden = {"names": np.array(json.dumps(names)), "yaml": np.array(cfg.dump())}
    maps = {
        f"p{i + 2}": torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        for i, x in enumerate(case.levels())
    }
    training, test = [], []
    for i, scene in enumerate(case.scenes()):
        boxes, objects, labels = (torch.from_numpy(x) for x in case.regions(i, "detectron2"))
        size = case.IMAGES[i][0]
        masks = BitMasks(torch.from_numpy(scene["masks"]))
        training.append(
            Instances(size, proposal_boxes=Boxes(boxes), gt_classes=labels, gt_masks=masks[objects])
        )
        test.append(Instances(size, pred_boxes=Boxes(boxes), pred_classes=labels))

    with EventStorage():
        values, points = with_known_points(lambda: head.train()(maps, training))
    sum(values.values()).backward()
    print(variant, {k: float(v.detach()) for k, v in values.items()})
    golden["points"] = points
    golden |= {f"losses/{k}": np.float64(v.detach()) for k, v in values.items()}
    gradients = {f"roi_heads.mask_head.{k}": p.grad for k, p in head.named_parameters()}
    gradients |= {k: x.grad.permute(0, 2, 3, 1) for k, x in maps.items() if x.grad is not None}
    for name, gradient in gradients.items():
        values = sampled(name, gradient.contiguous().numpy(), 100)
        golden[f"gradient/{name}"] = np.append(values, gradient.double().norm())

    # Every map before it is enlarged, the points that are chosen, and the last map.
    steps, chosen, last = [], [], []
    plain = mask_head.interpolate, mask_head.get_uncertain_point_coords_on_grid, mask_head.mask_rcnn_inference

    def interpolate(x, **options):
        steps.append(x.clone())
        return plain[0](x, **options)

    def choose(*arguments):
        found = plain[1](*arguments)
        chosen.append(found[0])
        return found

    mask_head.interpolate, mask_head.get_uncertain_point_coords_on_grid = interpolate, choose
    mask_head.mask_rcnn_inference = lambda logits, instances: last.append(logits)
    labels = torch.cat([x.pred_classes for x in test])
    rows = torch.arange(len(labels))
    with torch.no_grad():
        coarse = head.coarse_head(head.eval()._roi_pooler(maps, [x.pred_boxes for x in test]))
        head(maps, test)
    mask_head.interpolate, mask_head.get_uncertain_point_coords_on_grid, mask_head.mask_rcnn_inference = plain
    golden["coarse"] = coarse.permute(0, 2, 3, 1).numpy()
    for k, x in enumerate([*steps, *last]):
        own = x[:, 0] if x.shape[1] == 1 else x[rows, labels]
        print(
            "  map",
            tuple(x.shape),
            "logits",
            float(own.mean()),
            float(own.std()),
            float((own > 0).double().mean()),
        )
        golden[f"map{k}"] = own.numpy()
    golden |= {f"chosen{k}": np.sort(x.numpy(), 1).astype(np.int32) for k, x in enumerate(chosen)}
    return {f"{variant}/{k}": v for k, v in golden.items()}


def inputs_of(cfg):
    inputs = []
    for place in SCENES:
        scene = seeded_scene(*place)
        image = np.ascontiguousarray(scene["image"][:, :, ::-1])
        resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        assert (resize.get_transform(image).apply_image(image) == image).all()
        instances = Instances(
            image.shape[:2],
            gt_boxes=Boxes(torch.from_numpy(scene["boxes"])),
            gt_classes=torch.from_numpy(scene["labels"]),
            gt_masks=BitMasks(torch.from_numpy(scene["masks"])),
        )
        tensor = torch.as_tensor(np.ascontiguousarray(image.astype("float32").transpose(2, 0, 1)))
        inputs.append({"image": tensor, "instances": instances, "height": place[0], "width": place[1]})
    return inputs


def record_model():
    cfg = config(DETECTOR)
    model = build_model(cfg)
    weights = {}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        weights[name] = torch.from_numpy(case.seeded_detector_weight(name, shape, "detectron2"))
    model.load_state_dict(weights)
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in weights.items()}),
        "scenes": json.dumps(SCENES),
        "yaml": cfg.dump(),
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    inputs = inputs_of(cfg)
    used = []

    def regions(part, arguments):
        used.append([(len(x), x.proposal_boxes.tensor) for x in arguments[1]])

    hook = model.roi_heads.mask_head.register_forward_pre_hook(regions)
    with EventStorage():
        values, points = with_known_points(lambda: model.train()(inputs))
        sum(values.values()).backward()
    hook.remove()
    print({k: float(v.detach()) for k, v in values.items()}, [count for count, _ in used[0]])
    first = 0
    for i, (count, boxes) in enumerate(used[0]):
        golden |= {f"regions/{i}": boxes.numpy(), f"points/{i}": points[first : first + count]}
        first += count
    golden |= {f"losses/{LOSSES[k]}": np.float64(v.detach()) for k, v in values.items()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        golden[f"gradient/{name}"] = np.append(sampled(name, gradient.numpy(), 100), gradient.double().norm())
    with torch.no_grad():
        for i, x in enumerate(inputs):
            raw = model.eval().inference([x], do_postprocess=False)[0]
            found = detector_postprocess(raw, x["height"], x["width"])
            print(i, len(found), found.scores[:4].numpy(), found.pred_classes.numpy())
            golden[f"found/{i}/boxes"] = found.pred_boxes.tensor.numpy()
            golden[f"found/{i}/scores"] = found.scores.numpy()
            golden[f"found/{i}/labels"] = found.pred_classes.numpy()
            golden[f"found/{i}/masks"] = np.packbits(found.pred_masks.numpy(), axis=-1)
    return {f"model/{k}": v for k, v in golden.items()}


def main():
    golden = record_head("head") | record_head("other") | record_model()
    versions = f"torch {torch.__version__}, detectron2 {detectron2.__version__}"
    path = Path(__file__).with_name("detectron2_point_rend.npz")
    np.savez_compressed(path, **golden, versions=np.array(versions))
    print(path, path.stat().st_size, "bytes,", versions)


if __name__ == "__main__":
    main()
