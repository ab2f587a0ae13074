"""RoIAlign on a CPU: tiles of the feature maps times the weights of their rows and columns.

XLA's CPU backend scatters pixel by pixel, one after the other, and reads a pixel once for every tap.
Here a region is cut into tiles of at most 12 x 12 pixels, and what a tile adds to the bins is
``rows @ tile @ columns.T``: two products of small matrices, which stay in the processor's cache. The
gradient is the same with the matrices transposed, added to the gradient map in place. Loops run over
the regions of one level at a time, so that the levels need not be copied into one array.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, T a tile's side in pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Larger tiles have more pixels that no bin reads, smaller ones more products.
TILE = 12


class _Axis(NamedTuple):
    """The tiles of the regions on one axis: ``first`` pixel int [R] and number of tiles int [R]."""

    first: jax.Array
    count: jax.Array


def pool(maps, regions):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        regions: ``Regions`` of `roi_align.py`, at least one.

    Returns:
        [R, oh, ow, C].
    """
    rows, columns = _tiles(regions.rows), _tiles(regions.columns)
    order, starts = _by_level(regions.level, len(maps))
    shape = (*regions.bins(), maps[0].shape[-1])

    def pool_level(out, features, start, stop):
        def pool_region(k, out):
            r = order[k]

            def add_tile(tile, bins):
                at, y, x = _tile(regions, rows, columns, r, tile, features.shape)
                pixels = lax.dynamic_slice(features, at, _tile_shape(features.shape))[0]
                return bins + _product(x, _product(y, pixels).swapaxes(0, 1))

            # Columns first, as products leave them.
            zeros = jnp.zeros((shape[1], shape[0], shape[2]), out.dtype)
            bins = lax.fori_loop(0, rows.count[r] * columns.count[r], add_tile, zeros)
            return lax.dynamic_update_index_in_dim(out, bins.swapaxes(0, 1), r, 0)

        return lax.fori_loop(start, stop, pool_region, out)

    out = jnp.zeros((regions.level.shape[0], *shape), maps[0].dtype)
    for level, features in enumerate(maps):
        out = pool_level(out, features, starts[level], starts[level + 1])
    return out


def spread(maps, regions, cotangent):
    """The transpose of :func:`pool`.

    Args:
        maps: L arrays [B, H, W, 0], for their shapes.
        regions: As there.
        cotangent: [R, oh, ow, C].

    Returns:
        L arrays [B, H, W, C].
    """
    rows, columns = _tiles(regions.rows), _tiles(regions.columns)
    order, starts = _by_level(regions.level, len(maps))
    zero = _late_zero(cotangent)

    def spread_level(shape, start, stop):
        def spread_region(k, grad):
            r = order[k]
            bins = lax.dynamic_index_in_dim(cotangent, r, keepdims=False).swapaxes(0, 1)

            def add_tile(tile, grad):
                at, y, x = _tile(regions, rows, columns, r, tile, shape)
                pixels = _product(y.T, _product(x.T, bins).swapaxes(0, 1))
                return lax.dynamic_update_slice(
                    grad, lax.dynamic_slice(grad, at, _tile_shape(shape)) + pixels, at
                )

            return lax.fori_loop(0, rows.count[r] * columns.count[r], add_tile, grad)

        return lax.fori_loop(start, stop, spread_region, jnp.full(shape, zero))

    shapes = [(*features.shape[:3], cotangent.shape[-1]) for features in maps]
    return tuple(spread_level(shape, starts[i], starts[i + 1]) for i, shape in enumerate(shapes))


def _product(matrix, array):
    """Over the array's first axis: [n, k], [k, ...] -> [n, ...]."""
    flat = jnp.matmul(matrix, array.reshape(array.shape[0], -1), precision="highest")
    return flat.reshape(matrix.shape[0], *array.shape[1:])


def _by_level(level, levels):
    """The regions in the order of their levels, and where each level's begin: int [R], int [L + 1]."""
    order = jnp.argsort(level)
    return order, jnp.searchsorted(level[order], jnp.arange(levels + 1))


def _tiles(axis):
    first, last = axis.span()
    return _Axis(first, jnp.maximum(last - first + TILE, 0) // TILE)


def _tile_shape(shape):
    return 1, min(TILE, shape[1]), min(TILE, shape[2]), shape[3]


def _tile(regions, rows, columns, r, tile, shape):
    """Where a tile of a region begins in [B, H, W, C], and its weights [oh, T] and [ow, T]."""
    across = columns.count[r]
    starts, weights = [], []
    for tiles, taps, number, axis in ((rows, regions.rows, tile // across, 1),
                                      (columns, regions.columns, tile % across, 2)):  # fmt: skip
        side = _tile_shape(shape)[axis]
        wanted = tiles.first[r] + TILE * number
        # At the border a tile begins earlier, with pixels that the one before has counted.
        start = jnp.minimum(wanted, shape[axis] - side)
        pixel = start + jnp.arange(side)
        own = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, r, keepdims=False), taps)  # noqa: B023
        starts.append(start)
        weights.append(jnp.where(pixel >= wanted, own.matrix(pixel), 0))
    return (regions.image[r], *starts, 0), *weights


def _late_zero(x):
    """A zero that no compiler knows to be one, so that maps filled with it are not made before ``x`` is."""
    bits = lax.bitcast_convert_type(x.reshape(-1)[0].astype(jnp.float32), jnp.int32)
    return jnp.minimum(bits & 0x7FFFFFFF, 0).astype(x.dtype)
