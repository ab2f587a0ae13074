"""Decoded images that are resized on the device, by `models/inputs.py`.

Shape legend: B images, h, w an image's own size.
"""

import numpy as np

from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.structures import RawImages

# Canvases of decoded images are multiples of this: every canvas size is compiled separately.
_RAW_DIVISOR = 256


def gather_raw(
    images: list[np.ndarray | None], flips: np.ndarray, room_for: np.ndarray | None = None, channels: int = 3
) -> RawImages:
    """Decoded images of any sizes in one array, on the host.

    Args:
        images: uint8 [h, w, C] each; None for a slot without an image, which gets one pixel.
        flips: bool [B].
        room_for: int [N, 2], sizes that the canvas has to hold. With several processes these are the sizes
            of the whole global batch, because all processes need arrays of the same shape. None takes
            the sizes of ``images``.
        channels: C.
    """
    sizes = [(1, 1) if image is None else image.shape[:2] for image in images]
    held = sizes if room_for is None else room_for.tolist()
    canvas = tuple(round_up(max(lengths), _RAW_DIVISOR) for lengths in zip(*held, strict=True))
    pixels = np.zeros((len(images), *canvas, channels), np.uint8)
    for slot, image in zip(pixels, images, strict=True):
        if image is not None:
            slot[: image.shape[0], : image.shape[1]] = image
    return RawImages(pixels, np.asarray(sizes, np.int32), np.asarray(flips, bool))
