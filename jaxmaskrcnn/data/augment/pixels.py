"""Changes of brightness, contrast, sharpness and noise that treat all channels alike, for grey pictures too.

Every function is pure and gets its parameters; ``plan`` draws them.

Shape legend: H, W the image.
"""

import math
from typing import NamedTuple

import numpy as np

DRAWS = 6  # random numbers that one change needs
_REACH = 4  # standard deviations that a blur reaches, as in SciPy


class PixelChange(NamedTuple):
    """The parameters of one change, in the order in which they are applied; the defaults change nothing.

    Attributes:
        gain: Factor of all values.
        offset: Added to all values, in grey levels.
        gamma: Exponent of the values as shares of 255.
        blur: Standard deviation of a Gaussian blur in pixels.
        noise: Standard deviation of normal noise in grey levels, equal in all channels of a pixel.
        seed: Seed of the noise.
    """

    gain: float = 1.0
    offset: float = 0.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0


def draw_change(
    uniform: np.ndarray, gain: float, offset: float, gamma: float, blur: float, noise: float
) -> PixelChange | None:
    """Make a change out of uniform random numbers.

    Args:
        uniform: [DRAWS] in [0, 1).
        gain: The factor is drawn from ``1 - gain`` to ``1 + gain``.
        offset: The offset is drawn from ``-offset`` to ``offset``, in grey levels.
        gamma: The logarithm of the exponent is drawn from ``-log(1 + gamma)`` to ``log(1 + gamma)``.
        blur: The standard deviation is drawn from 0 to it.
        noise: The standard deviation is drawn from 0 to it.

    Returns:
        The change; None if all limits are 0.

    Example:
        >>> draw_change(np.full(DRAWS, 0.5), 0.2, 10.0, 0.5, 2.0, 0.0)
        PixelChange(gain=1.0, offset=0.0, gamma=1.0, blur=1.0, noise=0.0, seed=2147483648)
    """
    if not (gain or offset or gamma or blur or noise):
        return None
    signed = 2 * uniform - 1
    return PixelChange(
        gain=float(1 + gain * signed[0]),
        offset=float(offset * signed[1]),
        gamma=float(math.exp(math.log1p(gamma) * signed[2])),
        blur=float(blur * uniform[3]),
        noise=float(noise * uniform[4]),
        seed=int(uniform[5] * 2**32),
    )


def change_pixels(image: np.ndarray, change: PixelChange) -> np.ndarray:
    """Apply a change; neutral parameters leave every bit unchanged.

    Args:
        image: uint8 [H, W, C].
        change: Its parameters.

    Returns:
        uint8 [H, W, C], rounded once at the end.
    """
    if change[:5] == PixelChange()[:5]:
        return image
    values = image.astype(np.float32) * np.float32(change.gain) + np.float32(change.offset)
    if change.gamma != 1:
        values = 255 * (np.clip(values, 0, 255) / 255) ** np.float32(change.gamma)
    if change.blur:
        values = blur(values, change.blur)
    if change.noise:
        drawn = np.random.default_rng(change.seed).standard_normal(image.shape[:2], np.float32)
        values = values + np.float32(change.noise) * drawn[..., None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blur(values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur along rows and columns; beyond the border the image is mirrored with its edge pixels.

    Source: the sampled Gaussian of ``scipy.ndimage.gaussian_filter``, cut at four standard deviations.

    Args:
        values: float32 [H, W, C].
        deviation: Standard deviation in pixels, above 0.

    Returns:
        float32 [H, W, C].

    Example:
        >>> blur(np.ones((3, 4, 1), np.float32), 1.0).round(6).min()
        np.float32(1.0)
    """
    radius = int(_REACH * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        spare = [(radius, radius) if i == axis else (0, 0) for i in range(values.ndim)]
        padded, length = np.pad(values, spare, mode="symmetric"), values.shape[axis]
        parts = (np.take(padded, range(i, i + length), axis) * w for i, w in enumerate(weights))
        values = np.asarray(sum(parts), np.float32)
    return values
