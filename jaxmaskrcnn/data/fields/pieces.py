"""Masks of single objects, cropped to the object, and their sampling.

All transforms are composed, so that a mask is sampled only once.

Shape legend: H, W the image; h, w the result.
"""

import math
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.data.rle import decode_window
from jaxmaskrcnn.data.transforms import Geometry, inverse_rotation, turn_points
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
        """The tight box, XYXY, which includes the last row and column (Detectron2's rule)."""
        rows, columns = self.pixels.shape
        return self.left, self.top, self.left + columns, self.top + rows

    @property
    def place(self) -> tuple[slice, slice]:
        """Where the piece is in the whole mask: its rows and its columns."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)


def decode_piece(counts: bytes, size: tuple[int, int]) -> Piece | None:
    """Decodes the compressed COCO RLE of a mask of size ``(height, width)``; None for an empty mask."""
    pixels, (top, left) = decode_window(counts, *size)
    return Piece(top, left, pixels) if pixels.size else None


def tighten(top: int, left: int, pixels: np.ndarray) -> Piece | None:
    """Removes the empty rows and columns around a mask; None if nothing remains.

    Args:
        top: Row that ``pixels`` begins at.
        left: Column that ``pixels`` begins at.
        pixels: bool [rows, columns].
    """
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Piece(top + int(rows[0]), left + int(columns[0]), np.ascontiguousarray(inner))


def turn_piece(piece: Piece | None, size: tuple[int, int], turns: int) -> Piece | None:
    """Turns a mask with its image by quarters, counter-clockwise.

    Args:
        piece: The mask.
        size: ``(height, width)`` of the image before.
        turns: Number of quarter turns, from 0 to 3.
    """
    if piece is None or not turns:
        return piece
    corners = turn_points(np.reshape(piece.box, (2, 2)), size, turns)
    left, top = corners.min(axis=0).tolist()
    return Piece(top, left, np.ascontiguousarray(np.rot90(piece.pixels, turns)))


class MaskGrid:
    """Which pixel of an image each pixel of the result comes from, by the nearest-neighbour rules.

    Args:
        geometry: The transforms.
        kernel: ``InputConfig.resize_kernel``.
    """

    def __init__(self, geometry: Geometry, kernel: str):
        self._geometry = geometry
        top, left, height, width = geometry.crop
        rows = nearest_index(height, geometry.size[0], kernel)
        columns = nearest_index(width, geometry.size[1], kernel)
        if geometry.flip:
            columns = columns[::-1]
        y, x, window_height, window_width = geometry.window
        rows, columns = rows[y : y + window_height], columns[x : x + window_width]
        self._source = None
        if geometry.angle:
            a, b, c, d, e, f = inverse_rotation(geometry.angle, height, width)
            across, down = columns + 0.5, rows[:, None] + 0.5
            x, y = a * across + b * down + c, d * across + e * down + f
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            # Positions in the flattened crop; truncation is the floor inside the image.
            self._source = np.where(inside, y.astype(np.int32) * width + x.astype(np.int32), -1)
        self._rows, self._columns = rows + top, columns + left

    def __call__(self, piece: Piece | None) -> Piece | None:
        """Samples one mask.

        Args:
            piece: The mask in the image, or None for an empty one.

        Returns:
            The piece of the result, or None where nothing of the object remains.
        """
        return turn_piece(self._sampled(piece), self._geometry.window[2:], self._geometry.turns)

    def _sampled(self, piece: Piece | None) -> Piece | None:
        """The piece of the window, before it is turned by quarters."""
        if piece is None:
            return None
        if self._source is not None:
            return self._turned(piece)
        left, top, right, bottom = piece.box
        across = np.flatnonzero((self._columns >= left) & (self._columns < right))
        down = np.flatnonzero((self._rows >= top) & (self._rows < bottom))
        if not (len(across) and len(down)):
            return None
        columns = self._columns[across[0] : across[-1] + 1] - left
        rows = self._rows[down[0] : down[-1] + 1] - top
        # A decoded mask is stored column by column, so whole columns are taken first.
        pixels = piece.pixels.T[columns][:, rows].T
        return tighten(int(down[0]), int(across[0]), pixels)

    def whole(self, values: np.ndarray, fill: int) -> np.ndarray:
        """Samples an array of the whole image.

        Args:
            values: [H, W].
            fill: What the pixels get that come from outside of it.

        Returns:
            [h, w] of the same type.
        """
        if self._source is None:
            sampled = values[self._rows[:, None], self._columns]
        else:
            top, left, height, width = self._geometry.crop
            crop = values[top : top + height, left : left + width].reshape(-1)
            sampled = np.where(self._source >= 0, crop[self._source], values.dtype.type(fill))
        return np.rot90(sampled, self._geometry.turns)

    def _turned(self, piece: Piece) -> Piece | None:
        crop_top, crop_left, height, width = self._geometry.crop
        # Nearest-neighbour sampling can reach one pixel beyond the transformed corners.
        step = np.asarray(self._geometry.size) / (height, width) + 1
        unturned = self._geometry._replace(turns=0)
        left, top, right, bottom = unturned.boxes(np.float32([piece.box]))[0]
        top, left = max(math.floor(top - step[0]), 0), max(math.floor(left - step[1]), 0)
        bottom, right = math.ceil(bottom + step[0]), math.ceil(right + step[1])
        if bottom <= top or right <= left:
            return None
        mask = crop_piece(piece, crop_top, crop_left, (height, width))
        source = self._source[top:bottom, left:right]
        return tighten(top, left, mask.reshape(-1)[source] & (source >= 0))


def crop_piece(piece: Piece, top: int, left: int, size: tuple[int, int]) -> np.ndarray:
    """The full mask within a window of the image.

    Args:
        piece: The mask.
        top: First row of the window.
        left: Its first column.
        size: ``(height, width)`` of the window.

    Returns:
        bool [height, width].
    """
    whole = np.zeros(size, bool)
    x1, y1, x2, y2 = piece.box
    y, x = max(y1, top), max(x1, left)
    bottom, right = min(y2, top + size[0]), min(x2, left + size[1])
    if bottom > y and right > x:
        whole[y - top : bottom - top, x - left : right - left] = piece.pixels[
            y - y1 : bottom - y1, x - x1 : right - x1
        ]
    return whole
