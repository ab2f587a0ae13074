"""Record Mask Scoring R-CNN of MMDetection: its mask heads with given maps and boxes, and a small detector.

Usage: python tests/goldens/record_mmdet_mask_scoring.py    (the tests need nothing of it)

"head" has region heads with few layers, which are given the seeded maps and boxes of `point_rend_case.py`:
losses, the IoUs that are predicted and learned, and gradients. "model" is a detector with the settings of
ms-rcnn_r50_fpn, from MMDetection's own config file, narrow: losses and gradients from images, and detections.
The random samplers take the lowest indices first.

The environment is described in `record_mmdet_model.py`, whose stand-ins are used.
"""

import copy
import json
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import point_rend_case as case
import torch
from record_mmdet_cascade import SCENES, roi_align_backward  # and its samplers
from record_mmdet_model import VERSIONS
from seeded_weights import sampled, seeded_mask_scoring_weight, seeded_scene

# isort: split
import mmdet  # only now, as record_mmdet_model.py makes it importable
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

assert sys.modules["mmcv._ext"].roi_align_backward is roi_align_backward
FILE = "configs/ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py"
LOSSES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_bbox": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
    "loss_bbox": "loss_box_reg", "loss_mask": "loss_mask", "loss_mask_iou": "loss_mask_iou",
}  # fmt: skip


def settings(variant):
    """MMDetection's own config, narrow."""
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / FILE)
    model, channels = config.model, case.CHANNELS if variant == "head" else 16
    heads, train = model.roi_head, model.train_cfg.rcnn
    model.backbone |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model.neck |= {"in_channels": [8, 16, 32, 64], "out_channels": channels}
    model.rpn_head |= {"in_channels": channels, "feat_channels": channels}
    model.rpn_head.anchor_generator.scales = [2.5]
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = channels
    heads.bbox_head |= {"in_channels": channels, "fc_out_channels": 32, "num_classes": case.CLASSES}
    heads.mask_head |= {"in_channels": channels, "conv_out_channels": channels, "num_classes": case.CLASSES}
    heads.mask_iou_head |= {
        "in_channels": channels, "conv_out_channels": 12, "fc_out_channels": 24, "num_classes": case.CLASSES,
    }  # fmt: skip
    if variant == "head":
        heads.mask_head.num_convs, heads.mask_iou_head.num_convs, heads.mask_iou_head.num_fcs = 1, 2, 1
        heads.mask_iou_head.loss_iou = {"type": "MSELoss", "loss_weight": 0.7}
        train.mask_thr_binary = 0.25
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    train.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    model.test_cfg.rcnn.max_per_img = 10
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    return config


def objects_of(scene):
    size = scene["image"].shape[:2]
    return InstanceData(
        bboxes=torch.from_numpy(scene["boxes"]),
        labels=torch.from_numpy(scene["labels"]),
        masks=BitmapMasks(scene["masks"].astype(np.uint8), *size),
    )


def filled(module, prefix=""):
    """The module with seeded weights, and their shapes by name."""
    names = {f"{prefix}{k}": tuple(v.shape) for k, v in module.state_dict().items()}
    weights = {k: torch.as_tensor(seeded_mask_scoring_weight(k, shape)) for k, shape in names.items()}
    module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()})
    return module, names


def gradients_of(golden, gradients, count):
    for name, gradient in gradients.items():
        values = sampled(name, gradient.contiguous().numpy(), count)
        golden[f"gradient/{name}"] = np.append(values, gradient.double().norm())


def watch(head, threshold):
    """Lists of what the IoU head puts out and of what it learns, filled while it runs."""
    seen, plain = {"ious": [], "targets": []}, head.get_targets
    head.register_forward_hook(lambda part, given, ious: seen["ious"].append(ious.detach()))

    def get_targets(**given):
        # No cell is so near to the threshold that rounding errors decide.
        assert (given["mask_preds"] - threshold).abs().min() > 1e-6
        seen["targets"].append(plain(**given).detach())
        return seen["targets"][-1]

    head.get_targets = get_targets
    return seen


