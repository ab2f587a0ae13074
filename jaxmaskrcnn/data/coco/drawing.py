"""Draws the polygons of many annotations and compares them with the boxes and areas beside them.

This takes most of the time of reading a large json, so these are pure functions of columns or of the json's
text, which other processes can run: what they are given and what they return are bytes and arrays, which
travel fast.

Shape legend: n annotations, r polygons of all of them.
"""

import contextlib
import itertools
import marshal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from jaxmaskrcnn.data.coco.fit import BORDER, FITS
from jaxmaskrcnn.data.coco.packing import no_collection
from jaxmaskrcnn.data.fields.packed import NUMBER, number_bytes, outline_of, pack
from jaxmaskrcnn.data.fields.polygons import is_far
from jaxmaskrcnn.data.rle import mask_areas, mask_boxes, polygons_to_counts

_SHORTEST = 6  # numbers of a polygon
LARGEST = 1e15  # whole numbers below are exact as floats


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


class Text(NamedTuple):
    """Annotations as the json has them.

    Attributes:
        text: A json list of them, in UTF-8.
        sizes: int64 [n, 2], height and width of the annotations' images in pixels; 0 where it is not known.
        outlines: Whether polygons are returned as outlines, which are a few bytes each.
    """

    text: bytes
    sizes: np.ndarray
    outlines: bool


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
    return _drawn(
        _arrays(slices(columns.polygons, columns.lengths)), columns.boxes, columns.areas, columns.sizes
    )


class Read(NamedTuple):
    """What was found in the text of annotations.

    Attributes:
        drawn: As of `draw`.
        boxes: x, y, width and height as written, marshalled; of those with counts alone.
        areas: float64 [n], square pixels as written.
        polygons: The polygons of those with counts, packed or as outlines, one behind the other.
        lengths: int64, the lengths of these in bytes.
    """

    drawn: Drawn
    boxes: bytes
    areas: np.ndarray
    polygons: bytes
    lengths: np.ndarray


class _Annotation(msgspec.Struct, gc=False):
    """The types that COCO writes, RLEs apart, whose parsing is left to others."""

    image_id: int
    category_id: int
    area: int | float
    bbox: list[int | float]
    segmentation: list[list[int | float]] | dict[str, msgspec.Raw]
    iscrowd: int = 0
    ignore: Any = None


_annotations = msgspec.json.Decoder(list[_Annotation]).decode
_annotation = msgspec.json.Decoder(_Annotation).decode
_texts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)


@no_collection()
def draw_text(given: Text) -> Read:
    """Parses annotations and draws those in which nothing is odd; see `draw`.

    Args:
        given: The annotations.
    """
    found = _plain(given)
    columns = list(found.values())
    count = len(given.sizes)
    areas, boxes = np.zeros(count), np.zeros((count, 4))
    arrays: list[list[np.ndarray]] = [[] for _ in range(count)]
    numbers = list(found)
    if found:
        areas[numbers] = [item.area for item in columns]
        boxes[numbers] = [item.bbox for item in columns]
        polygons = [cast(list, item.segmentation) for item in columns]
        rings = list(itertools.chain.from_iterable(polygons))
        lengths = np.fromiter(map(len, rings), np.int64, len(rings))
        with contextlib.suppress(OverflowError):  # a whole number that no float reaches
            values = np.fromiter(itertools.chain.from_iterable(rings), np.float64, int(lengths.sum()))
            for number, own in zip(numbers, _divided(values, lengths, map(len, polygons)), strict=True):
                arrays[number] = own
    drawn = _drawn(arrays, boxes, areas, given.sizes)
    drawable = np.flatnonzero(drawn.lengths).tolist()
    good = [found[number] for number in drawable]
    kept: Sequence[bytes] = (
        [outline_of(arrays[number]) for number in drawable]
        if given.outlines
        else [pack(cast(list, item.segmentation)) for item in good]
    )
    return Read(
        drawn,
        marshal.dumps([item.bbox for item in good]),
        areas,
        b"".join(kept),
        np.fromiter(map(len, kept), np.int64, len(kept)),
    )


def _plain(given: Text) -> dict[int, _Annotation]:
    """The annotations whose values are of the types that COCO writes, by their numbers."""
    try:
        found = enumerate(_annotations(given.text))
    except _FAULTS:  # in one of them
        found = _each(_texts(given.text))
    known = given.sizes[:, 0].tolist()
    return {
        number: item
        for number, item in found
        if known[number]
        and not item.iscrowd
        and not item.ignore
        and type(item.segmentation) is list
        and len(item.bbox) == 4
        and -LARGEST < item.area < LARGEST
        and max(item.bbox) < LARGEST
        and min(item.bbox) > -LARGEST
    }


def _each(texts: list[msgspec.Raw]) -> Iterator[tuple[int, _Annotation]]:
    for number, text in enumerate(texts):
        with contextlib.suppress(*_FAULTS):
            yield number, _annotation(text)


def _drawn(
    arrays: Sequence[list[np.ndarray]], boxes: np.ndarray, areas: np.ndarray, sizes: np.ndarray
) -> Drawn:
    """Draws annotations' polygons, of which those that cannot be drawn have none."""
    numbers, masks = [], []
    for number, (polygons, size) in enumerate(zip(arrays, sizes.tolist(), strict=True)):
        if polygons:
            numbers.append(number)
            masks.append({"size": size, "counts": polygons_to_counts(polygons, *size)})
    lengths, corners = np.zeros(len(sizes), np.int64), np.zeros((len(sizes), 4))
    if not masks:
        return Drawn(b"", lengths, corners)
    fits, corners[numbers] = _compare(boxes[numbers], areas[numbers], sizes[numbers], masks)
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
    values = np.frombuffer(b"".join(parts), NUMBER)["value"].copy()  # all polygons' in a row
    lengths = np.array([len(part) // NUMBER.itemsize for part in parts], np.int64)
    return _divided(values, lengths, map(len, rings))


def _divided(values: np.ndarray, lengths: np.ndarray, counts: Iterable[int]) -> list[list[np.ndarray]]:
    """The polygons of each annotation; none where one of them cannot be drawn.

    Args:
        values: float64, the numbers of all polygons in a row.
        lengths: int64 [r], how many each of them has.
        counts: How many polygons each annotation has.
    """
    ends = np.cumsum(lengths)
    drawable = (lengths >= _SHORTEST) & (lengths % 2 == 0)
    for place in np.flatnonzero(is_far(values)).tolist():
        drawable[np.searchsorted(ends, place, side="right")] = False
    parts = [
        values[start:end] if good else None
        for start, end, good in zip((ends - lengths).tolist(), ends.tolist(), drawable.tolist(), strict=True)
    ]
    found, first, bad = [], 0, not drawable.all()
    for count in counts:
        own = parts[first : first + count]
        first += count
        found.append([] if bad and any(part is None for part in own) else own)
    return found


def _compare(
    boxes: np.ndarray, areas: np.ndarray, sizes: np.ndarray, masks: list[dict]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the boxes and areas of some annotations fit their masks, bool [n], and the boxes' corners."""
    own_areas, own = mask_areas(masks), mask_boxes(masks)
    limits = sizes.astype(np.float64)[:, ::-1]  # width and height of the image
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
