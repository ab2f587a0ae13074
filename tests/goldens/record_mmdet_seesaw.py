"""Record small MMDetection detectors with the seesaw loss: detections, losses, their gradients, and counts.

Usage: python tests/goldens/record_mmdet_seesaw.py    (the tests need nothing of it)

Two models from MMDetection's own config files, narrow and on a ResNet-18: "mask", a Mask R-CNN whose class
logits and masks are cosines, and "cascade", a Cascade Mask R-CNN whose masks are not. They begin with counts
of the regions of each class. "train/" and "gradient/" are those of a first step, "second/" has the losses of
a second one with the same weights, and "counts/" the counts after both. "loss/", "linear/" and "conv/" have
the loss and the layers of cosines alone.

The environment is described in `record_mmdet_model.py`, whose stand-ins are used with those of
`record_mmdet_cascade.py`.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from record_mmdet_backbones import NAMES, load, losses_of, predict
from record_mmdet_cascade import SCENES
from record_mmdet_model import VERSIONS
from seeded_weights import sampled, seeded_mmdet_seesaw_weight

# isort: split
import mmdet  # only now, as record_mmdet_model.py makes it importable
from mmdet.models.layers.normed_predictor import NormedConv2d, NormedLinear
from mmdet.models.losses.seesaw_loss import SeesawLoss
from mmdet.registry import MODELS
from mmengine.config import Config

CLASSES, CHANNELS, GRADIENTS = 3, 16, 20
FILES = {
    "mask": "mask-rcnn_r50_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1.py",
    "cascade": "cascade-mask-rcnn_r101_fpn_seesaw-loss_random-ms-2x_lvis-v1.py",
}
NAMES |= {"loss_cls_classes": "loss_classifier", "loss_cls_objectness": "loss_classifier_objectness"}


def settings(case):
    """MMDetection's own config, narrow."""
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/seesaw_loss" / FILES[case])
    model = config.model
    model.backbone |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model.neck |= {"in_channels": [8, 16, 32, 64], "out_channels": CHANNELS}
    rpn, heads = model.rpn_head, model.roi_head
    rpn |= {"in_channels": CHANNELS, "feat_channels": CHANNELS}
    rpn.anchor_generator.scales = [2.5]
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = CHANNELS
    for head in heads.bbox_head if case == "cascade" else [heads.bbox_head]:
        head |= {"in_channels": CHANNELS, "fc_out_channels": 32, "num_classes": CLASSES}
        head.loss_cls.num_classes = CLASSES
    heads.mask_head |= {
        "num_convs": 1, "in_channels": CHANNELS, "conv_out_channels": CHANNELS, "num_classes": CLASSES,
    }  # fmt: skip
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    for stage in model.train_cfg.rcnn if case == "cascade" else [model.train_cfg.rcnn]:
        stage.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    model.test_cfg.rcnn.max_per_img = 20
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    return config


def build(config):
    model = MODELS.build(copy.deepcopy(config.model))
    weights = {k: seeded_mmdet_seesaw_weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})
    return model


def counts(model):
    return {k: v.numpy().copy() for k, v in model.state_dict().items() if k.endswith("cum_samples")}


def record(golden, case):
    config = settings(case)
    model = build(config)
    double = copy.deepcopy(model).double()
    data = load(model, False)
    wide = {**data, "inputs": data["inputs"].double()}
    _, images, _ = predict(model, data)
    _, twins, _ = predict(double, wide)
    for i, (image, twin) in enumerate(zip(images, twins, strict=True)):
        print(case, "labels", image["labels"], "scores", image["scores"].round(4))
        assert (image["labels"] == twin["labels"]).all()
        assert np.abs(image["boxes"] - twin["boxes"]).max() < 2e-3
        golden |= {f"{case}/{i}/{name}": values for name, values in image.items()}

    data = load(model, True)
    wide = {**data, "inputs": data["inputs"].double()}
    for step in ("train", "second"):
        values, gradients = losses_of(model, data)
        twin, twins = losses_of(double, wide)
        print("  ", step, values)
        print("   float64, losses:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()})
        golden |= {f"{case}/{step}/{name}": np.float64(value) for name, value in values.items()}
        print("  ", counts(model))
        golden |= {f"{case}/counts/{step}/{name}": value for name, value in counts(model).items()}
        # Nothing recorded may hang on a rounding error.
        ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
        print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
        assert max(ways.values()) < 1e-3
        if step == "train":
            for name, gradient in gradients.items():
                norm = float(gradient.double().norm())
                assert norm, name
                sample = sampled(name, gradient.contiguous().numpy(), GRADIENTS)
                golden[f"{case}/gradient/{name}"] = np.append(sample, norm)
    golden[f"{case}/names"] = json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()})
    golden[f"{case}/config"] = config.pretty_text


def record_functions(golden):
    """The loss in two steps on logits, and the layers of cosines, with zeros among their inputs."""
    rng = np.random.RandomState(0)
    loss = SeesawLoss(num_classes=5)
    loss.cum_samples += torch.tensor([900.0, 40.0, 0.0, 7.0, 0.0, 3000.0])
    for step in range(2):
        logits = torch.tensor(rng.normal(0, 3, (40, 7)).astype(np.float32), requires_grad=True)
        labels = torch.tensor(rng.choice(6, 40, p=[0.3, 0.1, 0.1, 0.05, 0.05, 0.4]))
        values = loss(logits, labels, avg_factor=40.0)
        sum(values.values()).backward()
        golden |= {
            f"loss/{step}/logits": logits.detach().numpy(), f"loss/{step}/labels": labels.numpy(),
            f"loss/{step}/gradient": logits.grad.numpy(),
            f"loss/{step}/counts": loss.cum_samples.numpy().copy(),
            f"loss/{step}/scores": loss.get_activation(logits).detach().numpy(),
            **{f"loss/{step}/{name}": value.detach().numpy() for name, value in values.items()},
        }  # fmt: skip
    for name, layer, shape in (
        ("linear", NormedLinear(6, 4), (9, 6)), ("conv", NormedConv2d(6, 4, 1), (2, 6, 3, 5)),
    ):  # fmt: skip
        values = np.maximum(rng.normal(0, 1, shape), 0).astype(np.float32)
        values[0] = 0
        x = torch.tensor(values, requires_grad=True)
        for parameter in layer.parameters():
            value = rng.normal(0, 1, parameter.shape).astype(np.float32)
            parameter.data = torch.from_numpy(value)
        y = layer(x)
        factor = rng.normal(0, 1, y.shape).astype(np.float32)
        (y * torch.from_numpy(factor)).sum().backward()
        golden |= {
            f"{name}/x": values, f"{name}/y": y.detach().numpy(), f"{name}/factor": factor,
            f"{name}/weight": layer.weight.detach().numpy(), f"{name}/bias": layer.bias.detach().numpy(),
            f"{name}/gradient/x": x.grad.numpy(), f"{name}/gradient/weight": layer.weight.grad.numpy(),
        }  # fmt: skip


def main():
    golden = {"scenes": json.dumps(SCENES), "versions": VERSIONS}
    record_functions(golden)
    for case in FILES:
        record(golden, case)
    path = Path(__file__).with_name("mmdet_seesaw.npz")
    np.savez_compressed(path, **{k: np.asarray(v) for k, v in golden.items()})
    print(path.name, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    main()