def record_head():
    config = settings("head")
    roi = copy.deepcopy(config.model.roi_head)
    roi |= {"train_cfg": config.model.train_cfg.rcnn, "test_cfg": config.model.test_cfg.rcnn}
    heads, names = filled(MODELS.build(roi), "roi_head.")
    names = {k: shape for k, shape in names.items() if "bbox_head" not in k}
    golden = {"names": np.array(json.dumps(names)), "config": np.array(config.pretty_text)}
    maps = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_() for x in case.levels()]
    samples, objects, rois, labels = [], [], [], []
    for i, scene in enumerate(case.scenes()):
        boxes, index, own = (torch.from_numpy(x) for x in case.regions(i, "mmdet"))
        samples.append(types.SimpleNamespace(
            pos_priors=boxes, pos_bboxes=boxes, pos_gt_labels=own, pos_assigned_gt_inds=index
        ))  # fmt: skip
        objects.append(objects_of(scene))
        rois.append(torch.cat([torch.full((len(boxes), 1), float(i)), boxes], 1))
        labels.append(own)
    seen = watch(heads.mask_iou_head, 0.25)
    results = heads.train().mask_loss(maps, samples, None, objects)
    values = {k: v.sum() for k, v in results["loss_mask"].items()}
    sum(values.values()).backward()
    golden |= {f"losses/{k}": np.float64(v.detach()) for k, v in values.items()}
    golden |= {"ious": seen["ious"][0].numpy(), "targets": seen["targets"][0].numpy()}
    gradients = {f"roi_head.{k}": p.grad for k, p in heads.named_parameters() if p.grad is not None}
    gradients |= {f"p{i + 2}": x.grad.permute(0, 2, 3, 1) for i, x in enumerate(maps) if x.grad is not None}
    gradients_of(golden, gradients, 100)
    with torch.no_grad():
        masks = heads._mask_forward(maps, torch.cat(rois))["mask_preds"]
    golden["masks"] = masks[range(len(masks)), torch.cat(labels)].numpy()
    print({k: float(v.detach()) for k, v in values.items()}, golden["targets"], golden["ious"])
    return {f"head/{k}": v for k, v in golden.items()}


def record_model():
    config = settings("model")
    model, names = filled(MODELS.build(copy.deepcopy(config.model)))
    golden = {
        "names": json.dumps(names), "scenes": json.dumps(SCENES), "config": config.pretty_text,
    }  # fmt: skip
    golden = {k: np.array(v) for k, v in golden.items()}

    def load(places, training):
        inputs, samples = [], []
        for place in places:
            scene, shape = seeded_scene(*place), place[:2]
            bgr = np.ascontiguousarray(scene["image"][..., ::-1].transpose(2, 0, 1))
            inputs.append(torch.from_numpy(bgr))
            sample = DetDataSample(
                metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
            )
            sample.gt_instances = objects_of(scene)
            samples.append(sample)
        return model.data_preprocessor({"inputs": inputs, "data_samples": samples}, training)

    data, seen = load(SCENES, True), watch(model.roi_head.mask_iou_head, 0.5)
    found = model.train().loss(data["inputs"], data["data_samples"])
    values = {LOSSES[k]: sum(v) if isinstance(v, list) else v.sum() for k, v in found.items() if k in LOSSES}
    sum(values.values()).backward()
    print({k: float(v.detach()) for k, v in values.items()}, seen["targets"][0].numpy().round(3))
    golden |= {f"losses/{k}": np.float64(v.detach()) for k, v in values.items()}
    gradients_of(golden, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}, 60)
    with torch.no_grad():
        for i, place in enumerate(SCENES):
            one = load([place], False)
            out = model.eval().predict(one["inputs"], one["data_samples"], rescale=True)[0].pred_instances
            print(i, len(out), out.scores.numpy(), out.labels.numpy())
            golden |= {
                f"found/{i}/boxes": out.bboxes.numpy(), f"found/{i}/scores": out.scores.numpy(),
                f"found/{i}/labels": out.labels.numpy(),
                f"found/{i}/masks": np.packbits(np.asarray(out.masks), axis=-1),
            }  # fmt: skip
    return {f"model/{k}": v for k, v in golden.items()}


def main():
    golden = record_head() | record_model()
    path = Path(__file__).with_name("mmdet_mask_scoring.npz")
    np.savez_compressed(path, **golden, versions=np.array(VERSIONS))
    print(path, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    main()
