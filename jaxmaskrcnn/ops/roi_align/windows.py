"""Windows of cells around single cells of feature maps: RoIAlign whose bins are cells.

Shape legend: R windows, L maps, H and W a map's height and width, C channels, K the side of a window.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.ops.roi_align import gather
from jaxmaskrcnn.ops.roi_align.api import IMPLEMENTATIONS, pool_taps
from jaxmaskrcnn.ops.roi_align.axis import Taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole


def cell_windows(
    features: Sequence[Array],
    levels: Array,
    cells: Array,
    reach: int,
    feature_sizes: Array,
    implementation: str | None = None,
) -> tuple[Array, Array]:
    """Read the cells around cells of the maps of one image; differentiable with respect to the maps.

    Args:
        features: L maps, [H, W, C] each.
        levels: int [R], the map of each window.
        cells: int [R, 2], row and column of the cell in its middle.
        reach: Cells on each side of it, static.
        feature_sizes: int [L, 2], height and width of the part of each map that belongs to the image.
        implementation: As of `multilevel_roi_align`, except "reference".

    Returns:
        Windows [R, K, K, C] with K = 2 ``reach`` + 1, in which cells beyond the image are zeros, and which
        cells are in the image, bool [R, K, K].

    Raises:
        ValueError: An array has another shape, or ``reach`` is negative or ``implementation`` unknown.

    Example:
        >>> maps = (jnp.arange(1.0, 13).reshape(3, 4, 1),)
        >>> windows, inside = cell_windows(
        ...     maps, jnp.array([0]), jnp.array([[0, 1]]), 1, jnp.array([[3, 4]])
        ... )
        >>> windows[0, :, :, 0].astype(int).tolist(), inside.sum()
        ([[0, 0, 0], [1, 2, 3], [5, 6, 7]], Array(6, dtype=int32))
    """
    check_whole("cell_windows", 0, reach=reach)
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        known = ", ".join(f'"{name}"' for name in IMPLEMENTATIONS)
        raise ValueError(f"cell_windows: implementation is {implementation!r}; choose {known} or None.")
    for level in features:
        check_shapes("cell_windows", features=(level, f"H W {features[0].shape[-1]}"))
    check_shapes(
        "cell_windows",
        levels=(levels, "R"),
        cells=(cells, "R 2"),
        feature_sizes=(feature_sizes, f"{len(features)} 2"),
    )
    step = jnp.arange(-reach, reach + 1, dtype=jnp.int32)[None, None]
    pixels = cells.astype(jnp.int32)[:, :, None] + step  # [R, 2, K]
    sizes = jnp.asarray(feature_sizes, jnp.int32)[levels][:, :, None]
    inside = (pixels >= 0) & (pixels < sizes)
    pixels = jnp.clip(pixels, 0, jnp.maximum(sizes - 1, 0))
    rows, columns = (Taps(pixels[:, i, :, None], inside[:, i, :, None].astype(jnp.float32)) for i in (0, 1))
    regions = RegionTaps(levels.astype(jnp.int32), jnp.zeros_like(levels, jnp.int32), rows, columns)
    maps = tuple(x[None] for x in features)
    if wants_every_derivative():
        windows = gather.sum_taps_at_once(maps, regions).astype(features[0].dtype)
    else:
        windows = pool_taps(implementation, maps, regions)
    return windows, inside[:, 0, :, None] & inside[:, 1, None, :]
