"""Maps in the order of tiles, as `tiles_tpu.py` reads and writes them: 8 x 8 pixels after each other.

Maps and tiles are copied row of tiles by row of tiles, in loops that write into memory without values.
XLA:TPU expects half of the cycles of copying whole levels at once (docs/benchmarks.md).

Shape legend: B images, H and W a level's height and width, C channels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.xla_memory import zero_depending_on

Array = jax.Array

TILE = 8
_ZEROS = 64  # tiles that are set to zero at once


def tile_counts(features: Array) -> tuple[int, int]:
    """Tiles below and beside each other in a map, [B, H, W, C]."""
    return -(-features.shape[1] // TILE), -(-features.shape[2] // TILE)


class _Rows(NamedTuple):
    """Rows of tiles of a level with the same height in pixels: all whole ones, or the last ones below them.

    ``start`` is the level's first tile, ``first`` the number of an image's first row, and ``count`` that of
    its rows; ``down`` and ``across`` are the tiles of an image.
    """

    start: int
    down: int
    across: int
    first: int
    count: int
    height: int

    def for_each(self, images, function, initial):
        """Call ``function(tile, image, y, total)`` with the first tile and pixel of every row."""

        def one(number, total):
            image, row = jnp.divmod(number, self.count)
            row = row + self.first
            return function(self.start + (image * self.down + row) * self.across, image, row * TILE, total)

        return jax.lax.fori_loop(0, images * self.count, one, initial)


def _rows_of(maps: Sequence[Array]) -> Iterator[tuple[int, _Rows]]:
    """A map and its rows of tiles, for every level and height of rows.

    Whole levels at a time take more than twice as long in the estimates of XLA:TPU, which pads them, copies
    them into the order of tiles and then writes them (docs/benchmarks.md).
    """
    start = 0
    for number, features in enumerate(maps):
        down, across = tile_counts(features)
        whole, rest = divmod(features.shape[1], TILE)
        if whole:
            yield number, _Rows(start, down, across, 0, whole, TILE)
        if rest:
            yield number, _Rows(start, down, across, whole, 1, rest)
        start += features.shape[0] * down * across


def tiles_of(maps: Sequence[Array]) -> Array:
    """Bring maps into the order of tiles.

    Args:
        maps: [B, H, W, C] for each level.

    Returns:
        The tiles of all maps, image by image and row by row, [tiles, 64, C]; zeros beyond the borders.
    """
    count = sum(f.shape[0] * int(np.prod(tile_counts(f))) for f in maps)
    # Maps of rows without a last part of a tile have no padding: their last rows are written by themselves.
    maps = [f if f.shape[2] % TILE == 0 else _filled_up(f) for f in maps]
    tiles = jax.lax.empty((count, TILE * TILE, maps[0].shape[3]), maps[0].dtype)
    for number, rows in _rows_of(maps):

        def write(tile, image, y, tiles, features=maps[number], height=rows.height, across=rows.across):
            width, channels = features.shape[2:]
            own = jax.lax.dynamic_slice(features, (image, y, 0, 0), (1, height, width, channels))[0]
            own = jnp.pad(own, ((0, TILE - height), (0, 0), (0, 0)))
            own = own.reshape(TILE, across, TILE, channels).swapaxes(0, 1)
            own = own.reshape(across, TILE * TILE, channels)
            return jax.lax.dynamic_update_slice(tiles, own, (tile, 0, 0))

        tiles = rows.for_each(maps[number].shape[0], write, tiles)
    return tiles


def _filled_up(features: Array) -> Array:
    """A map with zeros up to whole tiles."""
    return jnp.pad(features, [(0, 0), *((0, -side % TILE) for side in features.shape[1:3]), (0, 0)])


def maps_of(tiles: Array, maps: Sequence[Array]) -> tuple[Array, ...]:
    """The opposite of `tiles_of`.

    Args:
        tiles: [tiles, 64, C].
        maps: Arrays of the shapes and dtypes of the result, [B, H, W, C] for each level.

    Returns:
        The maps.
    """
    channels = tiles.shape[2]
    # XLA would convert all tiles to bfloat16 before the loop, if the loop did nothing else with them.
    one = 1 + zero_depending_on(tiles)
    found = [jax.lax.empty((*f.shape[:3], channels), f.dtype) for f in maps]
    for number, rows in _rows_of(maps):
        images, _, width = maps[number].shape[:3]

        def write(tile, image, y, found, height=rows.height, across=rows.across, width=width):
            own = one * jax.lax.dynamic_slice(tiles, (tile, 0, 0), (across, TILE * TILE, channels))
            own = own.reshape(across, TILE, TILE, channels).swapaxes(0, 1)
            own = own.reshape(1, TILE, across * TILE, channels)[:, :height, :width]
            return jax.lax.dynamic_update_slice(found, own.astype(found.dtype), (image, y, 0, 0))

        found[number] = rows.for_each(images, write, found[number])
    return tuple(found)


def zeros(count: int, channels: int, zero: Array) -> Array:
    """Tiles of zeros, written some at a time: XLA:TPU expects twice the cycles of a single broadcast.

    Args:
        count: Number of tiles.
        channels: C.
        zero: A scalar 0, which may depend on other arrays.

    Returns:
        [tiles, 64, C], of the dtype of ``zero``.
    """
    size = min(count, _ZEROS)

    def write(number, tiles):
        first = jnp.minimum(number * size, count - size)
        return jax.lax.dynamic_update_slice(
            tiles, jnp.full((size, TILE * TILE, channels), zero), (first, 0, 0)
        )

    tiles = jax.lax.empty((count, TILE * TILE, channels), zero.dtype)
    return jax.lax.fori_loop(0, -(-count // size), write, tiles)
