"""RoIAlign on one axis: bins, their samples, and the pixels around the samples.

RoIAlign is separable, so each axis is described by its own taps: pairs of a pixel and a weight, whose
weighted sum is a bin's mean. With a fixed number of samples a bin reads only the pixels around its samples.
The adaptive number differs between regions; a bin then reads all pixels that it touches.

Shape legend: R regions, T taps of a bin.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.boxes import rounded_product
from jaxmaskrcnn.ops.shapes import to_rank

# The samples of regions on one axis: start, spacing and count, see `axis_samples`.
AxisSamples = tuple[jax.Array, jax.Array, jax.Array]


def axis_samples(low, high, bins, sampling_ratio, aligned) -> AxisSamples:
    """Place the samples of a region on one axis: sample k at ``start + (k + 0.5) * spacing``.

    Args:
        low: [...], the region's smaller coordinate in feature pixels.
        high: [...], the larger one.
        bins: Number of bins, static.
        sampling_ratio: As in :func:`roi_align`.
        aligned: As in :func:`roi_align`.

    Returns:
        (start, spacing, count), all float32 [...], in feature pixels; ``count`` is the number
        of samples in a bin, 0 for a region that is not finite or (adaptive) has no length.
    """
    offset = 0.5 if aligned else 0.0
    start = low - offset
    length = (high - offset) - start
    if not aligned:
        length = jnp.maximum(length, 1.0)
    if sampling_ratio > 0:
        count = jnp.full_like(length, sampling_ratio)
    else:
        # XLA replaces a division by a constant with a product with its reciprocal, which makes 49 / 7 more
        # than 7 and would give a sample too many. Products of whole numbers are exact and correct this.
        count = jnp.ceil(length / bins)
        count = count + (count * bins < length).astype(count.dtype)
        count = jnp.maximum(count - ((count - 1) * bins >= length).astype(count.dtype), 0)
    # After this select XLA does not treat the count as a constant, so the division below is exact.
    count = jnp.where(jnp.isfinite(start + length), count, 0)
    return start, length / jnp.maximum(bins * count, 1), count


def axis_matrix(start, spacing, count, bins, extent, pixels):
    """Pooling along one axis as a matrix, for the adaptive number of samples: ``bins = matrix @ column``.

    Args:
        start: From :func:`axis_samples`, a scalar.
        spacing: Likewise.
        count: Likewise.
        bins: Number of bins, static.
        extent: Number of pixels at which the border rule applies, a scalar.
        pixels: Number of pixels of the axis, static.

    Returns:
        float32 [bins, pixels]; all zeros where ``count`` is 0.
    """
    number, pixel = _numbers(bins)[:, None], _numbers(pixels)
    # Bins with one sample each, of which any number may touch a pixel.
    single = jnp.where(count == 1, _weight(start, spacing, extent, number, pixel[None]), 0)
    # Bins with several: of all samples of the region only these few touch a pixel, each for its own bin.
    sample = _nearest_sample(start, spacing, pixel)[:, None] + _numbers(6)[None]  # [pixels, 6]
    weights = _weight(start, spacing, extent, sample, pixel[:, None])
    # Half a sample further, so that no rounding of the quotient leads into another bin.
    bin_of = jnp.where(count > 1, jnp.floor((sample + 0.5) / jnp.maximum(count, 1)), -1)
    # A sum over an axis of six would take XLA:TPU twice the cycles (libtpu 0.0.42; docs/benchmarks.md).
    several = [
        jnp.where(bin_of[None, :, k] == number, weights[None, :, k], 0) for k in range(sample.shape[1])
    ]
    return (single + sum(several)) / jnp.maximum(count, 1)


def _numbers(count):
    """0 to ``count - 1`` in float32."""
    return jnp.arange(count, dtype=jnp.float32)


def _adaptive_weight(start, spacing, count, extent, number, pixel):
    """Weight of a pixel in a bin's mean, on one axis; all arguments broadcast.

    Samples are less than a pixel apart, but more than half a pixel if a bin has several. So at
    most a handful of them touch a given pixel, however large the region is, and only those
    are evaluated.
    """
    start, spacing, count, extent, number, pixel = (
        jnp.asarray(x)[..., None] for x in (start, spacing, count, extent, number, pixel)
    )
    rank = max(x.ndim for x in (start, spacing, count, extent, number, pixel))
    start, spacing, count, extent, number, pixel = (
        to_rank(x, rank) for x in (start, spacing, count, extent, number, pixel)
    )
    bin_first = number * count
    bin_end = bin_first + count
    # In bins with 6 samples or fewer all are evaluated.
    first = jnp.maximum(jnp.minimum(_nearest_sample(start, spacing, pixel), bin_end - 6), bin_first)
    sample = first + to_rank(_numbers(6), rank)  # [..., 6]
    weight = _weight(start, spacing, extent, sample, pixel)
    return jnp.where(sample < bin_end, weight, 0).sum(axis=-1) / jnp.maximum(count[..., 0], 1)


def _nearest_sample(start, spacing, pixel):
    """The first of the six samples that may touch a pixel, if samples are more than half a pixel apart.

    At most 4 lie within one pixel of this one, as more do not fit into a length of two pixels. One more at
    either end makes rounding harmless.
    """
    return jnp.ceil((pixel - 1 - start) / jnp.where(spacing > 0, spacing, 1) - 0.5) - 1


def _weight(start, spacing, extent, sample, pixel):
    """The weight of a pixel in a sample."""
    low, high, low_weight, high_weight = _neighbours(_position(start, spacing, sample), extent)
    return jnp.where(low == pixel, low_weight, 0) + jnp.where(high == pixel, high_weight, 0)


def _position(start, spacing, sample):
    # A sample may lie exactly on the border. XLA would contract the product and the sum into one fused
    # multiply-add, which rounds once instead of twice and can place such a sample outside.
    return start + rounded_product((sample + 0.5) * spacing)


def _neighbours(position, extent):
    """The border rule: the two pixels around sample positions, and their weights."""
    inside = (position >= -1) & (position <= extent)  # False for NaN
    position = jnp.where(inside, jnp.maximum(position, 0), 0)
    last = jnp.maximum(extent - 1, 0)
    low = jnp.minimum(jnp.floor(position), last)
    fraction = jnp.where(low < last, position - low, 0)
    return low, jnp.minimum(low + 1, last), jnp.where(inside, 1 - fraction, 0), jnp.where(inside, fraction, 0)


class Taps(NamedTuple):
    """Pixels and weights [R, bins, T] of each bin on one axis, for a fixed number of samples."""

    pixels: jax.Array
    weights: jax.Array

    def size(self):
        """The number of taps of a bin, static."""
        return self.pixels.shape[-1]

    def tap(self, k):
        """(pixel, weight), both [R, bins], of tap ``k``."""
        return self.pixels[..., k], self.weights[..., k]

    def span(self):
        """The first and the last pixel that each region reads, both int [R]; a last of -1 means none."""
        # Of three axes with 4 values in the last XLA:TPU makes a kernel that takes it 20 s to compile (libtpu
        # 0.0.42, 2048 regions).
        pixels, weights = (x.reshape(len(x), -1).T for x in self)
        first = jnp.where(weights != 0, pixels, jnp.iinfo(jnp.int32).max).min(0)
        last = jnp.where(weights != 0, pixels, -1).max(0)
        return jnp.where(last < 0, 0, first), last

    def matrix(self, pixel):
        """Weights [bins, P] of the pixels int [P] in the bins of one region; without the axis R."""
        own = self.pixels[..., None] == to_rank(pixel, self.pixels.ndim + 1)
        return jnp.where(own, self.weights[..., None], 0).sum(axis=1)


class Window(NamedTuple):
    """The pixels of each bin on one axis, for the adaptive number of samples.

    A bin reads consecutive pixels, ``first`` int [R, bins] to ``last``; their number depends on the
    region. Samples and extent as in :func:`axis_matrix`, [R].
    """

    first: jax.Array
    last: jax.Array
    start: jax.Array
    spacing: jax.Array
    count: jax.Array
    extent: jax.Array

    def size(self):
        """The number of taps of a bin, a traced number."""
        # The widest bin determines it: weights beyond a bin's own pixels are zero.
        return (self.last - self.first).max(initial=0) + 1

    def tap(self, k):
        """(pixel, weight), both [R, bins], of tap ``k``."""
        pixel = self.first + k
        start, spacing, count, extent = (
            x[:, None] for x in (self.start, self.spacing, self.count, self.extent)
        )
        number = _numbers(pixel.shape[1])
        weight = _adaptive_weight(start, spacing, count, extent, number, pixel.astype(jnp.float32))
        return jnp.minimum(pixel, self.last), weight

    def span(self):
        """As in :class:`Taps`; a region without samples has one pixel, of weight 0."""
        return self.first.min(axis=1), self.last.max(axis=1)

    def matrix(self, pixel):
        """As in :class:`Taps`."""
        number = _numbers(self.first.shape[0])[:, None]
        samples = (self.start, self.spacing, self.count, self.extent)
        return _adaptive_weight(*samples, number, pixel.astype(jnp.float32))


def fixed_taps(start, spacing, count, bins, samples, extent):
    """Taps for the same number of samples in every bin.

    Args:
        start: [R], from :func:`axis_samples`.
        spacing: [R], likewise.
        count: [R], likewise.
        bins: Number of bins, static.
        samples: Number of samples in a bin, static.
        extent: [R], number of pixels at which the border rule applies.
    """
    sample = _numbers(bins * samples).reshape(1, bins, samples)
    position = _position(start[:, None, None], spacing[:, None, None], sample)
    low, high, low_weight, high_weight = _neighbours(position, extent[:, None, None])
    pixels = jnp.concatenate([low, high], axis=-1).astype(jnp.int32)
    weights = jnp.concatenate([low_weight, high_weight], axis=-1)
    return Taps(pixels, weights / jnp.maximum(count, 1)[:, None, None])


def window_taps(start, spacing, count, bins, extent):
    """Taps for the adaptive number of samples; arguments as in :func:`fixed_taps`."""
    number = _numbers(bins)[None]
    last_pixel = jnp.maximum(extent - 1, 0)[:, None]

    def pixel(sample):
        position = _position(start[:, None], spacing[:, None], sample)
        position = jnp.where(jnp.isfinite(position), position, 0)
        return jnp.clip(jnp.floor(position), 0, last_pixel)

    first = pixel(number * count[:, None])
    last = jnp.minimum(pixel((number + 1) * count[:, None] - 1) + 1, last_pixel)
    first, last = first.astype(jnp.int32), jnp.maximum(first, last).astype(jnp.int32)
    return Window(first, last, start, spacing, count, extent)
