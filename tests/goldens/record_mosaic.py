"""Record MMDetection's mosaic of four images, as mosaic.npz.

Usage: python tests/goldens/record_mosaic.py    (the tests need nothing of it)

The environment is described in `record_mmdet_model.py`, whose stand-ins are used.
"""

from pathlib import Path
from unittest import mock

import numpy as np
import record_mmdet_model  # noqa: F401  (it makes mmdet importable)
import torch

# isort: split
from mmdet.datasets.transforms import Mosaic
from mmdet.structures.bbox import HorizontalBoxes

OUT = Path(__file__).with_name("mosaic.npz")
CANVAS = 48, 64  # height and width


def picture(rng, size):
    """An image that the transform need not resize, as it fits the canvas in one direction, and its boxes."""
    height, width = size
    corners = rng.uniform(0, 1, (5, 2, 2)).astype(np.float32) * np.float32([width, height])
    boxes = np.concatenate([corners.min(1), corners.max(1) + 0.5], 1).clip(0, [width, height, width, height])
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), boxes.astype(np.float32)


def main():
    rng, found = np.random.default_rng(0), {}
    for case, (y, x) in enumerate([(0.25, 0.25), (0.5, 0.5), (0.74, 0.3)]):
        sizes = [(48, 40), (30, 64), (48, 64), (20, 64)]
        pictures = [picture(rng, sizes[(i + case) % 4]) for i in range(4)]
        results = [
            {
                "img": image,
                "gt_bboxes": HorizontalBoxes(torch.from_numpy(boxes)),
                "gt_bboxes_labels": np.arange(5) + 10 * i,
                "gt_ignore_flags": np.zeros(5, bool),
            }
            for i, (image, boxes) in enumerate(pictures)
        ]
        transform = Mosaic(img_scale=CANVAS[::-1], pad_val=99, bbox_clip_border=False)
        # The middle of its canvas is half of it, and what is drawn are a probability, x and y.
        with mock.patch("numpy.random.uniform", side_effect=[0.0, 0.5 + x, 0.5 + y]):
            made = transform({**results[0], "mix_results": results[1:]})
        top, left = CANVAS[0] // 2, CANVAS[1] // 2
        made["gt_bboxes"].translate_([-left, -top])
        found[f"image_{case}"] = made["img"][top : top + CANVAS[0], left : left + CANVAS[1]]
        found[f"boxes_{case}"] = made["gt_bboxes"].tensor.numpy()
        found[f"labels_{case}"] = made["gt_bboxes_labels"]
        found[f"point_{case}"] = np.array(
            [int((0.5 + y) * CANVAS[0]) - top, int((0.5 + x) * CANVAS[1]) - left]
        )
        for i, (image, boxes) in enumerate(pictures):
            found[f"given_image_{case}_{i}"], found[f"given_boxes_{case}_{i}"] = image, boxes
    np.savez_compressed(OUT, **found)


if __name__ == "__main__":
    main()
