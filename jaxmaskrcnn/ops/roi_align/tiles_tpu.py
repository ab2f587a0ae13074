"""RoIAlign on a TPU: blocks of whole tiles of the maps, each multiplied by one matrix of weights.

Used on TPUs, whose matrix units are fast, and which read and add single pixels slowly. All maps are cut into
tiles of 8 x 8 pixels, which then lie in memory one after the other. A region reads the tiles that it touches,
a block of 4 x 4 of them at a time, and a matrix with the weight of each of their 1024 pixels in each bin
makes its bins of them. Most regions have one block, as the level of a region is chosen by its size; the
further blocks of long ones follow. The gradient is the same with the matrix transposed, for one tile at a
time: whole tiles are added to the gradient's.

As in `tiles_batched.py`, an infinity that a bin does not read makes NaN of it too if it is in one of the
blocks' tiles, which is up to 31 pixels away.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, K blocks of a batch, P the pixels of a block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.bfloat16_parts import bfloat16_parts
from jaxmaskrcnn.ops.roi_align.tile_order import TILE, maps_of, tile_counts, tiles_of, zeros
from jaxmaskrcnn.ops.xla_memory import zero_depending_on

# Tiles on a side of a block. The bins are read from blocks that hold a whole region if it spans 25 pixels or
# less, wherever it begins; smaller blocks would have more bins to add, larger ones more pixels to multiply
# (docs/benchmarks.md). The gradient is added tile by tile, to those alone that a region touches.
ACROSS, ACROSS_SPREAD = 4, 1
# Bytes of the pixels of a batch of blocks, and of their weights; they stay in the vector memory of a v5e.
_BATCH_BYTES = 2**25


class _Tables(NamedTuple):
    """Where the tiles of each region's map are, int [R]: the first one, and how many are below and beside."""

    first: jax.Array
    down: jax.Array
    beside: jax.Array


class _Blocks(NamedTuple):
    """Blocks of regions, int [K]: the region, the block's number in it, and the first pixels.

    A region of R means none.
    """

    region: jax.Array
    number: jax.Array
    top: jax.Array
    left: jax.Array


class _Work(NamedTuple):
    """What is multiplied for blocks: the numbers of their tiles, int [K, tiles], and the weights.

    Weights are of each row or column of pixels in the bins on the axis, in three parts, bfloat16
    [K, bins, 3 * side]. The columns have further bins without weights, up to a multiple of ``TILE``, so that
    joining the axes costs nothing: rows of bins then are whole tiles of a TPU's registers.
    """

    region: jax.Array
    tiles: jax.Array
    rows: jax.Array
    columns: jax.Array


