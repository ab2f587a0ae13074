"""Quick reading of annotations that are written just as COCO writes them, as nearly all are.

`objects.parse_scored` reads any annotation and takes several times as long. `read_ahead` finds out, many
annotations at a time, of which of them that would return the numbers as they stand, without anything to say
or to correct. `read_texts` does the same with annotations of which only the text is there.
"""

import marshal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.drawing import LARGEST, Columns, Drawn, Text, draw, draw_text, slices
from jaxmaskrcnn.data.coco.entries import Head, Part, heads
from jaxmaskrcnn.data.fields.packed import Outline, Packed, outline, pack, unpacked
from jaxmaskrcnn.utils.processes import Mapper

_NUMBERS = {int, float}
_CHUNK = 500  # annotations that are read together


class Plain(NamedTuple):
    """An annotation with polygons in which nothing is odd.

    Attributes:
        area: Square pixels, as written.
        polygons: As written, or what is kept of them.
        counts: Compressed RLE of the mask over the whole image.
        corners: The box XYXY in pixels, clipped to the image.
        box: x, y, width and height as written.
    """

    area: float
    polygons: Packed | Outline
    counts: bytes
    corners: tuple[float, float, float, float]
    box: list[float]


def read_ahead(
    entries: Iterable[dict], images: Mapping[Any, Any], mapped: Mapper = map, *, outlines: bool = False
) -> Iterator[tuple[dict, Plain | None]]:
    """Reads annotations that are plain, many at a time.

    Args:
        entries: Of the json's 'annotations'; segmentations may be packed.
        images: Images with ``height`` and ``width`` by id; a height of 0 is not known.
        mapped: `map`, or what does the same in several processes.
        outlines: Whether polygons are not needed themselves.

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
            if outlines and plain is not None and isinstance(plain.polygons, Packed):
                plain = plain._replace(polygons=outline(plain.polygons))
            if plain is None and type(entry.get("segmentation")) is Packed:
                entry = {**entry, "segmentation": unpacked(entry["segmentation"])}  # a kept list stays packed
            yield entry, plain


def read_texts(
    parts: Iterable[Part], images: Mapping[Any, Any], mapped: Mapper = map, *, outlines: bool = False
) -> Iterator[tuple[dict, Plain | None]]:
    """Reads annotations that are text still; those that are plain never become dictionaries of their own.

    Args:
        parts: The annotations.
        images: As of `read_ahead`.
        mapped: As of `read_ahead`.
        outlines: As of `read_ahead`.

    Yields:
        As of `read_ahead`, but the entry of a plain annotation has its ids alone.
    """
    waiting: deque[tuple[Part, list[Head]]] = deque()

    def texts() -> Iterator[Text]:
        for part in parts:
            found = heads(part)
            own = [images.get(head.image_id) if type(head.image_id) is int else None for head in found]
            sizes = [(0, 0) if image is None else (image.height, image.width) for image in own]
            waiting.append((part, found))
            yield Text(part.text, np.array(sizes, np.int64).reshape(-1, 2), outlines)

    for read in mapped(draw_text, texts()):
        part, found = waiting.popleft()
        drawn = read.drawn
        rows = zip(
            slices(drawn.counts, drawn.lengths[drawn.lengths > 0]),
            drawn.corners[drawn.lengths > 0].tolist(),
            read.areas[drawn.lengths > 0].tolist(),
            map(Outline if outlines else Packed, slices(read.polygons, read.lengths)),
            marshal.loads(read.boxes),
            strict=True,
        )
        for number, (head, length) in enumerate(zip(found, drawn.lengths.tolist(), strict=True)):
            if not length:
                yield part.entry(number), None
                continue
            counts, corners, area, polygons, box = next(rows)
            ids = {"id": head.id, "image_id": head.image_id, "category_id": head.category_id}
            yield ids, Plain(area, polygons, counts, tuple(corners), box)


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
    if type(crowd) is not int or crowd or type(area) not in _NUMBERS or not -LARGEST < area < LARGEST:
        return False
    return (
        type(box) is list
        and len(box) == 4
        and set(map(type, box)) <= _NUMBERS
        and all(-LARGEST < side < LARGEST for side in box)  # False with a NaN
        and type(get("segmentation")) in (list, Packed)
    )
