"""Convolutions and gradients of convolutions on CPUs as products of matrices.

XLA's CPU backend computes the gradients of convolutions as convolutions of their own, several times slower
than the convolutions themselves (jaxlib 0.10.2).

Shapes: N maps of h x w cells, C and D channels in and out.
"""

from math import ceil

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.convolution.epilogue import finish
from jaxmaskrcnn.ops.xla_memory import empty_depending_on, zero_depending_on

Array = jax.Array

# Products with larger results are computed in blocks of about this size.
_BLOCK_BYTES = 4 * 2**20


def product(x: Array, kernel: Array) -> Array:
    """``x @ kernel`` over the channels: a 1x1 convolution or a fully connected layer.

    Args:
        x: [..., C].
        kernel: [C, D].

    Returns:
        [..., D].

    Example:
        >>> product(jnp.ones((2, 4, 4, 3)), jnp.ones((3, 5))).shape
        (2, 4, 4, 5)
    """
    # Flattened, because for a gradient that sums over several axes XLA's CPU backend transposes its operands.
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])


def product_in_blocks(x, kernel, bias, shortcut, stride, relu, block_bytes=_BLOCK_BYTES) -> Array:
    """A 1x1 convolution with bias, shortcut and ReLU; large results are computed block by block.

    Args:
        x: [N, h, w, C].
        kernel: [1, 1, C, D].
        bias: [D], or None.
        shortcut: An array of the result's shape that is added to it, or None.
        stride: Stride of rows and columns.
        relu: Whether negative results become 0.
        block_bytes: Approximate size of a block of the result.

    Returns:
        [N, h / stride, w / stride, D], rounded up.
    """
    x = x[:, ::stride, ::stride]
    n, h, w, channels = x.shape
    features = kernel.shape[-1]
    cells = n * h * w
    blocks = ceil(cells * features * x.dtype.itemsize / block_bytes)
    rows = ceil(cells / blocks)
    kernel = kernel[0, 0]
    if blocks == 1 or not (relu or shortcut is not None):
        return finish(product(x, kernel), bias, shortcut, relu)
    flat = x.reshape(cells, channels)
    added = None if shortcut is None else shortcut.reshape(cells, features)

    def one(index, y):
        # jax.lax moves a slice that would cross the end back, so the last block repeats part of the previous.
        start = index * rows
        block = jax.lax.dynamic_slice_in_dim(flat, start, rows) @ kernel
        more = None if added is None else jax.lax.dynamic_slice_in_dim(added, start, rows)
        return jax.lax.dynamic_update_slice_in_dim(y, finish(block, bias, more, relu), start, 0)

    y = jax.lax.fori_loop(0, blocks, one, empty_depending_on((cells, features), x, kernel, bias, shortcut))
    return y.reshape(n, h, w, features)


def _outer_products(x: Array, y: Array) -> Array:
    """Sum over all cells of the outer products of [..., C] and [..., D]: [C, D]."""
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


def _gradient_of_kernel(padded: Array, cotangent: Array, stride: int) -> Array:
    """Gradient of a 3x3 kernel: for each of its cells, a product of what it reads and the cotangent.

    Args:
        padded: [N, height, width, C], the input with a border before it, and enough of one after it.
        cotangent: [N, h, w, D], of the result.
        stride: Stride of rows and columns.

    Returns:
        [3, 3, C, D].
    """
    h, w = (stride * (side - 1) + 1 for side in cotangent.shape[1:3])
    return jnp.stack([
        jnp.stack([
            _outer_products(padded[:, i : i + h : stride, j : j + w : stride], cotangent) for j in range(3)
        ])
        for i in range(3)
    ])  # fmt: skip


def stride1_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Both gradients of a 3x3 convolution with stride 1.

    That of the input is a convolution again, with the kernel rotated by 180 degrees.

    Args:
        x: [N, h, w, C].
        kernel: [3, 3, C, D].
        cotangent: [N, h, w, D], of the result.

    Returns:
        The gradients with respect to ``x`` and ``kernel``.
    """
    border = ((0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0))
    kernel_gradient = _gradient_of_kernel(
        jax.lax.pad(x, zero_depending_on(cotangent), border), cotangent, stride=1
    )
    gradient = jax.lax.conv_general_dilated(
        cotangent,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return gradient, kernel_gradient


def stride2_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Both gradients of a 3x3 convolution with stride 2, from products of the cells of equal parity.

    Output y reads rows 2y - 1, 2y and 2y + 1. So an even row 2y is read only by kernel row 1, and the
    odd row 2y + 1 by row 2 for output y and by row 0 for output y + 1. The same holds for columns.

    Args:
        x: [N, height, width, C].
        kernel: [3, 3, C, D].
        cotangent: [N, h, w, D], of the result.

    Returns:
        The gradients with respect to ``x`` and ``kernel``.
    """
    n, height, width, channels = x.shape
    _, h, w, _ = cotangent.shape
    # A border before the map, so that kernel row i reads row 2y + i.
    border = ((0, 0, 0), (1, 2 * h - height, 0), (1, 2 * w - width, 0), (0, 0, 0))
    padded = jax.lax.pad(x, zero_depending_on(cotangent), border)
    kernel_gradient = _gradient_of_kernel(padded, cotangent, stride=2)
    # Zeros for the output after the last one, which the last odd row and column would read.
    after = jnp.pad(cotangent, ((0, 0), (0, 1), (0, 1), (0, 0)))
    readers = {0: ((1, 0),), 1: ((2, 0), (0, 1))}  # parity: (kernel row, output's offset)
    rows = []
    for row_readers in readers.values():
        cells = []
        for column_readers in readers.values():
            pairs = [(i, dy, j, dx) for i, dy in row_readers for j, dx in column_readers]
            read = jnp.concatenate([after[:, dy : dy + h, dx : dx + w] for _, dy, _, dx in pairs], -1)
            taps = jnp.concatenate([kernel[i, j].T for i, _, j, _ in pairs])
            cells.append(read @ taps)
        rows.append(jnp.stack(cells, 3))
    gradient = jnp.stack(rows, 2)  # [N, h, 2, w, 2, C]
    return gradient.reshape(n, 2 * h, 2 * w, channels)[:, :height, :width], kernel_gradient
