"""One annotation of a COCO json, checked and converted to the form in which it is stored."""

import math
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jaxmaskrcnn.data.coco.box_forms import Form
from jaxmaskrcnn.data.coco.fit import fitting_area, fitting_box
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.plain import Plain
from jaxmaskrcnn.data.coco.segmentation import plain_segmentation
from jaxmaskrcnn.data.coco.values import flag, number
from jaxmaskrcnn.data.fields.field import BadAnnotation
from jaxmaskrcnn.data.fields.packed import Outline, Packed, polygon_text
from jaxmaskrcnn.data.fields.table import COLUMNS, FIELDS


class Object(namedtuple("Object", ["id", "label", "crowd", "area", *COLUMNS])):
    """One annotated object, with a value for each column that the fields store.

    Attributes:
        id: Annotation id in the json, or a new one where that has none that can be used.
        label: 0 to the number of categories - 1, in ascending order of category id.
        crowd: True for a region that holds many objects.
        area: Area in square pixels; `fit` has the rule.
        polygons: The original polygons as json text; empty where the mask came as RLE.
        rle: Compressed COCO RLE of the mask over the whole image; empty where there is none.
        bbox: XYXY in pixels, clipped to the image; `fit` has the rule.
        keypoints: x, y, visibility, x, ... as json text; empty where there are none, or they are not read.
    """

    __slots__ = ()

    @property
    def polygons(self) -> str:
        """The original polygons as json text, which is made when it is asked for."""
        return polygon_text(self.packed)

    @property
    def packed(self) -> Packed | Outline | str:
        """The original polygons, packed, or their outline; an empty text where the mask came as RLE."""
        return self[_POLYGONS]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """XYXY in pixels, clipped to the image."""
        return self.bbox

    @property
    def counts(self) -> bytes:
        """Compressed COCO RLE of the mask over the whole image; empty where there is none."""
        return self.rle


_POLYGONS = Object._fields.index("polygons")
# The order in which `plain_object` gives them.
assert Object._fields[4:] == ("polygons", "rle", "bbox", "keypoints")


class AnnotatedImage(NamedTuple):
    """One image of the json with its objects.

    Attributes:
        id: Image id in the json, or the number that stands for it.
        file_name: Path of the file relative to the image folder.
        height: In pixels; 0 where the size is not known.
        width: In pixels.
        objects: Its usable objects.
        ignored: What remains of the objects that were left out: crowd regions (see `left_out`).
    """

    id: int
    file_name: str
    height: int
    width: int
    objects: list[Object]
    ignored: Sequence[Object] = ()


class Labels(Protocol):
    """Gives the label of a ``category_id``, or None; a dictionary does."""

    def get(self, category_id: Any, /) -> int | None:
        """The label of a ``category_id``, or None."""


def parse_object(
    entry: Mapping,
    image: AnnotatedImage,
    labels: Labels,
    masks: bool,
    *,
    identity: int | None = None,
    notes: Notes | None = None,
    form: Form | None = None,
    keypoints: bool = False,
) -> Object:
    """Checks an entry of the json's 'annotations'.

    Args:
        entry: The entry.
        image: The image it belongs to; a size of 0 x 0 is not known.
        labels: Label of every category id.
        masks: Whether a segmentation is needed.
        identity: The annotation's id, if it is not the entry's.
        notes: Counts what is read although it is not written as COCO writes it. With None, polygons have to
            be written so, and all of them be good, as an importer wants it that writes them itself.
        form: Makes x, y, width and height of the json's boxes, where they are something else.
        keypoints: Whether keypoints are read.

    Raises:
        BadAnnotation: The entry cannot be used.
    """
    return parse_scored(
        entry, image, labels, masks, identity=identity, notes=notes, form=form, keypoints=keypoints
    )[0]


