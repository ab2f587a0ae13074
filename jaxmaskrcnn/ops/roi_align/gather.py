"""RoIAlign by gathering the pixels that each bin reads: pairs of a row tap and a column tap (see `axis.py`).

Used with a fixed number of samples: tap by tap on CPUs (forward), all taps at once on GPUs.

Tap by tap, nothing larger than the output is ever in memory, on any platform. On a GPU all taps at once are
twice as fast, because XLA gathers, weights and sums in one kernel without an array of all taps, and reads the
pixels that neighbouring bins share from the cache: 0.44 ms instead of 0.92 ms forward and 1.5 ms instead of
3.1 ms backward, for 512 regions of each of 8 images (docs/benchmarks.md).

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, T taps of a bin.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.xla_memory import zero_depending_on


def sum_taps(maps, lists):
    """Weighted sums of pixels, tap by tap, so that nothing larger than the output is ever in memory.

    Args:
        maps: L arrays [B, H, W, C].
        lists: Lists of R regions each.

    Returns:
        [R, oh, ow, C] for each list, at least float32: bfloat16 features are summed in float32.
    """
    flat = jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps])
    return tuple(_sum_taps(flat, regions.base(maps), regions) for regions in lists)


def _sum_taps(flat, base, regions):
    def add(number, total):
        index, weight = regions.tap(number, *base)
        pixels = flat.at[index].get(mode="promise_in_bounds")
        return total + weight[..., None] * pixels.astype(total.dtype)

    taps = regions.size()
    zero = zero_depending_on(flat).astype(jnp.promote_types(flat.dtype, jnp.float32))
    total = jnp.full((regions.level.shape[0], *regions.bins(), flat.shape[1]), zero)
    # Partly unrolled, so that XLA computes several taps in one pass. Not fully unrolled: without a loop XLA
    # fuses the whole sum into each operation that reads it and repeats it there, in a very slow order if
    # that operation is a transpose.
    return jax.lax.fori_loop(0, taps, add, total, unroll=4 if isinstance(taps, int) else 1)


def spread_taps(maps, lists, cotangents):
    """The transpose of :func:`sum_taps`.

    Args:
        maps: L arrays [B, H, W, 0], which carry the shapes.
        lists: As in :func:`sum_taps`.
        cotangents: [R, oh, ow, C] for each list.

    Returns:
        L arrays [B, H, W, C].
    """
    grad = zeros(maps, cotangents)
    for regions, cotangent in zip(lists, cotangents, strict=True):
        base = regions.base(maps)

        def add(number, grad, regions=regions, cotangent=cotangent, base=base):
            index, weight = regions.tap(number, *base)
            return grad.at[index].add(weight[..., None] * cotangent, mode="promise_in_bounds")

        grad = jax.lax.fori_loop(0, regions.size(), add, grad)
    return maps_of(grad, maps)


def sum_taps_at_once(maps, lists):
    """:func:`sum_taps` for a fixed number of taps, with the same arguments and result."""
    # Without the barrier XLA fuses the concatenation into the gather, and each read selects among the maps.
    flat = jax.lax.optimization_barrier(jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps]))
    return tuple(sum_list(flat, maps, regions) for regions in lists)


def sum_list(flat, maps, regions):
    """Compute :func:`sum_taps_at_once` of one list, from all pixels ``flat`` [sum of B H W, C]."""
    index, weight = regions.taps(*regions.base(maps))
    pixels = flat.at[index].get(mode="promise_in_bounds")  # [R, oh, ow, T, C]
    return (weight[..., None] * pixels.astype(jnp.promote_types(flat.dtype, jnp.float32))).sum(3)


def spread_taps_at_once(maps, lists, cotangents):
    """:func:`spread_taps` for a fixed number of taps, with the same arguments and result."""
    grad = zeros(maps, cotangents)
    for regions, cotangent in zip(lists, cotangents, strict=True):
        grad = spread_list(grad, maps, regions, cotangent)
    return maps_of(grad, maps)


def spread_list(grad, maps, regions, cotangent):
    """Add the gradient of one list to that of all pixels, from `zeros`."""
    index, weight = regions.taps(*regions.base(maps))
    return grad.at[index].add(weight[..., None] * cotangent[:, :, :, None], mode="promise_in_bounds")


def zeros(maps, cotangents):
    """Zeros for the gradients of all pixels of L maps [B, H, W, 0] in one list, [sum of B H W, C]."""
    cotangent = cotangents[0]
    return jnp.full((sum(_pixels(maps)), cotangent.shape[-1]), zero_depending_on(cotangent))


def maps_of(flat, maps):
    """Splits a list of all pixels, as from `zeros`, into maps [B, H, W, C]."""
    parts = jnp.split(flat, np.cumsum(_pixels(maps))[:-1])
    return tuple(part.reshape(*f.shape[:3], -1) for part, f in zip(parts, maps, strict=True))


def _pixels(maps):
    return [int(np.prod(f.shape[:3])) for f in maps]
