"""Record a small MMDetection cascade: every stage of its prediction, its losses and their gradients.

Usage: python tests/goldens/record_mmdet_cascade.py    (the tests need nothing of it)

Two models: "masks" has the settings of cascade-mask-rcnn_r50_fpn, from MMDetection's own config file, narrow
and on a ResNet-18; "boxes" has no mask heads, and predicts a box for each class. Weights are made from their
names. What the cascade gets is recorded: feature maps, which are rounded to half precision, so that the tests
need no backbone. "train/" has losses and gradients of the whole model, from the images, "heads/" those of all
parts behind the rounded feature maps, with the maps' own gradients.

The environment is described in `record_mmdet_model.py`, whose stand-ins are used. In addition the gradient of
RoIAlign is torchvision's (mmcv-lite has none), and the random samplers take the lowest indices first.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from record_mmdet_model import VERSIONS, channels_last
from seeded_weights import sampled, seeded_mmdet_cascade_weight, seeded_scene

# isort: split
import mmdet  # only now, as record_mmdet_model.py makes it importable
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

# Height, width, boxes in the order of x1, of which no two anchors have the same IoU. The batch's canvas is
# 128 x 128, and nothing is resized.
SCENES = [
    (
        94, 126,
        [
            (0.3, 19.6, 36.9, 54.6), (2.3, 1.2, 70.6, 66.5), (45.6, 30.3, 84.9, 91.2),
            (90.2, 44.1, 124.3, 92.6), (100.7, 5.2, 117.4, 16.1),
        ],
    ),
    (
        126, 94,
        [
            (5.3, 33.1, 60.4, 90.2), (35.1, 8.1, 48.4, 26.0), (37.4, 57.2, 93.6, 121.5),
            (50.3, 30.2, 84.6, 60.7),
        ],
    ),
]  # fmt: skip
CLASSES, CHANNELS, STAGES = 3, 16, range(3)
GRADIENTS, MAP_GRADIENTS = 30, 1500  # values of a parameter's and of a feature map's gradient
FILE = "configs/cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py"


def roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input, aligned_height, aligned_width,
                       spatial_scale, sampling_ratio, pool_mode, aligned):  # fmt: skip
    assert pool_mode == 1
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio,
        aligned,
    )  # fmt: skip


sys.modules["mmcv._ext"].roi_align_backward = roi_align_backward
RandomSampler.random_choice = lambda self, gallery, num: gallery[:num]


def settings(variant):
    """MMDetection's own config, narrow."""
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / FILE)
    model = config.model
    model.backbone |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model.neck |= {"in_channels": [8, 16, 32, 64], "out_channels": CHANNELS}
    rpn, heads = model.rpn_head, model.roi_head
    rpn |= {"in_channels": CHANNELS, "feat_channels": CHANNELS}
    rpn.anchor_generator.scales = [2.5]
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = CHANNELS
    for head in heads.bbox_head:
        head |= {
            "in_channels": CHANNELS, "fc_out_channels": 32, "num_classes": CLASSES,
            "reg_class_agnostic": variant == "masks",
        }  # fmt: skip
    heads.mask_head |= {
        "num_convs": 1, "in_channels": CHANNELS, "conv_out_channels": CHANNELS, "num_classes": CLASSES,
    }  # fmt: skip
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    for stage in model.train_cfg.rcnn:
        stage.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    model.test_cfg.rcnn.max_per_img = 20
    if variant == "boxes":
        del heads.mask_head, heads.mask_roi_extractor, model.test_cfg.rcnn.mask_thr_binary
        for stage in model.train_cfg.rcnn:
            del stage.mask_size
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    return config


def build(config):
    model = MODELS.build(copy.deepcopy(config.model))
    state = model.state_dict()
    model.load_state_dict(
        {k: torch.as_tensor(seeded_mmdet_cascade_weight(k, tuple(v.shape))) for k, v in state.items()}
    )
    return model