def parse_scored(
    entry: Mapping,
    image: AnnotatedImage,
    labels: Labels,
    masks: bool,
    *,
    identity: int | None = None,
    notes: Notes | None = None,
    form: Form | None = None,
    keypoints: bool = False,
    ignores: bool = False,
) -> tuple[Object, list[float]]:
    """An object as `parse_object` returns it, and its box in the json's own numbers where they are taken.

    COCO's protocol compares boxes that are not clipped, so an evaluation takes the second: x, y, width
    and height in pixels. With ``ignores`` an object with ``"ignore": 1`` is a crowd region, as in LVIS.
    """
    identity = entry["id"] if identity is None else identity
    category = entry.get("category_id")
    label = None if isinstance(category, (list, dict)) else labels.get(category)
    if label is None:
        raise BadAnnotation(
            "unknown category",
            f"has the category_id {category!r}, which 'categories' does not list; add the category "
            "or correct the annotation",
        )
    strict, notes = notes is None, notes or Notes()
    place = f"annotation {identity}"
    if type(category) is not int and category is not None:
        notes.add("category ids of annotations written as text or floats, or as names", place)
    crowd = _crowd(entry, notes, place, ignores)
    values: dict[str, Any] = {"bbox": entry.get("bbox"), "segmentation": entry.get("segmentation")}
    values["keypoints"] = entry.get("keypoints")
    if not strict:
        values["segmentation"] = _segmentation(entry, image, notes, place)
    size = (image.height, image.width) if image.height else (math.inf, math.inf)
    columns: dict[str, Any] = {}
    required = {name for name, needed in (("masks", masks), ("keypoints", keypoints)) if needed}
    for field in FIELDS:
        if field.name == "boxes":
            mask = {"size": list(size), "counts": columns["rle"]} if columns["rle"] else None
            values["bbox"] = read_box(values["bbox"], mask, size, form, notes, place)
        columns |= field.parse(values, size, columns, field.name in required)
    written = "area" in entry and entry["area"] is not None
    area = fitting_area(entry.get("area"), mask, columns["bbox"], notes, place, written=written)
    return Object(identity, label, crowd, area, **columns), values["bbox"]


def plain_object(plain: Plain, identity: int, label: int, keypoints: str = "") -> Object:
    """The object of an annotation in which nothing is odd, as `parse_scored` would return it."""
    return Object(identity, label, False, plain.area, plain.polygons, plain.counts, plain.corners, keypoints)


def _crowd(entry: Mapping, notes: Notes, place: str, ignores: bool) -> bool:
    value = entry.get("iscrowd", 0)
    crowd = flag(value)
    if crowd is None:
        raise BadAnnotation(
            "bad iscrowd", f"has the iscrowd {value!r}; give 0 for an object, 1 for a crowd region"
        )
    if type(value) not in (int, bool):
        notes.add("values of 'iscrowd' that are text, lists, floats or null, read as what they say", place)
    if entry.get("ignore") and flag(entry["ignore"]) and not crowd:
        if ignores:
            return True
        notes.add(
            "annotations with 'ignore': 1, which pycocotools and this program take as objects (give "
            "'iscrowd': 1 to have them ignored)", place,
        )  # fmt: skip
    return crowd


def _segmentation(entry: Mapping, image: AnnotatedImage, notes: Notes, place: str) -> Any:
    value = plain_segmentation(entry.get("segmentation"), notes, place)
    if not image.height and value:
        notes.add("masks of images without a size, which are not read", place)
        return None
    return value


def read_box(
    value: Any, mask: dict | None, size: Sequence[float], form: Form | None, notes: Notes, place: str
) -> Any:
    """An annotation's box, in whatever form it is written, by the rule of `fit.fitting_box`.

    Args:
        value: The json's box.
        mask: Compressed RLE; None for an object without a mask.
        size: Height and width of the image in pixels.
        form: Makes x, y, width and height of the json's boxes, where they are something else.
        notes: Counts what is read although it is not written as COCO writes it.
        place: The annotation, for the notes.

    Returns:
        x, y, width and height; ``value`` where it is no box.
    """
    if form is not None and isinstance(value, list) and len(value) == 4:
        numbers = [number(side) for side in value if not isinstance(side, list)]
        sides = [side for side in numbers if side is not None]
        if len(sides) == 4:
            value = form(sides, size)
    elif isinstance(value, list) and any(isinstance(side, str) for side in value):
        notes.add("boxes of texts", place)
    return fitting_box(value, mask, size, notes, place)


def is_int(value) -> bool:
    """Whether a json value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)
