"""Tables of positions for transformers, resized to the part of a map that belongs to an image.

Shapes: B images, n cells of an axis of the canvas's map, m rows of a table, C channels.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

_A = -0.75  # of torch's bicubic interpolation


def relative_table(table: Array, cells: int, own: Array) -> Array:
    """Look up the vector of each two cells of an axis by the difference of their positions.

    A table of another length than the 2s - 1 differences of an image with s cells is resized linearly to that
    first. Cells outside of an image's own ones get the vectors at the ends.

    Source: Detectron2 ``modeling/backbone/utils.py``, ``get_rel_pos``.

    Args:
        table: [m, C].
        cells: n.
        own: int [B], the cells s of each image.

    Returns:
        [B, n, n, C], of a query (second axis) and a key.

    Example:
        >>> relative_table(jnp.arange(3.0)[:, None], 2, jnp.array([2]))[0, :, :, 0].tolist()
        [[1.0, 0.0], [2.0, 1.0]]
    """
    length = table.shape[0]
    place = jnp.arange(cells)[:, None] - jnp.arange(cells) + (own - 1)[:, None, None]  # [B, n, n]
    count = (2 * own - 1)[:, None, None]
    # With as many rows as differences the factor is 1, and no row is mixed with another one.
    place = jnp.clip((place + 0.5) * (length / count) - 0.5, 0, length - 1)
    low = jnp.floor(place).astype(jnp.int32)
    share = (place - low).astype(table.dtype)[..., None]
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
    place = (jnp.arange(cells) + 0.5) * (length / own)[:, None] - 0.5  # [B, cells]
    low = jnp.floor(place)
    matrix = jnp.zeros((*place.shape, length))
    for tap in range(-1, 3):
        index = jnp.clip(low + tap, 0, length - 1).astype(jnp.int32)
        distance = jnp.abs(place - low - tap)
        near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
        far = _A * (((distance - 5) * distance + 8) * distance - 4)
        matrix += jnp.where(distance <= 1, near, far)[..., None] * jax.nn.one_hot(index, length)
    return matrix
