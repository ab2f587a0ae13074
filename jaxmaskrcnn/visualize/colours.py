"""Gives an object the same colour in several pictures.

Shape legend: N objects.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmaskrcnn.visualize.drawing import palette_colour

_SAME = 0.3  # boxes in successive pictures with at least this IoU belong to the same object


class ColourTracker:
    """Colours of objects that stay the same in successive pictures, such as the frames of a video."""

    def __init__(self):
        self._boxes, self._labels, self._numbers = np.zeros((0, 4)), np.zeros(0, int), []

    def __call__(self, result: Mapping[str, Any]) -> list[tuple[int, int, int]]:
        """Colours of a picture's N objects.

        An object gets the colour of the object of its class in the last picture whose box overlaps its own
        most; earlier objects choose first. A new object gets the first colour that is not in use.

        Args:
            result: As returned by ``Predictor``; only ``boxes`` and ``labels`` are used.
        """
        boxes, labels = np.asarray(result["boxes"], np.float64), np.asarray(result["labels"])
        overlap = _iou(boxes, self._boxes) * (labels[:, None] == self._labels[None])
        numbers: list[int] = []
        for row in overlap:
            row = np.where(np.isin(self._numbers, numbers), 0, row)
            best = int(row.argmax()) if row.size else -1
            if best >= 0 and row[best] >= _SAME:
                numbers.append(self._numbers[best])
                continue
            used = {*self._numbers, *numbers}
            numbers.append(next(n for n in range(len(used) + 1) if n not in used))
        self._boxes, self._labels, self._numbers = boxes, labels, numbers
        return [palette_colour(n) for n in numbers]


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU [N, M] in NumPy, because JAX would compile for every number of boxes."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], 1) for boxes in (a, b)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)
