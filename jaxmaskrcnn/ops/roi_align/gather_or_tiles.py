"""RoIAlign of lists of regions each in its own way: with a fixed number of samples all taps at once, with the
adaptive number as tiles.

Used on GPUs, where both read the pixels of all maps from one list, and add gradients to one.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.roi_align import gather, tiles_batched
from jaxmaskrcnn.ops.roi_align.axis import Taps


def pool(maps, lists):
    """Weighted sums of pixels.

    Args:
        maps: L arrays [B, H, W, C].
        lists: Lists of R regions each, at least one.

    Returns:
        [R, oh, ow, C] for each list, at least float32.
    """
    # The barrier is as in `gather.sum_taps_at_once`.
    flat = jax.lax.optimization_barrier(jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps]))
    ways = (
        gather.sum_list if isinstance(regions.rows, Taps) else tiles_batched.pool_list for regions in lists
    )
    return tuple(way(flat, maps, regions) for way, regions in zip(ways, lists, strict=True))


def spread(maps, lists, cotangents):
    """The transpose of :func:`pool`; arguments and result as in `gather.spread_taps`."""
    grad = gather.zeros(maps, cotangents)
    for regions, cotangent in zip(lists, cotangents, strict=True):
        way = gather.spread_list if isinstance(regions.rows, Taps) else tiles_batched.spread_list
        grad = way(grad, maps, regions, cotangent)
    return gather.maps_of(grad, maps)
