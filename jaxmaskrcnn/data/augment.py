"""Geometry of augmented images: crop, rotation, resize, flip and a window, for points, boxes and masks.

All functions are pure and get their parameters explicitly; ``augment_plan`` draws them and ``scene``
applies them. Masks are sampled once, through all transforms at a time, and only where an object is.

Shape legend: H, W the image; h, w the result; G objects; N points.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import flip_boxes, scale_boxes
from jaxmaskrcnn.ops.resize import nearest_index


class Piece(NamedTuple):
    """A mask without the empty rows and columns around it.

    Attributes:
        top: Its first row that is not empty.
        left: Its first column that is not empty.
        pixels: bool [rows, columns]; its first and last row and column are not empty.
    """

    top: int
    left: int
    pixels: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tight box: XYXY, the last row and column lie inside (Detectron2's rule)."""
        rows, columns = self.pixels.shape
        return self.left, self.top, self.left + columns, self.top + rows


class Geometry(NamedTuple):
    """What happens to an image, in this order.

    Attributes:
        crop: ``(top, left, height, width)`` in pixels of the image that is kept.
        angle: Degrees by which the crop is turned counter-clockwise about its centre; its size
            stays, and corners that turn into it have no image and no object.
        size: ``(height, width)`` that the crop is resized to.
        flip: Whether it is then mirrored left to right.
        window: ``(top, left, height, width)`` of the resized and mirrored image that is kept.
    """

    crop: tuple[int, int, int, int]
    angle: float
    size: tuple[int, int]
    flip: bool
    window: tuple[int, int, int, int]

    def points(self, points: np.ndarray) -> np.ndarray:
        """Where points of the image come to lie; may be outside of the window.

        Args:
            points: [N, 2], x and y in pixels, (0, 0) being the corner of the first pixel.

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
        return np.stack([x - self.window[1], y - self.window[0]], axis=-1)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Where boxes come to lie, not clipped; of a turned box the box around its corners.

        Args:
            boxes: [G, 4], XYXY in pixels of the image.

        Returns:
            float32 [G, 4].
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        if self.angle:
            corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]).reshape(-1, 4, 2)
            return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1).astype(np.float32)
        top, left, height, width = self.crop
        moved = scale_boxes(boxes - np.float32([left, top, left, top]), (height, width), self.size)
        if self.flip:
            moved = flip_boxes(moved, self.size[1])
        return moved - np.float32([self.window[1], self.window[0]] * 2)


def _turn(angle: float) -> tuple[float, float]:
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def _inverse(angle: float, height: int, width: int) -> tuple[float, ...]:
    """From a pixel of the turned image to the place in the image it shows, as Pillow writes it."""
    cos, sin = _turn(angle)
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def rotate_image(image: np.ndarray, angle: float, fill: Sequence[int]) -> np.ndarray:
    """Turns an image counter-clockwise about its centre, with bilinear interpolation.

    Args:
        image: uint8 [H, W, 3].
        angle: Degrees.
        fill: Colour of what lies outside of the image.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    turned = Image.fromarray(np.ascontiguousarray(image)).transform(
        (width, height),
        Image.Transform.AFFINE,
        _inverse(angle, height, width),
        Image.Resampling.BILINEAR,
        fillcolor=tuple(fill),
    )
    return np.asarray(turned)


class MaskGrid:
    """Which pixel of an image each pixel of the result shows, by the nearest-neighbour rules.

    Args:
        geometry: The transforms.
        size: ``(H, W)`` of the image.
        kernel: ``ModelConfig.resize_kernel``.
    """

    def __init__(self, geometry: Geometry, size: tuple[int, int], kernel: str):
        self._geometry, self._size = geometry, size
        top, left, height, width = geometry.crop
        rows = nearest_index(height, geometry.size[0], kernel)
        columns = nearest_index(width, geometry.size[1], kernel)
        if geometry.flip:
            columns = columns[::-1]
        y, x, window_height, window_width = geometry.window
        rows, columns = rows[y : y + window_height], columns[x : x + window_width]
        self._source = None
        if geometry.angle:
            a, b, c, d, e, f = _inverse(geometry.angle, height, width)
            across, down = columns + 0.5, rows[:, None] + 0.5
            x, y = a * across + b * down + c, d * across + e * down + f
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            # Positions in the transposed, flattened mask; truncation is the floor inside the image.
            source = (x.astype(np.int32) + left) * size[0] + (y.astype(np.int32) + top)
            self._source = np.where(inside, source, -1)
        self._rows, self._columns = rows + top, columns + left

    def __call__(self, mask: np.ndarray) -> Piece | None:
        """Samples one mask.

        Args:
            mask: bool [W, H], transposed as ``decode_mask`` returns it.

        Returns:
            The piece of the result, or None where nothing of the object remains.
        """
        if self._source is not None:
            return self._turned(mask)
        covered = np.flatnonzero(mask.any(axis=1)[self._columns])
        if not len(covered):
            return None
        window = mask[self._columns[covered[0] : covered[-1] + 1]]  # [columns, H]
        high = np.flatnonzero(window.any(axis=0)[self._rows])
        if not len(high):
            return None
        return tighten(int(high[0]), int(covered[0]), window[:, self._rows[high[0] : high[-1] + 1]].T)

    def _turned(self, mask: np.ndarray) -> Piece | None:
        across, down = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(across):
            return None
        box = np.float32([[across[0], down[0], across[-1] + 1, down[-1] + 1]])
        # The nearest rule can pick a pixel one further away than where its corners come to lie.
        step = np.asarray(self._geometry.size) / self._geometry.crop[2:] + 1
        left, top, right, bottom = self._geometry.boxes(box)[0]
        top, left = max(math.floor(top - step[0]), 0), max(math.floor(left - step[1]), 0)
        bottom, right = math.ceil(bottom + step[0]), math.ceil(right + step[1])
        if bottom <= top or right <= left:
            return None
        source = self._source[top:bottom, left:right]
        return tighten(top, left, mask.reshape(-1)[source] & (source >= 0))


def tighten(top: int, left: int, pixels: np.ndarray) -> Piece | None:
    """Cuts empty rows and columns off; None where nothing remains.

    Args:
        top: Row that ``pixels`` begins at.
        left: Column that it begins at.
        pixels: bool [rows, columns].
    """
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Piece(top + int(rows[0]), left + int(columns[0]), np.ascontiguousarray(inner))


def fill_colour(model: ModelConfig) -> tuple[int, int, int]:
    """The preset's mean colour, uint8 RGB: next to zero once it is normalised."""
    mean = np.rint(np.asarray(model.pixel_mean) / model.pixel_scale).astype(int)
    return tuple(map(int, mean[::-1] if model.channel_order == "bgr" else mean))
