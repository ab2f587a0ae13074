"""RoIAlign on a TPU: blocks of whole tiles of the maps, each multiplied by one matrix of weights.

Used on TPUs, whose matrix units are fast, and which read and add single pixels slowly. All maps are cut into
tiles of 8 x 8 pixels, which then lie in memory one after the other. A region reads the tiles that it touches,
a block of 5 x 5 of them at a time, and a matrix with the weight of each of their 1600 pixels in each bin
makes its bins of them. Most regions have one block, as the level of a region is chosen by its size; the
further blocks of long ones follow. The gradient is the same with the matrix transposed, for one tile at a
time: whole tiles are added to the gradient's.

As in `tiles_batched.py`, an infinity that a bin does not read makes NaN of it too if it is in one of the
blocks' tiles, which is up to 40 pixels away.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, K blocks of a batch, P the pixels of a block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.roi_align.tile_order import TILE, maps_of, tile_counts, tiles_of, zeros
from jaxmaskrcnn.ops.xla_memory import zero_depending_on

# Tiles on a side of a block. The bins are read from blocks that hold a whole region if it spans 33 pixels or
# less, wherever it begins. The gradient is added tile by tile, to those alone that a region touches.
ACROSS, ACROSS_SPREAD = 5, 1
# Bytes of the pixels of a batch of blocks, and of their weights; they stay in the vector memory of a v5e.
_BATCH_BYTES = 2**26


class _Tables(NamedTuple):
    """Where the tiles of each region's map are, int [R]: the first one, and how many are below and beside."""

    first: jax.Array
    down: jax.Array
    beside: jax.Array


class _Blocks(NamedTuple):
    """Blocks of regions: the region and the first pixels, int [K]; a region of R means none."""

    region: jax.Array
    top: jax.Array
    left: jax.Array


