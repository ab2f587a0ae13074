"""What a person may hand over as an image, as one kind of array.

Shape legend: H, W height and width of the image.
"""

import os
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.errors import UserError


def read_image(image: Any) -> np.ndarray:
    """Reads a path, a PIL image or an array as uint8 RGB.

    Args:
        image: Path of an image file or PIL image (of any mode; the EXIF orientation is
            applied), or a uint8 RGB array [H, W, 3], which is taken as it is.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: The file is missing or no image, or the array has another shape or type.

    Example:
        >>> read_image("photo.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    if isinstance(image, (str, os.PathLike, Image.Image)):
        return decode_image(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(
            f"An image array is {array.dtype} of shape {list(array.shape)}; give uint8 RGB values of shape "
            "[height, width, 3], a PIL image or a path."
        )
    return array
