"""The largest of many values.

Shape legend: N values.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole


def top_k(values: Array, k: int) -> tuple[Array, Array]:
    """The ``k`` largest values, with the same result as ``jax.lax.top_k``.

    On GPUs and TPUs ``jax.lax.top_k`` sorts all values, in a time that grows faster than their number. There
    the values are divided into parts: the largest of each part are selected first, and then the largest of
    those.

    Args:
        values: float [N], at least k.
        k: Number of values to select, static.

    Returns:
        Values [k], largest first, and their indices int32 [k]; equal values stay in their order.

    Raises:
        ValueError: An array has another shape, or fewer than ``k`` values.

    Example:
        >>> top_k(jnp.array([1.0, 3.0, 2.0, 3.0]), 3)[1].tolist()
        [1, 3, 2]
    """
    check_shapes("top_k", values=(values, "N"))
    check_whole("top_k", 0, k=k)
    if k > values.shape[0]:
        raise ValueError(f"top_k: k is {k}; give at most the number of values, {values.shape[0]}.")
    if values.shape[0] <= 2 * _part(k):
        return _whole(values, k)
    return jax.lax.platform_dependent(
        values, cpu=lambda values: _whole(values, k), default=lambda values: by_parts(values, k)
    )


def by_parts(values: Array, k: int) -> tuple[Array, Array]:
    """Select the largest values of parts, again and again until few values are left."""
    n, part = values.shape[0], _part(k)
    if n <= 2 * part:
        return _whole(values, k)
    # Padding comes last and is -inf, so it is never chosen before a value.
    parts = jnp.pad(values, (0, -n % part), constant_values=-jnp.inf).reshape(-1, part)
    best, index = jax.lax.top_k(parts, k)
    index = index + part * jnp.arange(len(parts), dtype=jnp.int32)[:, None]
    best, position = by_parts(best.reshape(-1), k)
    return best, index.reshape(-1)[position]


def _whole(values: Array, k: int) -> tuple[Array, Array]:
    best, index = jax.lax.top_k(values, k)
    return best, index


def _part(k: int) -> int:
    """Size of a part: a power of two, for sorting networks, of which at most a quarter is kept."""
    return max(2048, 4 << (k - 1).bit_length())
