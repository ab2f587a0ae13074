"""Record C2 to C5 of torchvision's ResNets, with weights made from their names.

Usage: python tests/goldens/record_resnet.py    (needs torch and torchvision; the tests do not)
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from seeded_weights import seeded_images, seeded_weight
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

# name: depth, stride in the first 1x1, epsilon, height and width
CASES = {
    "resnet18": (18, False, 1e-5, 64, 96),
    "resnet18_odd": (18, False, 1e-5, 75, 102),
    "resnet50": (50, False, 1e-5, 64, 96),
    "resnet50_1x1": (50, True, 1e-5, 64, 96),
    "resnet50_eps0": (50, False, 0.0, 64, 96),
}
SAMPLES = 200


def build(depth, stride_in_1x1, epsilon):
    norm = functools.partial(FrozenBatchNorm2d, eps=epsilon)
    model = getattr(torchvision.models, f"resnet{depth}")(weights=None, norm_layer=norm)
    shapes = {
        name: tuple(value.shape) for name, value in model.state_dict().items() if not name.startswith("fc.")
    }
    state = {name: torch.from_numpy(seeded_weight(name, shape)) for name, shape in shapes.items()}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing == ["fc.weight", "fc.bias"], missing
    if stride_in_1x1:
        for block in model.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    return model.eval(), shapes


def stages(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        yield x


def main():
    golden = {}
    for case, (depth, stride_in_1x1, epsilon, height, width) in CASES.items():
        model, shapes = build(depth, stride_in_1x1, epsilon)
        golden[f"{case}/names"] = np.array(json.dumps(shapes))
        golden[f"{case}/settings"] = np.array([depth, stride_in_1x1, epsilon, height, width], np.float64)
        images = torch.from_numpy(seeded_images(height, width)).permute(0, 3, 1, 2)
        with torch.no_grad():
            for i, features in enumerate(stages(model, images)):
                features = features.permute(0, 2, 3, 1).numpy()  # [1, h, w, C]
                index = np.random.RandomState(i).choice(features.size, SAMPLES, replace=False)
                golden[f"{case}/C{i + 2}/shape"] = np.array(features.shape)
                golden[f"{case}/C{i + 2}/index"] = index.astype(np.int32)
                golden[f"{case}/C{i + 2}/values"] = features.ravel()[index]
                print(case, f"C{i + 2}", features.shape, "rms", np.sqrt(np.mean(features**2)))
    path = Path(__file__).with_name("torchvision_resnet.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes, torchvision", torchvision.__version__)


if __name__ == "__main__":
    main()
