"""Windows of cells around single cells of feature maps, as regions for RoIAlign whose bins are cells.

Shape legend: R windows, L maps, K the side of a window.
"""

import jax.numpy as jnp
from jax import Array

from jaxmaskrcnn.ops.roi_align.axis import Taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole


def cell_windows(levels: Array, cells: Array, reach: int, feature_sizes: Array) -> tuple[RegionTaps, Array]:
    """Find the cells around cells of the maps of one image.

    Args:
        levels: int [R], the map of each window.
        cells: int [R, 2], row and column of the cell in its middle.
        reach: Cells on each side of it, static.
        feature_sizes: int [L, 2], height and width of the part of each map that belongs to the image.

    Returns:
        Regions of K x K bins with K = 2 ``reach`` + 1, for `pool_lists`, of which bins beyond the image are
        zeros; and which bins are in the image, bool [R, K, K].

    Raises:
        ValueError: An array has another shape, or ``reach`` is negative.

    Example:
        >>> from jaxmaskrcnn.ops.roi_align.api import pool_lists
        >>> windows, inside = cell_windows(
        ...     jnp.array([0]), jnp.array([[0, 1]]), 1, jnp.array([[3, 4]])
        ... )
        >>> maps = (jnp.arange(1.0, 13).reshape(1, 3, 4, 1),)
        >>> pool_lists(None, maps, (windows,))[0][0, :, :, 0].astype(int).tolist(), inside.sum()
        ([[0, 0, 0], [1, 2, 3], [5, 6, 7]], Array(6, dtype=int32))
    """
    check_whole("cell_windows", 0, reach=reach)
    check_shapes(
        "cell_windows",
        levels=(levels, "R"),
        cells=(cells, "R 2"),
        feature_sizes=(feature_sizes, "L 2"),
    )
    levels = levels.astype(jnp.int32)
    step = jnp.arange(-reach, reach + 1, dtype=jnp.int32)[None, None]
    pixels = cells.astype(jnp.int32)[:, :, None] + step  # [R, 2, K]
    sizes = jnp.asarray(feature_sizes, jnp.int32)[levels][:, :, None]
    inside = (pixels >= 0) & (pixels < sizes)
    pixels = jnp.clip(pixels, 0, jnp.maximum(sizes - 1, 0))
    rows, columns = (Taps(pixels[:, i, :, None], inside[:, i, :, None].astype(jnp.float32)) for i in (0, 1))
    regions = RegionTaps(levels, jnp.zeros_like(levels), rows, columns)
    return regions, inside[:, 0, :, None] & inside[:, 1, None, :]
