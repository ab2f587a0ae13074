"""Checks the sizes and points that annotation tools give.

Shape legend: H, W height and width of the image in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.fields.polygons import is_far
from jaxmaskrcnn.data.importers.shapes import number
from jaxmaskrcnn.errors import UserError


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
    flat = flat_points(points, place)
    height, width = size
    if percent:
        flat = [round(value * (width, height)[i % 2] / 100, 4) for i, value in enumerate(flat)]
    check_near(flat, place, size)
    return flat


def flat_points(points: Any, place: str) -> list[float]:
    """A json's list of points ``[x, y]`` as one flat list.

    Raises:
        UserError: It is something else, or a coordinate is no finite number.

    Example:
        >>> flat_points([[1, 2], [3.5, 4]], "a.json")
        [1, 2, 3.5, 4]
    """
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise UserError(f"{place} has no list of points, each x and y; draw it again.")
    return numbers((value for point in points for value in point), place)


def numbers(values: Iterable[Any], place: str) -> list[float]:
    """A json's coordinates.

    Raises:
        UserError: One is no finite number.
    """
    return [number(value, "the coordinate", place) for value in values]


def check_near(flat: Sequence[float], place: str, size: tuple[int, int]) -> None:
    """Refuses coordinates x, y, x, y, ... far outside of an image, which take all time or memory to draw.

    Raises:
        UserError: One is, by the rule for polygons of any json.
    """
    for i, value in enumerate(flat):
        if is_far(value):
            raise UserError(
                f"{place} has the {'xy'[i % 2]} coordinate {value:g}, far from its image of {size[1]} x "
                f"{size[0]} pixels; correct it."
            )


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
