"""RoIAlign on a CPU, region by region: products of tiles of the maps with the weights of rows and columns.

Used on CPUs for the gradient and for the adaptive number of samples, and for mask targets.

XLA's CPU backend scatters one pixel after the other, and reads a pixel once for every tap (see `axis.py`).
Here a region is cut into tiles of at most 12 x 12 pixels, and a tile contributes
``rows @ tile @ columns.T`` to the bins: two products of small matrices, which stay in the CPU's cache. The
gradient is the same with the matrices transposed, added to the gradient map in place. With the adaptive
number of samples, 512 regions with their gradient take 0.3 s of processor time instead of 3.2 s pixel by
pixel (docs/benchmarks.md). Each loop runs over the regions of one level, so that the levels need not be
copied into one array. As in `tiles_batched.py`, an infinity that a bin does not read makes NaN of it too if
it is in one of the region's tiles.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, T a tile's side in pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxmaskrcnn.ops.xla_memory import zero_depending_on

# Larger tiles contain more pixels that no bin reads; smaller ones need more products.
TILE = 12
BITS_TILE = 64  # in masks, whose pixels have one channel


class _Axis(NamedTuple):
    """The tiles of the regions on one axis: ``first`` pixel int [R] and number of tiles int [R]."""

    first: jax.Array
    count: jax.Array


def pool(maps, lists):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        lists: Lists of R regions each, at least one.

    Returns:
        [R, oh, ow, C] for each list.
    """

    dtype = jnp.promote_types(maps[0].dtype, jnp.float32)

    def reader(features):
        return lambda at: lax.dynamic_slice(features, at, _tile_shape(features.shape, TILE))[0].astype(dtype)

    readers, shapes = [reader(f) for f in maps], [f.shape for f in maps]
    return tuple(_pool(readers, shapes, regions, TILE, dtype) for regions in lists)


def pool_bits(packed, regions, width):
    """:func:`pool` of masks with eight pixels in a byte, for one list.

    Args:
        packed: uint8 [B, H, ceil(W / 8)], the leftmost pixel in the highest bit.
        regions: R regions, at least one, all of level 0.
        width: W, static.

    Returns:
        float32 [R, oh, ow, 1].
    """
    shape = (*packed.shape[:2], width, 1)
    _, height, side, _ = _tile_shape(shape, BITS_TILE)
    columns = min(side // 8 + 2, packed.shape[2])  # a tile may begin within a byte

    def read(at):
        image, y, x, _ = at
        byte = jnp.minimum(x // 8, packed.shape[2] - columns)
        window = lax.dynamic_slice(packed, (image, y, byte), (1, height, columns))[0]
        bits = jnp.unpackbits(window, axis=-1).astype(jnp.float32)
        return lax.dynamic_slice(bits, (jnp.zeros_like(x), x - 8 * byte), (height, side))[..., None]

    return _pool([read], [shape], regions, BITS_TILE, jnp.float32)


def _pool(readers, shapes, regions, side, dtype):
    rows, columns = _tiles(regions.rows, side), _tiles(regions.columns, side)
    order, starts = _by_level(regions.level, len(shapes))
    bins, channels = regions.bins(), shapes[0][-1]

    def pool_level(out, read, shape, start, stop):
        def pool_region(k, out):
            r = order[k]

            def add_tile(tile, total):
                at, y, x = _tile(regions, rows, columns, r, tile, shape, side)
                return total + _product(x, _product(y, read(at)).swapaxes(0, 1))

            # The columns come first, because the products return them first.
            total = jnp.zeros((bins[1], bins[0], channels), out.dtype)
            total = lax.fori_loop(0, rows.count[r] * columns.count[r], add_tile, total)
            return lax.dynamic_update_index_in_dim(out, total.swapaxes(0, 1), r, 0)

        return lax.fori_loop(start, stop, pool_region, out)

    zero = zero_depending_on(regions.rows.span()[0]).astype(dtype)
    out = jnp.full((regions.level.shape[0], *bins, channels), zero)
    for level, (read, shape) in enumerate(zip(readers, shapes, strict=True)):
        out = pool_level(out, read, shape, starts[level], starts[level + 1])
    return out


def spread(maps, lists, cotangents):
    """The transpose of :func:`pool`; arguments and result as in `gather.spread_taps`."""
    zero = zero_depending_on(cotangents[0])
    grads = [jnp.full((*features.shape[:3], cotangents[0].shape[-1]), zero) for features in maps]
    for regions, cotangent in zip(lists, cotangents, strict=True):
        grads = _spread(grads, regions, cotangent)
    return tuple(grads)


def _spread(grads, regions, cotangent):
    rows, columns = _tiles(regions.rows, TILE), _tiles(regions.columns, TILE)
    order, starts = _by_level(regions.level, len(grads))

    def spread_level(grad, start, stop):
        shape = grad.shape

        def spread_region(k, grad):
            r = order[k]
            bins = lax.dynamic_index_in_dim(cotangent, r, keepdims=False).swapaxes(0, 1)

            def add_tile(tile, grad):
                at, y, x = _tile(regions, rows, columns, r, tile, shape, TILE)
                pixels = _product(y.T, _product(x.T, bins).swapaxes(0, 1))
                return lax.dynamic_update_slice(
                    grad, lax.dynamic_slice(grad, at, _tile_shape(shape, TILE)) + pixels[None], at
                )

            return lax.fori_loop(0, rows.count[r] * columns.count[r], add_tile, grad)

        return lax.fori_loop(start, stop, spread_region, grad)

    return [spread_level(grad, starts[i], starts[i + 1]) for i, grad in enumerate(grads)]


def _product(matrix, array):
    """Product of a matrix with an array along its first axis: [n, k], [k, ...] -> [n, ...]."""
    flat = jnp.matmul(matrix.astype(array.dtype), array.reshape(array.shape[0], -1), precision="highest")
    return flat.reshape(matrix.shape[0], *array.shape[1:])


def _by_level(level, levels):
    """The regions in the order of their levels int [R], and the start of each level's int [L + 1]."""
    order = jnp.argsort(level)
    return order, jnp.searchsorted(level[order], jnp.arange(levels + 1))


def _tiles(axis, side):
    first, last = axis.span()
    return _Axis(first, jnp.maximum(last - first + side, 0) // side)


def _tile_shape(shape, side):
    return 1, min(side, shape[1]), min(side, shape[2]), shape[3]


def _tile(regions, rows, columns, r, tile, shape, side):
    """The start of a region's tile in [B, H, W, C], and its weights [oh, T] and [ow, T]."""
    across = columns.count[r]
    starts, weights = [], []
    for tiles, taps, number, axis in ((rows, regions.rows, tile // across, 1),
                                      (columns, regions.columns, tile % across, 2)):  # fmt: skip
        pixels = _tile_shape(shape, side)[axis]
        first = tiles.first[r] + side * number
        # A tile that would cross the border begins earlier; pixels of the previous tile get the weight 0.
        start = jnp.minimum(first, shape[axis] - pixels)
        pixel = start + jnp.arange(pixels)
        own = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, r, keepdims=False), taps)  # noqa: B023
        starts.append(start)
        weights.append(jnp.where(pixel >= first, own.matrix(pixel), 0))
    return (regions.image[r], *starts, jnp.int32(0)), *weights
