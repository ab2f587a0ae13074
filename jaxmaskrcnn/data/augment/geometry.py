"""Transforms of images: crop, colours, rotation, resize, flip and a window.

All functions are pure and get their parameters explicitly; ``plan`` draws them. The objects
are transformed in ``fields``.

Shape legend: H, W the image; h, w the result.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment.photometric import Distortion, distort
from jaxmaskrcnn.data.augment.pixels import PixelChange, change_pixels
from jaxmaskrcnn.data.preprocess import resize_for
from jaxmaskrcnn.data.transforms import Geometry, inverse_rotation


def transform_image(
    image: np.ndarray,
    geometry: Geometry,
    distortion: Distortion | None,
    model: ModelConfig,
    pixels: PixelChange | None = None,
) -> np.ndarray:
    """Crops, distorts, turns, resizes, mirrors, crops again, and turns by quarters.

    Args:
        image: uint8 RGB [H, W, 3].
        geometry: The transforms.
        distortion: Distortion of the colours, or None.
        model: Gives the settings that ``resize_for`` needs.
        pixels: Change of brightness, sharpness and noise, or None.

    Returns:
        [h, w, 3], uint8 RGB, or normalised float32 with the kernel "torch".
    """
    top, left, height, width = geometry.crop
    image = image[top : top + height, left : left + width]
    if distortion is not None:
        image = distort(image, distortion)
    if pixels is not None:
        image = change_pixels(image, pixels)
    if geometry.angle:
        image = rotate_image(image, geometry.angle, fill_colour(model))
    image = resize_for(model, np.ascontiguousarray(image), geometry.size)
    if geometry.flip:
        image = image[:, ::-1]
    top, left, height, width = geometry.window
    return np.rot90(image[top : top + height, left : left + width], geometry.turns)


def rotate_image(image: np.ndarray, angle: float, fill: Sequence[int]) -> np.ndarray:
    """Turns an image counter-clockwise about its centre, with bilinear interpolation.

    Args:
        image: uint8 [H, W, C].
        angle: Degrees.
        fill: Colour of the area outside the image.

    Returns:
        uint8 [H, W, C].
    """
    height, width, channels = image.shape
    if channels != 3:  # Pillow takes two and four channels for transparent colours
        turned = [
            rotate_image(np.repeat(image[..., [c]], 3, 2), angle, [fill[c]] * 3) for c in range(channels)
        ]
        return np.stack([picture[..., 0] for picture in turned], axis=-1)
    turned = Image.fromarray(np.ascontiguousarray(image)).transform(
        (width, height),
        Image.Transform.AFFINE,
        inverse_rotation(angle, height, width),
        Image.Resampling.BILINEAR,
        fillcolor=tuple(fill),
    )
    return np.asarray(turned)


def fill_colour(model: ModelConfig) -> tuple[int, ...]:
    """The preset's mean colour, uint8, one value for each channel: nearly zero once it is normalised."""
    mean = np.rint(np.asarray(model.input.pixel_mean) / model.input.pixel_scale).astype(int)
    return tuple(map(int, mean[::-1] if model.input.channel_order == "bgr" else mean))