def pool(maps, lists, batch_bytes=_BATCH_BYTES, across=ACROSS, empty=jax.lax.empty):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        lists: Lists of R regions each, at least one.
        batch_bytes: Largest size of the pixels of a batch of blocks, and of their weights.
        across: Tiles on a side of a block.
        empty: Allocates memory for sums, of a shape and dtype; its values are not read.

    Returns:
        [R, oh, ow, C] for each list, in bfloat16 if the maps are, otherwise at least float32.
    """
    tiles = tiles_of(maps)
    return tuple(
        _pool(tiles, _tables(maps, regions), regions, batch_bytes, across, empty) for regions in lists
    )


def _pool(tiles, tables, regions, batch_bytes, across, empty):
    (height, width), channels = regions.bins(), tiles.shape[2]
    dtype = tiles.dtype if tiles.dtype == jnp.bfloat16 else jnp.promote_types(tiles.dtype, jnp.float32)

    def bins(work):
        pixels = tiles.at[work.tiles].get(mode="promise_in_bounds")
        pixels = pixels.reshape(len(work.region), -1, channels)
        weights = _weights(work, across).reshape(len(pixels), height, -1, pixels.shape[1])
        return _product("kyxp,kpc->kyxc", weights[:, :, :width], pixels)

    def add(blocks, total):
        # Only rows that are read are set to zero, before a region's first further block is added.
        begun = jnp.where(blocks.number == 1, blocks.region, len(total))
        total = total.at[begun].set(0, mode="drop")
        return total.at[blocks.region].add(bins(_work(tables, regions, blocks, across)), mode="drop")

    def whole(batch):
        work, further, has_further = batch
        further = jnp.where(has_further[:, None, None, None], further, 0)
        return (bins(work) + further).astype(dtype)

    first, extra = _cut(regions, across)
    pixel = max(tiles.dtype.itemsize * channels, 4 * height * (width + -width % TILE))
    size = _batch_size(pixel, batch_bytes, len(first.region), across)
    work = _work(tables, regions, first, across)
    # The further blocks come first, so that their sum with the first ones is written once.
    further = empty((len(work.region), height, width, channels), jnp.promote_types(dtype, jnp.float32))
    further = extra.for_each(size, add, further)
    has_further = jnp.diff(extra.end, prepend=0) > 0
    total = jax.lax.map(whole, _in_batches((work, further, has_further), size))
    return total.reshape(-1, *total.shape[2:])[: len(regions.level)]


def spread(maps, lists, cotangents, batch_bytes=_BATCH_BYTES, across=ACROSS_SPREAD):
    """The transpose of :func:`pool`; arguments and result as in `gather.spread_taps`."""
    channels, zero = cotangents[0].shape[-1], zero_depending_on(cotangents[0])
    grad = zeros(sum(tile_counts(f)[0] * tile_counts(f)[1] * f.shape[0] for f in maps), channels, zero)
    for regions, cotangent in zip(lists, cotangents, strict=True):
        # The cotangents of results in bfloat16 are numbers of bfloat16.
        bins = cotangent.astype(maps[0].dtype) if maps[0].dtype == jnp.bfloat16 else cotangent
        grad = _spread(grad, _tables(maps, regions), regions, bins, batch_bytes, across)
    return maps_of(grad, maps)


def _spread(grad, tables, regions, bins, batch_bytes, across):
    (height, width), channels = regions.bins(), bins.shape[-1]

    def add(work, grad):
        own = bins.at[work.region].get(mode="clip")
        weights = _weights(work, across).reshape(len(own), height, -1, (TILE * across) ** 2)
        pixels = _product("kyxp,kyxc->kpc", weights[:, :, :width], own)
        pixels = pixels.reshape(*work.tiles.shape, TILE * TILE, channels)
        return grad.at[work.tiles].add(pixels, mode="promise_in_bounds")

    first, extra = _cut(regions, across)
    size = _batch_size(4 * channels, batch_bytes, len(first.region), across)
    work = _in_batches(_work(tables, regions, first, across), size)
    grad = jax.lax.scan(lambda g, work: (add(work, g), None), grad, work)[0]
    return extra.for_each(size, lambda blocks, g: add(_work(tables, regions, blocks, across), g), grad)


class _Extra(NamedTuple):
    """The blocks of regions after their first ones.

    ``side`` is that of a block in pixels. For each region, int [R]: its first pixels, its blocks in a row,
    and the number of further blocks of this and all earlier regions.
    """

    side: int
    top: jax.Array
    left: jax.Array
    beside: jax.Array
    end: jax.Array

    def for_each(self, size, add, initial):
        """Call ``add(blocks, total)`` for every batch of blocks; there may be none."""

        def batch(start):
            number = start + jnp.arange(size)
            found = number < self.end[-1]
            region = jnp.searchsorted(self.end, number, side="right", method="compare_all")
            region = jnp.minimum(region, len(self.end) - 1)
            before = jnp.where(region > 0, self.end[region - 1], 0)
            block = number - before + 1
            row, column = jnp.divmod(block, self.beside[region])
            top, left = self.top[region] + self.side * row, self.left[region] + self.side * column
            return _Blocks(jnp.where(found, region, len(self.end)), block, top, left)

        def more(state):
            return state[0] < self.end[-1]

        return jax.lax.while_loop(more, lambda s: (s[0] + size, add(batch(s[0]), s[1])), (0, initial))[1]


def _cut(regions, across):
    """The first block of every region, and its further blocks."""
    (top, bottom), (left, right) = regions.rows.span(), regions.columns.span()
    top, left, side = top - top % TILE, left - left % TILE, TILE * across
    down, beside = (
        jnp.maximum(last - first + side, side) // side for first, last in ((top, bottom), (left, right))
    )
    region = jnp.arange(len(regions.level), dtype=jnp.int32)
    first = _Blocks(region, jnp.zeros_like(region), top, left)
    return first, _Extra(side, top, left, beside, jnp.cumsum(down * beside - 1))


def _in_batches(arrays, size):
    """Rows of all regions in batches, [batches, K, ...], of which the last is filled up with zeros."""

    def fill(x):
        return jnp.pad(x, ((0, -len(x) % size), *[(0, 0)] * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])

    return jax.tree.map(fill, arrays)


def _work(tables, regions, blocks, across):
    exists = blocks.region < len(regions.level)
    region = jnp.minimum(blocks.region, len(regions.level) - 1)

    def axis(taps, first, bins):
        def one(r, first):
            return jax.tree.map(lambda x: x[r], taps).matrix(first + jnp.arange(TILE * across))

        weights = jnp.where(exists[:, None, None], jax.vmap(one)(region, first), 0)
        parts = jnp.concatenate(bfloat16_parts(weights, 3), axis=2)
        return jnp.pad(parts, ((0, 0), (0, bins - parts.shape[1]), (0, 0)))

    height, width = regions.bins()
    rows = axis(regions.rows, blocks.top, height)
    columns = axis(regions.columns, blocks.left, width + -width % TILE)
    return _Work(blocks.region, _numbers(tables, blocks, across), rows, columns)


def _weights(work, across):
    """The weight of each pixel of a block in each bin of its region, float32 [K, oh * ow, P]."""
    # The row and the column of each pixel of a block, tile by tile.
    places = np.mgrid[:across, :across, :TILE, :TILE].reshape(4, -1)

    def for_pixels(weights, places):
        # A product with zeros and ones copies them to all pixels, which TPUs do faster than by moving them.
        copies = jnp.asarray(np.tile(np.arange(TILE * across), 3)[:, None] == places, weights.dtype)
        return jnp.einsum("kbs,sp->kbp", weights, copies, preferred_element_type=jnp.float32)

    rows = for_pixels(work.rows, TILE * places[0] + places[2])
    columns = for_pixels(work.columns, TILE * places[1] + places[3])
    return (rows[:, :, None] * columns[:, None]).reshape(len(rows), -1, places.shape[1])


def _product(axes, weights, values):
    """A product of weights with pixels or bins of blocks, in float32 or the dtype that has more bits.

    For values in bfloat16 it is the sum of two products in bfloat16: with the first 8 bits of the weights,
    and with what is left of them. In float32 a TPU computes six.
    """
    if values.dtype != jnp.bfloat16:
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        return jnp.einsum(axes, weights.astype(values.dtype), values, precision="highest")
    first, second = (
        jnp.einsum(axes, part, values, preferred_element_type=jnp.float32)
        for part in bfloat16_parts(weights, 2)
    )
    return first + second


def _numbers(tables, blocks, across):
    """The numbers of the tiles of blocks, int [K, tiles]; those beyond the map are its last ones."""
    region = jnp.minimum(blocks.region, len(tables.first) - 1)
    first, down, beside = (x[region][:, None] for x in tables)
    row, column = np.mgrid[:across, :across].astype(np.int32).reshape(2, 1, -1)
    row = jnp.minimum(blocks.top[:, None] // TILE + row, down - 1)
    column = jnp.minimum(blocks.left[:, None] // TILE + column, beside - 1)
    return first + row * beside + column


def _tables(maps, regions):
    counts = np.array([tile_counts(f) for f in maps], np.int32)  # [L, 2]
    tiles = counts.prod(1)
    first = np.cumsum([0, *(maps[0].shape[0] * tiles)])[:-1].astype(np.int32)
    first = jnp.asarray(first)[regions.level] + regions.image * jnp.asarray(tiles)[regions.level]
    return _Tables(first, jnp.asarray(counts[:, 0])[regions.level], jnp.asarray(counts[:, 1])[regions.level])


def _batch_size(pixel, batch_bytes, regions, across):
    """Number of blocks of a batch, which have so many bytes a pixel.

    It is one that divides the regions evenly, if it is at least half the limit.
    """
    limit = int(np.clip(batch_bytes // ((TILE * across) ** 2 * pixel), 1, regions))
    even = [size for size in range(limit // 2 + 1, limit + 1) if regions % size == 0]
    return max(even, default=limit)
