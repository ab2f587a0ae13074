"""Draws the polygons of many annotations and compares them with the boxes and areas beside them.

This takes most of the time of reading a large json, so it is a pure function of columns, which other
processes can run: what it is given and what it returns are bytes and arrays, which travel fast.

Shape legend: n annotations, r polygons of all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.fit import BORDER, FITS
from jaxmaskrcnn.data.fields.packed import number_bytes
from jaxmaskrcnn.data.fields.polygons import is_far
from jaxmaskrcnn.data.rle import mask_areas, mask_boxes, polygons_to_counts

_ITEM = np.dtype([("kind", "u1"), ("value", "<f8")])  # a number of `number_bytes`
_SHORTEST = 6  # numbers of a polygon


class Columns(NamedTuple):
    """Annotations whose values have the types that COCO writes.

    Attributes:
        polygons: Packed segmentations, one behind the other.
        lengths: int64 [n], their lengths in bytes.
        boxes: float64 [n, 4], x, y, width and height in pixels.
        areas: float64 [n], square pixels.
        sizes: int64 [n, 2], height and width of the annotations' images in pixels.
    """

    polygons: bytes
    lengths: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    sizes: np.ndarray


class Drawn(NamedTuple):
    """What became of them.

    Attributes:
        counts: Compressed RLE of the masks over their whole images, one behind the other.
        lengths: int64 [n], their lengths in bytes; 0 where an annotation is not plain.
        corners: float64 [n, 4], boxes XYXY in pixels, clipped to the image; of use where there are counts.
    """

    counts: bytes
    lengths: np.ndarray
    corners: np.ndarray


def draw(columns: Columns) -> Drawn:
    """Draws the annotations in which nothing is odd.

    These are the ones whose polygons are lists of at least three points of finite numbers near the image, and
    whose box and area fit them by the rule of `fit`.

    Args:
        columns: The annotations.
    """
    numbers, masks = [], []
    for number, polygons in enumerate(_arrays(slices(columns.polygons, columns.lengths))):
        if polygons:
            numbers.append(number)
            height, width = columns.sizes[number].tolist()
            masks.append({"size": (height, width), "counts": polygons_to_counts(polygons, height, width)})
    lengths, corners = np.zeros(len(columns.lengths), np.int64), np.zeros((len(columns.lengths), 4))
    if not masks:
        return Drawn(b"", lengths, corners)
    fits, corners[numbers] = _compare(columns, numbers, masks)
    counts = [mask["counts"] if good else b"" for mask, good in zip(masks, fits.tolist(), strict=True)]
    lengths[numbers] = [len(text) for text in counts]
    return Drawn(b"".join(counts), lengths, corners)


def slices(joined: bytes, lengths: np.ndarray) -> list[bytes]:
    """Texts of bytes that were joined.

    Args:
        joined: One behind the other.
        lengths: int64 [n].

    Example:
        >>> slices(b"abc", np.array([1, 0, 2]))
        [b'a', b'', b'bc']
    """
    ends = np.cumsum(lengths)
    return [joined[start:end] for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]


def _arrays(packed: Sequence[bytes]) -> list[list[np.ndarray]]:
    """The polygons of each annotation, float64 arrays x, y, x, y, ...; none where one cannot be drawn."""
    rings = [number_bytes(value) for value in packed]
    parts = [part for parts in rings for part in parts]
    if not parts:
        return [[] for _ in packed]
    values = np.frombuffer(b"".join(parts), _ITEM)["value"].copy()  # all polygons' in a row
    ends = np.cumsum([len(part) // _ITEM.itemsize for part in parts])
    starts = ends - np.diff(ends, prepend=0)
    lengths = ends - starts
    drawable = (lengths >= _SHORTEST) & (lengths % 2 == 0)
    for place in np.flatnonzero(is_far(values)).tolist():
        drawable[np.searchsorted(ends, place, side="right")] = False
    whole = iter(zip(starts.tolist(), ends.tolist(), drawable.tolist(), strict=True))
    found = []
    for parts in rings:
        places = [next(whole) for _ in parts]
        good = all(is_good for _, _, is_good in places)
        found.append([values[start:end] for start, end, _ in places] if good else [])
    return found


def _compare(columns: Columns, numbers: list[int], masks: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Whether the boxes and areas of some annotations fit their masks, bool [n], and the boxes' corners."""
    own_areas, own = mask_areas(masks), mask_boxes(masks)
    boxes, areas = columns.boxes[numbers], columns.areas[numbers]
    limits = columns.sizes[numbers].astype(np.float64)[:, ::-1]  # width and height of the image
    start, sides = boxes[:, :2], boxes[:, 2:]
    end = start + sides
    over = np.maximum(-start, end - limits).max(1)
    # Written so that a negative zero stays one, as with Python's max and min.
    low, high = np.where(start < 0, 0.0, start), np.where(limits < end, limits, end)
    good = (sides > 0).all(1) & (over <= BORDER) & (high > low).all(1) & (own[:, 2:] > 0).all(1)
    good &= _ious(boxes, own) >= FITS
    good &= (own_areas / 2 <= areas) & (areas <= 2 * own_areas.astype(np.float64)) & (areas > 0)
    return good, np.concatenate([low, high], 1)


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with the one beside it, float64 [n]; `fit.iou` for many."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    both = np.maximum(high - low, 0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)
