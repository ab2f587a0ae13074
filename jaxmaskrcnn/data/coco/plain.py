"""Quick reading of annotations that are written just as COCO writes them, as nearly all are.

`objects.parse_scored` reads any annotation and takes several times as long. `read_ahead` finds out, many
annotations at a time, of which of them that would return the numbers as they stand, without anything to say
or to correct.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.drawing import Columns, Drawn, draw, slices
from jaxmaskrcnn.data.fields.packed import Packed, pack, unpacked
from jaxmaskrcnn.utils.processes import Mapper

_NUMBERS = {int, float}
_CHUNK = 500  # annotations that are read together
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


def read_ahead(
    entries: Iterable[dict], images: Mapping[Any, Any], mapped: Mapper = map
) -> Iterator[tuple[dict, Plain | None]]:
    """Reads annotations that are plain, many at a time.

    Args:
        entries: Of the json's 'annotations'; segmentations may be packed.
        images: Images with ``height`` and ``width`` by id; a height of 0 is not known.
        mapped: `map`, or what does the same in several processes.

    Yields:
        Each entry, and what it holds, or None where `objects.parse_scored` has to read it; its segmentation
        is unpacked then. The label is not looked up.
    """
    entries = iter(entries)
    waiting: deque[tuple[list[dict], list[int], list[Packed]]] = deque()

    def columns() -> Iterator[Columns]:
        while chunk := list(islice(entries, _CHUNK)):
            numbers, polygons, found = _columns(chunk, images)
            waiting.append((chunk, numbers, polygons))
            yield found

    for drawn in mapped(draw, columns()):
        chunk, numbers, polygons = waiting.popleft()
        found = _found(chunk, numbers, polygons, drawn)
        for entry, plain in zip(chunk, found, strict=True):
            if plain is None and type(entry.get("segmentation")) is Packed:
                entry = {**entry, "segmentation": unpacked(entry["segmentation"])}  # a kept list stays packed
            yield entry, plain


def _columns(chunk: list[dict], images: Mapping[Any, Any]) -> tuple[list[int], list[Packed], Columns]:
    """The annotations of a chunk whose values are of the types that COCO writes.

    Returns:
        Their numbers in the chunk, their segmentations, and what is drawn.
    """
    numbers, polygons, boxes, areas, sizes = [], [], [], [], []
    for number, entry in enumerate(chunk):
        image = images.get(entry["image_id"]) if _is_plain(entry) else None
        if image is not None and image.height:
            value = entry["segmentation"]
            numbers.append(number)
            polygons.append(value if type(value) is Packed else pack(value))
            boxes.append(entry["bbox"])
            areas.append(entry["area"])
            sizes.append((image.height, image.width))
    columns = Columns(
        b"".join(polygons),
        np.array([len(value) for value in polygons], np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(areas, np.float64),
        np.array(sizes, np.int64).reshape(-1, 2),
    )
    return numbers, polygons, columns


def _found(chunk: list[dict], numbers: list[int], given: list[Packed], drawn: Drawn) -> list[Plain | None]:
    found: list[Plain | None] = [None] * len(chunk)
    rows = zip(numbers, given, slices(drawn.counts, drawn.lengths), drawn.corners.tolist(), strict=True)
    for number, polygons, counts, corners in rows:
        if counts:
            entry = chunk[number]
            found[number] = Plain(float(entry["area"]), polygons, counts, tuple(corners), entry["bbox"])
    return found


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
        and all(-_LARGEST < side < _LARGEST for side in box)  # False with a NaN
        and type(get("segmentation")) in (list, Packed)
    )
