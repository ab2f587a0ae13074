"""3x3 convolutions on CPUs by Winograd's minimal filtering: 36 products for 16 outputs instead of 144.

A window of 6x6 inputs and the 3x3 kernel are both transformed to 36 points, where the convolution is a
product over channels, and the 36 results are transformed to a tile of 4x4 outputs (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2015):

    tile = A [(G kernel G') * (B window B')] A'

The gradients have the same form. So all three are products of matrices, while XLA on a CPU computes the
gradient of the kernel as a convolution with a window as large as the feature map, at a third of the
speed. Results equal those of the plain convolution except for rounding: the relative error is about 1e-6
in float32, a few times that of a plain sum.

Shapes: N maps of h x w cells, C and D channels in and out, T tiles of 4x4 outputs, 36 points.
"""

from fractions import Fraction
from math import ceil, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.convolution.epilogue import finish
from jaxmaskrcnn.ops.xla_memory import empty_depending_on, zero_depending_on

Array = jax.Array

TILE = 4
WINDOW = TILE + 2
POINTS = WINDOW * WINDOW
# The points at which polynomials are evaluated, besides infinity. Points near 1 in pairs of opposite sign
# give half the rounding error of the usual 0, 1, -1, 2, -2.
_FINITE = tuple(Fraction(p) for p in ("0", "5/8", "-5/8", "3/2", "-3/2"))
# Size of the transformed inputs computed at a time: larger ones leave the CPU's cache before the product.
_BLOCK_BYTES = 9 * 2**20


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [4, 6], G [6, 3] and B [6, 6] by the construction of Toom and Cook."""
    tile, kernel, window = [], [], []
    for point in _FINITE:
        others = [p for p in _FINITE if p != point]
        scale = prod(point - p for p in others)
        tile.append([point**i for i in range(TILE)])
        kernel.append([point**i / scale for i in range(3)])
        window.append([*_polynomial(others), Fraction(0)])
    tile.append([0] * (TILE - 1) + [1])
    kernel.append([0, 0, 1])
    window.append(_polynomial(_FINITE))
    return np.array(tile, float).T, np.array(kernel, float), np.array(window, float)


def _polynomial(roots) -> list[Fraction]:
    """Coefficients of the product of (x - root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


_A, _G, _B = _matrices()


def _combine(matrix: np.ndarray, parts: list[Array], axis: int) -> Array:
    """``matrix @ parts``, stacked: sums of at most six terms, each of which XLA computes in one pass."""
    sums = []
    for row in matrix:
        terms = [part if c == 1 else float(c) * part for c, part in zip(row, parts, strict=True) if c]
        sums.append(sum(terms[1:], terms[0]))
    return jnp.stack(sums, axis)


def _map_to_points(matrix: np.ndarray, x: Array, rows: int, columns: int) -> Array:
    """Transform windows of ``matrix.shape[1]`` cells, 4 cells apart, to the points.

    Args:
        matrix: `_B` for windows of inputs, the transpose of `_A` for tiles of outputs' cotangents.
        x: [N, 4 rows + 2, 4 columns + 2, C], without the 2 for tiles.
        rows: Windows in a column of windows.
        columns: Windows in a row of windows.

    Returns:
        [36, T, C] with T = N * rows * columns.
    """
    size = matrix.shape[1]
    last_row, last_column = TILE * (rows - 1) + 1, TILE * (columns - 1) + 1
    x = _combine(matrix, [x[:, i : i + last_row : TILE] for i in range(size)], 0)
    x = _combine(matrix, [x[:, :, :, j : j + last_column : TILE] for j in range(size)], 1)
    return x.reshape(POINTS, -1, x.shape[-1])


def _points_to_map(points: Array, n: int, rows: int, columns: int) -> Array:
    """Transform values at the points to the tiles of a map: [36, T, D] to [N, 4 rows, 4 columns, D]."""
    points = points.reshape(WINDOW, WINDOW, n, rows, columns, -1)
    x = _combine(_A, list(points), 0)
    x = _combine(_A, [x[:, j] for j in range(WINDOW)], 4)  # [4, N, rows, columns, 4, D]
    return x.transpose(1, 2, 0, 3, 4, 5).reshape(n, TILE * rows, TILE * columns, -1)


def _kernel_to_points(kernel: Array) -> Array:
    """Transform a kernel to the points: [3, 3, C, D] to [36, C, D]."""
    x = _combine(_G, list(kernel), 0)
    x = _combine(_G, [x[:, j] for j in range(3)], 1)
    return x.reshape(POINTS, *kernel.shape[2:])


def _points_to_kernel(points: Array) -> Array:
    """The transpose of `_kernel_to_points`: [36, C, D] to [3, 3, C, D]."""
    points = points.reshape(WINDOW, WINDOW, *points.shape[1:])
    x = _combine(_G.T, list(points), 0)
    return _combine(_G.T, [x[:, j] for j in range(WINDOW)], 1)


class _Blocks(NamedTuple):
    """The division of a batch of maps into blocks of equal size: whole maps, or bands of rows of one map."""

    maps: int  # in a block
    rows: int  # of tiles in a block
    columns: int  # of tiles in a map
    along_batch: int  # blocks
    along_rows: int

    @property
    def count(self) -> int:
        return self.along_batch * self.along_rows

    def pad(self, x: Array, border: int, after: Array) -> Array:
        """Pads the maps with zeros, so that every tile is full; delayed until ``after`` exists."""
        below, right = (-size % TILE + border for size in x.shape[1:3])
        return jax.lax.pad(
            x, zero_depending_on(after), ((0, 0, 0), (border, below, 0), (border, right, 0), (0, 0, 0))
        )

    def start(self, index: Array) -> tuple:
        """The start of a block. `jax.lax` moves a slice that would cross the end of the maps back."""
        return index // self.along_rows * self.maps, index % self.along_rows * self.rows * TILE, 0, 0

    def repeated(self, index: Array, n: int, h: int) -> Array:
        """bool [maps, rows, 1, 1]: the part of a moved block that the previous block contains too."""
        first, row, _, _ = self.start(index)
        maps, rows = jnp.arange(self.maps), jnp.arange(self.rows * TILE)
        maps = jnp.minimum(first, n - self.maps) + maps < first
        rows = jnp.minimum(row, -(-h // TILE) * TILE - self.rows * TILE) + rows < row
        return (maps[:, None] | rows[None, :])[:, :, None, None]

    def take(self, x: Array, index: Array, border: int) -> Array:
        """Block ``index`` of padded maps."""
        shape = (self.maps, self.rows * TILE + 2 * border, *x.shape[2:])
        return jax.lax.dynamic_slice(x, self.start(index), shape)


def _blocks(n: int, h: int, w: int, channels: int, block_bytes: int = _BLOCK_BYTES) -> _Blocks:
    tiles = max(1, block_bytes // (POINTS * channels * 4))
    height, columns = ceil(h / TILE), ceil(w / TILE)
    if height * columns < tiles:
        along_batch = ceil(n / (tiles // (height * columns)))
        return _Blocks(ceil(n / along_batch), height, columns, along_batch, 1)
    along_rows = ceil(height * columns / tiles)
    rows = ceil(height / min(along_rows, height))
    return _Blocks(1, rows, columns, n, ceil(height / rows))


def convolve(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    shortcut: Array | None = None,
    relu: bool = False,
    block_bytes: int = _BLOCK_BYTES,
) -> Array:
    """A 3x3 convolution with stride 1 and a border of one zero, a sum and a ReLU.

    Not meant for `jax.grad`: the gradients are `input_gradient` and `kernel_gradient`.

    Args:
        x: [N, h, w, C].
        kernel: [3, 3, C, D].
        bias: [D], or None.
        shortcut: [N, h, w, D], added to the result; or None.
        relu: Whether negative results become 0.
        block_bytes: Size of the transformed inputs that are computed at a time.

    Returns:
        [N, h, w, D].

    Example:
        >>> x = jnp.ones((1, 5, 5, 1))
        >>> float(convolve(x, jnp.ones((3, 3, 1, 1)))[0, 2, 2, 0].round(4))
        9.0
    """
    n, h, w, channels = x.shape
    blocks = _blocks(n, h, w, max(channels, kernel.shape[3]), block_bytes)
    padded = blocks.pad(x, 1, after=kernel)
    added = None if shortcut is None else blocks.pad(shortcut, 0, after=x)
    points = _kernel_to_points(kernel + zero_depending_on(x))

    def one(index, y):
        window = _map_to_points(_B, blocks.take(padded, index, 1), blocks.rows, blocks.columns)
        product = jnp.einsum("ptc,pcd->ptd", window, points)
        block = _points_to_map(product, blocks.maps, blocks.rows, blocks.columns)
        more = None if added is None else blocks.take(added, index, 0)
        return jax.lax.dynamic_update_slice(y, finish(block, bias, more, relu), blocks.start(index))

    shape = (n, TILE * ceil(h / TILE), TILE * blocks.columns, kernel.shape[3])
    y = jax.lax.fori_loop(0, blocks.count, one, empty_depending_on(shape, x, kernel, bias, shortcut))
    return y[:, :h, :w]


def input_gradient(cotangent: Array, kernel: Array, block_bytes: int = _BLOCK_BYTES) -> Array:
    """Gradient of `convolve` with respect to its input: a convolution with the kernel rotated by 180 degrees.

    Args:
        cotangent: [N, h, w, D].
        kernel: [3, 3, C, D].
        block_bytes: As in `convolve`.

    Returns:
        [N, h, w, C].
    """
    return convolve(cotangent, kernel[::-1, ::-1].swapaxes(2, 3), block_bytes=block_bytes)


def kernel_gradient(x: Array, cotangent: Array, block_bytes: int = _BLOCK_BYTES) -> Array:
    """Gradient of `convolve` with respect to its kernel.

    Args:
        x: [N, h, w, C].
        cotangent: [N, h, w, D].
        block_bytes: As in `convolve`.

    Returns:
        [3, 3, C, D].
    """
    n, h, w, channels = x.shape
    blocks = _blocks(n, h, w, max(channels, cotangent.shape[3]), block_bytes)
    x, cotangent = blocks.pad(x, 1, after=cotangent), blocks.pad(cotangent, 0, after=cotangent)

    def one(index):
        window = _map_to_points(_B, blocks.take(x, index, 1), blocks.rows, blocks.columns)
        tile = jnp.where(blocks.repeated(index, n, h), 0, blocks.take(cotangent, index, 0))
        tile = _map_to_points(_A.T, tile, blocks.rows, blocks.columns)
        return jnp.einsum("ptc,ptd->pcd", window, tile)

    total = one(0)
    if blocks.count > 1:  # a loop without turns would be traced too
        total = jax.lax.fori_loop(1, blocks.count, lambda i, total: total + one(i), total)
    return _points_to_kernel(total)
