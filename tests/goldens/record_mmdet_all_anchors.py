"""Record the losses of small MMDetection detectors that learn from all of their anchors.

Usage: python tests/goldens/record_mmdet_all_anchors.py    (the tests need nothing of it)

The models "hrnet" and "bounded_iou" (a ResNet with a feature pyramid) of `record_mmdet_backbones.py`, whose
environment this needs, with its weights and images. The first image's padding ends at 96 of the batch's 128
rows, the second's at 96 of its 128 columns. The sampler of the region proposal network has room for every
anchor, so that it matters which of them count. "counts" has their number for each image and level.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from record_mmdet_backbones import VERSIONS, build, load, losses_of, settings
from seeded_weights import sampled

CASES = ("hrnet", "bounded_iou")
GRADIENTS = 10  # values of a parameter's gradient


@torch.no_grad()
def counts(model, data):
    """Anchors that count, [images, levels]."""
    model.eval()  # statistics of batch norm stay as they are
    sizes = [x.shape[-2:] for x in model.extract_feat(data["inputs"])]
    metas = [sample.metainfo for sample in data["data_samples"]]
    _, flags = model.rpn_head.get_anchors(sizes, metas, device="cpu")
    return np.array([[int(level.sum()) for level in image] for image in flags])


def record(golden, case):
    config = settings(case)
    config.model.train_cfg.rpn.sampler.num = 100_000
    model = build(case, config)
    double = copy.deepcopy(model).double()
    data = load(model, True)
    golden[f"{case}/counts"] = counts(model, data)
    values, gradients = losses_of(model, data)
    twin, twins = losses_of(double, {**data, "inputs": data["inputs"].double()})
    # Nothing recorded may hang on a rounding error.
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print(case, golden[f"{case}/counts"].tolist(), values)
    print("   float64, losses:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()})
    print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
    assert max(ways.values()) < 1e-3
    golden |= {f"{case}/train/{name}": np.float64(value) for name, value in values.items()}
    for name, gradient in gradients.items():
        sample = sampled(name, gradient.contiguous().numpy(), GRADIENTS)
        golden[f"{case}/gradient/{name}"] = np.append(sample, float(gradient.double().norm()))


def main():
    golden = {"versions": np.array(VERSIONS)}
    for case in CASES:
        record(golden, case)
    path = Path(__file__).with_name("mmdet_all_anchors.npz")
    np.savez_compressed(path, **golden)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
