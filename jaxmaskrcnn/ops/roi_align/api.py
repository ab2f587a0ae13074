"""RoIAlign over one feature map or a pyramid, in the implementation that is fastest on each platform.

Shape legend: R regions, L pyramid levels, H and W a level's height and width, C channels,
oh and ow the output's height and width in bins.

`reference.py` is the definition. It is separable, and `axis.py` gives a bin's taps (pixels and their weights)
on one axis. The fast implementations read the same pixels with the same weights: `gather.py` in pairs of a
row tap and a column tap, `tiles_cpu.py`, `tiles_batched.py` and `tiles_tpu.py` as tiles that are multiplied
by matrices, and `gather_or_tiles.py` in one way or the other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.derivatives import check_gradient_is_enough, wants_every_derivative
from jaxmaskrcnn.ops.roi_align import (
    gather,
    gather_or_tiles,
    reference,
    tiles_batched,
    tiles_cpu,
    tiles_tpu,
)
from jaxmaskrcnn.ops.roi_align.axis import Taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps, make_regions, merge_batch
from jaxmaskrcnn.ops.shapes import Pair, check_shapes, shape_of
from jaxmaskrcnn.ops.static import check_numbers, check_type, check_whole, float_if_whole
from jaxmaskrcnn.ops.xla_memory import without_elements


class Implementation(NamedTuple):
    """A weighted sum of pixels and its transpose.

    ``pool(maps, lists)`` turns L arrays [B, H, W, C] into [R, oh, ow, C] for each list of regions, at least
    float32. ``spread(maps, lists, cotangents)`` turns these into L arrays [B, H, W, C]; its ``maps`` have no
    elements and only carry shapes. ``adaptive`` is whether the number of samples may differ between regions.
    """

    pool: Callable
    spread: Callable
    adaptive: bool


IMPLEMENTATIONS = {
    "gather": Implementation(gather.sum_taps, gather.spread_taps, adaptive=True),
    "gather_at_once": Implementation(gather.sum_taps_at_once, gather.spread_taps_at_once, adaptive=False),
    "gather_or_tiles": Implementation(gather_or_tiles.pool, gather_or_tiles.spread, adaptive=True),
    "tiles_cpu": Implementation(tiles_cpu.pool, tiles_cpu.spread, adaptive=True),
    "tiles_batched": Implementation(tiles_batched.pool, tiles_batched.spread, adaptive=True),
    "tiles_tpu": Implementation(tiles_tpu.pool, tiles_tpu.spread, adaptive=True),
}

# The implementation for each platform; "default" is for GPUs. docs/how-it-is-built.md and docs/benchmarks.md
# have the reasons and the measurements. For TPUs there are only the compiler's estimates.
_FIXED_POOL = {"cpu": "gather", "tpu": "tiles_tpu", "default": "gather_at_once"}
_FIXED_SPREAD = {"cpu": "tiles_cpu", "tpu": "tiles_tpu", "default": "gather_at_once"}
_ADAPTIVE = {"cpu": "tiles_cpu", "tpu": "tiles_tpu", "default": "gather_or_tiles"}


def roi_align(
    features: Array,
    boxes: ArrayLike,
    output_size: int | tuple[int, int],
    *,
    spatial_scale: float | Array = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
    feature_size: Pair | None = None,
    implementation: str | None = None,
) -> Array:
    """Pool regions of one feature map (Mask R-CNN, section 3; torchvision's ``roi_align``).

    Differentiable with respect to the features only, as in torchvision; forward-mode and second derivatives
    need `ops.every_derivative`.

    Args:
        features: [H, W, C].
        boxes: [R, 4], XYXY in pixels of the network's input.
        output_size: Bins as (oh, ow), or one number for both. Static.
        spatial_scale: Feature pixels per input pixel (1/4 on P2), a scalar. May be traced.
        sampling_ratio: Samples per bin and axis; 0 takes as many as a bin has pixels, rounded up,
            which differs between regions. Static.
        aligned: True shifts the region by half a pixel, so that pixel centres agree with the
            input's (Detectron2, MMDetection); False does not, and makes a region at least one
            feature pixel wide and high (torchvision).
        feature_size: [2], (h, w) of the feature map inside the array, at which the border rule applies.
            May be traced. None: (H, W).
        implementation: As in :func:`multilevel_roi_align`, which also says what infinities in the features
            become.

    Returns:
        [R, oh, ow, C] in the dtype of the features; float32 for whole numbers. Values are finite for
        regions without area (padding) too.

    Raises:
        ValueError: As in :func:`multilevel_roi_align`.

    Example:
        >>> features = jnp.arange(16.0).reshape(4, 4, 1)
        >>> roi_align(features, jnp.array([[0.0, 0, 2, 2]]), 1, aligned=False)[0, 0, 0]
        Array([5.], dtype=float32)
    """
    check_shapes(
        "roi_align", features=(features, "H W C"), boxes=(boxes, "R 4"), feature_size=(feature_size, "2")
    )
    check_numbers("roi_align", 0, above=True, spatial_scale=spatial_scale)
    return multilevel_roi_align(
        (features,),
        boxes,
        jnp.zeros(jnp.shape(boxes)[0], jnp.int32),
        output_size,
        spatial_scales=jnp.asarray(spatial_scale, jnp.float32)[None],
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        feature_sizes=None if feature_size is None else (feature_size,),
        implementation=implementation,
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
    feature_sizes: ArrayLike | Sequence[Pair] | None = None,
    implementation: str | None = None,
) -> Array:
    """Pool each region from its own level of a feature pyramid (torchvision's ``MultiScaleRoIAlign``).

    Args:
        features: Tuple of L arrays [H_l, W_l, C].
        boxes: [R, 4], XYXY in pixels of the network's input.
        levels: int [R], index into ``features`` (:func:`assign_levels` minus its ``min_level``).
        output_size: Bins as (oh, ow), or one number for both. Static.
        spatial_scales: [L], feature pixels per input pixel of each level.
        sampling_ratio: As in :func:`roi_align`.
        aligned: As in :func:`roi_align`.
        feature_sizes: [L, 2], the (h, w) of each level at which the border rule applies. May be
            traced. None: the arrays' own.
        implementation: None for the fastest on the platform that a program is compiled for, or the name of
            one, which then computes the gradient too: "gather", "gather_at_once" (only for a fixed number of
            samples), "gather_or_tiles" (as "gather_at_once" or "tiles_batched"), "tiles_cpu",
            "tiles_batched", "tiles_tpu", or "reference", the definition (its boxes, levels, scales and sizes
            must not be traced). All give the same result except for rounding, where
            the features are finite: with the three of tiles (the default for ``sampling_ratio=0``, on TPUs,
            and on CPUs for the gradient) an infinity makes NaN of all bins of a region in whose tiles it is,
            which reach up to 31 pixels beyond the region; with the others it only enters the bins that read
            it.

    Returns:
        [R, oh, ow, C] in the dtype of the features; float32 for whole numbers.

    Raises:
        ValueError: ``implementation`` is unknown, or "gather_at_once" with ``sampling_ratio=0``, or an
            array has another shape or no pixels, or a number is impossible: of bins (at least 1), of samples
            (at least 0), a scale (above 0), a feature size (at most the map's).

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
    if not features:
        raise ValueError("multilevel_roi_align: features is empty; give a map for each level.")
    for level in features:
        check_shapes("multilevel_roi_align", features=(level, f"H W {shape_of(features[0])[-1]}"))
    check_shapes(
        "multilevel_roi_align",
        boxes=(boxes, "R 4"),
        levels=(levels, "R"),
        spatial_scales=(spatial_scales, f"{len(features)}"),
        feature_sizes=(feature_sizes, f"{len(features)} 2"),
    )
    check_whole("roi_align", 0, sampling_ratio=sampling_ratio)
    check_numbers("roi_align", 0, above=True, spatial_scales=spatial_scales)
    check_type("multilevel_roi_align", "int", levels=levels)
    if implementation is not None:
        _check_implementation(implementation, sampling_ratio)
    oh, ow = bins_of(output_size)
    features = tuple(float_if_whole(f) for f in features)
    _check_maps(features, feature_sizes)
    dtype = features[0].dtype
    if not jnp.shape(boxes)[0]:
        return jnp.zeros((0, oh, ow, features[0].shape[-1]), dtype)
    sizes = np.array([f.shape[:2] for f in features]) if feature_sizes is None else feature_sizes
    if implementation == "reference":
        return reference.multilevel_roi_align(
            features, boxes, levels, (oh, ow), spatial_scales=spatial_scales,
            sampling_ratio=sampling_ratio, aligned=aligned, feature_sizes=sizes,
        )  # fmt: skip
    regions = make_regions(boxes, levels, (oh, ow), spatial_scales, sampling_ratio, aligned, sizes)
    return pool_lists(implementation, tuple(f[None] for f in features), (regions,))[0]


def bins_of(output_size):
    """The bins as (oh, ow)."""
    pair = isinstance(output_size, list | tuple | np.ndarray)
    if pair and np.shape(output_size) != (2,):
        raise ValueError(f"roi_align: output_size is {output_size!r}; give (height, width), or one number.")
    check_whole("roi_align", 1, output_size=output_size)
    height, width = output_size if pair else (output_size, output_size)
    return int(height), int(width)


def _check_maps(features, feature_sizes):
    """Checks that maps have pixels, and that no size for the border rule is larger than its map."""
    for i, feature in enumerate(features):
        size = feature.shape[:2]
        if 0 in size:
            raise ValueError(
                f"roi_align: features has the shape {list(feature.shape)}; give a map with pixels."
            )
        if feature_sizes is None or isinstance(feature_sizes, jax.Array):
            continue
        own = feature_sizes[i]
        check_numbers("roi_align", 0, feature_size=own)
        if any(not isinstance(x, jax.Array) and x > most for x, most in zip(own, size, strict=True)):
            raise ValueError(
                f"roi_align: feature_size is {own!r} and the map's size {size}; give a feature_size that is "
                "not above it."
            )


def _check_implementation(name, sampling_ratio):
    names = [*IMPLEMENTATIONS, "reference"]
    if name not in names:
        known = ", ".join(f'"{known}"' for known in names)
        raise ValueError(f"roi_align: implementation is {name!r}; choose {known} or None.")
    if sampling_ratio == 0 and name != "reference" and not IMPLEMENTATIONS[name].adaptive:
        raise ValueError(
            f"roi_align: the implementation {name!r} needs a fixed number of samples, and sampling_ratio is "
            "0; choose another one or None."
        )


def pool_lists(
    implementation: str | None, maps: Sequence[Array], lists: Sequence[RegionTaps]
) -> tuple[Array, ...]:
    """Compute weighted sums of pixels of several lists of regions.

    The maps are brought into the order in which an implementation reads them once, and so are their
    gradients.

    Args:
        implementation: As of `multilevel_roi_align`, except "reference".
        maps: L arrays [B, H, W, C].
        lists: Lists of regions, at least one, each of at least one region.

    Returns:
        [R, oh, ow, C] for each list, in the dtype of the maps.
    """
    maps, lists = tuple(maps), tuple(lists)
    if wants_every_derivative():
        if not _all_fixed(lists):
            check_gradient_is_enough("roi_align with sampling_ratio=0", "give a fixed number of samples")
        return _in_dtype_of_maps(gather.sum_taps_at_once)(maps, lists)
    return _pool_lists(implementation, maps, lists)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool_lists(implementation, maps, lists):
    # JAX's own derivative would hold an array of the features' size for each tap.
    return _sums(implementation, maps, lists)


def _sums(implementation, maps, lists):
    names = _FIXED_POOL if _all_fixed(lists) else _ADAPTIVE
    return _on_platform("pool", implementation, names)(maps, lists)


def _all_fixed(lists):
    """Whether all regions have a fixed number of samples."""
    return all(isinstance(regions.rows, Taps) for regions in lists)


def _pool_forward(implementation, maps, lists):
    return _sums(implementation, maps, lists), (tuple(without_elements(f) for f in maps), lists)


def _pool_backward(implementation, residuals, cotangents):
    maps, lists = residuals
    cotangents = tuple(x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in cotangents)
    names = _FIXED_SPREAD if _all_fixed(lists) else _ADAPTIVE
    return _on_platform("spread", implementation, names)(maps, lists, cotangents), None


_pool_lists.defvjp(_pool_forward, _pool_backward)


def _on_platform(direction, implementation, names):
    """Return the "pool" or "spread" of an implementation; for None, choose by platform from ``names``."""
    names = {"default": implementation} if implementation is not None else names
    functions = {platform: getattr(IMPLEMENTATIONS[name], direction) for platform, name in names.items()}
    cast = _in_dtype_of_maps if direction == "pool" else _in_dtypes_of_maps
    functions = {platform: cast(function) for platform, function in functions.items()}
    return merge_batch(lambda *arrays: jax.lax.platform_dependent(*arrays, **functions))


def _in_dtype_of_maps(pool):
    return lambda maps, lists: tuple(x.astype(maps[0].dtype) for x in pool(maps, lists))


def _in_dtypes_of_maps(spread):
    def cast(maps, *rest):
        return tuple(g.astype(f.dtype) for g, f in zip(spread(maps, *rest), maps, strict=True))

    return cast
