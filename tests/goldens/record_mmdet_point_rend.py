"""Record PointRend of MMDetection: its region heads in two variants, and a small detector with them.

Usage: python tests/goldens/record_mmdet_point_rend.py    (the tests need nothing of it)

"head" has the settings of point-rend_r50-caffe_fpn, from MMDetection's own config file, "other" different
ones. Both are given seeded maps and boxes (`point_rend_case.py`). "model" is the whole detector, from
images. ``torch.rand`` draws known numbers, and the random samplers take the lowest indices first.

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
from record_mmdet_cascade import roi_align_backward  # and its samplers
from record_mmdet_model import VERSIONS
from seeded_weights import sampled, seeded_scene

# isort: split
import mmdet  # only now, as record_mmdet_model.py makes it importable
from mmdet.models.roi_heads import point_rend_roi_head
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

assert sys.modules["mmcv._ext"].roi_align_backward is roi_align_backward
FILE = "configs/point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py"
# Of the detector: objects in the order of x1. The batch's canvas is 128 x 128, and nothing is resized.
SCENES = [
    (
        94,
        126,
        [(0.3, 19.6, 36.9, 54.6), (2.3, 1.2, 70.6, 66.5), (45.6, 30.3, 84.9, 91.2), (90, 44, 124.3, 92.6)],
    ),
    (126, 94, [(5.3, 33.1, 60.4, 90.2), (37.4, 57.2, 93.6, 121.5), (50.3, 30.2, 84.6, 60.7)]),
]
LOSSES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_bbox": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
    "loss_bbox": "loss_box_reg", "loss_mask": "loss_mask", "loss_point": "loss_mask_point",
}  # fmt: skip


def settings(variant):
    """MMDetection's own config, narrow."""
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / FILE)
    model, channels = config.model, case.CHANNELS if variant != "model" else 16
    heads, train, test = model.roi_head, model.train_cfg.rcnn, model.test_cfg.rcnn
    model.backbone |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model.neck |= {"in_channels": [8, 16, 32, 64], "out_channels": channels}
    model.rpn_head |= {"in_channels": channels, "feat_channels": channels}
    model.rpn_head.anchor_generator.scales = [2.5]
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = channels
    heads.bbox_head |= {"in_channels": channels, "fc_out_channels": 32, "num_classes": case.CLASSES}
    heads.mask_head |= {
        "in_channels": channels, "conv_out_channels": 8, "fc_out_channels": 24, "num_classes": case.CLASSES,
    }  # fmt: skip
    heads.point_head |= {"in_channels": channels, "fc_channels": 16, "num_classes": case.CLASSES}
    train |= {"num_points": 20}
    test |= {"subdivision_steps": 3, "subdivision_num_points": 200, "max_per_img": 10}
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    train.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    if variant == "other":
        heads.mask_roi_extractor |= {"featmap_strides": [4, 8], "out_channels": 2 * channels}
        heads.mask_roi_extractor.roi_layer.output_size = 12
        heads.mask_head |= {"in_channels": 2 * channels, "roi_feat_size": 12, "num_fcs": 1}
        heads.point_head |= {"in_channels": 2 * channels, "num_fcs": 2, "coarse_pred_each_layer": False}
        train |= {"mask_size": 6, "oversample_ratio": 2.5, "importance_sample_ratio": 0.6}
        test |= {"subdivision_num_points": 100}
    return config


def with_known_points(function):
    """Run a function whose random points are those of `SeededUniform`, and return them too."""
    uniform, plain, chosen = case.SeededUniform(), torch.rand, []
    module = sys.modules["mmdet.models.roi_heads.mask_heads.mask_point_head"]
    choose = module.get_uncertain_point_coords_with_randomness

    def remember(*arguments):
        chosen.append(choose(*arguments))
        return chosen[-1]

    torch.rand = lambda *shape, **options: torch.from_numpy(uniform(*shape))
    module.get_uncertain_point_coords_with_randomness = remember
    try:
        result = function()
    finally:
        torch.rand, module.get_uncertain_point_coords_with_randomness = plain, choose
    assert uniform.calls == 2
    return result, chosen[0].numpy()


