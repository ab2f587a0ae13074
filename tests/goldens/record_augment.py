"""Record how Detectron2 sizes and crops and how torchvision distorts colours, as augment.npz.

Run with torch, torchvision and detectron2 installed: python tests/goldens/record_augment.py
"""

from pathlib import Path
from unittest import mock

import numpy as np
from detectron2.data import transforms as T
from PIL import Image
from torchvision.transforms import v2

OUT = Path(__file__).with_name("augment.npz")


def jitter(rng):
    """Rows of height, width, target, scale, uniform and what Detectron2 makes of them."""
    given, made = [], []
    for _ in range(60):
        height, width = map(int, rng.integers(20, 200, 2))
        target, scale, uniform = int(rng.integers(2, 6)) * 32, rng.uniform(0.1, 2.0), rng.random()
        image = np.zeros((height, width, 3), np.uint8)
        resize = T.ResizeScale(0.1, 2.0, target, target)._get_resize(image, scale)
        with mock.patch("numpy.random.uniform", return_value=uniform):
            crop = T.FixedSizeCrop((target, target)).get_transform(np.zeros((resize.new_h, resize.new_w, 3)))
        crop = crop.transforms[0]
        kept = min(crop.h, resize.new_h), min(crop.w, resize.new_w)
        given.append((height, width, target, scale, uniform))
        made.append((resize.new_h, resize.new_w, crop.y0, crop.x0, *kept))
    return np.array(given), np.array(made)


def crops(rng):
    """Rows of height, width, smallest share, four uniform numbers and Detectron2's crop."""
    given, made = [], []
    for _ in range(60):
        height, width = map(int, rng.integers(20, 200, 2))
        share, uniform = rng.uniform(0.1, 1.0), rng.random(4)
        ints = iter(uniform[2:])
        with (
            mock.patch("numpy.random.rand", return_value=uniform[:2]),
            mock.patch("numpy.random.randint", side_effect=lambda n, u=ints: int(n * next(u))),
        ):
            crop = T.RandomCrop("relative_range", (share, share)).get_transform(np.zeros((height, width, 3)))
        given.append((height, width, share, *uniform))
        made.append((crop.y0, crop.x0, crop.h, crop.w))
    return np.array(given), np.array(made)


def colours(rng):
    """Distortions (a row each) of one small image, and the results."""
    ramp = np.linspace(0, 255, 24)
    image = np.stack([*np.meshgrid(ramp, ramp[::2]), np.full((12, 24), 90.0)], axis=-1)
    image[:, 12:] = rng.integers(0, 256, (12, 12, 3))
    image = image.astype(np.uint8)
    rows, results = [], []
    transform = v2.RandomPhotometricDistort()
    for number in range(40):
        on = rng.random(5) < 0.6 if number > 5 else np.arange(5) == number
        factors = [rng.uniform(0.875, 1.125), *rng.uniform(0.5, 1.5, 2), rng.uniform(-0.05, 0.05)]
        names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
        order = rng.permutation(3)
        params = {name: value if o else None for name, value, o in zip(names, factors, on, strict=False)}
        params |= {
            "contrast_before": bool(number % 2),
            "channel_permutation": order.tolist() if on[4] else None,
        }
        values = [
            value if o else neutral for value, o, neutral in zip(factors, on, (1, 1, 1, 0), strict=False)
        ]
        rows.append((*values, number % 2, *(order if on[4] else range(3))))
        results.append(np.asarray(transform.transform(Image.fromarray(image), params)))
    return image, np.array(rows), np.array(results)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    arrays = dict(zip(("jitter", "jittered"), jitter(rng), strict=True))
    arrays |= dict(zip(("crop", "cropped"), crops(rng), strict=True))
    arrays |= dict(zip(("image", "distortions", "distorted"), colours(rng), strict=True))
    np.savez_compressed(OUT, **arrays)
