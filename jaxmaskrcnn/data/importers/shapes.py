"""Converts the shapes of annotation tools to COCO's polygons, and masks to its RLE.

Shape legend: H, W height and width of the image in pixels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.rle import uncompressed_to_counts
from jaxmaskrcnn.errors import UserError

_LARGEST = 1e7  # pixels
_FAR = 10  # sides of the image; polygons that reach further cannot be drawn, and mean something else
_DEVIATION = 0.05  # pixels by which a polygon may deviate from the curve that it approximates


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """The polygon of a rectangle given by two opposite corners."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def polygon(points: Any, place: str, size: tuple[int, int], percent: bool = False) -> list[float]:
    """The polygon of a list of points.

    Args:
        points: Pairs of x and y.
        place: Where they are, for messages.
        size: Height and width of the image.
        percent: Whether they are in percent of the image's sides, and not in pixels.

    Raises:
        UserError: They are no pairs of finite numbers, or lie far outside of the image.

    Example:
        >>> polygon([[0, 0], [50, 0], [50, 100]], "x", (32, 40), percent=True)
        [0.0, 0.0, 20.0, 0.0, 20.0, 32.0]
    """
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise UserError(f"{place} has no list of points, each x and y; draw it again.")
    flat = [number(value, "the coordinate", place) for point in points for value in point]
    height, width = size
    if percent:
        flat = [round(value * (width, height)[i % 2] / 100, 4) for i, value in enumerate(flat)]
    check_near(flat, place, size)
    return flat


def check_near(flat: Sequence[float], place: str, size: tuple[int, int]) -> None:
    """Refuses coordinates x, y, x, y, ... far outside of an image, which take all time or memory to draw.

    Raises:
        UserError: One is more than ten times the image's longer side away from it.
    """
    limit = _FAR * max(size)
    for i, value in enumerate(flat):
        if not -limit <= value <= limit + max(size):
            raise UserError(
                f"{place} has the {'xy'[i % 2]} coordinate {value:g}, far from its image of {size[1]} x "
                f"{size[0]} pixels; correct it."
            )


def ellipse(
    cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, size: tuple[int, int] | None = None
) -> list[float]:
    """A polygon within 0.05 pixels of an ellipse.

    Args:
        cx: X coordinate of the centre.
        cy: Y coordinate of the centre.
        rx: Radius along the ellipse's own first axis, in pixels.
        ry: Radius along the second.
        angle: From the x to the y axis, in radians.
        size: Height and width of the image; an ellipse much larger than it is cut at its border.

    Raises:
        UserError: The radius has more than 10 million pixels.
    """
    longest = max(rx, ry, 1e-9)
    if longest > _LARGEST:
        raise UserError(f"a circle or ellipse has a radius of {longest:.6g} pixels; draw it again.")
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
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": rle["counts"].decode("ascii")}


def encode_values(values: np.ndarray) -> dict[int, dict[str, Any]]:
    """Compressed RLE of the pixels of each value but 0, as `encode` gives it, in one pass over the picture.

    Args:
        values: Whole numbers [H, W].

    Returns:
        The RLE by value, in ascending order.

    Example:
        >>> list(encode_values(np.array([[0, 7], [2, 2]])))
        [2, 7]
    """
    height, width = values.shape
    flat = values.T.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: len(flat)])
    ends = np.append(starts[1:], len(flat))
    found = flat[starts]
    order = np.argsort(found, kind="stable")
    kinds, firsts = np.unique(found[order], return_index=True)
    rles = {}
    for kind, runs in zip(kinds.tolist(), np.split(order, firsts[1:]), strict=True):
        if kind != 0:
            edges = np.stack([starts[runs], ends[runs]], 1).reshape(-1)
            counts = np.diff(edges, prepend=0, append=len(flat)).tolist()
            encoded = uncompressed_to_counts(counts, height, width) or b""
            rles[kind] = {"size": [height, width], "counts": encoded.decode("ascii")}
    return rles


def unite(parts: Sequence[list[float] | np.ndarray], height: int, width: int) -> list | dict[str, Any]:
    """Joins the parts of an object into one segmentation.

    Args:
        parts: Polygons (flat lists of x, y, ...) and masks [H, W].
        height: Height of the image.
        width: Width of the image.

    Returns:
        The polygons if all parts are polygons, otherwise an RLE of the union.
    """
    polygons = [part for part in parts if isinstance(part, list)]
    if len(polygons) == len(parts) or any(len(polygon) < 6 for polygon in polygons):
        return polygons  # the checks of the object report a polygon of two points
    rles = [mask_utils.encode(np.asfortranarray(p, np.uint8)) for p in parts if isinstance(p, np.ndarray)]
    if polygons:
        rles += mask_utils.frPyObjects(polygons, height, width)
    whole = mask_utils.merge(rles)
    return {"size": [height, width], "counts": whole["counts"].decode("ascii")}


def stated_size(height: Any, width: Any, place: str) -> tuple[int, int] | None:
    """The height and width that a source gives; None if it gives neither.

    Raises:
        UserError: They are no whole numbers above 0.

    Example:
        >>> stated_size("30", 40.0, "x"), stated_size(None, None, "x")
        ((30, 40), None)
    """
    if height is None and width is None:
        return None
    sides = whole_number(height), whole_number(width)
    if sides[0] is None or sides[1] is None or min(sides[0], sides[1]) < 1:
        raise UserError(f"{place} has an image of {width!r} x {height!r} pixels; correct its size.")
    return sides[0], sides[1]


def number(value: Any, field: str, place: str) -> float:
    """Returns a value that is a finite number.

    Raises:
        UserError: The value is something else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise UserError(f"{place} has {field} {value!r}; give a finite number.")
