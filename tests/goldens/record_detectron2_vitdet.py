"""Record small detectors of Detectron2's project ViTDet: features, detections, losses and their gradients.

Usage: python tests/goldens/record_detectron2_vitdet.py CHECKOUT [NAME ...]    (the tests need nothing of it)

CHECKOUT is a folder with Detectron2's sources, whose `projects/ViTDet/configs` are used. NAME is a file of
`FILES` without its ending; all are recorded without it.

The models are those of the project's config files, narrow, with weights made from their names and without
random drops: "swin", the cascade on a Swin transformer; "vit", Mask R-CNN on a plain one; "mvit",
the cascade on an MViT. "odd" has the maps
of each backbone alone for an image that no layer divides evenly.

Installation is described in `record_detectron2_c4.py`; timm is needed too, for its `DropPath` and `Mlp`.
"""

import copy
import json
import sys
from pathlib import Path

import detectron2
import numpy as np
import record_detectron2_losses as losses
import torch
import torchvision
from detectron2.config import LazyConfig, instantiate
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from seeded_weights import (
    sampled,
    seeded_detectron2_transformer_weight,
    seeded_images,
    seeded_polygons,
    seeded_projection,
    seeded_scene,
)

# Height, width, boxes in the order of x1. The canvas is 128 x 128, and nothing is resized.
SCENES = [
    (
        94, 126,
        [(0, 20.5, 41, 60), (2, 1, 120, 92), (45.5, 30, 85, 91.2), (90, 44, 126, 94), (100, 5, 117, 16)],
    ),
    (126, 94, [(5, 33, 60, 90), (31, 11, 50, 28.7), (40, 60.3, 94, 126), (50, 30, 84.6, 60)]),
]  # fmt: skip
# Of each backbone alone; a plain transformer takes whole patches.
ODD = {"swin": (45, 75), "vit": (80, 112), "mvit": (45, 75)}
CHANNELS, CLASSES, FC, CANVAS = 16, 3, 32, 128
MAPS, GRADIENTS = 1000, 30  # values of a feature map and of a parameter's gradient
CONFIGS = {
    "swin": "cascade_mask_rcnn_swin_b_in21k_50ep.py",
    "vit": "mask_rcnn_vitdet_b_100ep.py",
    "mvit": "cascade_mask_rcnn_mvitv2_b_in21k_100ep.py",
}
FILES = {"detectron2_swin": ("swin",), "detectron2_vit": ("vit",), "detectron2_mvit": ("mvit",)}
# Windows are larger than the last map.
SWIN = {"embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "drop_path_rate": 0.0}
# A map of 8 x 8 cells is no multiple of a window; tables of global attention and of positions are resized.
VIT = {
    "img_size": 80, "embed_dim": 16, "depth": 4, "num_heads": 2, "drop_path_rate": 0.0, "window_size": 3,
    "window_block_indexes": [0, 2], "pretrain_img_size": 96,
}  # fmt: skip
# Windows of 8, 4 and 2 cells; the tables, made for maps of 20 cells, are resized.
MVIT = {
    "img_size": 80, "embed_dim": 8, "depth": 6, "num_heads": 1, "last_block_indexes": (0, 2, 4, 5),
    "drop_path_rate": 0.0, "adaptive_window_size": 8,
}  # fmt: skip


def build(checkout, case):
    model = LazyConfig.load(str(Path(checkout) / "projects/ViTDet/configs/COCO" / CONFIGS[case])).model
    backbone, heads, rpn = model.backbone, model.roi_heads, model.proposal_generator
    if case == "swin":
        backbone.bottom_up.update(SWIN)
    elif case == "mvit":
        backbone.bottom_up.update(MVIT)
    else:
        backbone.net.update(VIT)
    backbone.square_pad = CANVAS
    backbone.out_channels = rpn.head.in_channels = CHANNELS
    rpn.anchor_generator.sizes = [[10], [20], [40], [80], [160]]
    rpn.update(batch_size_per_image=64, pre_nms_topk=(70, 40), post_nms_topk=(80, 30))
    heads.update(num_classes=CLASSES, batch_size_per_image=100, positive_fraction=0.5)
    cascade = "box_heads" in heads
    for head in heads.box_heads if cascade else [heads.box_head]:
        head.input_shape.channels = CHANNELS
        head.update(conv_dims=[CHANNELS], fc_dims=[FC])
    for predictor in heads.box_predictors if cascade else [heads.box_predictor]:
        predictor.input_shape.channels = FC
        predictor.test_topk_per_image = 12
    heads.mask_head.input_shape.channels = CHANNELS
    heads.mask_head.conv_dims = [CHANNELS] * 2
    model = instantiate(model)
    state = model.state_dict()
    buffers = {k: v for k, v in state.items() if k.endswith("relative_position_index")}
    weights = {
        k: torch.from_numpy(seeded_detectron2_transformer_weight(k, tuple(v.shape))) for k, v in state.items()
    }
    model.load_state_dict(weights | buffers)
    return model


def inputs_of(scenes, training):
    inputs = []
    for scene in scenes:
        size = scene["image"].shape[:2]
        given = {"image": torch.as_tensor(scene["image"].astype("float32").transpose(2, 0, 1))}
        if training:
            objects = zip(scene["boxes"], scene["labels"], seeded_polygons(scene["boxes"]), strict=True)
            annotations = [
                {
                    "bbox": box.tolist(),
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": label,
                    "segmentation": outline,
                }
                for box, label, outline in objects
            ]
            given["instances"] = annotations_to_instances(annotations, size)
        inputs.append(given | {"height": size[0], "width": size[1]})
    return inputs


def predict(model, inputs):
    """The backbone's maps, by name, and what is found."""
    maps = {}
    hook = model.backbone.register_forward_hook(lambda part, x, out: maps.update(out))
    with torch.no_grad():
        found = model.eval().inference(inputs, do_postprocess=False)
    hook.remove()
    return {k: v.permute(0, 2, 3, 1).numpy() for k, v in maps.items()}, found


def losses_of(model, inputs):
    model.train().zero_grad()
    with EventStorage():
        values = model(inputs)
    sum(values.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters()}
    found = {}
    for name, value in values.items():
        plain, _, stage = name.partition("_stage")
        found[losses.LOSSES[plain] + (f"_stage{stage}" if stage else "")] = float(value.detach())
    return found, gradients


def record_maps(golden, prefix, maps, twins):
    for name, values in maps.items():
        print(f"  {name} {values.shape} rms {np.sqrt(np.mean(values**2)):.3g}", end="; float64: ")
        print(f"{np.abs(values - twins[name]).max() / np.abs(values).max():.0e}")
        golden[f"{prefix}/{name}/shape"] = np.array(values.shape)
        golden[f"{prefix}/{name}/values"] = sampled(name, values, MAPS)


def record_projection(golden, model, double, image):
    """Gradients of a random projection of the backbone's maps: behind a cascade they hang on rounding."""
    gradients = []
    for part, x in ((model, image), (double, image.double())):
        part.zero_grad()
        total = 0
        for name, y in part.backbone.bottom_up(x).items():
            n, c, h, w = y.shape
            factors = torch.from_numpy(seeded_projection(name, (n, h, w, c))).permute(0, 3, 1, 2)
            total = total + (y * factors.to(y.dtype)).sum()
        total.backward()
        # A bias of all keys changes no attention, so that its gradient is 0 but for rounding.
        own = {k: p.grad.clone() for k, p in part.named_parameters() if p.grad is not None}
        gradients.append({k: g for k, g in own.items() if not k.endswith("norm_k.bias")})
    ways = {k: float((g - gradients[1][k]).norm() / gradients[1][k].norm()) for k, g in gradients[0].items()}
    print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
    assert max(ways.values()) < 1e-4
    for name, gradient in gradients[0].items():
        norm = float(gradient.double().norm())
        golden[f"odd/gradient/{name}"] = np.append(sampled(name, gradient.numpy(), GRADIENTS), norm)


def record(golden, checkout, case):
    model = build(checkout, case)
    double = copy.deepcopy(model).double()
    scenes = [seeded_scene(*scene) for scene in SCENES]
    wide = [x | {"image": x["image"].double()} for x in inputs_of(scenes, False)]
    maps, found = predict(model, inputs_of(scenes, False))
    twin_maps, twins = predict(double, wide)
    print(case)
    record_maps(golden, f"{case}/maps", maps, twin_maps)
    for i, (instances, twin) in enumerate(zip(found, twins, strict=True)):
        labels, scores = instances.pred_classes.numpy(), instances.scores.numpy()
        boxes, masks = instances.pred_boxes.tensor.numpy(), instances.pred_masks[:, 0].numpy()
        print("  labels", labels, "scores", scores.round(3), "masks", masks.mean((1, 2)).round(2))
        print("  boxes", boxes.round(0).astype(int).tolist())
        assert (labels == twin.pred_classes.numpy()).all()
        assert np.abs(boxes - twin.pred_boxes.tensor.numpy()).max() < 2e-3
        for name, values in {"labels": labels, "scores": scores, "boxes": boxes, "masks": masks}.items():
            golden[f"{case}/{i}/{name}"] = values
    kept = {
        k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith("relative_position_index")
    }
    golden[f"{case}/names"] = json.dumps(kept)
    with torch.no_grad():
        image = torch.from_numpy(seeded_images(*ODD[case])).permute(0, 3, 1, 2)
        body = "net" if case == "vit" else "bottom_up"
        odd = [getattr(part.backbone, body)(x) for part, x in ((model, image), (double, image.double()))]
    golden["odd/size"] = ODD[case]
    record_maps(golden, "odd", *({k: v.permute(0, 2, 3, 1).numpy() for k, v in maps.items()} for maps in odd))
    if case == "mvit":
        record_projection(golden, model, double, image)
    if case in ("swin", "mvit"):
        return  # MMDetection's model of the first has its losses, and cascades are recorded elsewhere
    training = inputs_of(scenes, True)
    values, gradients = losses_of(model, training)
    twin, twins = losses_of(double, [x | {"image": x["image"].double()} for x in training])
    # Nothing recorded may hang on a rounding error.
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print("  ", values, "\n   float64:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()})
    print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
    assert max(ways.values()) < 1e-3
    for name, value in values.items():
        golden[f"{case}/train/{name}"] = np.float64(value)
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        assert norm, name
        golden[f"{case}/gradient/{name}"] = np.append(sampled(name, gradient.numpy(), GRADIENTS), norm)


def main(checkout, *names):
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    for name in names or FILES:
        golden = {
            "scenes": json.dumps(SCENES),
            "versions": f"{versions}, detectron2 {detectron2.__version__}",
        }
        for case in FILES[name]:
            record(golden, checkout, case)
        path = Path(__file__).with_name(f"{name}.npz")
        np.savez_compressed(path, **{k: np.asarray(v) for k, v in golden.items()})
        print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main(*sys.argv[1:])
