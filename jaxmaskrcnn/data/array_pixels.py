"""Pictures in arrays, as uint8, RGB or another number of channels.

Shape legend: H, W height and width of the picture, C channels.
"""

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.intensity import to_uint8
from jaxmaskrcnn.errors import UserError

_FORMS = "give [height, width] or [height, width, channels] with 1 (grey), 3 (RGB) or 4 channels (RGBA)"


_GREY = "give [height, width] or [height, width, channels] with 1 (grey) or 3 channels (RGB)"


def pixel_array(array: np.ndarray, pixels: PixelConfig, name: str) -> np.ndarray:
    """Converts a picture in an array to uint8 RGB, or to the channels that ``pixels`` asks for.

    Grey pictures, [H, W] and [H, W, 1], become RGB; of [H, W, 4] the fourth channel, alpha, is dropped. uint8
    stays as it is, and uint16 becomes uint8 as ``pixels.intensity`` says, as the pixels of a file do. Floats
    are 0 (black) to 1 (white); with an intensity of "percentile" or "range" they, and whole numbers of
    all other types, may have any values. With another number of ``pixels.channels`` than 3, or channels from
    pages, the array has to have as many; with 1 it is grey, or RGB that becomes grey as in `decode_image`.
    Channels from pages become uint8 each by itself, as in a file.

    Args:
        array: [H, W] or [H, W, C].
        pixels: How values become uint8.
        name: What to call the picture in an error message.

    Returns:
        uint8 [H, W, C]; the array itself, if it is one already.

    Raises:
        UserError: The array has another shape, or a type or values that have no such meaning.

    Example:
        >>> pixel_array(np.array([[0.0, 1.0]]), PixelConfig(), "the image").tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    found = f"{name} is an array of {array.dtype} with the shape {list(array.shape)}"
    if array.ndim == 4:
        raise UserError(f"{found}; give several images as a list of arrays.")
    if not pixels.has_colours:
        return _other_channels(array, pixels, found)
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise UserError(f"{found}; {_FORMS}{', the channels last' * channels_first}.")
    if array.dtype.kind not in "uif":
        raise UserError(f"{found}; give numbers: uint8, uint16, or floats from 0 to 1.")
    if array.ndim == 2:
        array = array[..., None]
    elif array.shape[2] == 4:
        array = array[..., :3]
    if array.dtype != np.uint8:
        array = _as_uint8(array, pixels, found)
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def _other_channels(array: np.ndarray, pixels: PixelConfig, found: str) -> np.ndarray:
    """A picture whose channels are not red, green and blue."""
    count = pixels.channels
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in ((1, 3) if count == 1 else (count,)):
        forms = _GREY if count == 1 else f"give [height, width, {count}]"
        raise UserError(f"{found}, but input.pixels.channels of the model is {count}; {forms}.")
    if array.dtype.kind not in "uif":
        raise UserError(f"{found}; give numbers: uint8, uint16, or floats from 0 to 1.")
    if array.dtype != np.uint8 and pixels.pages == "channels":
        array = np.concatenate([_as_uint8(page, pixels, found) for page in np.split(array, count, 2)], axis=2)
    elif array.dtype != np.uint8:
        array = _as_uint8(array, pixels, found)
    if array.shape[2] == count:
        return array
    return np.asarray(Image.fromarray(array).convert("L"))[..., None]


def _as_uint8(array: np.ndarray, pixels: PixelConfig, found: str) -> np.ndarray:
    if pixels.intensity != "dtype" or array.dtype == np.uint16:
        return to_uint8(array, pixels)
    choose = "or set config.input.pixels.intensity to 'percentile' or 'range'"
    if array.dtype.kind != "f":
        raise UserError(f"{found}, a type without a known range; convert it to uint8 or uint16, {choose}.")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also if one is NaN
        raise UserError(
            f"{found} and the values {low:g} to {high:g}; divide it so that white is 1, {choose}."
        )
    return np.rint(array * 255).astype(np.uint8)
