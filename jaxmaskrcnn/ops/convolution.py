"""The convolutions of the models, with what follows them, computed as is fastest on the platform at hand.

``relu(convolution(x, kernel) + bias + shortcut)`` is one operation whose gradient needs ``x`` and the
result, and nothing in between. On GPUs and TPUs it is XLA's convolution, which cuDNN computes in one pass
with all that follows, with XLA's own gradients (of a 1x1 convolution: those of a product). On CPUs, where
XLA's gradients of convolutions are several times slower than the convolutions themselves:

- 3x3, stride 1: Winograd's filtering (`winograd.py`), forward and gradients;
- 3x3, stride 2: gradients as products, one for each of the four parities of a cell's row and column;
- 1x1: a product of two matrices, so that its gradients are such products too.

Large maps are made there block by block in a loop, sums and ReLU included. Otherwise XLA would keep the
bare convolution for the gradient, beside the result that the next layer reads.

The numbers are the same but for rounding. Gradients are in reverse mode only.

Shapes: N maps of h x w cells, C and D channels in and out.
"""

import functools
from math import ceil

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops import winograd
from jaxmaskrcnn.ops.epilogue import finish, unwritten, zero_after

Array = jax.Array

# Products with larger results are made in blocks, of about this size.
_BLOCK_BYTES = 4 * 2**20


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def convolution(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    shortcut: Array | None = None,
    stride: int = 1,
    groups: int = 1,
    relu: bool = False,
) -> Array:
    """A square convolution with a border of ``size // 2`` zeros, a sum and a ReLU.

    Args:
        x: [N, h, w, C].
        kernel: [size, size, C / groups, D] with an odd size.
        bias: [D], or None.
        shortcut: Added to the result, of its shape; or None.
        stride: Of rows and columns.
        groups: Channels are convolved in this many groups.
        relu: Whether negative results become 0.

    Returns:
        [N, h / stride, w / stride, D], rounded up.

    Example:
        >>> loss = lambda kernel: convolution(jnp.ones((1, 8, 8, 1)), kernel).sum()
        >>> float(jax.grad(loss)(jnp.zeros((3, 3, 1, 1)))[1, 1, 0, 0])
        64.0
    """

    def default(x, kernel, bias, shortcut):
        # Blocks of outputs that are not whole would be padded by passes over the whole input.
        few = _is_product(kernel, groups) and kernel.shape[-1] % 8 > 0
        y = _product(x, kernel, stride) if few else _fold_and_convolve(x, kernel, stride, groups)
        return finish(y, bias, shortcut, relu)

    if winograd_is_faster(x, kernel, stride, groups):
        cpu = functools.partial(winograd.convolve, relu=relu)
    elif _is_product(kernel, groups):
        cpu = functools.partial(_product_in_blocks, stride=stride, relu=relu)
    elif _is_stem(kernel, stride, groups):

        def cpu(x, kernel, bias, shortcut):
            return finish(_convolve(x, kernel, stride), bias, shortcut, relu)

    else:
        return default(x, kernel, bias, shortcut)
    return jax.lax.platform_dependent(x, kernel, bias, shortcut, cpu=cpu, default=default)


