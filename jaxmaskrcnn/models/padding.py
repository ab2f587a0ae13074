"""Makes the area outside an image's own extent behave as if the canvas ended there.

Images of different sizes share one canvas, so that one compiled program serves them all. An
image's extent (its size rounded up to the padding divisor) is where the canvas would end if
the image were alone. Norm layers and biases turn zeros into other values, so the input of
every layer that reads neighbouring cells (3x3 convolution, pooling) is set to zero there, like the
layer's own zero padding.

Shapes: B images, h and w of a feature map, C channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def feature_extent(extents: jax.Array, stride: int) -> jax.Array:
    """The height and width of the part of a feature map that belongs to the image.

    Args:
        extents: int [..., 2], height and width in input pixels.
        stride: Input pixels per feature cell. Layers of stride 2 with padding round up, so
            their composition is one division that rounds up.

    Returns:
        int [..., 2].
    """
    # Both are positive, so the division that rounds towards zero does. ``//`` is ten operations, which XLA
    # repeats in every fusion that reads the result.
    step = jnp.full_like(extents, stride)  # of the same type, also where strides are an array of 64 bits
    return jax.lax.div(extents + (step - 1), step)


def inside(
    extents: jax.Array | None, stride: int, size: Sequence[int], whole: bool = False
) -> jax.Array | None:
    """Find the cells of a feature map that lie in the image's extent.

    Args:
        extents: int [B, 2], or None if every image fills its canvas.
        stride: Input pixels per feature cell.
        size: Height and width of the feature map.
        whole: Whether to leave out cells that are only partly in it.

    Returns:
        bool [B, h, w, 1], or None.
    """
    if extents is None:
        return None
    if whole:  # a cell's last pixel is inside too
        extents = extents - (stride - 1)
    # A cell is inside if its first pixel is: `feature_extent` without its division, which XLA repeats in
    # every fusion that reads a mask. On a CPU (jaxlib 0.10.2) a tenth of the compiled instructions of a
    # narrow Mask R-CNN's training step were copies of it, 44,100 lines in place of 39,900.
    rows = jnp.arange(size[0])[None, :] * stride < extents[:, 0, None]  # [B, h]
    columns = jnp.arange(size[1])[None, :] * stride < extents[:, 1, None]  # [B, w]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def zero_outside(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Sets ``x`` [B, h, w, C] to zero where ``mask`` (from `inside`) is False."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))
