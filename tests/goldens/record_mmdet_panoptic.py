"""Record a small Panoptic FPN of MMDetection: semantic head, segments, losses and gradients.

Usage: python tests/goldens/record_mmdet_panoptic.py    (the tests need nothing of it)

The model has the settings of panoptic-fpn_r50_fpn_1x_coco, from MMDetection's own config file, narrow and on
a ResNet-18. The environment is described in `record_mmdet_model.py`, whose stand-ins are used, as are those
of `record_mmdet_cascade.py` for training.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from record_mmdet_cascade import NAMES, SCENES
from record_mmdet_model import VERSIONS
from seeded_weights import (
    SEGMENT_AREA,
    sampled,
    seeded_entropy,
    seeded_panoptic_weight,
    seeded_projection,
    seeded_scene,
    seeded_segments,
    seeded_stuff,
)

# isort: split
import mmdet  # only now, as record_mmdet_model.py makes it importable
from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData

CLASSES, STUFF, CHANNELS, DIM = 3, 4, 16, 32
FILE = "configs/panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"


def settings():
    """MMDetection's own config, narrow."""
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / FILE)
    model = config.model
    model.backbone |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model.neck |= {"in_channels": [8, 16, 32, 64], "out_channels": CHANNELS}
    rpn, heads = model.rpn_head, model.roi_head
    rpn |= {"in_channels": CHANNELS, "feat_channels": CHANNELS}
    rpn.anchor_generator.scales = [2.5]
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = CHANNELS
    heads.bbox_head |= {"in_channels": CHANNELS, "fc_out_channels": 32, "num_classes": CLASSES}
    heads.mask_head |= {
        "num_convs": 1, "in_channels": CHANNELS, "conv_out_channels": CHANNELS, "num_classes": CLASSES,
    }  # fmt: skip
    model.semantic_head |= {
        "num_things_classes": CLASSES, "num_stuff_classes": STUFF, "in_channels": CHANNELS,
        "inner_channels": DIM,
    }  # fmt: skip
    model.panoptic_fusion_head |= {"num_things_classes": CLASSES, "num_stuff_classes": STUFF}
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    model.train_cfg.rcnn.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    model.test_cfg.rcnn |= {"max_per_img": 20, "score_thr": 0.3}
    model.test_cfg.panoptic.stuff_area_limit = 300
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    return config


def build(config):
    model = MODELS.build(copy.deepcopy(config.model))
    state = model.state_dict()
    model.load_state_dict(
        {k: torch.as_tensor(seeded_panoptic_weight(k, tuple(v.shape), "mmdet")) for k, v in state.items()}
    )
    return model


def load(model, training):
    """The images, their objects and the labels of their pixels, as the model's preprocessor puts them out."""
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
        # Things have labels of their own, and stuff those behind them.
        stuff = seeded_stuff(scene, STUFF).astype(np.int64)
        labels = np.where((stuff > 0) & (stuff < 255), stuff + CLASSES - 1, stuff)
        for mask, label in zip(scene["masks"], scene["labels"], strict=True):
            labels[mask] = label
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(labels)[None])
        samples.append(sample)
    return model.data_preprocessor({"inputs": inputs, "data_samples": samples}, training)


def functions():
    """The combination, and the loss of given logits."""
    golden = {}
    test = ConfigDict(mask_overlap=0.5, stuff_area_limit=SEGMENT_AREA)
    fusion = HeuristicFusionHead(num_things_classes=CLASSES, num_stuff_classes=STUFF, test_cfg=test)
    for i in range(4):
        given = seeded_segments(i)
        kept = given["scores"] >= 0.5
        found = InstanceData(
            bboxes=torch.zeros(kept.sum(), 4), scores=torch.tensor(given["scores"][kept]),
            labels=torch.tensor(given["labels"][kept]), masks=torch.tensor(given["masks"][kept]),
        )  # fmt: skip
        # Its last class is all things.
        channel = np.where(given["semantic"] == 0, STUFF, given["semantic"] - 1)
        logits = torch.nn.functional.one_hot(torch.tensor(channel), STUFF + 1).permute(2, 0, 1).float()
        golden[f"combined/{i}"] = fusion.predict([found], [logits])[0].sem_seg[0].numpy()
    head = PanopticFPNHead(
        num_things_classes=CLASSES, num_stuff_classes=STUFF, in_channels=8, inner_channels=32,
        loss_seg={"type": "CrossEntropyLoss", "ignore_index": 255, "loss_weight": 0.5},
    )  # fmt: skip
    logits, stuff = seeded_entropy()
    given = torch.tensor(logits, requires_grad=True)
    head.forward = lambda x: {"seg_preds": given}
    labels = np.where((stuff > 0) & (stuff < 255), stuff + CLASSES - 1.0, stuff).astype(np.int64)
    samples = []
    for own in labels:
        samples.append(DetDataSample())
        samples[-1].gt_sem_seg = PixelData(sem_seg=torch.from_numpy(own)[None])
    loss = head.loss(None, samples)["loss_seg"]
    loss.backward()
    return golden | {"entropy": np.float64(loss.detach()), "entropy/gradient": given.grad.numpy()}


