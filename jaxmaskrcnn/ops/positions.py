"""Tables of positions for transformers, resized to the part of a map that belongs to an image.

Shapes: B images, q queries and k keys on an axis of a map, m rows of a table, C channels.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

_A = -0.75  # of torch's bicubic interpolation


def relative_table(table: Array, cells: tuple[int, int], own: tuple[Array, Array]) -> Array:
    """Look up the vector of each query and key of an axis by the difference of their positions.

    If there are more of the ones, the positions of the others are as many times as far apart. A table of
    another length than the differences of an image's own cells is resized linearly to that first. Cells
    outside of an image's own ones get vectors of its ends.

    Source: Detectron2 ``modeling/backbone/utils.py``, ``get_rel_pos``.

    Args:
        table: [m, C].
        cells: Numbers of queries and of keys, q and k.
        own: int [B] of each, the cells that belong to each image.

    Returns:
        [B, q, k, C].

    Example:
        >>> one = jnp.array([2])
        >>> relative_table(jnp.arange(3.0)[:, None], (2, 2), (one, one))[0, :, :, 0].tolist()
        [[1.0, 0.0], [2.0, 1.0]]
    """
    length = table.shape[0]
    queries, keys = (x[:, None, None].astype(jnp.float32) for x in own)
    apart = jnp.maximum(keys / queries, 1), jnp.maximum(queries / keys, 1)
    query, key = (jnp.arange(count, dtype=jnp.float32)[None] for count in cells)
    place = query[:, :, None] * apart[0] - key[:, None] * apart[1]  # [B, q, k]
    place = jnp.floor(place + (keys - 1) * apart[1])
    count = 2 * jnp.maximum(queries, keys) - 1
    # With as many rows as differences the factor is 1, and no row is mixed with another one.
    place = jnp.clip((place + 0.5) * (length / count) - 0.5, 0, length - 1)
    low = jnp.floor(place).astype(jnp.int32)
    share = (place - low.astype(place.dtype)).astype(table.dtype)[..., None]
    high = jnp.minimum(low + 1, length - 1)
    return table[low] * (1 - share) + table[high] * share


def resized_positions(table: Array, height: int, width: int, own: Array) -> Array:
    """Resize a table of positions to the part of a map that belongs to each image, bicubically.

    Source: Detectron2 ``modeling/backbone/utils.py``, ``get_abs_pos``; torch's ``bicubic`` interpolation.

    Args:
        table: [m, m, C].
        height: Rows of the map.
        width: Columns of the map.
        own: int [B, 2], each image's own rows and columns.

    Returns:
        [B, height, width, C]; outside of the images' own parts without meaning.
    """
    rows = _bicubic(table.shape[0], height, own[:, 0]).astype(table.dtype)
    columns = _bicubic(table.shape[1], width, own[:, 1]).astype(table.dtype)
    return jnp.einsum("bim,bjn,mnc->bijc", rows, columns, table, precision="highest")


def _bicubic(length: int, cells: int, own: Array) -> Array:
    """The share of each row of a table in each cell, [B, cells, length]."""
    centre = jnp.arange(cells, dtype=jnp.float32)[None] + 0.5
    place = centre * (length / own.astype(jnp.float32))[:, None] - 0.5  # [B, cells]
    low = jnp.floor(place)
    matrix = jnp.zeros((*place.shape, length))
    for tap in range(-1, 3):
        index = jnp.clip(low + tap, 0, length - 1).astype(jnp.int32)
        distance = jnp.abs(place - low - tap)
        near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
        far = _A * (((distance - 5) * distance + 8) * distance - 4)
        matrix += jnp.where(distance <= 1, near, far)[..., None] * jax.nn.one_hot(index, length)
    return matrix
