"""Record torchvision's deformable convolutions and their gradients, for tests/ops/test_deform_conv.py.

    python tests/goldens/record_torchvision_deform_conv.py

needs torch and torchvision, which nothing else here does, and writes torchvision_deform_conv.npz beside this
file, with inputs and outputs together, all channels last. Many offsets leave the map.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.ops import deform_conv2d

# Map (N, h, w, C), output channels, kernel, stride, padding, dilation, groups, groups of offsets, version 2.
CASES = {
    "plain": ((2, 5, 7, 4), 3, (3, 3), 1, 1, 1, 1, 1, False),
    "stride": ((1, 8, 9, 4), 6, (3, 3), 2, 1, 1, 1, 1, True),
    "dilation": ((1, 7, 6, 2), 2, (3, 3), 1, 2, 2, 1, 1, True),
    "groups": ((2, 4, 5, 8), 4, (3, 3), 1, 1, 1, 4, 1, False),
    "offset_groups": ((1, 6, 5, 8), 4, (3, 3), 1, 1, 1, 1, 4, True),
    "both_groups": ((1, 9, 8, 12), 6, (3, 3), 2, 2, 2, 2, 3, True),
    "more_offset_groups": ((2, 3, 4, 8), 8, (3, 3), 1, 1, 1, 2, 4, False),
    "flat_kernel": ((1, 6, 9, 3), 2, (1, 4), 2, 1, 2, 1, 1, True),
    "no_padding": ((1, 5, 5, 2), 3, (2, 2), 1, 0, 1, 1, 2, True),
    "one_cell": ((1, 1, 1, 2), 2, (3, 3), 1, 1, 1, 1, 1, True),
}


def channels_first(array):
    return torch.tensor(array).permute(0, 3, 1, 2).contiguous()


def record(golden, name, case, seed):
    (n, h, w, c), features, kernel, stride, padding, dilation, groups, offset_groups, modulated = case
    rng = np.random.default_rng(seed)
    sides = zip((h, w), kernel, strict=True)
    oh, ow = ((s + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for s, k in sides)
    taps = kernel[0] * kernel[1] * offset_groups
    arrays = {
        "x": rng.normal(size=(n, h, w, c)),
        "kernel": rng.normal(size=(*kernel, c // groups, features)),
        # Up to several cells, so that some places are outside of the map on each side, some at its border.
        "offsets": rng.normal(scale=2.5, size=(n, oh, ow, 2 * taps)),
        "mask": rng.uniform(size=(n, oh, ow, taps)),
    }
    # Whole numbers and halves: exactly on cells, exactly at the border, and half a cell beyond it.
    ties = rng.uniform(size=arrays["offsets"].shape) < 0.2
    arrays["offsets"] = np.where(ties, np.round(arrays["offsets"] * 2) / 2, arrays["offsets"])
    if not modulated:
        del arrays["mask"]
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    tensors = {k: channels_first(v) for k, v in arrays.items() if k != "kernel"}
    tensors["kernel"] = torch.tensor(arrays["kernel"]).permute(3, 2, 0, 1).contiguous()
    for tensor in tensors.values():
        tensor.requires_grad_()
    y = deform_conv2d(
        tensors["x"], tensors["offsets"], tensors["kernel"], stride=stride, padding=padding,
        dilation=dilation, mask=tensors.get("mask"),
    )  # fmt: skip
    cotangent = rng.normal(size=(n, oh, ow, features)).astype(np.float32)
    y.backward(channels_first(cotangent))
    arrays |= {"y": y.detach().permute(0, 2, 3, 1).numpy(), "cotangent": cotangent}
    for key, tensor in tensors.items():
        order = (2, 3, 1, 0) if key == "kernel" else (0, 2, 3, 1)
        arrays[f"gradient_{key}"] = tensor.grad.permute(order).numpy()
    for key, value in arrays.items():
        golden[f"{name}/{key}"] = value
    golden[f"{name}/settings"] = json.dumps(
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    )
    print(name, y.shape, float(y.detach().abs().max()))


def main():
    golden = {"versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}"}
    for seed, (name, case) in zip(itertools.count(), CASES.items(), strict=False):
        record(golden, name, case, seed)
    path = Path(__file__).with_name("torchvision_deform_conv.npz")
    np.savez_compressed(path, **{k: np.asarray(v) for k, v in golden.items()})
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
