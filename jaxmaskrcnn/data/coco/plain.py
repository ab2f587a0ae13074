"""Quick reading of annotations that are written just as COCO writes them, as nearly all are.

`objects.parse_scored` reads any annotation and takes several times as long. `read_ahead` finds out, many
annotations at a time, of which of them that would return the numbers as they stand, without anything to say
or to correct.

Shape legend: n annotations that are read together.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.fit import BORDER, FITS
from jaxmaskrcnn.data.fields.packed import Packed, pack, unpacked
from jaxmaskrcnn.data.fields.polygons import FARTHEST
from jaxmaskrcnn.data.rle import mask_areas, mask_boxes, polygons_to_counts

_NUMBERS = {int, float}
_CHUNK = 250  # annotations that are read together
_LARGEST = 1e15  # whole numbers below are exact as floats


class Plain(NamedTuple):
    """An annotation with polygons in which nothing is odd.

    Attributes:
        area: Square pixels, as written.
        polygons: As written.
        counts: Compressed RLE of the mask over the whole image.
        corners: The box XYXY in pixels, clipped to the image.
        box: x, y, width and height as written.
    """

    area: float
    polygons: Packed
    counts: bytes
    corners: tuple[float, float, float, float]
    box: list[float]


class _Drawn(NamedTuple):
    """An annotation whose polygons are drawn, and whose numbers are still to be compared with them."""

    number: int  # in its chunk
    entry: dict
    size: tuple[int, int]
    polygons: list
    counts: bytes


def read_ahead(entries: Iterable[dict], images: Mapping[Any, Any]) -> Iterator[tuple[dict, Plain | None]]:
    """Reads annotations that are plain, many at a time.

    Args:
        entries: Of the json's 'annotations'; segmentations may be packed.
        images: Images with ``height`` and ``width`` by id; a height of 0 is not known.

    Yields:
        Each entry, and what it holds, or None where `objects.parse_scored` has to read it; its segmentation
        is unpacked then. The label is not looked up.
    """
    entries = iter(entries)
    while chunk := list(islice(entries, _CHUNK)):
        found: list[Plain | None] = [None] * len(chunk)
        drawn = []
        for number, entry in enumerate(chunk):
            image = images.get(entry["image_id"]) if _is_plain(entry) else None
            if image is not None and image.height:
                polygons = unpacked(entry["segmentation"])
                if _are_plain(polygons):
                    size = image.height, image.width
                    drawn.append(_Drawn(number, entry, size, polygons, polygons_to_counts(polygons, *size)))
        if drawn:
            _compare(drawn, found)
        for entry, plain in zip(chunk, found, strict=True):
            if plain is None and type(entry.get("segmentation")) is Packed:
                entry = {**entry, "segmentation": unpacked(entry["segmentation"])}  # a kept list stays packed
            yield entry, plain


def _is_plain(entry: dict) -> bool:
    """Whether an annotation's values are of the types that COCO writes; polygons apart."""
    get = entry.get
    if type(get("image_id")) is not int or type(get("category_id")) is not int or get("ignore"):
        return False
    crowd, area, box = get("iscrowd", 0), get("area", ""), get("bbox")
    if type(crowd) is not int or crowd or type(area) not in _NUMBERS or not -_LARGEST < area < _LARGEST:
        return False
    return (
        type(box) is list
        and len(box) == 4
        and set(map(type, box)) <= _NUMBERS
        and sum(map(abs, box)) < _LARGEST  # False with a NaN
        and type(get("segmentation")) in (list, Packed)
    )


def _are_plain(polygons: list) -> bool:
    """Whether there are polygons, each at least three points of finite numbers."""
    for ring in polygons:
        if type(ring) is not list or len(ring) < 6 or len(ring) % 2:
            return False
        if not set(map(type, ring)) <= _NUMBERS or not abs(sum(ring)) < _LARGEST:
            return False
        if max(ring) > FARTHEST or min(ring) < -FARTHEST:
            return False
    return bool(polygons)


def _compare(drawn: list[_Drawn], found: list[Plain | None]) -> None:
    """Enters the annotations whose box and area fit their polygons, by the rule of `fit`."""
    rles = [{"size": row.size, "counts": row.counts} for row in drawn]
    own_areas, own = mask_areas(rles), mask_boxes(rles)
    boxes = np.array([row.entry["bbox"] for row in drawn], np.float64)
    areas = np.array([row.entry["area"] for row in drawn], np.float64)
    limits = np.array([row.size for row in drawn], np.float64)[:, ::-1]  # width and height of the image
    start, sides = boxes[:, :2], boxes[:, 2:]
    end = start + sides
    over = np.maximum(-start, end - limits).max(1)
    # Written so that a negative zero stays one, as with Python's max and min.
    low, high = np.where(start < 0, 0.0, start), np.where(limits < end, limits, end)
    good = (sides > 0).all(1) & (over <= BORDER) & (high > low).all(1) & (own[:, 2:] > 0).all(1)
    good &= _ious(boxes, own) >= FITS
    good &= (own_areas / 2 <= areas) & (areas <= 2 * own_areas.astype(np.float64)) & (areas > 0)
    corners = np.concatenate([low, high], 1).tolist()
    for row, is_good, area, box in zip(drawn, good.tolist(), areas.tolist(), corners, strict=True):
        if is_good:
            value = row.entry["segmentation"]
            polygons = value if type(value) is Packed else pack(value)
            found[row.number] = Plain(area, polygons, row.counts, tuple(box), row.entry["bbox"])


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with the one beside it, float64 [n]; `fit.iou` for many."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    both = np.maximum(high - low, 0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)
