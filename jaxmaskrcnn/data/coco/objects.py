"""One annotation of a COCO json, checked and converted to the form in which it is stored."""

from collections import namedtuple
from collections.abc import Mapping
from typing import NamedTuple

from jaxmaskrcnn.data.fields.field import BadAnnotation, is_number
from jaxmaskrcnn.data.fields.table import COLUMNS, FIELDS


class Object(namedtuple("Object", ["id", "label", "crowd", "area", *COLUMNS])):
    """One annotated object, with a value for each column that the fields store.

    Attributes:
        id: Annotation id in the json.
        label: 0 to the number of categories - 1, in ascending order of category id.
        crowd: True for a region that holds many objects.
        area: Area in square pixels (from the json, otherwise that of the mask).
        polygons: The original polygons as json text; empty where the mask came as RLE.
        rle: Compressed COCO RLE of the mask over the whole image; empty where there is none.
        bbox: XYXY in pixels, clipped to the image.
    """

    __slots__ = ()

    @property
    def box(self) -> tuple[float, float, float, float]:
        """XYXY in pixels, clipped to the image."""
        return self.bbox

    @property
    def counts(self) -> bytes:
        """Compressed COCO RLE of the mask over the whole image; empty where there is none."""
        return self.rle


class AnnotatedImage(NamedTuple):
    """One image of the json with its objects."""

    id: int
    file_name: str
    height: int
    width: int
    objects: list[Object]


def parse_object(entry: Mapping, image: AnnotatedImage, labels: dict[int, int], masks: bool) -> Object:
    """Checks an entry of the json's 'annotations'.

    Args:
        entry: The entry, whose id has been checked.
        image: The image it belongs to.
        labels: Label of every category id.
        masks: Whether a segmentation is needed.

    Raises:
        BadAnnotation: The entry cannot be used.
    """
    category = entry.get("category_id")
    if not is_int(category) or category not in labels:
        raise BadAnnotation(
            "unknown category",
            f"has the category_id {category!r}, which 'categories' does not list; add the category "
            "or correct the annotation",
        )
    size, columns = (image.height, image.width), {}
    required = {"masks"} if masks else set()
    for field in FIELDS:
        columns |= field.parse(entry, size, columns, field.name in required)
    area = entry.get("area")
    if not is_number(area):
        measured = (field.annotated_area(columns, size) for field in FIELDS)
        area = next(value for value in measured if value is not None)
    return Object(entry["id"], labels[category], bool(entry.get("iscrowd", 0)), float(area), **columns)


def is_int(value) -> bool:
    """Whether a json value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)