def pool(maps, regions, batch_bytes=_BATCH_BYTES, across=ACROSS):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        regions: R regions, at least one.
        batch_bytes: Largest size of the pixels of a batch of blocks, and of their weights.
        across: Tiles on a side of a block.

    Returns:
        [R, oh, ow, C], at least float32.
    """
    tiles, tables = tiles_of(maps), _tables(maps, regions)
    (height, width), channels = regions.bins(), tiles.shape[2]

    def bins(blocks):
        pixels = tiles.at[_numbers(tables, blocks, across)].get(mode="promise_in_bounds")
        pixels = pixels.reshape(len(blocks.region), -1, channels)
        product = _product("kbp,kpc->kbc", _weights(regions, blocks, across), pixels)
        return product.reshape(len(product), height, -1, channels)[:, :, :width]

    def add(blocks, total):
        return total.at[blocks.region].add(bins(blocks), mode="drop")

    first, extra = _cut(regions, across)
    regions = _filled_up(regions)
    pixel = max(tiles.dtype.itemsize * channels, 4 * height * regions.bins()[1])
    size = _batch_size(pixel, batch_bytes, len(first.region), across)
    total = jax.lax.map(bins, _in_batches(first, size))
    total = total.reshape(-1, *total.shape[2:])[: len(regions.level)]
    return extra.for_each(size, add, total)


def spread(maps, regions, cotangent, batch_bytes=_BATCH_BYTES, across=ACROSS_SPREAD):
    """The transpose of :func:`pool`; arguments and result as in `gather.spread_taps`."""
    tables, (height, width) = _tables(maps, regions), regions.bins()
    channels, zero = cotangent.shape[-1], zero_depending_on(cotangent)
    # The cotangents of results in bfloat16 are numbers of bfloat16.
    bins = cotangent.astype(maps[0].dtype) if maps[0].dtype == jnp.bfloat16 else cotangent

    def add(blocks, grad):
        own = bins.at[blocks.region].get(mode="clip")
        weights = _weights(regions, blocks, across).reshape(len(own), height, -1, (TILE * across) ** 2)
        weights = jnp.where((blocks.region < len(bins))[:, None, None, None], weights, 0)
        pixels = _product("kyxp,kyxc->kpc", weights[:, :, :width], own)
        numbers = _numbers(tables, blocks, across)
        pixels = pixels.reshape(*numbers.shape, TILE * TILE, channels)
        return grad.at[numbers].add(pixels, mode="promise_in_bounds")

    first, extra = _cut(regions, across)
    regions = _filled_up(regions)
    size = _batch_size(4 * channels, batch_bytes, len(first.region), across)
    grad = zeros(sum(tile_counts(f)[0] * tile_counts(f)[1] * f.shape[0] for f in maps), channels, zero)
    grad = jax.lax.scan(lambda g, blocks: (add(blocks, g), None), grad, _in_batches(first, size))[0]
    return maps_of(extra.for_each(size, add, grad), maps)


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
            row, column = jnp.divmod(number - before + 1, self.beside[region])
            top, left = self.top[region] + self.side * row, self.left[region] + self.side * column
            blocks = _Blocks(region, top, left)
            return blocks._replace(region=jnp.where(found, region, len(self.end)))

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
    first = _Blocks(jnp.arange(len(regions.level), dtype=jnp.int32), top, left)
    return first, _Extra(side, top, left, beside, jnp.cumsum(down * beside - 1))


def _in_batches(blocks, size):
    """Blocks of all regions in batches, [batches, K] each, of which the last is filled up with none."""

    def fill(x, value):
        return jnp.pad(x, (0, -len(x) % size), constant_values=value).reshape(-1, size)

    return _Blocks(fill(blocks.region, len(blocks.region)), fill(blocks.top, 0), fill(blocks.left, 0))


def _weights(regions, blocks, across):
    """The weight of each pixel of a block in each bin of its region, float32 [K, oh * ow, P].

    Rows of bins are filled up to whole tiles of a TPU's registers, so that joining the axes costs nothing.
    """
    region, side = jnp.minimum(blocks.region, len(regions.level) - 1), TILE * across
    # The row and the column of each pixel of a block, tile by tile.
    places = np.mgrid[:across, :across, :TILE, :TILE].reshape(4, -1)

    def axis(taps, first, places):
        def one(r, first):
            return jax.tree.map(lambda x: x[r], taps).matrix(first + jnp.arange(side))

        weights = jax.vmap(one)(region, first)  # [K, bins, side]
        # A product with zeros and ones copies them to all pixels, which TPUs do faster than by moving them.
        copies = np.arange(side)[:, None] == places
        return jnp.einsum("kbs,sp->kbp", weights, copies.astype(np.float32), precision="highest")

    rows = axis(regions.rows, blocks.top, TILE * places[0] + places[2])
    columns = axis(regions.columns, blocks.left, TILE * places[1] + places[3])
    return (rows[:, :, None] * columns[:, None]).reshape(len(region), -1, side * side)


def _product(axes, weights, values):
    """A product of weights with pixels or bins of blocks, in float32 or the dtype that has more bits.

    For values in bfloat16 it is the sum of two products in bfloat16: with the first 8 bits of the weights,
    and with what is left of them. In float32 a TPU computes six.
    """
    if values.dtype != jnp.bfloat16:
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        return jnp.einsum(axes, weights.astype(values.dtype), values, precision="highest")
    high = jax.lax.reduce_precision(weights, 8, 7)  # XLA may take two conversions for none
    first, second = (
        jnp.einsum(axes, part.astype(jnp.bfloat16), values, preferred_element_type=jnp.float32)
        for part in (high, weights - high)
    )
    return first + second


def _filled_up(regions):
    """The regions with more bins in a row, up to a multiple of ``TILE``; what they have is of no use."""

    def fill(x):
        return x if x.ndim == 1 else jnp.pad(x, ((0, 0), (0, -x.shape[1] % TILE), *[(0, 0)] * (x.ndim - 2)))

    return regions._replace(columns=jax.tree.map(fill, regions.columns))


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
