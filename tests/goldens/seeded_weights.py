"""ResNet weights made from their names, so that goldens need not hold any.

The recording script and the tests draw the same numbers; ``RandomState`` promises the same
stream in every NumPy release.
"""

import zlib

import numpy as np


def seeded_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of a torch ResNet.

    Every fifth channel of a batch norm has the variance 1e-4, small enough for an epsilon of 1e-5
    to show; its weight is small too, so that activations keep their size.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        return (rng.standard_normal(shape) * (2.0 / fan_in) ** 0.5).astype(np.float32)
    rare = np.arange(shape[0]) % 5 == 0
    if name.endswith("running_var"):
        value = np.where(rare, 1e-4, rng.uniform(0.5, 2.0, shape))
    elif name.endswith("weight"):
        value = np.where(rare, 1e-2, 1.0) * rng.uniform(0.5, 1.2, shape)
    else:  # bias, running_mean
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


def seeded_images(height: int, width: int) -> np.ndarray:
    """float32 [1, height, width, 3] of about unit variance."""
    rng = np.random.RandomState(height * 10007 + width)
    return rng.standard_normal((1, height, width, 3)).astype(np.float32)
