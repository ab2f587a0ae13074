"""Masks with eight pixels per byte: packed on the host, unpacked on the device.

Shape legend: H and W the mask's height and width.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_type, check_whole


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Packs eight pixels of a row into a byte, on the host.

    Args:
        masks: numpy bool [..., H, W].

    Returns:
        numpy uint8 [..., H, ceil(W / 8)]; the leftmost pixel is the highest bit.

    Raises:
        ValueError: The masks are of floats, such as probabilities, of which all but 0 would be True.

    Example:
        >>> pack_masks(np.array([[True, False, True]])).tolist()
        [[160]]
    """
    masks = np.asarray(masks)
    if masks.dtype.kind not in "bui" and masks.size:
        raise ValueError(
            f"pack_masks: masks has the type {masks.dtype}; give it the type bool, such as masks >= 0.5."
        )
    return np.packbits(masks.astype(bool, copy=False), axis=-1)


def unpack_masks(packed: ArrayLike, width: int) -> Array:
    """The inverse of :func:`pack_masks`, on the device.

    Args:
        packed: uint8 [..., H, ceil(W / 8)].
        width: W, static.

    Returns:
        uint8 [..., H, W] of 0 and 1.

    Raises:
        ValueError: ``packed`` is not of uint8, or not of masks of this width.

    Example:
        >>> unpack_masks(np.array([[160]], np.uint8), 3).tolist()
        [[1, 0, 1]]
    """
    check_whole("unpack_masks", 1, width=width)
    check_type("unpack_masks", "uint8", packed=packed)
    check_shapes("unpack_masks", packed=(packed, f"... H {-(-width // 8)}"))
    return jnp.unpackbits(jnp.asarray(packed), axis=-1, count=width)
