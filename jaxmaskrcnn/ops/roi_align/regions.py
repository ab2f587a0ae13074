"""Regions of several feature maps of several images, which `vmap` merges into one list.

Shape legend: R regions, L pyramid levels, B images, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.roi_align.axis import Taps, Window, axis_samples, fixed_taps, window_taps


class RegionTaps(NamedTuple):
    """The taps of regions in the feature maps of a batch of images, L arrays [B, H_l, W_l, C].

    ``level`` and ``image`` int [R] give each region's map and image.
    """

    level: jax.Array
    image: jax.Array
    rows: Taps | Window
    columns: Taps | Window

    def size(self):
        """Number of pairs of a row tap and a column tap."""
        return self.rows.size() * self.columns.size()

    def bins(self):
        """(oh, ow)"""
        return self.rows[0].shape[1], self.columns[0].shape[1]

    def base(self, maps):
        """The index of the first pixel of each region's map in a flat list of all, and the map's width."""
        batch = maps[0].shape[0]
        widths = np.array([f.shape[2] for f in maps], np.int32)
        pixels = np.array([f.shape[1] * f.shape[2] for f in maps], np.int32)
        offsets = np.cumsum([0, *batch * pixels[:-1]]).astype(np.int32)
        first = jnp.asarray(offsets)[self.level] + self.image * jnp.asarray(pixels)[self.level]
        return first, jnp.asarray(widths)[self.level]

    def tap(self, k, base, width):
        """(flat index, weight), both [R, oh, ow], of one pair of a row tap and a column tap."""
        taps = self.columns.size()
        y, row_weight = self.rows.tap(k // taps)
        x, column_weight = self.columns.tap(k % taps)
        start = base[:, None] + width[:, None] * y
        return start[:, :, None] + x[:, None, :], row_weight[:, :, None] * column_weight[:, None, :]

    def taps(self, base, width):
        """(flat index, weight), both [R, oh, ow, T], of all pairs, for a fixed number of taps."""
        assert isinstance(self.rows, Taps) and isinstance(self.columns, Taps)
        y, row_weight = self.rows
        x, column_weight = self.columns
        start = (base[:, None, None] + width[:, None, None] * y)[:, :, None, :, None]
        index = start + x[:, None, :, None, :]
        weight = row_weight[:, :, None, :, None] * column_weight[:, None, :, None, :]
        return index.reshape(*index.shape[:3], -1), weight.reshape(*index.shape[:3], -1)


def make_regions(
    boxes, levels, output_size, spatial_scales, sampling_ratio, aligned, feature_sizes
) -> RegionTaps:
    """The regions of one image; arguments as in `api.multilevel_roi_align`.

    Args:
        boxes: [R, 4], XYXY in pixels of the network's input.
        levels: int [R].
        output_size: (oh, ow), static.
        spatial_scales: [L], feature pixels per input pixel of each level.
        sampling_ratio: Samples per bin and axis, static; 0 for the adaptive number.
        aligned: Whether regions are moved by half a pixel, static.
        feature_sizes: [L, 2], (h, w) of each level.

    Returns:
        R regions of image 0.
    """
    oh, ow = output_size
    sizes = jnp.asarray(feature_sizes, jnp.float32)  # [L, 2]
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    scales = jnp.asarray(spatial_scales, jnp.float32)[levels]
    y = axis_samples(boxes[:, 1] * scales, boxes[:, 3] * scales, oh, sampling_ratio, aligned)
    x = axis_samples(boxes[:, 0] * scales, boxes[:, 2] * scales, ow, sampling_ratio, aligned)

    extents = sizes[levels]  # [R, 2]
    if sampling_ratio > 0:
        rows = fixed_taps(*y, oh, sampling_ratio, extents[:, 0])
        columns = fixed_taps(*x, ow, sampling_ratio, extents[:, 1])
    else:
        rows = window_taps(*y, oh, extents[:, 0])
        columns = window_taps(*x, ow, extents[:, 1])
    return RegionTaps(jnp.asarray(levels, jnp.int32), jnp.zeros_like(levels, jnp.int32), rows, columns)


def merge_batch(function):
    """Makes `vmap` call a function of L arrays [B, H, W, C], regions, and arrays of R rows only once.

    The function gets one long list of the regions of all elements, and their maps as one large batch. A
    batched loop would run as long as its longest element needs and copy the values that the others carry.
    The regions may be several lists, and what follows them arrays for each.
    """
    function = jax.custom_batching.custom_vmap(function)

    @function.def_vmap
    def merged(axis_size, in_batched, maps, regions, *rest):
        arguments = jax.tree.map(
            lambda x, batched: x if batched else jnp.broadcast_to(x, (axis_size, *x.shape)),
            (maps, regions, *rest),
            tuple(in_batched),
        )
        images = arguments[0][0].shape[1]

        def of_element(regions):  # images are counted through the maps of all elements
            first = images * jnp.arange(axis_size, dtype=jnp.int32)
            return regions._replace(image=regions.image + first[:, None])

        maps, regions, *rest = arguments
        regions = jax.tree.map(of_element, regions, is_leaf=lambda x: isinstance(x, RegionTaps))
        maps, regions, *rest = jax.tree.map(
            lambda x: x.reshape(axis_size * x.shape[1], *x.shape[2:]), (maps, regions, *rest)
        )
        out = function(maps, regions, *rest)
        out = jax.tree.map(lambda x: x.reshape(axis_size, x.shape[0] // axis_size, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return function