def objects_of(scene):
    size = scene["image"].shape[:2]
    return InstanceData(
        bboxes=torch.from_numpy(scene["boxes"]),
        labels=torch.from_numpy(scene["labels"]),
        masks=BitmapMasks(scene["masks"].astype(np.uint8), *size),
    )


def record_head(variant):
    config = settings(variant)
    roi = copy.deepcopy(config.model.roi_head)
    roi |= {"train_cfg": config.model.train_cfg.rcnn, "test_cfg": config.model.test_cfg.rcnn}
    heads = MODELS.build(roi)
    names = {f"roi_head.{k}": tuple(v.shape) for k, v in heads.state_dict().items() if "bbox_head" not in k}
    weights = {k: torch.from_numpy(case.seeded_point_rend_weight(k, shape)) for k, shape in names.items()}
    heads.load_state_dict({k.removeprefix("roi_head."): v for k, v in weights.items()}, strict=False)
    golden = {"names": np.array(json.dumps(names)), "config": np.array(config.pretty_text)}
    maps = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_() for x in case.levels()]
    samples, objects, rois, labels = [], [], [], []
    for i, scene in enumerate(case.scenes()):
        boxes, index, own = (torch.from_numpy(x) for x in case.regions(i, "mmdet"))
        samples.append(types.SimpleNamespace(
            pos_priors=boxes, pos_bboxes=boxes, pos_gt_labels=own, pos_assigned_gt_inds=index
        ))  # fmt: skip
        objects.append(objects_of(scene))
        rois.append(bbox2roi([boxes]))
        labels.append(own)

    results, points = with_known_points(lambda: heads.train().mask_loss(maps, samples, None, objects))
    values = {LOSSES[k]: v.sum() for k, v in results["loss_mask"].items()}
    sum(values.values()).backward()
    print(variant, {k: float(v.detach()) for k, v in values.items()})
    golden["points"] = points
    golden |= {f"losses/{k}": np.float64(v.detach()) for k, v in values.items()}
    gradients = {f"roi_head.{k}": p.grad for k, p in heads.named_parameters() if p.grad is not None}
    gradients |= {f"p{i + 2}": x.grad.permute(0, 2, 3, 1) for i, x in enumerate(maps) if x.grad is not None}
    for name, gradient in gradients.items():
        values = sampled(name, gradient.contiguous().numpy(), 100)
        golden[f"gradient/{name}"] = np.append(values, gradient.double().norm())

    # Every map before it is enlarged, the points that are chosen, and the last map; image by image.
    images = []
    with torch.no_grad():
        for i, (own_rois, own_labels) in enumerate(zip(rois, labels, strict=True)):
            steps, chosen, plain = [], [], torch.nn.functional.interpolate
            choose = heads.point_head.get_roi_rel_points_test

            def interpolate(x, steps=steps, plain=plain, **options):
                steps.append(x.clone())
                return plain(x, **options)

            def remember(*arguments, chosen=chosen, choose=choose, **options):
                found = choose(*arguments, **options)
                chosen.append(found[0])
                return found

            point_rend_roi_head.F = types.SimpleNamespace(interpolate=interpolate)
            heads.point_head.get_roi_rel_points_test = remember
            alone = [x[[i]] for x in maps]
            coarse = heads.eval()._mask_forward(alone, own_rois)["mask_preds"]
            last = heads._mask_point_forward_test(alone, own_rois, own_labels, coarse)
            point_rend_roi_head.F, heads.point_head.get_roi_rel_points_test = torch.nn.functional, choose
            rows = torch.arange(len(own_labels))
            # Where a subdivision predicts nothing, the map is not one of those that are compared.
            first = len(steps) - len(chosen)
            own = [x[rows, own_labels].numpy() for x in [*steps[first:], last]]
            if first or own[0].shape[-1] == coarse.shape[-1] and variant == "head":
                own, chosen = own[1:], chosen[1:]
            images.append((coarse.permute(0, 2, 3, 1).numpy(), own, [np.sort(x.numpy(), 1) for x in chosen]))
    golden["coarse"] = np.concatenate([x[0] for x in images])
    for k in range(len(images[0][1])):
        golden[f"map{k}"] = np.concatenate([x[1][k] for x in images])
        print("  map", golden[f"map{k}"].shape, golden[f"map{k}"].mean(), golden[f"map{k}"].std())
    for k in range(len(images[0][2])):
        golden[f"chosen{k}"] = np.concatenate([x[2][k] for x in images]).astype(np.int32)
    return {f"{variant}/{k}": v for k, v in golden.items()}


