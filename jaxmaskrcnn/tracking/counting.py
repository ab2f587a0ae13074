"""Counts tracked objects: those that cross a line, and those in a region.

Shape legend: N objects of a frame, V vertices of a region. Points are x, y in pixels of the frame.
"""

from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.errors import UserError


class LineCounter:
    """Counts the objects whose centres cross a line from one point to another.

    Args:
        line: x0, y0, x1, y1. Whoever looks along it, from the first point to the second, sees objects cross
            it from the left to the right or back, as they are seen in the picture.

    Attributes:
        to_right: Crossings from the left to the right so far.
        to_left: Crossings from the right to the left so far.

    Raises:
        UserError: Both points are one.

    Example:
        >>> counter = LineCounter((10, 20, 10, 0))  # upwards
        >>> for x in (5, 9, 12):
        ...     counter.add([1], [[x, 10]])
        >>> counter.to_right, counter.to_left
        (1, 0)
    """

    def __init__(self, line: Sequence[float]):
        self._start, self._end = np.array(line[:2], float), np.array(line[2:], float)
        if (self._start == self._end).all():
            raise UserError(
                f"A line to count at goes from {line[0]:g}, {line[1]:g} to itself; give two points."
            )
        self._last: dict[int, np.ndarray] = {}
        self.to_right = self.to_left = 0

    def add(self, numbers: Sequence[int], centres: Sequence[Sequence[float]]) -> None:
        """Takes a frame.

        Args:
            numbers: The N objects' identities; those with 0 are left out.
            centres: [N, 2].
        """
        for number, centre in zip(numbers, centres, strict=True):
            if not number:
                continue
            here, before = np.asarray(centre, float), self._last.get(number)
            self._last[number] = here
            if before is None or not self._crossed(before, here):
                continue
            if _side(self._start, self._end, here) >= 0:
                self.to_right += 1
            else:
                self.to_left += 1

    def _crossed(self, before: np.ndarray, here: np.ndarray) -> bool:
        """Whether the way between two frames crosses the line; a point on it is on its right."""
        sides = [_side(self._start, self._end, point) >= 0 for point in (before, here)]
        ends = [_side(before, here, point) >= 0 for point in (self._start, self._end)]
        return sides[0] != sides[1] and ends[0] != ends[1]


class RegionCounter:
    """Counts the objects whose centres are in a polygon.

    Args:
        polygon: x, y, x, y, ... of three or more vertices.

    Attributes:
        inside: Number of objects in the last frame.
        most: Largest number of objects in a frame so far.
        objects: Identities of all objects that were in it so far.

    Raises:
        UserError: The polygon has too few vertices.

    Example:
        >>> counter = RegionCounter((0, 0, 10, 0, 10, 10, 0, 10))
        >>> counter.add([1, 2], [[5, 5], [15, 5]])
        >>> counter.inside, sorted(counter.objects)
        (1, [1])
    """

    def __init__(self, polygon: Sequence[float]):
        if len(polygon) < 6 or len(polygon) % 2:
            raise UserError(
                f"A region to count in has {len(polygon)} numbers; give x and y of three or more vertices."
            )
        self._vertices = np.reshape(np.array(polygon, float), (-1, 2))
        self.inside = self.most = 0
        self.objects: set[int] = set()

    def add(self, numbers: Sequence[int], centres: Sequence[Sequence[float]]) -> None:
        """Takes a frame; the arguments are those of `LineCounter.add`."""
        own = [n for n, centre in zip(numbers, centres, strict=True) if n and self.contains(centre)]
        self.inside = len(own)
        self.most = max(self.most, self.inside)
        self.objects |= set(own)

    def contains(self, point: Sequence[float]) -> bool:
        """Whether a point is inside, by the even-odd rule."""
        x, y = point
        x0, y0 = self._vertices.T
        x1, y1 = np.roll(self._vertices, -1, 0).T
        above = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        return bool((above & (x < at)).sum() % 2)


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> float:
    """Above 0 if a point is to the right of the way from one point to another, as it is seen in a picture."""
    (ax, ay), (bx, by) = end - start, point - start
    return float(ax * by - ay * bx)
