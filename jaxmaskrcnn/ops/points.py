"""Values of maps at points: bilinear interpolation with zeros outside of the map.

Kirillov et al., 2019, section 3. A point's coordinates are (x, y). Those within a region are from 0 to 1,
those within a map in its cells, whose first one has its middle at 0.5.

Shape legend: R regions, P points of a region, H and W the map, C channels, S the side of a region's map,
G objects.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import Pair, check_shapes
from jaxmaskrcnn.ops.static import check_type, check_whole


def grid_points(side: int) -> Array:
    """The middles of the cells of a region's regular grid.

    Args:
        side: Cells a side, static.

    Returns:
        float32 [side * side, 2], row by row.

    Example:
        >>> grid_points(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    check_whole("grid_points", 1, side=side)
    return points_of_cells(jnp.arange(side * side), side)


def points_of_cells(index: Array, side: int) -> Array:
    """The middles of some cells of a region's regular grid.

    Args:
        index: int [...], numbers of cells, row by row.
        side: Cells a side, static.

    Returns:
        float32 [..., 2].

    Example:
        >>> points_of_cells(jnp.array([1]), 2).tolist()
        [[0.75, 0.25]]
    """
    cells = jnp.stack([index % side, index // side], -1).astype(jnp.float32)
    return (cells + 0.5) / side


def points_in_boxes(points: ArrayLike, boxes: ArrayLike) -> Array:
    """The coordinates that points of regions have in the image.

    Args:
        points: float [R, P, 2], from 0 to 1.
        boxes: float [R, 4], XYXY.

    Returns:
        float [R, P, 2].

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> points_in_boxes([[[0.5, 1.0]]], [[10.0, 0, 20, 8]]).tolist()
        [[[15.0, 8.0]]]
    """
    check_shapes("points_in_boxes", points=(points, "R P 2"), boxes=(boxes, "R 4"))
    points, boxes = jnp.asarray(points), jnp.asarray(boxes)
    first, last = boxes[:, None, :2], boxes[:, None, 2:]
    return first + points * (last - first)


def sample_map(features: ArrayLike, points: ArrayLike, size: Pair | None = None) -> Array:
    """The values of one map at points.

    Source: torch's ``grid_sample(mode="bilinear", padding_mode="zeros", align_corners=False)``, which
    Detectron2's ``point_sample`` calls.

    Args:
        features: float [H, W, C].
        points: float [..., 2], in cells.
        size: (h, w) of the part of the map that belongs to the image; may be traced. None: (H, W). What is
            outside of it is zero.

    Returns:
        [..., C].

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> features = jnp.array([[[1.0], [3.0]]])  # one row of two cells
        >>> sample_map(features, jnp.array([[1.0, 0.5], [0.0, 0.5]])).ravel().tolist()
        [2.0, 0.5]
    """
    check_shapes("sample_map", features=(features, "H W C"), points=(points, "... 2"), size=(size, "2"))
    features = jnp.asarray(features)
    height, width, channels = features.shape
    cells = features.reshape(-1, channels)

    def at(row, column):
        return cells[row * width + column].astype(jnp.promote_types(features.dtype, jnp.float32))

    inside = (height, width) if size is None else (size[0], size[1])
    return _interpolate(at, points, (height, width), inside, channels=True).astype(features.dtype)


def sample_masks(
    packed: ArrayLike, width: int, index: Array, points: ArrayLike, image_size: Pair | None = None
) -> Array:
    """The values of objects' masks at points, from 0 to 1.

    Args:
        packed: uint8 [G, H, ceil(W / 8)], from :func:`pack_masks`.
        width: W, static.
        index: int [R], the object of each region.
        points: float [R, P, 2], in pixels of the masks.
        image_size: (h, w) of the image within the canvas; may be traced. None: (H, W).

    Returns:
        float32 [R, P].

    Raises:
        ValueError: An array has another shape or type.

    Example:
        >>> packed = jmr.ops.pack_masks(np.array([[[True, True, False, False]]]))
        >>> points = jnp.array([[[1.5, 0.5], [2.0, 0.5], [3.0, 0.5]]])
        >>> sample_masks(packed, 4, jnp.array([0]), points).tolist()
        [[1.0, 0.5, 0.0]]
    """
    check_whole("sample_masks", 1, width=width)
    check_shapes(
        "sample_masks",
        packed=(packed, f"G H {-(-width // 8)}"),
        index=(index, "R"),
        points=(points, "R P 2"),
        image_size=(image_size, "2"),
    )
    check_type("sample_masks", "uint8", packed=packed)
    check_type("sample_masks", "int", index=index)
    packed = jnp.asarray(packed)
    height = packed.shape[1]

    def at(row, column):
        byte = packed[jnp.asarray(index)[:, None], row, column // 8]
        return ((byte >> (7 - column % 8).astype(jnp.uint8)) & 1).astype(jnp.float32)

    inside = (height, width) if image_size is None else (image_size[0], image_size[1])
    return _interpolate(at, points, (height, width), inside)


def sample_region_maps(maps: ArrayLike, points: ArrayLike) -> Array:
    """The values of each region's own small map at its points.

    It is `sample_map` for each region, as a product with the weights of all cells, whose gradient is one too.

    Args:
        maps: float [R, S, S, C], whose sides are those of the region.
        points: float [R, P, 2], from 0 to 1.

    Returns:
        [R, P, C].

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> maps = jnp.array([0.0, 4.0, 0.0, 4.0]).reshape(1, 2, 2, 1)
        >>> sample_region_maps(maps, jnp.array([[[0.5, 0.5], [0.75, 0.5]]])).ravel().tolist()
        [2.0, 4.0]
    """
    check_shapes("sample_region_maps", maps=(maps, "R S S C"), points=(points, "R P 2"))
    maps, points = jnp.asarray(maps), jnp.asarray(points)
    regions, side, _, channels = maps.shape
    # The weight of a cell falls from 1 in its middle to 0 in the middles of its neighbours.
    cell = jnp.arange(side, dtype=points.dtype)[None, None, None]
    distance = points[..., None] * side - 0.5 - cell  # [R, P, 2, S]
    near = jnp.maximum(0, 1 - jnp.abs(distance)).astype(jnp.promote_types(maps.dtype, jnp.float32))
    weights = (near[:, :, 1, :, None] * near[:, :, 0, None, :]).reshape(regions, -1, side * side)
    values = jnp.matmul(weights, maps.reshape(regions, -1, channels), precision="highest")
    return values.astype(maps.dtype)


def _interpolate(at, points: ArrayLike, size: tuple[int, int], inside, channels: bool = False) -> Array:
    """The weighted sum of the four cells around each point.

    Args:
        at: Returns the values of cells, of rows and columns within the map.
        points: float [..., 2], in cells.
        size: Height and width of the map.
        inside: Height and width of the part that counts.
        channels: Whether values have channels behind the points' axes.
    """
    place = jnp.asarray(points) - 0.5
    first = jnp.floor(place)
    share, first = place - first, first.astype(jnp.int32)
    total = 0.0
    for below in (0, 1):
        for right in (0, 1):
            column, row = first[..., 0] + right, first[..., 1] + below
            x, y = share[..., 0], share[..., 1]
            weight = (x if right else 1 - x) * (y if below else 1 - y)
            there = (row >= 0) & (row < inside[0]) & (column >= 0) & (column < inside[1])
            weight = jnp.where(there, weight, 0)
            values = at(jnp.clip(row, 0, size[0] - 1), jnp.clip(column, 0, size[1] - 1))
            total += (weight[..., None] if channels else weight) * values
    return jnp.asarray(total)
