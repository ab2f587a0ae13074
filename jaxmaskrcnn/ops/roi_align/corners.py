"""Pooling with one sample a bin, where the outer samples lie on the region's corners: crop_and_resize.

RoIAlign takes the samples from the inside of each bin. TensorFlow's ``crop_and_resize``, with which
matterport's Mask R-CNN pools, spaces ``n`` samples evenly from one edge of the region to the other, both
included, and identifies the corner pixels' centres of image and feature map: position 0 is the first pixel of
both and ``size - 1`` the last one. A sample beyond them is 0.

The last sample of a region that ends with the image is on the last pixel. TensorFlow's float32 puts it a
rounding error beyond it for one such region in ten to several hundred, depending on the map's size, and then
makes it 0: which ones depends on the last digit of the region's other end. Here all of them read the last
pixel.

Shape legend: R regions, L pyramid levels, H and W a level's height and width, C channels, oh and ow the
output's height and width in bins.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.roi_align.api import bins_of, pool_lists
from jaxmaskrcnn.ops.roi_align.axis import Taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps
from jaxmaskrcnn.ops.shapes import Pair, check_shapes, shape_of
from jaxmaskrcnn.ops.static import check_type, float_if_whole


def crop_and_resize(
    features: tuple[Array, ...],
    boxes: ArrayLike,
    levels: Array,
    output_size: int | tuple[int, int],
    *,
    image_size: Pair,
    feature_sizes: ArrayLike | None = None,
    implementation: str | None = None,
) -> Array:
    """Pool each region from its own level with one sample a bin (TensorFlow's ``crop_and_resize``).

    Differentiable with respect to the features only.

    Args:
        features: Tuple of L arrays [H_l, W_l, C].
        boxes: [R, 4], XYXY in pixels of the network's input, ending at their last pixels: a box that covers
            the whole image ends at ``image_size - 1``.
        levels: int [R], index into ``features``.
        output_size: Bins as (oh, ow), or one number for both. Static.
        image_size: [2], height and width of the image that the maps are of, in pixels; may be traced.
        feature_sizes: [L, 2], the (h, w) of each level that belong to that image. May be traced. None: the
            arrays' own.
        implementation: As in `multilevel_roi_align`, without "reference".

    Returns:
        [R, oh, ow, C] in the dtype of the features; float32 for whole numbers.

    Raises:
        ValueError: An array has another shape, or ``implementation`` is unknown.

    Example:
        >>> features = (jnp.arange(16.0).reshape(4, 4, 1),)
        >>> box = jnp.array([[0.0, 0, 15, 15]])  # all of an image of 16 x 16 pixels
        >>> crop_and_resize(features, box, jnp.zeros(1, int), 2, image_size=(16, 16))[0, ..., 0]
        Array([[ 0.,  3.],
               [12., 15.]], dtype=float32)
    """
    if not features:
        raise ValueError("crop_and_resize: features is empty; give a map for each level.")
    for level in features:
        check_shapes("crop_and_resize", features=(level, f"H W {shape_of(features[0])[-1]}"))
    check_shapes(
        "crop_and_resize",
        boxes=(boxes, "R 4"),
        levels=(levels, "R"),
        image_size=(image_size, "2"),
        feature_sizes=(feature_sizes, f"{len(features)} 2"),
    )
    check_type("crop_and_resize", "int", levels=levels)
    oh, ow = bins_of(output_size)
    features = tuple(float_if_whole(f) for f in features)
    if not jnp.shape(boxes)[0]:
        return jnp.zeros((0, oh, ow, features[0].shape[-1]), features[0].dtype)
    own = [f.shape[:2] for f in features] if feature_sizes is None else feature_sizes
    sizes = jnp.asarray(own, jnp.float32)[levels]  # [R, 2]
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    height, width = (jnp.asarray(side, jnp.float32) for side in (image_size[0], image_size[1]))
    rows = corner_taps(boxes[:, 1], boxes[:, 3], oh, height, sizes[:, 0])
    columns = corner_taps(boxes[:, 0], boxes[:, 2], ow, width, sizes[:, 1])
    index = jnp.asarray(levels, jnp.int32)
    regions = RegionTaps(index, jnp.zeros_like(index), rows, columns)
    return pool_lists(implementation, tuple(f[None] for f in features), (regions,))[0]


_ROUNDING = 1e-3  # pixels of a map; more than errors of float32


def corner_taps(low: Array, high: Array, bins: int, image_side: Array, side: Array) -> Taps:
    """The two pixels of each bin's sample on one axis, with their weights.

    Args:
        low: [R], the regions' smaller coordinates in pixels.
        high: [R], the larger ones.
        bins: Number of bins, static.
        image_side: The image's length on this axis in pixels, a scalar.
        side: [R], the length of each region's map.
    """
    last_pixel = jnp.maximum(image_side - 1, 1)
    last = (side - 1)[:, None]
    start, end = low[:, None] / last_pixel * last, high[:, None] / last_pixel * last
    share = jnp.linspace(0, 1, bins) if bins > 1 else jnp.full(1, 0.5)
    position = start + share[None] * (end - start)  # [R, bins]
    # False for NaN.
    inside = (position >= -_ROUNDING) & (position <= last + _ROUNDING)
    position = jnp.where(inside, jnp.clip(position, 0, last), 0)
    below, above = jnp.floor(position), jnp.ceil(position)
    fraction = position - below
    weights = jnp.stack([1 - fraction, fraction], -1)
    pixels = jnp.stack([below, above], -1).astype(jnp.int32)
    return Taps(pixels, jnp.where(inside[..., None], weights, 0))
