"""The largest of many values.

Shape legend: N values.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole

_ROW = 128  # values of a row that are looked up together: a row of a TPU's registers
_SUBLANES = 8  # rows of a register
_MOST_ROWS = 32  # that are computed one by one
_LAST = np.uint32(0xFFFFFFFF)


def top_k(values: Array, k: int, rows: int = 1) -> tuple[Array, Array]:
    """The ``k`` largest values, with the same result as ``jax.lax.top_k``.

    On GPUs and TPUs ``jax.lax.top_k`` sorts all values, in a time that grows faster than their number, and on
    TPUs the time to compile the sort grows too (docs/benchmarks.md). So GPUs select the largest of parts
    first, and then the largest of those (`by_parts`), and TPUs sort only what is selected (`by_counting`).

    Args:
        values: float [N], at least k.
        k: Number of values to select, static.
        rows: Values are an array [rows, N / rows], and are counted column by column: an index is
            ``column * rows + row``. TPUs take very long to bring them into that order first.

    Returns:
        Values [k], largest first, and their indices int32 [k]; equal values stay in their order. A NaN counts
        as larger than all numbers, or as smaller if its sign is negative.

    Raises:
        ValueError: An array has another shape, or fewer than ``k`` values.

    Example:
        >>> top_k(jnp.array([1.0, 3.0, 2.0, 3.0]), 3)[1].tolist()
        [1, 3, 2]
    """
    check_shapes("top_k", values=(values, "N"))
    check_whole("top_k", 0, k=k)
    n = values.shape[0]
    if k > n:
        raise ValueError(f"top_k: k is {k}; give at most the number of values, {n}.")

    def in_order(values):
        return values if rows == 1 else values.reshape(rows, -1).T.reshape(-1)

    if k == 0 or n <= 2048:
        return _whole(in_order(values), k)
    if values.dtype.itemsize <= 4:
        on_tpu = functools.partial(one_by_one, k=k, rows=rows)
    else:
        on_tpu = lambda values: by_parts(in_order(values), k)  # noqa: E731
    return jax.lax.platform_dependent(
        values,
        cpu=lambda values: _whole(in_order(values), k),
        tpu=on_tpu,
        default=lambda values: by_parts(in_order(values), k),
    )


def by_parts(values: Array, k: int) -> tuple[Array, Array]:
    """Select the largest values of parts, again and again until few values are left."""
    n, part = values.shape[0], _part(k)
    if n <= 2 * part:
        return _whole(values, k)
    # Padding is the smallest value and comes last, so it is never chosen before a value.
    parts = jnp.pad(values, (0, -n % part), constant_values=_lowest(values.dtype)).reshape(-1, part)
    best, index = jax.lax.top_k(parts, k)
    index = index + part * jnp.arange(len(parts), dtype=jnp.int32)[:, None]
    best, position = by_parts(best.reshape(-1), k)
    return best, index.reshape(-1)[position]


def by_counting(values: Array, k: int, rows: int = 1) -> tuple[Array, Array]:
    """Find the smallest value that is selected by counting, collect the ``k`` values, and sort only those.

    The smallest one is found bit by bit, from the numbers of values that are larger. XLA:TPU takes seconds to
    compile a sort of a few thousand values, and looks up single values slowly. So nothing else is sorted,
    and the values are collected in whole rows.

    Args:
        values: float [N], of at most 32 bits.
        k: Number of values to select, static, at least 1.
        rows: As of `top_k`.

    Returns:
        As `top_k`.
    """
    n = values.shape[0]
    columns = n // rows
    row, column = (jnp.arange(size, dtype=jnp.uint32) for size in (rows, columns))
    index = column if rows == 1 else (column[None] * rows + row[:, None]).reshape(-1)
    # Filled up to whole rows with keys and indices that come after all others.
    keys = jnp.pad(_keys(values), (0, -n % _ROW), constant_values=_LAST).reshape(-1, _ROW)
    index = jnp.pad(index, (0, -n % _ROW), constant_values=_LAST).reshape(-1, _ROW)
    if rows > 1:  # computed once, and not in every turn of the loops below
        index = jax.lax.optimization_barrier(index)
    last = _largest(lambda key: _count(keys < key) < k, 32)
    # Of the values that equal the last one, the first ones.
    missing = k - _count(keys < last)
    last_index = _largest(lambda i: _count((keys == last) & (index < i)) < missing, n.bit_length())
    chosen = (keys < last) | ((keys == last) & (index <= last_index))
    keys, place = _collect(keys, chosen, k)
    index = place % columns * rows + place // columns
    keys, index = jax.lax.sort((keys, index), num_keys=2, is_stable=False)
    return _values(keys, values.dtype), index


def one_by_one(values: Array, k: int, rows: int = 1) -> tuple[Array, Array]:
    """`by_counting`, which `vmap` puts into a loop over the images of a batch.

    A TPU counts and sorts long rows best one by one, and XLA compiles that in less than half the time. Many
    rows, as of all regions of a batch, are computed together.
    """
    function = jax.custom_batching.custom_vmap(lambda values: by_counting(values, k, rows))

    @function.def_vmap
    def of_batch(axis_size, in_batched, values):
        together = jax.vmap(lambda values: by_counting(values, k, rows))
        found = jax.lax.map(function, values) if axis_size <= _MOST_ROWS else together(values)
        return found, (True, True)

    return function(values)


def _largest(holds, bits):
    """The largest uint32 of so many bits for which a condition holds that holds for 0 and all up to it."""

    def set_bit(i, number):
        larger = number | (jnp.uint32(1) << (bits - 1 - i).astype(jnp.uint32))
        return jnp.where(holds(larger), larger, number)

    return jax.lax.fori_loop(0, bits, set_bit, jnp.uint32(0))


def _count(chosen):
    """The number of chosen values, of bool [rows, 128].

    As a product with ones, which are exact in any precision, XLA:TPU expects a third of the cycles of a sum
    (libtpu 0.0.42; docs/benchmarks.md).
    """
    columns = jnp.ones((_SUBLANES, len(chosen)), jnp.float32) @ chosen.astype(jnp.float32)
    return columns[0].astype(jnp.int32).sum(dtype=jnp.int32)


def _collect(keys, chosen, k):
    """The ``k`` chosen keys and their places, both [k], in the order of the places; all [rows, 128]."""
    slot = jnp.arange(k, dtype=jnp.int32)[:, None]
    counts = chosen.sum(1, dtype=jnp.int32)
    passed = jnp.cumsum(counts)[None] <= slot  # [k, rows], whether a row ends before the slot's value
    row = passed.sum(1, dtype=jnp.int32)
    # Of the value among the chosen ones of its row.
    place = slot[:, 0] - jnp.where(passed, counts[None], 0).sum(1, dtype=jnp.int32)
    keys, chosen = keys[row], chosen[row]
    # A product with a triangle of ones counts the chosen values before each. Zeros and ones are exact in any
    # precision, and sums are of float32.
    before = jnp.matmul(chosen.astype(jnp.float32), np.triu(np.ones((_ROW, _ROW), np.float32), 1))
    hit = chosen & (before == place[:, None].astype(jnp.float32))
    column = jnp.where(hit, jnp.arange(_ROW, dtype=jnp.int32)[None], 0).sum(1, dtype=jnp.int32)
    return jnp.where(hit, keys, 0).sum(1, dtype=jnp.uint32), _ROW * row + column


def _keys(values):
    """Whole numbers uint32 in the opposite order of the values; NaNs and zeros as in ``jax.lax.top_k``."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    return jnp.where(bits >> 31 == 0, bits ^ jnp.uint32(0x7FFFFFFF), bits)


def _values(keys, dtype):
    bits = jnp.where(keys >> 31 == 0, keys ^ jnp.uint32(0x7FFFFFFF), keys)
    return jax.lax.bitcast_convert_type(bits, jnp.float32).astype(dtype)


def _lowest(dtype):
    """The value that ``jax.lax.top_k`` takes last: a negative NaN whose bits are all set."""
    return np.full(1, 255, np.uint8).repeat(dtype.itemsize).view(dtype)[0]


def _whole(values: Array, k: int) -> tuple[Array, Array]:
    best, index = jax.lax.top_k(values, k)
    return best, index


def _part(k: int) -> int:
    """Size of a part: a power of two, for sorting networks, of which at most a quarter is kept."""
    return max(2048, 4 << (k - 1).bit_length())