def winograd_is_faster(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> bool:
    """Whether a 3x3 convolution is large enough, and float32, for Winograd's filtering on a CPU."""
    n, h, w, _ = x.shape
    tiles = n * ceil(h / winograd.TILE) * ceil(w / winograd.TILE)
    return (
        (*kernel.shape[:2], stride, groups) == (3, 3, 1, 1)
        and x.dtype == kernel.dtype == jnp.float32
        and min(kernel.shape[2:]) >= 32
        and tiles >= 64
    )


def _is_product(kernel: Array, groups: int) -> bool:
    return kernel.shape[:2] == (1, 1) and groups == 1


def _product(x: Array, kernel: Array, stride: int) -> Array:
    return product(x[:, ::stride, ::stride], kernel[0, 0])


def _is_stem(kernel: Array, stride: int, groups: int) -> bool:
    return (*kernel.shape[:2], stride, groups) == (7, 7, 2, 1) and kernel.shape[2] <= 4


def _convolve(x: Array, kernel: Array, stride: int = 1, groups: int = 1, border=None) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    border = border or tuple((size // 2, size // 2) for size in kernel.shape[:2])
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), border, dimension_numbers=numbers, feature_group_count=groups
    )


def _fold_and_convolve(x: Array, kernel: Array, stride: int, groups: int) -> Array:
    """A convolution whose input has at least twelve channels.

    Hardware multiplies blocks of channels, of which the three of an image are a small part. So 2 x 2 pixels
    become the channels of one, and the stem's 7x7 kernel of stride 2 becomes a 4x4 one of stride 1.

    Source: space-to-depth in Google's ResNets for TPUs.
    """
    if not _is_stem(kernel, stride, groups):
        return _convolve(x, kernel, stride, groups)
    n, height, width, channels = x.shape
    h, w = ceil(height / 2), ceil(width / 2)
    x = jnp.pad(x, ((0, 0), (0, 2 * h - height), (0, 2 * w - width), (0, 0)))
    x = x.reshape(n, h, 2, w, 2, channels).swapaxes(2, 3).reshape(n, h, w, 4 * channels)
    # A row and a column of zeros first: output y then reads the pairs of rows y - 2 to y + 1.
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(4, 2, 4, 2, channels, -1).swapaxes(1, 2).reshape(4, 4, 4 * channels, -1)
    return _convolve(x, kernel, border=((2, 1), (2, 1)))


def _product_in_blocks(x, kernel, bias, shortcut, stride, relu) -> Array:
    x = x[:, ::stride, ::stride]
    n, h, w, channels = x.shape
    features = kernel.shape[-1]
    cells = n * h * w
    blocks = ceil(cells * features * x.dtype.itemsize / _BLOCK_BYTES)
    rows = ceil(cells / blocks)
    kernel = kernel[0, 0]
    if blocks == 1 or not (relu or shortcut is not None):
        return finish(product(x, kernel), bias, shortcut, relu)
    flat = x.reshape(cells, channels)
    added = None if shortcut is None else shortcut.reshape(cells, features)

    def one(index, y):
        # Slices start early enough to be whole, so that the last block repeats a part of the one before.
        start = index * rows
        block = jax.lax.dynamic_slice_in_dim(flat, start, rows) @ kernel
        more = None if added is None else jax.lax.dynamic_slice_in_dim(added, start, rows)
        return jax.lax.dynamic_update_slice_in_dim(y, finish(block, bias, more, relu), start, 0)

    y = jax.lax.fori_loop(0, blocks, one, unwritten((cells, features), x, kernel, bias, shortcut))
    return y.reshape(n, h, w, features)


def _forward(x, kernel, bias, shortcut, stride, groups, relu):
    y = convolution(x, kernel, bias, shortcut, stride, groups, relu)
    # Arrays without elements, that tell the gradient what there was to add.
    there = tuple(None if a is None else a.ravel()[:0] for a in (bias, shortcut))
    return y, (x, kernel, there, y if relu else None)


def _backward(stride, groups, relu, saved, cotangent):
    x, kernel, (bias, shortcut), y = saved
    if relu:
        # XLA would compare what comes before the ReLU, and keep that as well: for two uses nothing is fused.
        y = jax.lax.optimization_barrier(y)
        cotangent = jnp.where(y > 0, cotangent, 0)
    default = functools.partial(_plain_gradients, stride=stride, groups=groups)
    cpu = functools.partial(default, fold=False) if _is_stem(kernel, stride, groups) else default
    if winograd_is_faster(x, kernel, stride, groups):
        cpu = _winograd_gradients
    elif (*kernel.shape[:2], stride, groups) == (3, 3, 2, 1):
        cpu = _stride2_gradients
    if cpu is default:
        of_x, of_kernel = default(x, kernel, cotangent)
    else:
        of_x, of_kernel = jax.lax.platform_dependent(x, kernel, cotangent, cpu=cpu, default=default)
    of_bias = None if bias is None else cotangent.sum((0, 1, 2)).astype(bias.dtype)
    return of_x, of_kernel, of_bias, None if shortcut is None else cotangent.astype(shortcut.dtype)


convolution.defvjp(_forward, _backward)


def _plain_gradients(x, kernel, cotangent, stride, groups, fold=True) -> tuple[Array, Array]:
    def plain(x, kernel):
        if _is_product(kernel, groups):
            return _product(x, kernel, stride)
        return (_fold_and_convolve if fold else _convolve)(x, kernel, stride, groups)

    return jax.vjp(plain, x, kernel)[1](cotangent)


def _winograd_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    of_kernel = winograd.kernel_gradient(x, cotangent)
    # One after the other, so that only one of the two has padded maps in memory.
    return winograd.input_gradient(cotangent, kernel + zero_after(of_kernel)), of_kernel


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
    border = ((0, 0, 0), (1, 2 * h - height, 0), (1, 2 * w - width, 0), (0, 0, 0))
    padded = jax.lax.pad(x, zero_after(cotangent), border)
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
