"""RoIAlign over one feature map or a pyramid, exactly as the C++ kernels of torchvision define it.

Shape legend: R regions, L pyramid levels, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins.

The rule: a region is divided into oh x ow bins, each bin has a regular grid of samples, each
sample is interpolated from the four pixels around it, and a bin is the mean of its samples.
Pixel (i, j) has its centre at (i, j). A sample outside of [-1, H] x [-1, W] counts as 0; one
between -1 and 0 is moved to 0, one above H - 1 to H - 1.

All of this is separable; `roi_taps.py` says what a bin reads on one axis. What is read then is the same
everywhere, and how depends on the platform and on the number of samples: `roi_gather.py` takes the pairs of a
row tap and a column tap, `roi_tiles.py` and `roi_tile_batches.py` multiply tiles of pixels with matrices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops import roi_gather, roi_tile_batches, roi_tiles
from jaxmaskrcnn.ops.roi_regions import Regions, merge_batch
from jaxmaskrcnn.ops.roi_taps import Taps, axis_samples, fixed_taps, window_taps
from jaxmaskrcnn.ops.shapes import check_shapes, shape_of


def assign_levels(
    boxes: ArrayLike, *, rule: str, min_level: int | Array = 2, max_level: int | Array = 5
) -> Array:
    """The pyramid level that each box is pooled from (FPN, equation 1).

    ``floor(4 + log2(sqrt(area) / 224))``, limited to the given levels. The libraries differ in
    an epsilon that decides about boxes of a side of exactly 112, 224 or 448 pixels:

    * "torchvision" adds 1e-6 to the logarithm,
    * "detectron2" adds 1e-8 to its argument,
    * "mmdet" computes ``floor(log2(sqrt(area) / 56 + 1e-6))`` above the level 2.

    Args:
        boxes: [R, 4], XYXY in pixels of the network's input.
        rule: One of the three.
        min_level: Finest level there is, a scalar.
        max_level: Coarsest level there is, a scalar.

    Returns:
        int32 [R], ``min_level`` to ``max_level``; an empty box gets ``min_level``.

    Raises:
        ValueError: ``rule`` is something else, or ``boxes`` has another shape.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 50, 50], [0, 0, 224, 224], [0, 0, 900, 900]])
        >>> assign_levels(boxes, rule="torchvision").tolist()
        [2, 4, 5]
    """
    check_shapes("assign_levels", boxes=(boxes, "R 4"))
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    level = _LEVELS[0] - 1 + (area[..., None] >= _smallest_areas(rule)).sum(-1)
    return jnp.clip(level, min_level, max_level).astype(jnp.int32)


# More than boxes of any use need; a pyramid whose scale is inferred can begin below P2.
_LEVELS = range(-4, 13)


@functools.cache
def _smallest_areas(rule):
    """The smallest float32 area in square pixels that belongs to each of `_LEVELS`.

    A box on a boundary lies within a rounding error of another level, and a division or logarithm
    that rounds otherwise than torch's (a compiler's, an accelerator's) would put it there. So the
    formulas are evaluated here, as torch does in float32, and the device only compares.
    """
    one = np.float32(1)

    def log2(x):
        return np.log2(x.astype(np.float64)).astype(np.float32)

    formulas = {
        "torchvision": lambda side: (4 * one + log2(side / (224 * one))) + np.float32(1e-6),
        "detectron2": lambda side: 4 * one + log2(side / (224 * one) + np.float32(1e-8)),
        "mmdet": lambda side: 2 * one + np.floor(log2(side / (56 * one) + np.float32(1e-6))),
    }
    if rule not in formulas:
        raise ValueError(f'assign_levels: rule is {rule!r}; choose "torchvision", "detectron2" or "mmdet".')
    smallest = []
    for level in _LEVELS:
        # Neighbours of the nominal boundary in the order of float32 numbers.
        nominal = np.float32((224 * 2.0 ** (level - 4)) ** 2).view(np.int32)
        areas = (nominal + np.arange(-1000, 1000, dtype=np.int32)).view(np.float32)
        smallest.append(areas[np.argmax(formulas[rule](np.sqrt(areas)) >= level)])
    return np.asarray(smallest)


def roi_align(
    features: ArrayLike,
    boxes: ArrayLike,
    output_size: int | tuple[int, int],
    *,
    spatial_scale: float | Array = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
    feature_size: tuple[float, float] | ArrayLike | None = None,
) -> Array:
    """Pool regions of one feature map (Mask R-CNN, section 3; torchvision's ``roi_align``).

    Differentiable with respect to the features only, as in torchvision.

    Args:
        features: [H, W, C].
        boxes: [R, 4], XYXY in pixels of the network's input.
        output_size: Bins as (oh, ow), or one number for both. Static.
        spatial_scale: Feature pixels per input pixel (1/4 on P2), a scalar. May be traced.
        sampling_ratio: Samples per bin and axis; 0: as many as a bin has pixels, rounded up,
            for every region on its own. Static.
        aligned: True moves the region by half a pixel, so that pixel centres agree with the
            input's (Detectron2, MMDetection); False does not and makes a region at least one
            feature pixel wide and high (torchvision).
        feature_size: [2], (h, w) that the border rule applies at, where the array is a larger
            canvas around the real feature map. May be traced. None: (H, W).

    Returns:
        [R, oh, ow, C] in the type of the features. Regions without area (padding) are finite.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> features = jnp.arange(16.0).reshape(4, 4, 1)
        >>> roi_align(features, jnp.array([[0.0, 0, 2, 2]]), 1, aligned=False)[0, 0, 0]
        Array([5.], dtype=float32)
    """
    check_shapes(
        "roi_align", features=(features, "H W C"), boxes=(boxes, "R 4"), feature_size=(feature_size, "2")
    )
    return multilevel_roi_align(
        (features,),
        boxes,
        jnp.zeros(jnp.shape(boxes)[0], jnp.int32),
        output_size,
        spatial_scales=jnp.asarray(spatial_scale, jnp.float32)[None],
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        feature_sizes=None if feature_size is None else (feature_size,),
    )


def multilevel_roi_align(
    features: tuple[Array, ...],
    boxes: ArrayLike,
    levels: Array,
    output_size: int | tuple[int, int],
    *,
    spatial_scales: ArrayLike,
    sampling_ratio: int,
    aligned: bool,
    feature_sizes: ArrayLike | None = None,
) -> Array:
    """Pool each region from its own level of a feature pyramid (torchvision's ``MultiScaleRoIAlign``).

    Args:
        features: Tuple of L arrays [H_l, W_l, C].
        boxes: [R, 4], XYXY in pixels of the network's input.
        levels: int [R], index into ``features`` (:func:`assign_levels` less its min_level).
        output_size: Bins as (oh, ow), or one number for both. Static.
        spatial_scales: [L], feature pixels per input pixel of each level.
        sampling_ratio: As in :func:`roi_align`.
        aligned: As in :func:`roi_align`.
        feature_sizes: [L, 2], the (h, w) of each level that the border rule applies at. May be
            traced. None: the arrays' own.

    Returns:
        [R, oh, ow, C] in the type of the features.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> levels = (jnp.ones((16, 16, 3)), jnp.zeros((8, 8, 3)))
        >>> boxes = jnp.array([[0.0, 0, 30, 30], [0, 0, 60, 60]])
        >>> pooled = multilevel_roi_align(
        ...     levels, boxes, jnp.array([0, 1]), 2, spatial_scales=jnp.array([1 / 4, 1 / 8]),
        ...     sampling_ratio=2, aligned=True,
        ... )
        >>> pooled.shape, pooled.mean((1, 2, 3)).tolist()
        ((2, 2, 2, 3), [1.0, 0.0])
    """
    for level in features:
        check_shapes("multilevel_roi_align", features=(level, f"H W {shape_of(features[0])[-1]}"))
    check_shapes(
        "multilevel_roi_align",
        boxes=(boxes, "R 4"),
        levels=(levels, "R"),
        spatial_scales=(spatial_scales, f"{len(features)}"),
        feature_sizes=(feature_sizes, f"{len(features)} 2"),
    )
    oh, ow = (output_size, output_size) if isinstance(output_size, int) else output_size
    dtype = features[0].dtype
    if not jnp.shape(boxes)[0]:
        return jnp.zeros((0, oh, ow, features[0].shape[-1]), dtype)
    features = [jnp.asarray(f) for f in features]
    sizes = np.array([f.shape[:2] for f in features]) if feature_sizes is None else feature_sizes
    sizes = jnp.asarray(sizes, jnp.float32)  # [L, 2]

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
    regions = Regions(jnp.asarray(levels, jnp.int32), jnp.zeros_like(levels, jnp.int32), rows, columns)
    return _pool(tuple(f[None] for f in features), regions).astype(dtype)


@jax.custom_vjp
def _pool(maps, regions):
    """Weighted sums of pixels: L arrays [B, H, W, C] -> [R, oh, ow, C], at least float32.

    The derivative that JAX would make of it has an array of the features' size for each tap.
    """
    return _sum(maps, regions)


def _pool_forward(maps, regions):
    # The slices have no elements; they only carry the maps' sizes.
    return _sum(maps, regions), (tuple(f[..., :0] for f in maps), regions)


def _pool_backward(residuals, cotangent):
    gradient = _spread(*residuals, cotangent)
    return tuple(g.astype(f.dtype) for g, f in zip(gradient, residuals[0], strict=True)), None


_pool.defvjp(_pool_forward, _pool_backward)


@merge_batch
def _sum(maps, regions):
    if isinstance(regions.rows, Taps):
        # A few taps are quickly gathered everywhere.
        by_tap, at_once = roi_gather.sum_taps, roi_gather.sum_taps_at_once
        return jax.lax.platform_dependent(maps, regions, cpu=by_tap, tpu=by_tap, default=at_once)
    return jax.lax.platform_dependent(maps, regions, cpu=roi_tiles.pool, default=roi_tile_batches.pool)


@merge_batch
def _spread(maps, regions, cotangent):
    other = {"default": roi_tile_batches.spread}
    if isinstance(regions.rows, Taps):
        other = {"tpu": roi_gather.spread_taps, "default": roi_gather.spread_taps_at_once}
    return jax.lax.platform_dependent(maps, regions, cotangent, cpu=roi_tiles.spread, **other)