def record_model():
    config = settings("model")
    model = MODELS.build(copy.deepcopy(config.model))
    weights = {}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        weights[name] = torch.as_tensor(case.seeded_detector_weight(name, shape, "mmdet"))
    model.load_state_dict(weights)
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in weights.items()}), "scenes": json.dumps(SCENES),
        "config": config.pretty_text,
    }  # fmt: skip
    golden = {k: np.array(v) for k, v in golden.items()}

    def load(places, training):
        inputs, samples = [], []
        for place in places:
            scene, shape = seeded_scene(*place), place[:2]
            bgr = np.ascontiguousarray(scene["image"][..., ::-1].transpose(2, 0, 1))
            inputs.append(torch.from_numpy(bgr))
            meta = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
            sample = DetDataSample(metainfo=meta)
            sample.gt_instances = objects_of(scene)
            samples.append(sample)
        return model.data_preprocessor({"inputs": inputs, "data_samples": samples}, training)

    data, used = load(SCENES, True), []
    heads = model.roi_head
    plain = heads._mask_point_loss

    def remember(**arguments):
        used.append([x.pos_bboxes for x in arguments["sampling_results"]])
        return plain(**arguments)

    heads._mask_point_loss = remember
    found, points = with_known_points(lambda: model.train().loss(data["inputs"], data["data_samples"]))
    heads._mask_point_loss = plain
    values = {LOSSES[k]: sum(v) if isinstance(v, list) else v.sum() for k, v in found.items() if k in LOSSES}
    sum(values.values()).backward()
    print({k: float(v.detach()) for k, v in values.items()}, [len(x) for x in used[0]])
    first = 0
    for i, boxes in enumerate(used[0]):
        golden |= {f"regions/{i}": boxes.numpy(), f"points/{i}": points[first : first + len(boxes)]}
        first += len(boxes)
    golden |= {f"losses/{k}": np.float64(v.detach()) for k, v in values.items()}
    for name, parameter in model.named_parameters():
        if (gradient := parameter.grad) is not None:
            golden[f"gradient/{name}"] = np.append(
                sampled(name, gradient.numpy(), 60), gradient.double().norm()
            )
    with torch.no_grad():
        for i, place in enumerate(SCENES):
            one = load([place], False)
            out = model.eval().predict(one["inputs"], one["data_samples"], rescale=True)[0].pred_instances
            print(i, len(out), out.scores[:4].numpy(), out.labels.numpy())
            golden |= {
                f"found/{i}/boxes": out.bboxes.numpy(), f"found/{i}/scores": out.scores.numpy(),
                f"found/{i}/labels": out.labels.numpy(),
                f"found/{i}/masks": np.packbits(np.asarray(out.masks), axis=-1),
            }  # fmt: skip
    return {f"model/{k}": v for k, v in golden.items()}


def main():
    golden = record_head("head") | record_head("other") | record_model()
    path = Path(__file__).with_name("mmdet_point_rend.npz")
    np.savez_compressed(path, **golden, versions=np.array(VERSIONS))
    print(path, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    main()
