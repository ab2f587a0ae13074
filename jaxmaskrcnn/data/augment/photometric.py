"""Photometric distortion: brightness, contrast, saturation, hue and the order of the channels.

The operations, their order and their ranges are those of torchvision's
``RandomPhotometricDistort`` (after SSD, Liu et al. 2016) on Pillow images: uint8 in, uint8 out.

Shape legend: H, W the image.
"""

import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

BRIGHTNESS = (0.875, 1.125)  # factors are drawn uniformly from these ranges
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)  # as shares of the whole circle
DRAWS = 11  # random numbers that one distortion needs

_ORDERS = tuple(itertools.permutations(range(3)))


class Distortion(NamedTuple):
    """The parameters of one distortion; the defaults change nothing.

    Attributes:
        brightness: Factor of all values.
        contrast: Factor of the distance to the image's mean grey.
        saturation: Factor of the distance to the pixel's own grey.
        hue: Turn of the hue as a share of the circle, -0.5 to 0.5.
        contrast_first: Whether the contrast comes before saturation and hue, or after them.
        channels: Which channel of the image becomes red, green and blue.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    contrast_first: bool = True
    channels: tuple[int, int, int] = (0, 1, 2)


def draw_distortion(uniform: np.ndarray, probability: float) -> Distortion:
    """Makes a distortion out of uniform random numbers.

    Args:
        uniform: [DRAWS] in [0, 1).
        probability: Probability of each of the five operations, which are drawn independently.

    Returns:
        The distortion.

    Example:
        >>> draw_distortion(np.full(DRAWS, 0.5), 0.5) == Distortion(contrast_first=False)
        True
    """
    happens, value = uniform[:5] < probability, uniform[5:]

    def between(number: int, limits: tuple[float, float], neutral: float) -> float:
        low, high = limits
        return float(low + (high - low) * value[number]) if happens[number] else neutral

    return Distortion(
        brightness=between(0, BRIGHTNESS, 1.0),
        contrast=between(1, CONTRAST, 1.0),
        saturation=between(2, SATURATION, 1.0),
        hue=between(3, HUE, 0.0),
        contrast_first=bool(value[4] < 0.5),
        channels=_ORDERS[int(value[5] * len(_ORDERS))] if happens[4] else (0, 1, 2),
    )


def distort(image: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Applies a distortion; neutral parameters leave every bit unchanged.

    Args:
        image: uint8 RGB [H, W, 3].
        distortion: Its parameters.

    Returns:
        uint8 [H, W, 3].
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    if distortion.brightness != 1:
        picture = ImageEnhance.Brightness(picture).enhance(distortion.brightness)
    if distortion.contrast != 1 and distortion.contrast_first:
        picture = ImageEnhance.Contrast(picture).enhance(distortion.contrast)
    if distortion.saturation != 1:
        picture = ImageEnhance.Color(picture).enhance(distortion.saturation)
    if distortion.hue:
        picture = _turn_hue(picture, distortion.hue)
    if distortion.contrast != 1 and not distortion.contrast_first:
        picture = ImageEnhance.Contrast(picture).enhance(distortion.contrast)
    if distortion.channels != (0, 1, 2):
        bands = picture.split()
        picture = Image.merge("RGB", [bands[channel] for channel in distortion.channels])
    return np.asarray(picture)


def _turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    # A byte overflows as the hue circle closes. As in torchvision, the turn is truncated to a whole byte.
    hue = hue.point([(level + int(turn * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
