"""The one rule for boxes and areas: where an object has a mask, its box and its area have to fit it.

Training, evaluation, ``inspect`` and ``report`` all take what is decided here.

Boxes are XYXY in pixels unless a name says xywh.
"""

from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.values import number
from jaxmaskrcnn.data.rle import mask_areas, mask_boxes

FITS = 0.5  # below this IoU with the mask's box, a box does not belong to the mask
_ROUNDING = 8.0  # pixels; boxes of smaller masks may differ from them by rounding alone
OUTLINE = 2  # sides of a box's outline, by whose pixels an area may differ from the mask's
BORDER = 1.0  # pixels; a box that reaches over the border by less is a rounding error

BOX_NOTE = "boxes that do not fit the objects' masks, whose own boxes are taken"
AREA_NOTE = "areas that are no numbers or do not fit the objects' masks, whose own areas are taken"
BORDER_NOTE = "boxes that reach over the border of their image, cut off there"


def fitting_box(value: Any, mask: dict | None, size: Sequence[float], notes: Notes, place: str) -> Any:
    """The box of an object: the json's where it fits the mask, otherwise the mask's.

    Args:
        value: The json's box, x, y, width and height, in whatever spelling.
        mask: Compressed RLE; None for an object without a mask.
        size: Height and width of the image in pixels.
        notes: Counts the boxes that do not fit.
        place: The annotation, for the notes.

    Returns:
        ``[x, y, width, height]``, the json's own numbers where they can be used. Without a mask it is
        ``value``, if that is no box.
    """
    box = _numbers(value)
    if box is not None and min(box[2:]) > 0:
        x, y, width, height = box
        over = max(-x, -y, x + width - size[1], y + height - size[0])
        if over > BORDER and not _outside(box, size):
            notes.add(BORDER_NOTE, place)
            x2, y2 = min(x + width, size[1]), min(y + height, size[0])
            box = [max(x, 0), max(y, 0), x2 - max(x, 0), y2 - max(y, 0)]
    own = None if mask is None else mask_boxes([mask])[0].tolist()
    if own is None or min(own[2:]) <= 0:
        return value if box is None else box
    if box is None or min(box[2:]) <= 0 or _outside(box, size) or not _fits(box, own):
        if value is not None:
            notes.add(BOX_NOTE, place)
        return own
    return box


def fitting_area(
    value: Any, mask: dict | None, box: Sequence[float], notes: Notes, place: str, *, written: bool
) -> float:
    """The area of an object: the json's where it fits the mask or the box, otherwise that of the mask or box.

    The area of a polygon and of its pixels differ, most of all where it is thin; so an area fits that
    differs by less than a factor of two or by less than the pixels of the box's outline.

    Args:
        value: The json's area in square pixels.
        mask: Compressed RLE; None for an object without a mask.
        box: XYXY in pixels, clipped to the image.
        notes: Counts the areas that do not fit.
        place: The annotation, for the notes.
        written: Whether the json has an area at all.

    Returns:
        Square pixels.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    own = width * height if mask is None else float(mask_areas([mask])[0])
    area, outline = number(value), OUTLINE * (width + height)
    if area is not None and area >= 0:
        least = 0.0 if mask is None else own / 2
        near = least <= area <= 2 * own or (abs(area - own) <= outline and area > 0)
        if near and (area > 0 or own == 0):
            if type(value) not in (int, float):
                notes.add("areas written as text or in a list", place)
            return float(area)
    if written:
        notes.add(AREA_NOTE, place)
    return own


def _numbers(value: Any) -> list | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if set(map(type, value)) <= {int, float} and all(abs(side) < 1e15 for side in value):
        return value  # as nearly all are; NaN compares as False
    box = [number(side) if not isinstance(side, list) else None for side in value]
    return None if None in box else box


def _outside(box: Sequence[float], size: Sequence[float]) -> bool:
    x, y, width, height = box
    return x + width <= 0 or y + height <= 0 or x >= size[1] or y >= size[0]


def _fits(box: Sequence[float], own: Sequence[float]) -> bool:
    return iou(box, own) >= FITS or max(*box[2:], *own[2:]) <= _ROUNDING


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes of x, y, width and height."""
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    both = width * height if width > 0 and height > 0 else 0.0
    union = aw * ah + bw * bh - both
    return both / union if union > 0 else 0.0
