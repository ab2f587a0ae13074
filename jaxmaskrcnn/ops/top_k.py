"""The largest of many values.

Shape legend: N values, R values of a row, L lanes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole


def top_k(values: Array, k: int) -> tuple[Array, Array]:
    """The ``k`` largest values, with the same result as ``jax.lax.top_k``.

    On GPUs and TPUs ``jax.lax.top_k`` sorts all values, in a time that grows faster than their number, and
    XLA:TPU compiles a sort in a time that grows with the number of values too (docs/benchmarks.md). So they
    are divided into parts (GPUs, `by_parts`) or rows (TPUs, `by_rows`): the largest of each are selected
    first, and then the largest of those.

    Args:
        values: float [N], at least k.
        k: Number of values to select, static.

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
    if n <= 2 * _row(k):
        return _whole(values, k)
    on_tpu = by_rows if values.dtype.itemsize <= 4 else by_parts
    return jax.lax.platform_dependent(
        values,
        cpu=lambda values: _whole(values, k),
        tpu=lambda values: on_tpu(values, k),
        default=lambda values: by_parts(values, k),
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


def by_rows(values: Array, k: int) -> tuple[Array, Array]:
    """Select the largest of rows, one after the other, beside the best of the rows before.

    All rows are of one short length, so there are only two sorts to compile: one for the rows of several
    lanes at a time, and one that joins the lanes. Values are sorted together with their indices, because
    TPUs look up single values slowly.

    Args:
        values: float [N], of at most 32 bits.
        k: Number of values to select, static.

    Returns:
        As `top_k`.
    """
    n, width = values.shape[0], _row(k)
    rows = -(-n // width)
    turns = max(1, round(rows**0.5))
    lanes = -(-rows // turns)
    keys = jnp.pad(_keys(values), (0, lanes * turns * width - n), constant_values=jnp.iinfo(jnp.int32).max)
    # A lane has consecutive values, so that of equal ones those of an earlier lane come first.
    keys = keys.reshape(lanes, turns, width).swapaxes(0, 1)
    index = jnp.arange(keys.size, dtype=jnp.int32).reshape(lanes, turns, width).swapaxes(0, 1)
    best = _best_of_rows(keys, index, k)  # [L, k]
    keys, index = _best_of_rows(best[0][:, None], best[1][:, None], k)
    return _values(keys[0], values.dtype), index[0]


def _best_of_rows(keys, index, k):
    """The ``k`` smallest keys int32 [rows, L, R] of each lane and their indices, both [L, k]."""

    def look(best, row):
        joined = (jnp.concatenate(pair, axis=1) for pair in zip(best, row, strict=True))
        return tuple(x[:, :k] for x in jax.lax.sort(tuple(joined), num_keys=2, is_stable=False)), None

    nothing = jnp.full((keys.shape[1], k), jnp.iinfo(jnp.int32).max)
    return jax.lax.scan(look, (nothing, nothing), (keys, index))[0]


def _keys(values):
    """Whole numbers int32 in the opposite order of the values; NaNs and zeros as in ``jax.lax.top_k``."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    return ~jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)


def _values(keys, dtype):
    bits = jnp.where(~keys < 0, ~keys ^ jnp.iinfo(jnp.int32).max, ~keys)
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


def _row(k: int) -> int:
    """Length of a row: a power of two of at least k."""
    return max(1024, 1 << (k - 1).bit_length())