def load(model, training):
    """The images and their objects, as the model's preprocessor puts them out."""
    inputs, samples = [], []
    for place in SCENES:
        scene = seeded_scene(*place)
        inputs.append(torch.from_numpy(np.ascontiguousarray(scene["image"][..., ::-1].transpose(2, 0, 1))))
        shape = place[:2]
        sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)})
        masks = BitmapMasks(scene["masks"].astype(np.uint8), *shape)
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(scene["boxes"]), labels=torch.from_numpy(scene["labels"]), masks=masks
        )
        samples.append(sample)
    return model.data_preprocessor({"inputs": inputs, "data_samples": samples}, training)


def watch(model):
    """Lists of what each stage gets and puts out, filled while the heads run, and a function that ends it."""
    seen, hooks = {"boxes": [], "logits": [], "deltas": []}, []

    def pooled(part, inputs, output):
        rois = inputs[1].detach()
        seen["boxes"].append([rois[rois[:, 0] == i, 1:] for i in range(len(SCENES))])

    def predicted(part, inputs, output):
        for name, value in zip(("logits", "deltas"), output, strict=True):
            seen[name].append(value.detach().split([len(b) for b in seen["boxes"][-1]]))

    for k in STAGES:
        hooks.append(model.roi_head.bbox_roi_extractor[k].register_forward_hook(pooled))
        hooks.append(model.roi_head.bbox_head[k].register_forward_hook(predicted))

    def end():
        for hook in hooks:
            hook.remove()

    return seen, end


@torch.no_grad()
def predict(model, data, levels=None):
    """The levels, and for each image what every stage puts out; masks in the network's resolution."""
    model.eval()
    if levels is None:
        levels = [x.half().to(x.dtype) for x in model.extract_feat(data["inputs"])]
    samples, heads = data["data_samples"], model.roi_head
    metas = [sample.metainfo for sample in samples]
    proposals = model.rpn_head.predict(levels, samples, rescale=False)
    seen, end = watch(model)
    found = heads.predict_bbox(levels, metas, copy.deepcopy(proposals), heads.test_cfg, rescale=False)
    end()
    images = []
    for i, instances in enumerate(found):
        image = {
            "size": np.array(metas[i]["img_shape"]),
            "proposals": proposals[i].bboxes.numpy(),
            "boxes": instances.bboxes.numpy(),
            "scores": instances.scores.numpy(),
            "labels": instances.labels.numpy(),
        }
        for k in STAGES:
            for name in ("boxes", "logits", "deltas"):
                image[f"{name}{k}"] = seen[name][k][i].numpy()
        if heads.with_mask:
            rois = torch.cat([instances.bboxes.new_full((len(instances), 1), i), instances.bboxes], 1)
            stages = [heads._mask_forward(k, levels, rois)["mask_preds"].sigmoid() for k in STAGES]
            own = torch.stack([x[range(len(rois)), instances.labels] for x in stages])
            image["masks"] = own.mean(0).numpy()
            print("  masks of the stages differ by", (own[0] - own[2]).abs().mean().item())
        images.append(image)
    return levels, images


