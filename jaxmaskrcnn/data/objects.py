"""One annotation of a COCO json: its box and mask, checked and in one form.

Shape legend: H, W height and width of the image in pixels.
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.rle import check_counts, polygons_to_counts, uncompressed_to_counts


class Object(NamedTuple):
    """One annotated object.

    Attributes:
        id: Annotation id in the json.
        box: XYXY in pixels, clipped to the image.
        label: 0 to the number of categories - 1, in ascending order of category id.
        crowd: True for a region that holds many objects.
        area: Area in square pixels (the json's, else that of the mask).
        counts: Compressed COCO RLE of the mask over the whole image; empty where there is none.
        polygons: The original polygons as json text; empty where the mask came as RLE.
    """

    id: int
    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    counts: bytes
    polygons: str


class AnnotatedImage(NamedTuple):
    """One image of the json with its objects."""

    id: int
    file_name: str
    height: int
    width: int
    objects: list[Object]


class BadAnnotation(Exception):
    """An unusable annotation: the reason it is counted under, and what is wrong."""

    def __init__(self, reason: str, found: str):
        self.reason, self.found = reason, found


def parse_object(entry: Mapping, image: AnnotatedImage, labels: dict[int, int], masks: bool) -> Object:
    """Checks an entry of the json's 'annotations'.

    Args:
        entry: The entry; its id is taken as checked.
        image: The image it belongs to.
        labels: Label of every category id.
        masks: Whether a segmentation is needed.

    Raises:
        BadAnnotation: It cannot be used.
    """
    category = entry.get("category_id")
    if not is_int(category) or category not in labels:
        raise BadAnnotation(
            "unknown category",
            f"has the category_id {category!r}, which 'categories' does not list; add the category "
            "or correct the annotation",
        )
    counts, polygons = _mask(entry.get("segmentation"), image, masks)
    box = _box(entry.get("bbox"), counts, image)
    area = entry.get("area")
    if not _is_number(area):
        area = mask_utils.area(_rle(counts, image)) if counts else (box[2] - box[0]) * (box[3] - box[1])
    return Object(
        entry["id"], box, labels[category], bool(entry.get("iscrowd", 0)), float(area), counts, polygons
    )


def _rle(counts: bytes, image: AnnotatedImage) -> dict:
    return {"size": [image.height, image.width], "counts": counts}


def _box(value, counts: bytes, image: AnnotatedImage) -> tuple[float, float, float, float]:
    if value is None and counts:
        value = mask_utils.toBbox(_rle(counts, image)).tolist()
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise BadAnnotation(
            "bad box", f"has the bbox {value!r}; give four finite numbers x, y, width, height"
        )
    x, y, width, height = value
    if width <= 0 or height <= 0:
        raise BadAnnotation(
            "bad box",
            f"has a bbox of width {width:g} and height {height:g}; make both positive or remove it",
        )
    box = (max(x, 0), max(y, 0), min(x + width, image.width), min(y + height, image.height))
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BadAnnotation(
            "bad box",
            f"has the bbox {value!r} outside of its {image.width} x {image.height} image; correct or "
            "remove it",
        )
    return tuple(map(float, box))


def _mask(value, image: AnnotatedImage, required: bool) -> tuple[bytes, str]:
    """Compressed RLE counts and, where the mask was made of polygons, these as json text."""
    if value is None or value == [] or value == {}:
        if required:
            raise BadAnnotation(
                "missing segmentation", "has no segmentation; add polygons or an RLE, or remove it"
            )
        return b"", ""
    if isinstance(value, list):
        _check_polygons(value)
        return polygons_to_counts(value, image.height, image.width), json.dumps(value)
    if not isinstance(value, dict) or "counts" not in value or "size" not in value:
        raise BadAnnotation(
            "bad segmentation",
            f"has a segmentation of type {type(value).__name__}; give a list of polygons or an RLE "
            "with 'size' and 'counts'",
        )
    if value["size"] != [image.height, image.width]:
        raise BadAnnotation(
            "bad RLE",
            f"has an RLE of size {value['size']!r} (height, width) for an image of "
            f"[{image.height}, {image.width}]; encode it at the image's size",
        )
    counts = value["counts"]
    if isinstance(counts, list):
        counts = uncompressed_to_counts(counts, image.height, image.width)
        wrong = None if counts is not None else "its counts are not whole numbers that add up to its pixels"
    elif isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
        wrong = check_counts(counts, image.height, image.width)
    else:
        wrong = f"its counts are of type {type(counts).__name__}"
    if wrong:
        raise BadAnnotation("bad RLE", f"has a malformed RLE ({wrong}); encode the mask again")
    return counts, ""


def _check_polygons(polygons: list) -> None:
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise BadAnnotation(
                "bad polygon",
                f"has a {type(polygon).__name__} where a polygon is expected; its segmentation is a "
                "list of polygons, each a list x, y, x, y, ...",
            )
        if not _are_numbers(polygon):
            raise BadAnnotation(
                "bad polygon", "has a polygon with a value that is no finite number; correct it"
            )
        if len(polygon) % 2:
            raise BadAnnotation(
                "bad polygon",
                f"has a polygon of {len(polygon)} numbers; give pairs of x and y",
            )
        if len(polygon) < 6:
            raise BadAnnotation(
                "bad polygon",
                f"has a polygon of {len(polygon) // 2} points; give at least 3 or remove it",
            )


def is_int(value) -> bool:
    """Whether a json value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(values: list) -> bool:
    # Checking one by one takes longer than drawing the polygon; a sum that is small has no NaN.
    if set(map(type, values)) <= {int, float} and abs(sum(values)) < 1e15:
        return True
    return all(map(_is_number, values))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
