"""Record a small Panoptic FPN of Detectron2: semantic head, segments, losses and gradients.

Usage: python tests/goldens/record_detectron2_panoptic.py    (needs torch and detectron2; the tests do not)
"""

import json
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data import transforms
from detectron2.data.detection_utils import annotations_to_instances, transform_instance_annotations
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import roi_heads
from detectron2.structures import BoxMode, Instances
from detectron2.utils.events import EventStorage
from record_detectron2_losses import lowest_first
from record_detectron2_model import COMMON
from seeded_weights import (
    SEGMENT_AREA,
    sampled,
    seeded_entropy,
    seeded_panoptic_weight,
    seeded_polygons,
    seeded_projection,
    seeded_scene,
    seeded_segments,
    seeded_stuff,
)

STUFF, DIM = 4, 32
SCENES = [
    (130, 164, [(0, 20.5, 41, 60), (2, 1, 158, 129), (45.5, 30, 85, 111.2), (100, 64, 164, 130)]),
    (310, 230, [(5, 33, 90, 166), (60, 180.3, 230, 310), (111, 20, 140, 58.7)]),
]
SETTINGS = COMMON | {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": STUFF + 1,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": DIM,
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.5,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 300,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.3,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 70,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 150,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 160,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "INPUT.MIN_SIZE_TEST": 158,
    "INPUT.MAX_SIZE_TEST": 200,
}
LOSSES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_loc": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg", "loss_mask": "loss_mask", "loss_sem_seg": "loss_semantic",
}  # fmt: skip
rpn.subsample_labels = roi_heads.subsample_labels = lowest_first


def build():
    cfg = get_cfg()
    for key, value in SETTINGS.items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg)
    weights = {
        name: torch.from_numpy(seeded_panoptic_weight(name, tuple(v.shape), "detectron2"))
        for name, v in model.state_dict().items()
    }
    model.load_state_dict(weights)
    return cfg, model


def inputs_of(cfg, scenes):
    """What Detectron2's DatasetMapper gives a model in training."""
    inputs = []
    for scene in scenes:
        image = np.ascontiguousarray(scene["image"][:, :, ::-1])
        resize = transforms.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        given = transforms.AugInput(image, sem_seg=seeded_stuff(scene, STUFF))
        done = transforms.AugmentationList([resize])(given)
        annotations = [
            transform_instance_annotations(
                {
                    "bbox": box.tolist(), "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(label),
                    "segmentation": polygons,
                },
                done, given.image.shape[:2],
            )
            for box, label, polygons in zip(
                scene["boxes"], scene["labels"], seeded_polygons(scene["boxes"]), strict=True
            )
        ]  # fmt: skip
        tensor = torch.as_tensor(np.ascontiguousarray(given.image.astype("float32").transpose(2, 0, 1)))
        inputs.append({
            "image": tensor,
            "instances": annotations_to_instances(annotations, given.image.shape[:2]),
            "sem_seg": torch.as_tensor(given.sem_seg.astype("long")),
            "height": image.shape[0],
            "width": image.shape[1],
        })  # fmt: skip
    return inputs


def functions():
    """The combination, and the loss of given logits."""
    golden = {}
    for i in range(4):
        given = seeded_segments(i)
        instances = Instances(
            (120, 160), scores=torch.tensor(given["scores"]), pred_classes=torch.tensor(given["labels"]),
            pred_masks=torch.tensor(given["masks"]),
        )  # fmt: skip
        panoptic, segments = combine_semantic_and_instance_outputs(
            instances, torch.tensor(given["semantic"]), 0.5, SEGMENT_AREA, 0.5
        )
        golden[f"combined/{i}"] = panoptic.numpy().astype(np.uint8)
        golden[f"segments/{i}"] = np.array([[s["id"], s["category_id"], s["isthing"]] for s in segments])
    levels = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
    head = SemSegFPNHead(
        levels, num_classes=5, conv_dims=32, common_stride=4, loss_weight=0.5, norm="GN", ignore_value=255
    )
    logits, labels = seeded_entropy()
    given = torch.tensor(logits, requires_grad=True)
    loss = head.losses(given, torch.tensor(labels.astype(np.int64)))["loss_sem_seg"]
    loss.backward()
    return golden | {"entropy": np.float64(loss.detach()), "entropy/gradient": given.grad.numpy()}


def main():
    cfg, model = build()
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES),
        "yaml": cfg.dump(),
        "versions": f"torch {torch.__version__}, detectron2 {detectron2.__version__}",
    }
    golden = {k: np.array(v) for k, v in golden.items()} | functions()
    head = model.sem_seg_head
    given = {
        f"p{i}": torch.from_numpy(seeded_projection(f"p{i}", (2, 32, 128 >> i, 192 >> i)))
        for i in range(2, 6)
    }
    with torch.no_grad():
        for i, branch in enumerate(head.scale_heads):
            golden[f"branch/{i}"] = sampled(f"branch{i}", branch(given[f"p{i + 2}"]).numpy(), 3000)
        golden["head"] = sampled("head", head.layers(given).numpy(), 3000)
    scenes = [seeded_scene(*scene) for scene in SCENES]
    inputs = inputs_of(cfg, scenes)
    for i, x in enumerate(inputs):
        golden[f"labels/{i}"] = x["sem_seg"].numpy().astype(np.uint8)
    with EventStorage():
        values = model.train()(inputs)
        sum(values.values()).backward()
    print({k: float(v.detach()) for k, v in values.items()})
    golden |= {f"losses/{LOSSES[k]}": np.float64(v.detach()) for k, v in values.items()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        golden[f"gradient/{name}"] = np.append(sampled(name, gradient.numpy(), 100), gradient.double().norm())
    with torch.no_grad():
        # One by one, as ours are predicted.
        for i, x in enumerate(inputs):
            out = model.eval()([x])[0]
            panoptic, segments = out["panoptic_seg"]
            print(i, len(out["instances"]), out["instances"].scores[:5].numpy(), segments)
            logits = out["sem_seg"].numpy()
            golden[f"found/{i}/logits"] = sampled(f"logits{i}", logits, 3000)
            golden[f"found/{i}/semantic"] = logits.argmax(0).astype(np.uint8)
            golden[f"found/{i}/panoptic"] = panoptic.numpy().astype(np.uint8)
            golden[f"found/{i}/segments"] = np.array([
                [s["id"], s["category_id"], s["isthing"], s.get("score", 0)] for s in segments
            ])  # fmt: skip
            print(np.bincount(logits.argmax(0).ravel()), np.bincount(panoptic.numpy().ravel()))
    path = Path(__file__).with_name("detectron2_panoptic.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
