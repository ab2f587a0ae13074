"""Geometry on the host: crop, rotation, resize, flip and a window, for points and boxes.

All functions are pure and get their parameters explicitly; ``plan`` draws them.

Shape legend: G objects, N points.
"""

import math
from typing import NamedTuple

import numpy as np

_SMALLEST_SIDE = 1e-3  # pixels; thinner objects are of no use for training


def round_up(size, divisor: int):
    """Rounds lengths up to a multiple of ``divisor``; 0 and 1 leave them as they are."""
    if divisor <= 1:
        return size
    return -(-size // divisor) * divisor


def scale_boxes(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Scales boxes with their image: each axis by its own ratio, in float32 (torchvision's convention).

    Args:
        boxes: [G, 4], XYXY in pixels of the old size.
        old: ``(height, width)`` of the image before.
        new: ``(height, width)`` of the image after.

    Returns:
        float32 [G, 4].
    """
    ratios = np.asarray(new, np.float32) / np.asarray(old, np.float32)
    return np.asarray(boxes, np.float32).reshape(-1, 4) * ratios[[1, 0, 1, 0]]


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes left to right in an image ``width`` pixels wide; [G, 4] XYXY."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([width - right, top, width - left, bottom], axis=-1)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Clips boxes to the border of an image of ``(height, width)``; [G, 4] XYXY."""
    height, width = size
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))


def not_degenerate(boxes: np.ndarray) -> np.ndarray:
    """Which boxes, [G, 4] XYXY in pixels, are large enough to learn from; bool [G]."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST_SIDE).all(axis=1)


class Geometry(NamedTuple):
    """The geometric transforms of an image, applied in this order.

    Attributes:
        crop: ``(top, left, height, width)`` in pixels of the image that is kept.
        angle: Degrees by which the crop is turned counter-clockwise about its centre; its size
            stays, and the corners that are uncovered hold no image and no object.
        size: ``(height, width)`` that the crop is resized to.
        flip: Whether it is then mirrored left to right.
        window: ``(top, left, height, width)`` of the resized and mirrored image that is kept.
        turns: Quarter turns, counter-clockwise, of the window at last. A vertical flip is a horizontal one
            and two of them.
    """

    crop: tuple[int, int, int, int]
    angle: float
    size: tuple[int, int]
    flip: bool
    window: tuple[int, int, int, int]
    turns: int = 0

    @property
    def result(self) -> tuple[int, int]:
        """``(height, width)`` of the result."""
        height, width = self.window[2:]
        return (width, height) if self.turns % 2 else (height, width)

    @classmethod
    def resize(cls, size: tuple[int, int], new_size: tuple[int, int], flip: bool = False) -> "Geometry":
        """Only resizes, and optionally mirrors, a whole image of ``(height, width)``."""
        return cls((0, 0, *size), 0.0, new_size, flip, (0, 0, *new_size))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transforms points of the image; the results may lie outside the window.

        Args:
            points: [N, 2], x and y in pixels, where (0, 0) is the corner of the first pixel.

        Returns:
            float64 [N, 2].
        """
        top, left, height, width = self.crop
        x, y = np.moveaxis(np.asarray(points, np.float64).reshape(-1, 2) - (left, top), -1, 0)
        if self.angle:
            cos, sin = _turn(self.angle)
            x, y = x - width / 2, y - height / 2
            x, y = cos * x + sin * y + width / 2, cos * y - sin * x + height / 2
        x, y = x * (self.size[1] / width), y * (self.size[0] / height)
        if self.flip:
            x = self.size[1] - x
        moved = np.stack([x - self.window[1], y - self.window[0]], axis=-1)
        return turn_points(moved, self.window[2:], self.turns)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Transforms boxes without clipping them; a rotated box becomes the box around its corners.

        Args:
            boxes: [G, 4], XYXY in pixels of the image.

        Returns:
            float32 [G, 4].
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        if self.angle:
            corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]).reshape(-1, 4, 2)
            # Turned by a quarter, the corners have been already.
            return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1).astype(np.float32)
        top, left, height, width = self.crop
        moved = scale_boxes(boxes - np.float32([left, top, left, top]), (height, width), self.size)
        if self.flip:
            moved = flip_boxes(moved, self.size[1])
        moved = moved - np.float32([self.window[1], self.window[0]] * 2)
        if not self.turns:
            return moved
        corners = turn_points(moved.reshape(-1, 2, 2), self.window[2:], self.turns)
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)


def turn_points(points: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """Turns points with their image by quarters, counter-clockwise; ``numpy.rot90`` for coordinates.

    Args:
        points: [..., 2], x and y in pixels.
        size: ``(height, width)`` of the image before.
        turns: Number of quarter turns, from 0 to 3.

    Returns:
        [..., 2] of the same type.

    Example:
        >>> turn_points(np.array([[5.0, 1.0]]), (10, 20), 1).tolist()
        [[1.0, 15.0]]
    """
    height, width = size
    x, y = points[..., 0], points[..., 1]
    turned = ((x, y), (y, width - x), (width - x, height - y), (height - y, x))[turns]
    return np.stack(turned, axis=-1)


def _turn(angle: float) -> tuple[float, float]:
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def inverse_rotation(angle: float, height: int, width: int) -> tuple[float, ...]:
    """The affine map from the rotated image to the original one, with the coefficients that Pillow takes."""
    cos, sin = _turn(angle)
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