def losses_of(model, data, levels=None):
    """Losses and gradients, of the model or of what is behind given levels, and each stage's regions."""
    model.train().zero_grad()
    samples = copy.deepcopy(data["data_samples"])
    given = levels is not None
    levels = [x.clone().requires_grad_() for x in levels] if given else model.extract_feat(data["inputs"])
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.to(levels[0].dtype)
    seen, end = watch(model)
    plain = copy.deepcopy(samples)
    for sample in plain:
        sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    values, proposals = model.rpn_head.loss_and_predict(
        levels, plain, proposal_cfg=model.train_cfg.rpn_proposal
    )
    values = {
        "loss_objectness": sum(values["loss_rpn_cls"]), "loss_rpn_box_reg": sum(values["loss_rpn_bbox"]),
    }  # fmt: skip
    for name, value in model.roi_head.loss(levels, proposals, samples).items():
        stage, _, kind = name.partition(".")
        if "loss" in kind:
            values[f"{NAMES[kind]}_stage{stage[1:]}"] = value
    end()
    sum(values.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    if given:
        gradients |= {f"p{i + 2}": x.grad.permute(0, 2, 3, 1) for i, x in enumerate(levels[:4])}
    return {k: float(v.detach()) for k, v in values.items()}, gradients, seen


# This library's names of the losses.
NAMES = {"loss_cls": "loss_classifier", "loss_bbox": "loss_box_reg", "loss_mask": "loss_mask"}


def record_losses(golden, case, single, double):
    """Nothing recorded may hang on a rounding error: in float64 the losses and gradients are the same."""
    (values, gradients, _), (twin, twins, _) = single, double
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print(case, values, "\n  float64:", {k: abs(v - twin[k]) for k, v in values.items()}, max(ways.values()))
    assert max(ways.values()) < 1e-4 and max(abs(v / twin[k] - 1) for k, v in values.items()) < 1e-5
    golden |= {f"{case}/{name}": np.float64(value) for name, value in values.items()}
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        of_map = name[0] == "p" and len(name) == 2
        assert norm, name
        count = MAP_GRADIENTS if of_map else GRADIENTS
        golden[f"{case}/gradient/{name}"] = np.append(
            sampled(name, gradient.contiguous().numpy(), count), norm
        )


def check_masks(scene, boxes):
    """No value of a target is so near to the threshold that rounding errors decide."""
    iou = torchvision.ops.box_iou(torch.from_numpy(scene["boxes"]), boxes)
    for mask, overlaps in zip(torch.from_numpy(scene["masks"]).double(), iou, strict=True):
        rois = torch.nn.functional.pad(boxes[overlaps >= 0.5].double(), (1, 0))
        values = torchvision.ops.roi_align(mask[None, None], rois, 28, 1.0, 0, True)
        near = (values - 0.5).abs().amin((1, 2, 3))
        assert near.min() > 1e-6, (near, rois)


def record(variant):
    config = settings(variant)
    model = build(config)
    double = copy.deepcopy(model).double()
    names = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    golden = {
        "names": json.dumps(names), "scenes": json.dumps(SCENES), "config": config.pretty_text,
        "versions": VERSIONS,
    }  # fmt: skip
    golden = {k: np.array(v) for k, v in golden.items()}
    data = load(model, False)
    levels, images = predict(model, data)
    golden |= {f"levels/p{i + 2}": channels_last(x).astype(np.float16) for i, x in enumerate(levels)}
    wide = [x.double() for x in levels]
    twins = predict(double, data, wide)[1]
    for i, (image, twin) in enumerate(zip(images, twins, strict=True)):
        print(
            variant,
            i,
            len(image["proposals"]),
            "proposals, labels",
            image["labels"],
            image["scores"].round(3),
        )
        moved = [np.abs(image[f"boxes{k + 1}"] - image[f"boxes{k}"]).mean() for k in (0, 1)]
        print("  boxes move by", moved, "px; logits", [image[f"logits{k}"].std() for k in STAGES])
        assert (image["labels"] == twin["labels"]).all()
        for name in ("proposals", "boxes"):
            assert np.abs(image[name] - twin[name]).max() < 1e-3
        golden |= {f"{i}/{name}": values for name, values in image.items()}
    data = load(model, True)
    single, twin = losses_of(model, data, levels), losses_of(double, data, wide)
    record_losses(golden, "heads", single, twin)
    for k in STAGES:
        for i, boxes in enumerate(single[2]["boxes"][k]):
            golden[f"heads/{i}/regions{k}"] = boxes.numpy()
            if variant == "masks":
                check_masks(seeded_scene(*SCENES[i]), boxes)
        print(f"  stage {k}: regions", [len(boxes) for boxes in single[2]["boxes"][k]])
    if variant == "masks":
        record_losses(
            golden,
            "train",
            losses_of(model, data),
            losses_of(double, {**data, "inputs": data["inputs"].double()}),
        )
    path = Path(__file__).with_name(f"mmdet_cascade_{variant}.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    for name in ("masks", "boxes"):
        record(name)