def losses_of(model, data):
    model.train().zero_grad()
    samples = copy.deepcopy(data["data_samples"])
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.to(data["inputs"].dtype)
    found = model.loss(data["inputs"], samples)
    values = {
        "loss_objectness": sum(found["loss_rpn_cls"]), "loss_rpn_box_reg": sum(found["loss_rpn_bbox"]),
        "loss_semantic": found["loss_seg"], **{new: found[old] for old, new in NAMES.items()},
    }  # fmt: skip
    sum(values.values()).backward()
    return (
        {k: float(v.detach()) for k, v in values.items()},
        {k: p.grad for k, p in model.named_parameters()},
    )


def main():
    config = settings()
    model = build(config)
    golden = {
        "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
        "scenes": json.dumps(SCENES), "config": config.pretty_text, "versions": VERSIONS,
    }  # fmt: skip
    golden = {k: np.array(v) for k, v in golden.items()} | functions()
    head = model.semantic_head
    given = [torch.from_numpy(seeded_projection(f"p{i}", (2, 16, 128 >> i, 192 >> i))) for i in range(2, 6)]
    with torch.no_grad():
        for i, branch in enumerate(head.conv_upsample_layers):
            golden[f"branch/{i}"] = sampled(f"branch{i}", branch(given[i]).numpy(), 3000)
        golden["head"] = sampled("head", head(given)["seg_preds"].contiguous().numpy(), 3000)
    double = copy.deepcopy(model).double()
    data = load(model, True)
    values, gradients = losses_of(model, data)
    twin, twins = losses_of(double, {**data, "inputs": data["inputs"].double()})
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print(values, {k: abs(v - twin[k]) for k, v in values.items()}, max(ways.values()))
    assert max(ways.values()) < 1e-4 and max(abs(v / twin[k] - 1) for k, v in values.items()) < 1e-5
    golden |= {f"losses/{name}": np.float64(value) for name, value in values.items()}
    for name, gradient in gradients.items():
        values = sampled(name, gradient.contiguous().numpy(), 100)
        golden[f"gradient/{name}"] = np.append(values, gradient.double().norm())
    model.eval()
    seen = {}
    predict = model.panoptic_fusion_head.predict

    def watched(results, logits):
        seen["results"], seen["logits"] = copy.deepcopy(results), [x.clone() for x in logits]
        return predict(results, logits)

    model.panoptic_fusion_head.predict = watched
    with torch.no_grad():
        for i in range(len(SCENES)):
            data = load(model, False)
            # One by one, as ours are predicted.
            one = model.data_preprocessor(
                {
                    "inputs": [torch.from_numpy(np.ascontiguousarray(
                        seeded_scene(*SCENES[i])["image"][..., ::-1].transpose(2, 0, 1)
                    ))],
                    "data_samples": [data["data_samples"][i]],
                },
                False,
            )  # fmt: skip
            out = model.predict(one["inputs"], one["data_samples"], rescale=True)[0]
            panoptic = out.pred_panoptic_seg.sem_seg[0].numpy()
            results, logits = seen["results"][0], seen["logits"][0].numpy()
            print(i, len(results), results.scores[:5].numpy(), results.labels.numpy())
            print(np.unique(panoptic, return_counts=True))
            golden[f"found/{i}/logits"] = sampled(f"logits{i}", np.ascontiguousarray(logits), 3000)
            golden[f"found/{i}/semantic"] = logits.argmax(0).astype(np.uint8)
            golden[f"found/{i}/panoptic"] = panoptic.astype(np.int32)
            golden[f"found/{i}/scores"] = results.scores.numpy()
            golden[f"found/{i}/boxes"] = results.bboxes.numpy()
            golden[f"found/{i}/labels"] = results.labels.numpy()
    path = Path(__file__).with_name("mmdet_panoptic.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    main()
