"""Masks with eight pixels per byte: packed on the host, unpacked on the device.

Shape legend: H and W the mask's height and width.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Packs eight pixels of a row into a byte, on the host.

    Args:
        masks: numpy bool [..., H, W].

    Returns:
        numpy uint8 [..., H, ceil(W / 8)]; the leftmost pixel is the highest bit.

    Example:
        >>> pack_masks(np.array([[True, False, True]])).tolist()
        [[160]]
    """
    return np.packbits(np.asarray(masks, bool), axis=-1)


def unpack_masks(packed: ArrayLike, width: int) -> Array:
    """The inverse of :func:`pack_masks`, on the device.

    Args:
        packed: uint8 [..., H, ceil(W / 8)].
        width: W, static.

    Returns:
        uint8 [..., H, W] of 0 and 1.

    Example:
        >>> unpack_masks(np.array([[160]], np.uint8), 3).tolist()
        [[1, 0, 1]]
    """
    return jnp.unpackbits(jnp.asarray(packed), axis=-1, count=width)
