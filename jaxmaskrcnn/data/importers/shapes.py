"""Converts the shapes of annotation tools to COCO's polygons, and masks to its RLE.

Shape legend: H, W height and width of the image in pixels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.fields.field import BadAnnotation
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.polygons import check_polygons
from jaxmaskrcnn.data.rle import decode_mask, draw_polygons
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.json_values import is_finite

_LARGEST = 1e7  # pixels
_DEVIATION = 0.05  # pixels by which a polygon may deviate from the curve that it approximates


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """The polygon of a rectangle given by two opposite corners."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def rotated_rectangle(x0: float, y0: float, x1: float, y1: float, angle: float) -> list[float]:
    """The polygon of a rectangle that is turned about its centre.

    Args:
        x0: X coordinate of one corner before it is turned.
        y0: Its y coordinate.
        x1: X coordinate of the opposite corner.
        y1: Its y coordinate.
        angle: From the x to the y axis, in radians.

    Example:
        >>> rotated_rectangle(0, 0, 4, 2, math.pi / 2)
        [3.0, -1.0, 3.0, 3.0, 1.0, 3.0, 1.0, -1.0]
    """
    cx, cy, sine, cosine = (x0 + x1) / 2, (y0 + y1) / 2, math.sin(angle), math.cos(angle)
    turned = []
    for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)):
        turned += [cx + cosine * (x - cx) - sine * (y - cy), cy + sine * (x - cx) + cosine * (y - cy)]
    return [round(value, 4) for value in turned]


def ellipse(
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    angle: float = 0.0,
    size: tuple[int, int] | None = None,
    place: str = "a circle or ellipse",
) -> list[float]:
    """A polygon within 0.05 pixels of an ellipse.

    Args:
        cx: X coordinate of the centre.
        cy: Y coordinate of the centre.
        rx: Radius along the ellipse's own first axis, in pixels.
        ry: Radius along the second.
        angle: From the x to the y axis, in radians.
        size: Height and width of the image; an ellipse much larger than it is cut at its border.
        place: Where it is, for messages.

    Raises:
        UserError: The radius has more than 10 million pixels.
    """
    longest = max(rx, ry, 1e-9)
    if longest > _LARGEST:
        raise UserError(f"{place} has a radius of {longest:.6g} pixels; draw it again.")
    sides = math.ceil(math.pi / math.acos(max(1 - _DEVIATION / longest, 0.0)))
    t = 2 * np.pi * np.arange(max(sides, 12)) / max(sides, 12)
    along, across = rx * np.cos(t), ry * np.sin(t)
    x = cx + along * math.cos(angle) - across * math.sin(angle)
    y = cy + along * math.sin(angle) + across * math.cos(angle)
    points = np.stack([x, y], 1)
    if size is not None and longest > 4 * max(size):
        points = _clip(points, size)
    return points.round(4).reshape(-1).tolist()


def _clip(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a convex polygon [N, 2] inside the image (Sutherland and Hodgman, 1974)."""
    for axis, limit, sign in ((0, 0, 1), (0, size[1], -1), (1, 0, 1), (1, size[0], -1)):
        ahead = np.roll(points, -1, 0)
        a, b = sign * (points[:, axis] - limit), sign * (ahead[:, axis] - limit)
        crosses = (a >= 0) != (b >= 0)
        share = np.divide(a, a - b, out=np.zeros_like(a), where=crosses)
        both = np.stack([points, points + share[:, None] * (ahead - points)], 1)
        points = both.reshape(-1, 2)[np.stack([a >= 0, crosses], 1).reshape(-1)]
        if not len(points):
            break
    return points


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a bool mask [H, W], as json holds it."""
    rle: Any = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": rle["counts"].decode("ascii")}


def with_holes(
    exterior: list[float], holes: Sequence[list[float]], height: int, width: int, place: str
) -> dict[str, Any]:
    """RLE of a polygon without what lies in its holes, which COCO's polygons cannot have.

    Args:
        exterior: The outer polygon, ``x, y, x, y, ...`` in pixels.
        holes: The inner ones.
        height: Height of the image.
        width: Width of the image.
        place: Where it is, for messages.

    Raises:
        UserError: A polygon cannot be drawn.
    """
    try:
        check_polygons([exterior, *holes])
    except BadAnnotation as bad:
        raise UserError(f"{place} {bad.found}.") from bad
    drawn = draw_polygons([exterior, *holes], height, width)
    outer, *inner = (decode_mask(rle["counts"], height, width).T for rle in drawn)
    for hole in inner:
        outer = outer & ~hole
    return encode(outer)


def checked_rle(value: Any, height: int, width: int, place: str) -> dict[str, Any]:
    """A json's RLE of the whole image, compressed.

    Args:
        value: An object with ``counts`` (a list or a text) and ``size``.
        height: Height of the image.
        width: Width of the image.
        place: Where it is, for messages.

    Raises:
        UserError: It is no RLE of this size.
    """
    if not isinstance(value, dict):
        raise UserError(f"{place} has an RLE that is no object with 'size' and 'counts'; encode it again.")
    try:
        columns = Masks.parse({"segmentation": value}, (height, width), {}, True)
    except BadAnnotation as bad:
        raise UserError(f"{place} {bad.found}.") from bad
    return {"size": [height, width], "counts": columns["rle"].decode("ascii")}


def unite(
    parts: Sequence[list[float] | np.ndarray | dict[str, Any]], height: int, width: int
) -> list | dict[str, Any]:
    """Joins the parts of an object into one segmentation.

    Args:
        parts: Polygons (flat lists of x, y, ...), masks [H, W], and compressed RLEs.
        height: Height of the image.
        width: Width of the image.

    Returns:
        The polygons if all parts are polygons, otherwise an RLE of the union.
    """
    polygons = [part for part in parts if isinstance(part, list)]
    if len(polygons) == len(parts) or not _can_be_drawn(polygons):
        return polygons  # the checks of the object report what is wrong
    rles: list[Any] = [part for part in parts if isinstance(part, dict)]
    rles += [mask_utils.encode(np.asfortranarray(p, np.uint8)) for p in parts if isinstance(p, np.ndarray)]
    if polygons:
        rles += draw_polygons(polygons, height, width)
    whole: Any = mask_utils.merge(rles)
    return {"size": [height, width], "counts": whole["counts"].decode("ascii")}


def _can_be_drawn(polygons: list) -> bool:
    try:
        check_polygons(polygons)
    except BadAnnotation:
        return False
    return True


def number(value: Any, field: str, place: str) -> float:
    """Returns a value that is a finite number.

    Raises:
        UserError: The value is something else.
    """
    if is_finite(value):
        return value
    raise UserError(f"{place} has {field} {value!r:.60}; give a finite number.")
