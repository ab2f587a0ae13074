"""RoIAlign by gathering what each bin reads: pairs of a row tap and a column tap.

Tap by tap nothing larger than the output is ever in memory, on any platform. On a GPU all taps at once are
twice as fast: XLA gathers, weights and sums in one kernel without an array of all taps, and the pixels of a
bin, which neighbouring bins share, are read from the cache.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins, T taps of a bin.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.epilogue import zero_after


def sum_taps(maps, regions):
    """Weighted sums of pixels, tap by tap, so that nothing larger than the output is ever in memory.

    Args:
        maps: L arrays [B, H, W, C].
        regions: R of them.

    Returns:
        [R, oh, ow, C], at least float32: sums over bfloat16 features are made in float32.
    """
    flat = jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps])
    base = regions.base(maps)

    def add(number, total):
        index, weight = regions.tap(number, *base)
        pixels = flat.at[index].get(mode="promise_in_bounds")
        return total + weight[..., None] * pixels.astype(total.dtype)

    taps = regions.size()
    zero = zero_after(flat).astype(jnp.promote_types(flat.dtype, jnp.float32))
    total = jnp.full((regions.level.shape[0], *regions.bins(), flat.shape[1]), zero)
    # Partly unrolled, XLA makes one loop of several taps. Without any loop it would repeat the whole
    # sum inside of each consumer, for a transposed copy in a very slow order.
    return jax.lax.fori_loop(0, taps, add, total, unroll=4 if isinstance(taps, int) else 1)


def spread_taps(maps, regions, cotangent):
    """The transpose of :func:`sum_taps`.

    Args:
        maps: L arrays [B, H, W, 0], for their shapes.
        regions: As there.
        cotangent: [R, oh, ow, C].

    Returns:
        L arrays [B, H, W, C].
    """
    base = regions.base(maps)

    def add(number, grad):
        index, weight = regions.tap(number, *base)
        return grad.at[index].add(weight[..., None] * cotangent, mode="promise_in_bounds")

    return maps_of(jax.lax.fori_loop(0, regions.size(), add, zeros(maps, cotangent)), maps)


def sum_taps_at_once(maps, regions):
    """:func:`sum_taps` for a fixed number of taps; arguments and result as there."""
    # Without the barrier each read would choose among the maps anew.
    flat = jax.lax.optimization_barrier(jnp.concatenate([f.reshape(-1, f.shape[3]) for f in maps]))
    index, weight = regions.taps(*regions.base(maps))
    pixels = flat.at[index].get(mode="promise_in_bounds")  # [R, oh, ow, T, C]
    kind = jnp.promote_types(flat.dtype, jnp.float32)
    return (weight[..., None] * pixels.astype(kind)).sum(3)


def spread_taps_at_once(maps, regions, cotangent):
    """:func:`spread_taps` for a fixed number of taps; arguments and result as there."""
    index, weight = regions.taps(*regions.base(maps))
    grad = zeros(maps, cotangent)
    grad = grad.at[index].add(weight[..., None] * cotangent[:, :, :, None], mode="promise_in_bounds")
    return maps_of(grad, maps)


def zeros(maps, cotangent):
    """A gradient of 0 for all pixels of L maps [B, H, W, 0] in one list, [sum of B H W, C]."""
    return jnp.full((sum(_pixels(maps)), cotangent.shape[-1]), zero_after(cotangent))


def maps_of(flat, maps):
    """Such a list as maps [B, H, W, C]."""
    parts = jnp.split(flat, np.cumsum(_pixels(maps))[:-1])
    return tuple(part.reshape(*f.shape[:3], -1) for part, f in zip(parts, maps, strict=True))


def _pixels(maps):
    return [int(np.prod(f.shape[:3])) for f in maps]
