"""Where an object is in a frame: its mask as a window, and how much two of them overlap.

Shape legend: H, W height and width of a frame; h, w those of a window.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.rle import decode_window


class Place(NamedTuple):
    """The pixels of an object.

    Attributes:
        window: bool [h, w], the mask where it is not empty.
        origin: float [2], row and column of the window's first pixel; it may lie outside of the frame.
        area: Number of pixels, at least 1.
        centre: float [2], x and y of the centre of the box.
    """

    window: np.ndarray
    origin: np.ndarray
    area: int
    centre: np.ndarray

    @property
    def side(self) -> float:
        """The side of a square of the same area, in pixels."""
        return float(np.sqrt(self.area))

    def moved(self, shift: np.ndarray) -> "Place":
        """The same pixels elsewhere.

        Args:
            shift: [2], x and y in pixels.
        """
        return self._replace(origin=self.origin + shift[::-1], centre=self.centre + shift)


def place_of(result: Mapping[str, Any], i: int) -> Place:
    """The place of a detection: of its mask, or of its box where it has none.

    Args:
        result: As returned by ``Predictor``, with ``masks="rle"`` where there are masks.
        i: Index of the detection.
    """
    box = np.asarray(result["boxes"][i], np.float64)
    if "masks" in result:
        rle = result["masks"][i]
        counts = rle["counts"]
        counts = counts.encode("ascii") if isinstance(counts, str) else counts
        window, origin = decode_window(counts, *rle["size"])
        if window.size:
            corner = np.array(origin, np.float64)
            centre = corner[::-1] + np.array(window.shape[::-1]) / 2
            return Place(window, corner, int(window.sum()), centre)
    x0, y0, x1, y1 = np.round(box).astype(int)
    window = np.ones((max(1, y1 - y0), max(1, x1 - x0)), bool)
    return Place(window, np.array([y0, x0], np.float64), window.size, (box[:2] + box[2:]) / 2)


def overlap(a: Place, b: Place) -> int:
    """Number of pixels that two places have in common, at whole pixels.

    Example:
        >>> a = Place(np.ones((2, 3), bool), np.zeros(2), 6, np.array([1.5, 1.0]))
        >>> overlap(a, a.moved(np.array([1.2, 0])))
        4
    """
    first, second = np.round(a.origin).astype(int), np.round(b.origin).astype(int)
    low = np.maximum(first, second)
    high = np.minimum(first + a.window.shape, second + b.window.shape)
    if (high <= low).any():
        return 0
    parts = [
        place.window[low[0] - y : high[0] - y, low[1] - x : high[1] - x]
        for place, (y, x) in ((a, first), (b, second))
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def iou(a: Place, b: Place) -> float:
    """Intersection over union of two places."""
    both = overlap(a, b)
    return both / (a.area + b.area - both)
