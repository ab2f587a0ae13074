"""Records torchvision's flips and quarter turns of an image, boxes and points, and its changes of pixels.

Writes turns_and_pixels.npz. Needs torch, torchvision (0.24 or later for keypoints) and scipy. Run from the
root of the repository: ``python tests/goldens/record_turns_and_pixels.py``.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

SIZE = (14, 23)


def record_turns(out, rng):
    image = torch.tensor(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8))
    corner = rng.uniform(0, 8, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 6, (6, 2))], 1).astype(np.float32)
    points = rng.uniform(0, [SIZE[1], SIZE[0]], (9, 2)).astype(np.float32)
    out |= {"image": image.permute(1, 2, 0).numpy(), "boxes": boxes, "points": points}
    of_boxes = tv_tensors.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=SIZE)
    of_points = tv_tensors.KeyPoints(torch.tensor(points), canvas_size=SIZE)
    for flip in (False, True):
        for turns in range(4):
            made = []
            for value in (image, of_boxes, of_points):
                value = F.horizontal_flip(value) if flip else value
                made.append(F.rotate(value, 90 * turns, expand=True) if turns else value)
            name = f"{int(flip)}{turns}"
            out[f"image_{name}"] = made[0].permute(1, 2, 0).numpy()
            out[f"boxes_{name}"], out[f"points_{name}"] = made[1].numpy(), made[2].numpy()
    out["vertical"] = F.vertical_flip(image).permute(1, 2, 0).numpy()


def record_pixels(out):
    image = torch.tensor(out["image"]).permute(2, 0, 1)
    shares = image.double() / 255
    out["bright"] = F.adjust_brightness(shares, 1.3).permute(1, 2, 0).numpy()
    out["gamma"] = F.adjust_gamma(shares, 1.7).permute(1, 2, 0).numpy()
    whole = out["image"].astype(np.float64)
    for deviation in (0.6, 2.0):
        out[f"blur_{deviation}"] = gaussian_filter(
            whole, (deviation, deviation, 0), mode="reflect", truncate=4
        )


def main():
    rng, out = np.random.default_rng(0), {}
    record_turns(out, rng)
    record_pixels(out)
    np.savez_compressed(Path(__file__).with_name("turns_and_pixels.npz"), **out)


if __name__ == "__main__":
    main()
