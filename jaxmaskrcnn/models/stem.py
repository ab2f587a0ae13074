"""The first layers of a ResNet, up to its pooling: a 7x7 convolution, a ReLU, the maximum of 3 x 3 cells.

A TPU computes 128 channels side by side. Beside an image's three it would fill 125 with zeros, and XLA:TPU
expects the copy of four images into such an array to take a fifth of a backbone's cycles
(docs/benchmarks.md). So TPUs fold 4 x 4 pixels into 48 channels. What the layers compute of such a block are
2 x 2 cells before the pooling and one after it, and in this form the pooling is a maximum of channels and of
neighbours, without windows.

Shapes: B images of H x W pixels, C channels of an image, D of the result.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.models.padding import inside, zero_outside
from jaxmaskrcnn.ops.convolution import convolution
from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.ops.window_pooling import max_pool

Array = jax.Array

_FOLD = 4  # pixels of a block on a side; the two strides of 2


def stem(
    images: Array, kernel: Array, bias: Array, extents: Array | None, border: tuple[int, int] = (1, 1)
) -> Array:
    """``max_pool(relu(convolution(images, kernel, stride=2) + bias))``.

    Before the pooling, cells outside of the extents are set to zero.

    Args:
        images: [B, H, W, C], zero outside of each image. On TPUs a value that is not finite makes its whole
            image so.
        kernel: [7, 7, C, D].
        bias: [D].
        extents: int [B, 2], see `padding.py`; None if all images fill the canvas.
        border: As of `max_pool`.

    Returns:
        [B, H / 4, W / 4, D], rounded up.

    Example:
        >>> stem(jnp.ones((1, 8, 8, 3)), jnp.ones((7, 7, 3, 1)), jnp.zeros(1), None)[0, :, :, 0].tolist()
        [[108.0, 126.0], [126.0, 147.0]]
    """
    if wants_every_derivative():
        return layer_by_layer(images, kernel, bias, extents, border)
    return _stem(images, kernel, bias, extents, border)


def layer_by_layer(images: Array, kernel: Array, bias: Array, extents: Array | None, border) -> Array:
    """Define `stem`."""
    x = convolution(images, kernel, bias, stride=2, relu=True)
    x = zero_outside(x, inside(extents, 2, x.shape[1:3]))
    # Pooling pads with -inf; after a ReLU, the zeros outside of an extent have the same effect.
    return max_pool(x, border)


def folds(images: Array, kernel: Array) -> bool:
    """Whether `folded` can compute the stem of these images."""
    sides = images.shape[1] % _FOLD, images.shape[2] % _FOLD
    return sides == (0, 0) and images.shape[3] <= 4 and kernel.shape[:2] == (7, 7)


def folded(images: Array, kernel: Array, bias: Array, extents: Array | None, border) -> Array:
    """`stem` from blocks of 4 x 4 pixels, for images of which `folds` is True."""
    x, rows = fold_pixels(images), []
    # A convolution for each of the two rows of cells of a block. Out of a single one with all four cells
    # XLA:TPU would copy the rows before it compares them.
    for row, own in enumerate(jnp.split(fold_kernel(kernel), 2, axis=-1)):
        y = convolution(x, own, jnp.tile(bias, 2), relu=True, implementation="xla")
        rows.append(zero_outside(y, _inside(extents, y.shape, row)))
    y = _largest(rows[0], rows[1], 1, border)
    first, second = jnp.split(y, 2, axis=-1)
    return _largest(first, second, 2, border)


def fold_pixels(images: Array) -> Array:
    """Make the pixels of every block channels: [B, H, W, C] -> [B, H / 4, W / 4, 16 C]; row, column, channel.

    Products with matrices of zeros and ones first bring every fourth row and column together, which a TPU
    does faster than by moving pixels.
    """
    b, height, width, channels = images.shape
    x = jnp.einsum("bhwc,xw->bhxc", images, _every_fourth_first(width, images.dtype), precision="highest")
    x = jnp.einsum("bhxc,yh->byxc", x, _every_fourth_first(height, images.dtype), precision="highest")
    x = x.reshape(b, _FOLD, height // _FOLD, _FOLD, width // _FOLD, channels)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(b, height // _FOLD, width // _FOLD, -1)


def fold_kernel(kernel: Array) -> Array:
    """The kernel for folded pixels: [7, 7, C, D] -> [3, 3, 16 C, 4 D], of the cells of a block row by row.

    Pixels 2 y - 3 to 2 y + 3 make cell y. So cells 0 and 1 of a block read from 1 and 3 pixels after the
    first one of the block before.
    """
    channels, features = kernel.shape[2:]
    after = [(1 + 2 * cell, 12 - 7 - 1 - 2 * cell) for cell in (0, 1)]
    whole = [[jnp.pad(kernel, (y, x, (0, 0), (0, 0))) for x in after] for y in after]
    k = jnp.stack([jnp.stack(cells, 3) for cells in whole], 3)  # [12, 12, C, 2, 2, D]
    k = k.reshape(3, _FOLD, 3, _FOLD, channels, 4 * features)
    return k.transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, -1, 4 * features)


def _every_fourth_first(length: int, dtype) -> Array:
    """[length, length]: the product with it has numbers 0, 4, 8, ... first, then 1, 5, 9, ..."""
    place, number = jnp.arange(length), jnp.arange(length)[None]
    order = place % (length // _FOLD) * _FOLD + place // (length // _FOLD)
    return (order[:, None] == number).astype(dtype)


def _inside(extents: Array | None, shape, row: int) -> Array | None:
    """As `padding.inside`, for cells at stride 2 of which [B, h, w, 2 D] has two of a row of each block."""
    if extents is None:
        return None
    _, h, w, channels = shape
    rows = _FOLD * np.arange(h) + 2 * row  # the first pixel of each cell
    columns = _FOLD * np.arange(w)[:, None] + 2 * (np.arange(channels) // (channels // 2))
    rows = rows[None] < extents[:, :1]  # [B, h]
    columns = columns[None] < extents[:, 1, None, None]  # [B, w, 2 D]
    return rows[:, :, None, None] & columns[:, None]


def _largest(first: Array, second: Array, axis: int, border: tuple[int, int]) -> Array:
    """The largest of three neighbours on an axis: of the two of each block, and of one of a neighbour's."""
    lowest, pad = np.array(-np.inf, first.dtype), [(0, 0, 0)] * first.ndim
    if border == (1, 1):
        pad[axis], other = (1, -1, 0), second  # the last one of the block before
    else:
        pad[axis], other = (-1, 1, 0), first
    return jnp.maximum(jnp.maximum(first, second), jax.lax.pad(other, lowest, pad))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _stem(images, kernel, bias, extents, border) -> Array:
    way = functools.partial(layer_by_layer, border=border)
    if not folds(images, kernel):
        return way(images, kernel, bias, extents)
    on_tpus = functools.partial(folded, border=border)
    return jax.lax.platform_dependent(images, kernel, bias, extents, tpu=on_tpus, default=way)


def _forward(images, kernel, bias, extents, border):
    return _stem(images, kernel, bias, extents, border), (images, kernel, bias, extents)


def _backward(border, saved, cotangent):
    # Detectors are nearly always trained with the stem as it is. Where not, it is computed again.
    *arrays, extents = saved

    def layers(images, kernel, bias):
        return layer_by_layer(images, kernel, bias, extents, border)

    return (*jax.vjp(layers, *arrays)[1](cotangent), None)


_stem.defvjp(_forward, _backward)
