"""RoIAlign that computes many tiles of many regions at a time.

Used on GPUs for the adaptive number of samples, and for mask targets.

A region reads as many pixels as it covers, and regions differ a thousandfold in size. So the regions are cut
into tiles of equal size, which are computed in batches regardless of the regions that they belong to. A tile
contributes ``rows @ tile @ columns.T`` to its region's bins. The gradient is the same with the matrices
transposed. On CPUs `tiles_cpu.py` does this tile by tile, and on TPUs `tiles_tpu.py` with tiles that all
regions share.

The tiles of a bin are added in no fixed order, as in all scatters of XLA on a GPU.

A tile has pixels that a bin does not read, beside and beyond the region, which get the weight 0. As 0 times
infinity is NaN, an infinity among them makes NaN of all the region's bins. To select the pixels of each bin
instead of multiplying would take as long as reading them bin by bin.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, K tiles of a batch, T a tile's side in pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.roi_align.gather import maps_of, zeros

TILE = 16
BITS_TILE = 64  # in masks, whose pixels have one channel
# Size in bytes of the pixels of a batch of tiles, in float32.
_BATCH_BYTES = 2**27


class _Tiles(NamedTuple):
    """The tiles of the regions, region by region and row by row.

    For each region, int [R]: ``top`` and ``left`` are its first pixels, ``across`` is its number of tiles in
    a row, and ``end`` is the number of tiles of this and all earlier regions.
    """

    top: jax.Array
    left: jax.Array
    across: jax.Array
    end: jax.Array

    def batch(self, start, size, side):
        """Regions int [K] and pixels int [K, T] of ``size`` tiles, starting from tile ``start``.

        Tiles after the last one lie beyond the last region, where all weights are 0.
        """
        number = start + jnp.arange(size)
        region = jnp.searchsorted(self.end, number, side="right", method="scan_unrolled")
        region = jnp.minimum(region, self.end.shape[0] - 1)
        before = jnp.where(region > 0, self.end[region - 1], 0)
        row, column = jnp.divmod(number - before, jnp.maximum(self.across[region], 1))
        within = jnp.arange(side)[None]
        y = (self.top[region] + side * row)[:, None] + within
        x = (self.left[region] + side * column)[:, None] + within
        return region, y, x


def _cut(regions, side, align=1):
    (top, bottom), (left, right) = regions.rows.span(), regions.columns.span()
    left = left - left % align
    down, across = (
        jnp.maximum(last - first + side, 0) // side for first, last in ((top, bottom), (left, right))
    )
    return _Tiles(top, left, across, jnp.cumsum(down * across))


def _weights(taps, region, pixel):
    """The weight of each pixel of a tile in each bin of its region, float32 [K, bins, T]."""
    return jax.vmap(lambda r, pixel: jax.tree.map(lambda x: x[r], taps).matrix(pixel))(region, pixel)


def _batches(tiles, size, add, initial):
    """Call ``add(start, total)`` for every batch of tiles; there may be none."""

    def more(state):
        return state[0] < tiles.end[-1]

    return jax.lax.while_loop(more, lambda s: (s[0] + size, add(s[0], s[1])), (jnp.int32(0), initial))[1]


def _pool(read, regions, side, channels, dtype, batch_bytes, align=1):
    """Bins of the regions, [R, oh, ow, C]; ``read`` gives the pixels [K, T, T, C] of tiles."""
    tiles, (height, width) = _cut(regions, side, align), regions.bins()
    size = _batch_size(side, channels, batch_bytes)

    def add(start, total):
        region, y, x = tiles.batch(start, size, side)
        rows = _weights(regions.rows, region, y).astype(dtype)
        columns = _weights(regions.columns, region, x).astype(dtype)
        half = jnp.einsum("kyi,kijc->kyjc", rows, read(region, y, x).astype(dtype), precision="highest")
        bins = jnp.einsum("kxj,kyjc->kyxc", columns, half, precision="highest")
        return total.at[region].add(bins, mode="promise_in_bounds")

    return _batches(tiles, size, add, jnp.zeros((tiles.end.shape[0], height, width, channels), dtype))


def _flat_index(maps, regions):
    """A function from the regions and pixels of tiles to indices int [K, T, T] in all maps' pixels."""
    base, width = regions.base(maps)
    heights = jnp.asarray(np.array([f.shape[1] for f in maps], np.int32))[regions.level]

    def indices(region, y, x):
        # Pixels beyond the map have the weight 0.
        y = jnp.minimum(y, heights[region][:, None] - 1)
        x = jnp.minimum(x, width[region][:, None] - 1)
        return (base[region][:, None] + width[region][:, None] * y)[:, :, None] + x[:, None, :]

    return indices


