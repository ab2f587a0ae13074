"""The convolutions of the models, each computed the way that is fastest on the platform it is compiled for.

On GPUs and TPUs these are XLA's convolutions and products with their own gradients. On CPUs, where
XLA's gradients of convolutions are several times slower than the convolutions themselves:

- 3x3, stride 1: Winograd's filtering (`winograd.py`), forward and gradients;
- 3x3, stride 2: gradients as products, one for each of the four parities of a cell's row and column;
- 1x1: a product of two matrices, so that its gradients are such products too.

The numbers are the same but for rounding. The 3x3 ones can be differentiated in reverse mode only.

Shapes: N maps of h x w cells, C and D channels in and out.
"""

from functools import partial
from math import ceil

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops import winograd

Array = jax.Array


def _plain(x: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _plain_gradients(x: Array, kernel: Array, cotangent: Array, stride: int) -> tuple[Array, Array]:
    return jax.vjp(partial(_plain, stride=stride), x, kernel)[1](cotangent)


def winograd_is_faster(x: Array, kernel: Array) -> bool:
    """Whether maps and kernel are large enough, and float32, for Winograd's filtering on a CPU."""
    n, h, w, _ = x.shape
    tiles = n * ceil(h / winograd.TILE) * ceil(w / winograd.TILE)
    return x.dtype == kernel.dtype == jnp.float32 and min(kernel.shape[2:]) >= 32 and tiles >= 64


@jax.custom_vjp
def convolution3x3(x: Array, kernel: Array) -> Array:
    """A 3x3 convolution with stride 1 and a border of one zero.

    Args:
        x: [N, h, w, C].
        kernel: [3, 3, C, D].

    Returns:
        [N, h, w, D].

    Example:
        >>> loss = lambda kernel: convolution3x3(jnp.ones((1, 8, 8, 1)), kernel).sum()
        >>> float(jax.grad(loss)(jnp.zeros((3, 3, 1, 1)))[1, 1, 0, 0])
        64.0
    """
    plain = partial(_plain, stride=1)
    if not winograd_is_faster(x, kernel):
        return plain(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=plain)


def _convolution3x3_backward(saved, cotangent: Array) -> tuple[Array, Array]:
    def by_winograd(x, kernel, cotangent):
        return winograd.input_gradient(cotangent, kernel), winograd.kernel_gradient(x, cotangent)

    plain = partial(_plain_gradients, stride=1)
    if not winograd_is_faster(*saved):
        return plain(*saved, cotangent)
    return jax.lax.platform_dependent(*saved, cotangent, cpu=by_winograd, default=plain)


convolution3x3.defvjp(lambda x, kernel: (convolution3x3(x, kernel), (x, kernel)), _convolution3x3_backward)


@jax.custom_vjp
def convolution3x3_stride2(x: Array, kernel: Array) -> Array:
    """A 3x3 convolution with stride 2 and a border of one zero.

    Args:
        x: [N, h, w, C].
        kernel: [3, 3, C, D].

    Returns:
        [N, h / 2, w / 2, D], rounded up.

    Example:
        >>> convolution3x3_stride2(jnp.ones((1, 5, 8, 2)), jnp.ones((3, 3, 2, 4))).shape
        (1, 3, 4, 4)
    """
    return _plain(x, kernel, 2)


def _outer_products(x: Array, y: Array) -> Array:
    """Sum over all cells of the outer products of [..., C] and [..., D]: [C, D]."""
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


def _stride2_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    """Both gradients from products of the cells of equal parity.

    Output y reads rows 2y - 1, 2y and 2y + 1. So an even row 2y is read by kernel row 1 alone, and the
    odd row 2y + 1 by row 2 for output y and by row 0 for output y + 1. The same holds for columns.
    """
    n, height, width, channels = x.shape
    _, h, w, _ = cotangent.shape
    # A border before the map, so that kernel row i reads row 2y + i.
    padded = jnp.pad(x, ((0, 0), (1, 2 * h - height), (1, 2 * w - width), (0, 0)))
    kernel_gradient = jnp.stack([
        jnp.stack([
            _outer_products(padded[:, i : i + 2 * h : 2, j : j + 2 * w : 2], cotangent) for j in range(3)
        ])
        for i in range(3)
    ])  # fmt: skip
    # The output behind the last one, of which the last odd row gets nothing.
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


def _convolution3x3_stride2_backward(saved, cotangent: Array) -> tuple[Array, Array]:
    plain = partial(_plain_gradients, stride=2)
    return jax.lax.platform_dependent(*saved, cotangent, cpu=_stride2_gradients, default=plain)


convolution3x3_stride2.defvjp(
    lambda x, kernel: (convolution3x3_stride2(x, kernel), (x, kernel)), _convolution3x3_stride2_backward
)


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
    # Flat, because a gradient that sums over several axes makes XLA's CPU backend transpose its operands.
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])
