"""Mask targets drawn from polygons on the device, as Detectron2 draws them with pycocotools.

pycocotools rounds the outline to fifths of a cell and walks every edge along its longer axis. Where a step
crosses the middle of a column of cells (from ``5c + 2`` to ``5c + 3``), the column has a crossing in the row
of the smaller of the two positions. A cell is inside if an odd number of crossings lies above it. The
crossing of each edge with each middle has a closed form in whole numbers, which is used here instead of the
walk.

Shape legend: G objects, V vertex slots, E = V - 1 edges, P regions, M the side of the targets.
Boxes are XYXY in pixels.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import check_shapes, shape_of, to_rank
from jaxmaskrcnn.ops.static import check_whole

_FIFTHS = 5  # steps per cell
# Beyond this, float32 cannot represent the fractions; it is 60,000 box widths away.
_FAR = 2.0**23
_WORD = 32  # parts of an object that are drawn at a time, one in each bit
# Pairs of an edge and a column that are processed together: 8 MB for each of a few arrays.
_CHUNK_CROSSINGS = 2**21


def polygon_targets(
    vertices: ArrayLike, parts: ArrayLike, index: Array, boxes: ArrayLike, size: int
) -> Array:
    """Targets of the mask head from polygons: each region's object, drawn in the region's box.

    Every part is shifted by the box's corner, scaled to M cells a side and filled by the rule of
    COCO's ``rleFrPoly``; an object is the union of its parts. Source: Detectron2
    ``rasterize_polygons_within_box``, which computes in float64. The arithmetic here is as precise, because
    in the object's own box vertices lie exactly on the borders between fifths.

    Args:
        vertices: float32 [G, V, 4], x and y in pixels and the remainder of each after rounding to
            float32; or [G, V, 2] without remainders. Each part is closed: its last vertex repeats its
            first.
        parts: int32 [G, V], 0, 1, ... for the vertices of an object's first, second, ... part, -1
            in padded slots, which come last.
        index: int [P], the object that each region was matched with.
        boxes: [P, 4], XYXY in pixels.
        size: M, static.

    Returns:
        float32 [P, M, M] of 0 and 1; zeros where the object has no polygons.

    Raises:
        ValueError: An array has another shape, or ``size`` is no whole number of at least 1.

    Example:
        >>> square = jnp.array([[[2, 2], [2, 6], [6, 6], [6, 2], [2, 2]]], jnp.float32)
        >>> parts = jnp.zeros((1, 5), jnp.int32)
        >>> polygon_targets(square, parts, jnp.array([0]), jnp.array([[0, 0, 8, 8]]), 4)[0, 1].tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    columns = 2 if shape_of(vertices)[-1:] == (2,) else 4
    check_shapes(
        "polygon_targets",
        vertices=(vertices, f"G V {columns}"),
        parts=(parts, "G V"),
        index=(index, "P"),
        boxes=(boxes, "P 4"),
    )
    check_whole("polygon_targets", 1, size=size)
    vertices, parts = jnp.asarray(vertices, jnp.float32), jnp.asarray(parts, jnp.int32)
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    if boxes.shape[0] == 0 or vertices.shape[0] == 0 or vertices.shape[1] < 2:
        return jnp.zeros((boxes.shape[0], size, size), jnp.float32)

    words = parts.max() // _WORD + 1
    rest = vertices[..., 2:] if vertices.shape[-1] == 4 else jnp.zeros_like(vertices)
    vertices = vertices[..., :2]

    def draw(region):
        object_index, box = region
        corner, side = box[:2], box[2:] - box[:2]
        ratio = size / jnp.maximum(side, 0.1)
        points = _nearest_fifths(vertices[object_index], rest[object_index], corner, ratio)  # [V, 2]
        part = parts[object_index]
        joined = (part[:-1] == part[1:]) & (part[:-1] >= 0)
        crossed, row = _crossings(points[:-1], points[1:], size)
        row = jnp.where(crossed & joined[:, None], row, size)  # row M is below the last one
        bit = jnp.uint32(1) << (part[:-1] % _WORD).astype(jnp.uint32)

        def fill(y):
            def add_parts(word, inside):
                bits = jnp.where(part[:-1] // _WORD == word, bit, jnp.uint32(0))[:, None]
                odd = jax.lax.reduce_xor(jnp.where(row <= y, bits, jnp.uint32(0)), axes=(0,))
                return inside | (odd != 0)

            return jax.lax.fori_loop(0, words, add_parts, jnp.zeros(size, bool))

        # Row by row, so that edges x columns x rows is never an array.
        return jax.lax.map(fill, jnp.arange(size))

    chunk = max(1, _CHUNK_CROSSINGS // (vertices.shape[1] * size))
    drawn = jax.lax.map(draw, (index, boxes), batch_size=min(chunk, boxes.shape[0]))
    return drawn.astype(jnp.float32)


def _nearest_fifths(vertices, rest, corner, ratio):
    """``int(5 * ((vertices + rest - corner) * ratio) + 0.5)`` as computed in float64, int32 [V, 2].

    Each number is a sum of two float32; the second is the rounding error of the first (Dekker, 1971).
    """
    high, low = _sum(vertices, to_rank(-corner, vertices.ndim))
    low = low + rest
    ratio = to_rank(ratio, high.ndim)
    high, error = _product(high, ratio)
    low = error + low * ratio
    high, error = _sum((_FIFTHS - 1) * high, high)  # four times a number is exact
    high, half_error = _sum(high, jnp.full_like(high, 0.5))
    low = half_error + error + _FIFTHS * low
    near = jnp.clip(high, -_FAR, _FAR)
    whole = jnp.floor(near)
    fraction = (near - whole) + low
    below = jnp.floor(fraction)
    whole, fraction = whole + below, fraction - below
    # Like a conversion to int in C, this drops the fraction, of negative numbers too.
    return (whole + jnp.where((whole < 0) & (fraction > 0), 1, 0)).astype(jnp.int32)


def _sum(a, b):
    """Rounded sum, and its rounding error."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _product(a, b):
    """Rounded product, and its rounding error."""
    total = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return total, ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a):
    """Upper and lower twelve bits of a float32: their products are exact."""
    bits = jax.lax.bitcast_convert_type(a, jnp.int32) & ~0xFFF
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, a - high


def _crossings(start, end, size):
    """Find where edges cross the middles of columns.

    Args:
        start: int32 [E, 2], x and y in fifths of a cell.
        end: int32 [E, 2].
        size: Number M of columns, and of rows.

    Returns:
        bool [E, M], and int32 [E, M]: the first row below the crossing, 0 to M.
    """
    length = jnp.abs(end - start)
    flat = length[:, 0] >= length[:, 1]  # walked along x
    swap = jnp.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])[:, None]
    start, end = jnp.where(swap, end, start), jnp.where(swap, start, end)
    x, y = start[:, :1], start[:, 1:]  # [E, 1]
    dx, dy = jnp.split(end - start, 2, axis=1)
    middle = _FIFTHS * jnp.arange(size, dtype=jnp.int32)[None] + 2  # of the columns, [1, M]
    crossed = (jnp.minimum(x, x + dx) <= middle) & (middle < jnp.maximum(x, x + dx))

    # Along x the two positions are at t and t + 1, at heights of y + dy * t / dx, rounded.
    t = middle - x + (dy < 0).astype(jnp.int32)
    along_x = _floor_ratio(2 * dy, t, dx, 2 * dx)
    # Along y the position x + dx * t / dy, rounded, is beyond the middle for the first time at some t, and
    # the smaller of the two positions is at t - 1. Walks to the left differ by one, because halves are
    # rounded to the right.
    right = dx > 0
    to_go = jnp.where(right, 2 * (middle - x) + 1, 2 * (x - middle) - 1)
    along_y = _floor_ratio(to_go, dy, jnp.where(right, -1, 0), jnp.abs(2 * dx))
    smaller = y + jnp.where(flat[:, None], along_x, along_y)
    return crossed, jnp.clip((smaller + 2) // _FIFTHS, 0, size)


def _floor_ratio(a, b, c, divisor):
    """``floor((a * b + c) / divisor)`` for products that do not fit in 32 bits.

    float32 gives the quotient with a small error. The remainder is then small enough to be exact in
    arithmetic modulo 2^32, and corrects the quotient.
    """
    divisor = jnp.where(divisor == 0, 1, divisor)
    guess = a.astype(jnp.float32) * (b.astype(jnp.float32) / divisor.astype(jnp.float32))
    guess = guess.astype(jnp.int32)
    remainder = a * b + c - guess * divisor
    return guess + remainder // divisor
