"""Quick reading of annotations that are written just as COCO writes them, as nearly all are.

`objects.parse_scored` reads any annotation and takes several times as long. `plain_object` returns what that
returns, or None where it would have anything to say or to correct.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.coco.fit import BORDER, FITS, iou
from jaxmaskrcnn.data.coco.packing import Packed, unpacked
from jaxmaskrcnn.data.fields.polygons import FARTHEST
from jaxmaskrcnn.data.rle import mask_areas, polygons_to_counts

_NUMBERS = {int, float}
_CHUNK = 200  # annotations that are drawn together


class Drawn(NamedTuple):
    """The mask of an annotation's polygons.

    Attributes:
        counts: Compressed RLE over the whole image.
        area: Square pixels.
        box: x, y, width and height in pixels.
    """

    counts: bytes
    area: int
    box: list[float]


def drawn_ahead(entries: Iterable[dict], images: Mapping[Any, Any]) -> Iterator[tuple[dict, Drawn | None]]:
    """Unpacks annotations and draws those with plain polygons, many at a time, which takes less time.

    Args:
        entries: Of the json's 'annotations'; segmentations may be packed.
        images: Images with ``height`` and ``width`` by id.

    Yields:
        Each entry, and its mask if its segmentation is a plain list of polygons and its image is known.
    """
    entries = iter(entries)
    while chunk := list(islice(entries, _CHUNK)):
        ready, rles = [], []
        for entry in chunk:
            value = entry.get("segmentation")
            if type(value) is Packed:
                value = unpacked(value)
                entry = {**entry, "segmentation": value}  # a list that is kept stays packed
            ready.append(entry)
            key = entry.get("image_id")
            image = images.get(key) if type(key) is int else None
            rle = None
            if image is not None and image.height and _is_plain(value):
                size = image.height, image.width
                rle = {"size": size, "counts": polygons_to_counts(value, *size)}
            rles.append(rle)
        masks = [rle for rle in rles if rle is not None]
        areas = mask_areas(masks).tolist()
        boxes = mask_utils.toBbox(masks).tolist() if masks else []
        drawn = map(Drawn, [rle["counts"] for rle in masks], areas, boxes)
        for entry, rle in zip(ready, rles, strict=True):
            yield entry, None if rle is None else next(drawn)


def plain_values(entry: Mapping, drawn: Drawn, image: Any) -> tuple[float, str, tuple, list] | None:
    """What an annotation's columns are, if nothing in it has to be corrected or noted.

    Args:
        entry: The annotation; its segmentation has been drawn.
        drawn: Its mask.
        image: Its image, with ``height`` and ``width``.

    Returns:
        The area in square pixels, the polygons as text, the box XYXY clipped to the image, and the box as it
        is written, x, y, width and height. None where the general reader has to look at the annotation.
    """
    box, area = entry.get("bbox"), entry.get("area")
    crowd = entry.get("iscrowd", 0)
    if type(crowd) is not int or crowd or entry.get("ignore") or type(area) not in _NUMBERS:
        return None
    if type(box) is not list or len(box) != 4 or not set(map(type, box)) <= _NUMBERS:
        return None
    x, y, width, height = box
    right, bottom = x + width, y + height
    if not (width > 0 and height > 0 and max(-x, -y, right - image.width, bottom - image.height) <= BORDER):
        return None
    corners = max(x, 0), max(y, 0), min(right, image.width), min(bottom, image.height)
    if not (corners[2] > corners[0] and corners[3] > corners[1]):
        return None
    if min(drawn.box[2:]) <= 0 or not iou(box, drawn.box) >= FITS:
        return None
    if not (drawn.area / 2 <= area <= 2 * drawn.area and area > 0):
        return None
    # The text is that of json.dumps: finite numbers in lists look the same in Python.
    return float(area), repr(entry["segmentation"]), tuple(map(float, corners)), box


def _is_plain(value: Any) -> bool:
    """Whether a segmentation is a list of polygons, each at least three points of finite numbers."""
    if type(value) is not list or not value:
        return False
    for ring in value:
        if type(ring) is not list or len(ring) < 6 or len(ring) % 2:
            return False
        if not set(map(type, ring)) <= _NUMBERS or not abs(sum(ring)) < 1e15:
            return False
        if max(ring) > FARTHEST or min(ring) < -FARTHEST:
            return False
    return True
