"""RoIAlign of the boxes of a batch, each from its level of the pyramid.

Shapes: B images, L levels that regions are pooled from (P2 to P5 of a pyramid), R boxes of an image, S the
pooled side, C channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.config import PoolConfig
from jaxmaskrcnn.models.padding import feature_extent
from jaxmaskrcnn.ops.roi_align import assign_levels, crop_and_resize, multilevel_roi_align
from jaxmaskrcnn.ops.roi_align.api import pool_lists
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps, make_regions
from jaxmaskrcnn.structures import Batch

Array = jax.Array


def pool_regions(
    batch: Batch, levels: Sequence[Array], strides: Sequence[int], boxes: Array, config: PoolConfig
) -> Array:
    """Pool the boxes of every image with RoIAlign, or with the pooling of ``config.method``.

    Args:
        batch: Gives extents and image sizes.
        levels: L maps, [B, h, w, C] each; further maps are ignored.
        strides: Strides of the L levels, in pixels of the network's input.
        boxes: [B, R, 4], XYXY in pixels of the network's input.
        config: Gives the side of the output, the number of samples, the alignment, and the rules for levels
            and scales.

    Returns:
        [B * R, S, S, C].
    """
    levels = tuple(levels[: len(strides)])
    if config.method == "corners":
        return _pool_corners(batch, levels, strides, boxes, config)
    if not boxes.shape[1]:
        return jnp.zeros((0, config.size, config.size, levels[0].shape[-1]), levels[0].dtype)
    (pooled,) = pool_together(levels, [region_taps(batch, strides, boxes, config)])
    return pooled.reshape(-1, *pooled.shape[2:])


def region_taps(batch: Batch, strides: Sequence[int], boxes: Array, config: PoolConfig) -> RegionTaps:
    """Find what RoIAlign reads of the maps for the boxes of every image.

    Args:
        batch: As of `pool_regions`.
        strides: Likewise.
        boxes: Likewise.
        config: Likewise, with the method "align".

    Returns:
        Regions with a leading B, for `pool_together`.
    """
    scales, lowest, feature_sizes = roi_geometry(batch, strides, config)

    def of_image(boxes, scales, lowest, feature_sizes):
        level = assign_levels(
            boxes,
            rule=config.level_rule,
            min_level=lowest,
            max_level=lowest + len(strides) - 1,
        )
        boxes = boxes - jnp.array([[0, 0, 1, 1]], boxes.dtype) if config.inclusive else boxes
        bins = (config.size, config.size)
        return make_regions(
            boxes, level - lowest, bins, scales, config.sampling_ratio, config.aligned, feature_sizes
        )

    return jax.vmap(of_image)(boxes, scales, lowest, feature_sizes)


def pool_together(levels: Sequence[Array], lists: Sequence[RegionTaps]) -> tuple[Array, ...]:
    """Pool several lists of regions of every image from the same maps.

    Args:
        levels: Maps, [B, h, w, C] each.
        lists: Lists of R regions of S x S bins with a leading B, each of at least one.

    Returns:
        [B, R, S, S, C] for each list.
    """

    def of_image(maps, lists):
        return pool_lists(None, tuple(x[None] for x in maps), lists)

    return jax.vmap(of_image)(tuple(levels), tuple(lists))


def pool_all_levels(
    batch: Batch, levels: Sequence[Array], strides: Sequence[int], boxes: Array, config: PoolConfig
) -> list[Array]:
    """Pool the boxes of every image with RoIAlign from each level, whatever their sizes are.

    Args:
        batch: Gives extents and image sizes.
        levels: L maps, [B, h, w, C] each; further maps are ignored.
        strides: Strides of the L levels, in pixels of the network's input.
        boxes: [B, R, 4], XYXY in pixels of the network's input.
        config: As in `pool_regions`; ``method`` and ``level_rule`` have no effect.

    Returns:
        L arrays, [B * R, S, S, C].
    """
    scales, _, feature_sizes = roi_geometry(batch, strides, config)
    if config.inclusive:
        boxes = boxes - jnp.array([0, 0, 1, 1], boxes.dtype)

    def pool_image(features, boxes, scales, feature_sizes):
        return multilevel_roi_align(
            (features,), boxes, jnp.zeros(len(boxes), jnp.int32), config.size, spatial_scales=scales,
            sampling_ratio=config.sampling_ratio, aligned=config.aligned, feature_sizes=feature_sizes,
        )  # fmt: skip

    pooled = [
        jax.vmap(pool_image)(levels[i], boxes, scales[:, i : i + 1], feature_sizes[:, i : i + 1])
        for i in range(len(strides))
    ]
    return [x.reshape(-1, *x.shape[2:]) for x in pooled]


def _pool_corners(batch, levels, strides, boxes, config) -> Array:
    """`pool_regions` with one sample a bin, for boxes that end at their last pixels.

    The level's rule reads the box at the scale at which the image's corner pixels are its edges.
    """
    lowest = round(np.log2(strides[0]))
    feature_sizes = jax.vmap(lambda step: feature_extent(batch.extents, step), out_axes=1)(
        jnp.asarray(strides)
    )

    def pool_image(features, boxes, extent, feature_sizes):
        scale = jnp.tile((extent / jnp.maximum(extent - 1, 1)).astype(jnp.float32)[::-1], 2)[None]  # [1, 4]
        level = assign_levels(
            boxes * scale, rule=config.level_rule, min_level=lowest, max_level=lowest + len(strides) - 1
        )
        return crop_and_resize(
            features, boxes, level - lowest, config.size, image_size=extent, feature_sizes=feature_sizes
        )

    pooled = jax.vmap(pool_image)(levels, boxes, batch.extents, feature_sizes)
    return pooled.reshape(-1, *pooled.shape[2:])


def roi_geometry(batch: Batch, strides: Sequence[int], config: PoolConfig) -> tuple[Array, Array, Array]:
    """Compute the scales, levels and sizes for pooling, according to ``config.scale``.

    Args:
        batch: Gives extents and image sizes.
        strides: Strides of the L levels.
        config: "stride" derives the scales from the levels' strides; "inferred" is torchvision's rule,
            which derives them from the sizes of the feature maps and images.

    Returns:
        Spatial scales [B, L], the lowest level's number [B], feature sizes [B, L, 2].
    """
    steps = jnp.asarray(strides)
    feature_sizes = jax.vmap(lambda step: feature_extent(batch.extents, step), out_axes=1)(steps)
    scales = jnp.broadcast_to(1.0 / steps.astype(jnp.float32), feature_sizes.shape[:2])
    if config.scale == "inferred":
        # torchvision infers the scale from the heights of the feature map and of the tallest image that
        # shares the padded canvas. This is wrong for extreme shapes (64 x 1333), but weights that were
        # trained with it expect it.
        shared = (batch.extents[:, None] == batch.extents[None]).all(-1)
        height = jnp.where(shared, batch.image_sizes[None, :, 0], 0).max(-1)
        ratio = feature_sizes[:, :, 0] / height[:, None]
        scales = 2.0 ** jnp.round(jnp.log2(ratio))
    lowest = jnp.round(-jnp.log2(scales[:, 0])).astype(jnp.int32)
    return scales.astype(jnp.float32), lowest, feature_sizes
