"""Pooling over windows of cells: the max pooling of ResNets and MViT (3 x 3 cells, two apart), and averages.

XLA's CPU backend computes the gradient of max pooling in a loop over windows, with the places of all cells as
a further array (jaxlib 0.10.2): 15 ms for eight maps of 64 x 64 x 32 on two cores, where `_gradient` takes 3,
and 0.95 s for two of 400 x 672 x 64, where it takes 0.23. Other platforms use XLA's own gradient.

XLA:TPU expects windows along one axis to take a fifth of the cycles (docs/benchmarks.md). So TPUs pool the
columns after the rows.

Shapes: N maps of height x width cells, h x w windows, C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.derivatives import wants_every_derivative

Array = jax.Array

_SIZE, _STRIDE = 3, 2
# The windows that read a row of the bordered map, by the row's parity: (row of the window, window). Row 2 s
# is the first of window s and the last of window s - 1; row 2 s + 1 is the middle one of window s.
_READERS = (((0, 0), (2, -1)), ((1, 0),))


def max_pool(x: Array, border: tuple[int, int] = (1, 1)) -> Array:
    """Take the largest value of each window; outside of the map is -inf.

    The gradient of a window goes to the first of its largest values, as in torch.

    Args:
        x: [N, height, width, C].
        border: Cells outside of the map (before, after) that windows may contain, for rows and columns: at
            most 1 before and exactly 1 after.

    Returns:
        [N, h, w, C], half as large as ``x``, rounded up (with a border before).

    Raises:
        ValueError: ``border`` is another one.

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    if border not in ((0, 1), (1, 1)):
        raise ValueError(f"max_pool: border is {border}; give (0, 1) or (1, 1).")
    return plain(x, border) if wants_every_derivative() else _pool(x, border)


def average_pool(x: Array, size: int, stride: int, border: int = 0) -> Array:
    """Take the mean of each window; zeros beside the map count.

    Args:
        x: [N, height, width, C].
        size: Side of a window.
        stride: Distance of windows.
        border: Cells outside of the map, on every side, that windows may contain.

    Returns:
        [N, h, w, C]. Windows that would reach beyond the border are left out.

    Example:
        >>> average_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2, 2)[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    windows, strides = (1, size, size, 1), (1, stride, stride, 1)
    borders = ((0, 0), (border, border), (border, border), (0, 0))
    sums = jax.lax.reduce_window(x, np.array(0, x.dtype), jax.lax.add, windows, strides, borders)
    return sums / size**2


def plain(x: Array, border: tuple[int, int] = (1, 1)) -> Array:
    """Define the operation, as XLA's reduction of windows."""
    size, stride = (1, _SIZE, _SIZE, 1), (1, _STRIDE, _STRIDE, 1)
    borders = ((0, 0), border, border, (0, 0))
    lowest = np.array(-np.inf, x.dtype)  # a constant: of a traced value JAX knows no gradient
    return jax.lax.reduce_window(x, lowest, jax.lax.max, size, stride, borders)


def columns_after_rows(x: Array, border: tuple[int, int] = (1, 1)) -> Array:
    """The same result, from three rows each and then from three columns."""
    for axis in (1, 2):
        size, stride = ([n if i == axis else 1 for i in range(4)] for n in (_SIZE, _STRIDE))
        borders = [border if i == axis else (0, 0) for i in range(4)]
        x = jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, size, stride, borders)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _pool(x: Array, border: tuple[int, int]) -> Array:
    tpu, default = (functools.partial(way, border=border) for way in (columns_after_rows, plain))
    return jax.lax.platform_dependent(x, tpu=tpu, default=default)


def _forward(x: Array, border: tuple[int, int]):
    y = _pool(x, border)
    return y, (x, y)


def _backward(border: tuple[int, int], saved, cotangent: Array):
    x, y = saved
    options = dict(
        cpu=functools.partial(_gradient, border), default=functools.partial(_gradient_of_xla, border)
    )
    return (jax.lax.platform_dependent(x, y, cotangent, **options),)


_pool.defvjp(_forward, _backward)


def _gradient_of_xla(border: tuple[int, int], x: Array, y: Array, cotangent: Array) -> Array:
    return jax.vjp(functools.partial(plain, border=border), x)[1](cotangent)[0]


def _gradient(border: tuple[int, int], x: Array, y: Array, cotangent: Array) -> Array:
    """The gradient with respect to ``x``, from the windows that read the cells of equal parity."""
    n, height, width, channels = x.shape
    _, h, w, _ = y.shape
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    # The windows before the first and after the last one have no largest cell.
    largest = jnp.pad(_first_largest(x, y, border), around, constant_values=-1)
    cotangent = jnp.pad(cotangent, around)
    rows = []
    for row_readers in _READERS:
        cells = []
        for column_readers in _READERS:
            terms = []
            for i, window_i in row_readers:
                for j, window_j in column_readers:
                    at = slice(1 + window_i, h + 2 + window_i), slice(1 + window_j, w + 2 + window_j)
                    terms.append(jnp.where(largest[:, *at] == _SIZE * i + j, cotangent[:, *at], 0))
            cells.append(sum(terms[1:], terms[0]))
        rows.append(jnp.stack(cells, 3))
    gradient = jnp.stack(rows, 2).reshape(n, 2 * (h + 1), 2 * (w + 1), channels)
    before = border[0]
    return gradient[:, before : before + height, before : before + width]


def _first_largest(x: Array, y: Array, border: tuple[int, int]) -> Array:
    """int32 [N, h, w, C]: the place in each window, row by row, of the first cell that equals the result."""
    h, w = y.shape[1:3]
    before = border[0]
    borders = [
        (before, _STRIDE * count + 1 - before - side, 0)
        for count, side in zip((h, w), x.shape[1:3], strict=True)
    ]
    padded = jax.lax.pad(x, np.array(-np.inf, x.dtype), ((0, 0, 0), *borders, (0, 0, 0)))
    place = jnp.full(y.shape, _SIZE * _SIZE - 1, jnp.int32)
    for i in reversed(range(_SIZE)):
        for j in reversed(range(_SIZE)):
            cells = padded[:, i : i + _STRIDE * h : _STRIDE, j : j + _STRIDE * w : _STRIDE]
            place = jnp.where(cells[:, :h, :w] == y, _SIZE * i + j, place)
    return place