def pool(maps, lists, batch_bytes=_BATCH_BYTES):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        lists: Lists of R regions each, at least one.
        batch_bytes: Size of the pixels of a batch of tiles, in float32.

    Returns:
        [R, oh, ow, C] for each list, at least float32.
    """
    flat = jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps])
    return tuple(pool_list(flat, maps, regions, batch_bytes) for regions in lists)


def pool_list(flat, maps, regions, batch_bytes=_BATCH_BYTES):
    """Compute :func:`pool` of one list, from all pixels ``flat`` [sum of B H W, C]."""
    indices, dtype = _flat_index(maps, regions), jnp.promote_types(flat.dtype, jnp.float32)

    def read(region, y, x):
        return flat.at[indices(region, y, x)].get(mode="promise_in_bounds")

    return _pool(read, regions, TILE, flat.shape[1], dtype, batch_bytes)


def pool_bits(packed, regions, batch_bytes=_BATCH_BYTES):
    """:func:`pool` of masks with eight pixels in a byte, for one list.

    Args:
        packed: uint8 [B, H, ceil(W / 8)], the leftmost pixel in the highest bit.
        regions: R regions, at least one, all of level 0.
        batch_bytes: As in :func:`pool`.

    Returns:
        float32 [R, oh, ow, 1].
    """

    def read(region, y, x):
        y = jnp.minimum(y, packed.shape[1] - 1)
        byte = jnp.minimum(x[:, ::8] // 8, packed.shape[2] - 1)
        image = regions.image[region]
        bytes_ = packed.at[image[:, None, None], y[:, :, None], byte[:, None, :]]
        return jnp.unpackbits(bytes_.get(mode="promise_in_bounds"), axis=-1)[..., None]

    return _pool(read, regions, BITS_TILE, 1, jnp.float32, batch_bytes, align=8)


def spread(maps, lists, cotangents, batch_bytes=_BATCH_BYTES):
    """The transpose of :func:`pool`; arguments and result as in `gather.spread_taps`."""
    grad = zeros(maps, cotangents)
    for regions, cotangent in zip(lists, cotangents, strict=True):
        grad = spread_list(grad, maps, regions, cotangent, batch_bytes)
    return maps_of(grad, maps)


def spread_list(grad, maps, regions, cotangent, batch_bytes=_BATCH_BYTES):
    """Add the gradient of one list to that of all pixels, from `gather.zeros`."""
    tiles, indices, channels = _cut(regions, TILE), _flat_index(maps, regions), cotangent.shape[-1]
    size = _batch_size(TILE, channels, batch_bytes)

    def add(start, grad):
        region, y, x = tiles.batch(start, size, TILE)
        rows = _weights(regions.rows, region, y).astype(cotangent.dtype)
        columns = _weights(regions.columns, region, x).astype(cotangent.dtype)
        half = jnp.einsum("kxj,kyxc->kyjc", columns, cotangent[region], precision="highest")
        pixels = jnp.einsum("kyi,kyjc->kijc", rows, half, precision="highest")
        return grad.at[indices(region, y, x)].add(pixels, mode="promise_in_bounds")

    return _batches(tiles, size, add, grad)


def _batch_size(side, channels, batch_bytes):
    return max(1, batch_bytes // (4 * side * side * channels))
