"""Follows the objects of one video: identities, ways, and counts over lines and in regions."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.tracking.counting import LineCounter, RegionCounter
from jaxmaskrcnn.tracking.tracker import Tracker


class TrackingOptions(NamedTuple):
    """How objects are followed.

    Attributes:
        memory: As of `Tracker`.
        birth: As of `Tracker`.
        trail: Frames of which the way of an object is drawn.
        lines: x0, y0, x1, y1 of the lines at which objects are counted.
        regions: x, y, ... of the polygons in which they are counted.
    """

    memory: int = 30
    birth: int = 1
    trail: int = 30
    lines: tuple[tuple[float, ...], ...] = ()
    regions: tuple[tuple[float, ...], ...] = ()


class Followed(NamedTuple):
    """The objects of a frame.

    Attributes:
        numbers: int [N], their identities; 0 for those that have none yet.
        trails: The last places of each object, [points, 2] x and y.
        counts: What the json has of lines and regions: "lines", of each the crossings to the right and to the
            left so far, and "regions", of each the objects that are in it.
    """

    numbers: np.ndarray
    trails: list[np.ndarray]
    counts: dict[str, Any]


class Follower:
    """Follows the objects of one video.

    Args:
        options: How.

    Example:
        >>> follower = Follower(TrackingOptions(lines=((10, 0, 10, 40),)))
        >>> for x in (0, 4, 8):
        ...     followed = follower({"boxes": [[x, 0, x + 9, 9]], "labels": [1], "scores": [1]}, (40, 40))
        >>> followed.numbers.tolist(), followed.counts
        ([1], {'lines': [[0, 1]]})
    """

    def __init__(self, options: TrackingOptions):
        self.options = options
        self._tracker = Tracker(options.memory, options.birth)
        self._lines = [LineCounter(line) for line in options.lines]
        self._regions = [RegionCounter(polygon) for polygon in options.regions]
        self._ways: dict[int, collections.deque] = {}
        self._last: dict[int, int] = {}
        self._frame = 0

    def __call__(self, result: Mapping[str, Any], size: tuple[int, int]) -> Followed:
        """Takes a frame.

        Args:
            result: As returned by ``Predictor`` with ``masks="rle"``.
            size: Height and width of the frame.
        """
        numbers = self._tracker(result, size)
        boxes = np.asarray(result["boxes"], np.float64).reshape(-1, 4)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._frame += 1
        for number, centre in zip(numbers.tolist(), centres, strict=True):
            if number:
                self._last[number] = self._frame
                way = self._ways.setdefault(number, collections.deque(maxlen=max(1, self.options.trail)))
                way.append(centre)
        for number in [n for n, frame in self._last.items() if frame < self._frame - self.options.memory - 1]:
            del self._last[number], self._ways[number]
        for counter in (*self._lines, *self._regions):
            counter.add(numbers.tolist(), centres.tolist())
        trails = [np.array(self._ways[n]) if n else np.zeros((0, 2)) for n in numbers.tolist()]
        return Followed(numbers, trails if self.options.trail else [], self._counts())

    def _counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        if self._lines:
            counts["lines"] = [[line.to_right, line.to_left] for line in self._lines]
        if self._regions:
            counts["regions"] = [region.inside for region in self._regions]
        return counts

    def sentences(self) -> list[str]:
        """What was counted in the whole video, without full stops."""
        found = [
            f"line {i}: {line.to_right} to the right, {line.to_left} to the left"
            for i, line in enumerate(self._lines, 1)
        ]
        return found + [
            f"region {i}: {_count(len(region.objects))}, at most {region.most} at a time"
            for i, region in enumerate(self._regions, 1)
        ]


def _count(number: int) -> str:
    return f"{number} object{'s' * (number != 1)}"


def read_points(texts: Sequence[str], count: int | None) -> tuple[tuple[float, ...], ...]:
    """Reads lists of coordinates with commas between them.

    Args:
        texts: The lists.
        count: How many numbers each has; None for any even number from 6 on.

    Raises:
        ValueError: One has something else.
    """
    found = []
    for text in texts:
        numbers = tuple(map(float, text.split(",")))
        right = len(numbers) == count if count else len(numbers) >= 6 and len(numbers) % 2 == 0
        if not right or not np.isfinite(numbers).all():
            raise ValueError(text)
        found.append(numbers)
    return tuple(found)
