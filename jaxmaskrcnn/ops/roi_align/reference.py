"""The definition of RoIAlign, sample by sample, to be read beside the paper (Mask R-CNN, section 3).

A region is divided into oh x ow bins, each bin has a regular grid of samples, each sample is interpolated
from the four pixels around it, and a bin is the mean of its samples. Pixel (i, j) has its centre at (i, j). A
sample outside of [-1, H] x [-1, W] counts as 0; one between -1 and 0 is moved to 0, one above H - 1 to H - 1.
This is the border rule of torchvision's C++ kernel. The fast implementations are tested against this one.

Shape legend: R regions, L pyramid levels, H and W a level's height and width, C channels, oh and ow the
output's height and width in bins, n and m the most samples of a bin on the vertical and the horizontal axis.
"""

import jax.numpy as jnp
import numpy as np


def multilevel_roi_align(
    features, boxes, levels, output_size, *, spatial_scales, sampling_ratio, aligned, feature_sizes=None
):
    """The mean of the samples of each bin; arguments and result as in `api.multilevel_roi_align`.

    The features may be traced. Boxes, levels, scales and sizes must not be: the number of samples depends on
    them, and NumPy places the samples without the fused multiply-adds that a compiler might make.
    """
    oh, ow = (output_size, output_size) if isinstance(output_size, int) else output_size
    sizes = np.array([f.shape[:2] for f in features] if feature_sizes is None else feature_sizes, int)
    boxes = np.asarray(boxes, np.float32) * np.asarray(spatial_scales, np.float32)[levels][:, None]
    x1, y1, x2, y2 = boxes.T - np.float32(0.5 if aligned else 0)
    y, y_share = samples(y1, y2, oh, sampling_ratio, aligned)
    x, x_share = samples(x1, x2, ow, sampling_ratio, aligned)
    y, y_share = y[:, :, None, :, None], y_share[:, None, None, :, None, None]
    x, x_share = x[:, None, :, None, :], x_share[:, None, None, None, :, None]

    pooled = jnp.zeros((), jnp.float32)
    for level, (feature, size) in enumerate(zip(features, sizes, strict=True)):
        values = bilinear(jnp.asarray(feature, jnp.float32), y, x, *size)  # [R, oh, ow, n, m, C]
        own = np.reshape(levels, (-1, 1, 1, 1)) == level
        pooled += jnp.where(own, (values * y_share * x_share).sum((3, 4)), 0)
    return pooled.astype(features[0].dtype)


def samples(low, high, bins, sampling_ratio, aligned):
    """Positions of samples on one axis, float32 [R, bins, n], and their shares of a bin's mean [R, n]."""
    with np.errstate(invalid="ignore"):  # regions that are padding may hold infinities
        length = high - low if aligned else np.maximum(high - low, 1)
        finite = np.isfinite(low + length)
    low, length = (np.where(finite, x, 0)[:, None] for x in (low, length))
    count = np.full_like(length, sampling_ratio) if sampling_ratio else np.maximum(np.ceil(length / bins), 0)
    count = np.where(finite[:, None], count, 0)
    k = np.arange(count.max(initial=0), dtype=np.float32)
    share = (k < count) / np.maximum(count, 1)  # 0 beyond a region's own number of samples
    spacing = length / (bins * np.maximum(count, 1))
    number = np.arange(bins, dtype=np.float32)[:, None] * count[:, None] + k  # of the sample in its region
    return low[:, None] + (number + np.float32(0.5)) * spacing[:, None], share


def bilinear(feature, y, x, height, width):
    """Values [..., C] of a map [H, W, C] at points; outside of [-1, height] x [-1, width] they are 0."""
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)  # False for NaN
    y = jnp.where(inside, jnp.clip(y, 0, height - 1), 0)
    x = jnp.where(inside, jnp.clip(x, 0, width - 1), 0)
    top, left = jnp.floor(y).astype(int), jnp.floor(x).astype(int)
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    v, u = (y - top)[..., None], (x - left)[..., None]
    upper = (1 - u) * feature[top, left] + u * feature[top, right]
    lower = (1 - u) * feature[bottom, left] + u * feature[bottom, right]
    return jnp.where(inside[..., None], (1 - v) * upper + v * lower, 0)
