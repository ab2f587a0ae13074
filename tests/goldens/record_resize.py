"""Records torch's and torchvision's resizing into resize.npz. Needs torch and torchvision.

Run from the root of the repository: ``python tests/goldens/record_resize.py``.
"""

from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

SHAPES = [((13, 17), 29, 60), ((40, 31), 17, 25), ((9, 9), 9, 99), ((6, 50), 20, 41), ((97, 8), 5, 33)]
SIZES = [(480, 640), (427, 640), (1080, 1920), (97, 161), (640, 333), (801, 1334), (1, 700), (193, 167)]


def main():
    rng = np.random.default_rng(0)
    out = {}
    for i, ((height, width), low, high) in enumerate(SHAPES):
        transform = GeneralizedRCNNTransform(low, high, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        masks = rng.random((2, height, width)) < 0.5
        boxes = np.array([[0.5, 1.25, width * 0.7, height * 0.9], [0, 0, width, height]], np.float32)
        target = {
            "boxes": torch.tensor(boxes),
            "masks": torch.tensor(masks.astype(np.uint8)),
            "labels": torch.tensor([1, 2]),
        }
        tensor = torch.tensor(image).permute(2, 0, 1).float() / 255
        images, targets = transform.eval()([tensor], [target])
        h, w = images.image_sizes[0]
        out |= {
            f"image_{i}": image,
            f"masks_{i}": masks,
            f"boxes_{i}": boxes,
            f"limits_{i}": np.array([low, high]),
            f"padded_{i}": images.tensors[0].permute(1, 2, 0).numpy(),
            f"size_{i}": np.array([h, w]),
            f"new_masks_{i}": targets[0]["masks"].numpy().astype(bool),
            f"new_boxes_{i}": targets[0]["boxes"].numpy(),
        }
    transform = GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3).eval()
    resized = [transform.resize(torch.zeros(3, h, w))[0].shape[1:] for h, w in SIZES]
    out["sizes"], out["new_sizes"] = np.array(SIZES), np.array([list(size) for size in resized])
    np.savez_compressed(Path(__file__).with_name("resize.npz"), **out)


if __name__ == "__main__":
    main()
