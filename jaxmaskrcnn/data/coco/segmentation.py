"""Segmentations in the spellings that tools and scripts write, brought to COCO's lists of polygons."""

import json
from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.values import number, whole_number
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.polygons import Polygons, are_numbers

_POINTS = 3  # of the smallest polygon


def plain_segmentation(value: Any, notes: Notes, place: str) -> Any:
    """A segmentation as COCO writes it, where it is clear what is meant; otherwise unchanged.

    Polygons may be one flat list, pairs ``[x, y]``, dictionaries ``{"x": .., "y": ..}``, or texts. Of
    several polygons those that have an area are kept, so that one that has none does not cost the object.

    Args:
        value: The entry's 'segmentation'.
        notes: Counts what was read.
        place: The annotation, for the notes.

    Returns:
        ``[[x, y, x, y, ...], ...]``, an RLE, or ``value`` if it is neither.

    Example:
        >>> plain_segmentation([[[0, 0], [4, 0], [4, 4]], [1, 1, 2, 2]], Notes(), "annotation 1")
        [[0, 0, 4, 0, 4, 4]]
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict):
        if "counts" in value:
            return _plain_rle(value, notes, place)
        value = [value]
    if not isinstance(value, list) or not value or all(map(_is_polygon, value)):
        return value
    rings = _rings(value)
    if rings is None:
        return value
    good = [ring for ring in rings if _is_polygon(ring)]
    if not good:
        return rings if all(isinstance(ring, list) for ring in value) and _flat(value) else value
    if len(good) < len(rings):
        notes.add(
            "polygons without an area or with a value that is no number, left out of objects that "
            "have others",
            place, len(rings) - len(good),
        )  # fmt: skip
    if rings != value:
        notes.add("polygons that are no lists x, y, x, y, ... of numbers", place)
    return good


def mask_counts(
    value: Any, size: Sequence[float], notes: Notes, place: str, *, required: bool = False
) -> bytes:
    """The compressed RLE of a segmentation in any of these spellings.

    Args:
        value: An entry's 'segmentation'.
        size: Height and width of the image in pixels.
        notes: Counts what was read.
        place: The annotation, for the notes.
        required: Whether there has to be one; empty bytes without it.

    Raises:
        BadAnnotation: It cannot be read.

    Example:
        >>> mask_counts([[0, 0, 2, 0, 2, 2, 0, 2]], (2, 2), Notes(), "annotation 1")
        b'04'
    """
    entry = {"segmentation": plain_segmentation(value, notes, place)}
    height, width = size
    Polygons.parse(entry, (height, width), {}, False)
    return Masks.parse(entry, (height, width), {}, required)["rle"]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip()[:1] in ("[", "{") else text
    except (ValueError, RecursionError):
        return text


def _is_polygon(ring: Any) -> bool:
    return isinstance(ring, list) and len(ring) >= 2 * _POINTS and not len(ring) % 2 and are_numbers(ring)


def _flat(value: list) -> bool:
    return not any(isinstance(item, (list, dict)) for ring in value for item in ring)


def _rings(value: list) -> list[list] | None:
    """The polygons of a list, each flat; None where it is not known what they are."""
    first = value[0]
    if not isinstance(first, (list, dict)):
        ring = _ring(value)  # one polygon in the place of a list of them
        return None if ring is None else [ring]
    if all(map(_is_point, value)) and len(value) >= _POINTS:
        ring = _ring(value)
        return None if ring is None else [ring]
    rings = []
    for item in value:
        while isinstance(item, list) and len(item) == 1 and isinstance(item[0], list):
            item = item[0]  # one list too many
        ring = _ring(item)
        if ring is None:
            return None
        rings.append(ring)
    return rings


def _is_point(value: Any) -> bool:
    if isinstance(value, dict):
        return {"x", "y"} <= value.keys() and not isinstance(value["x"], list)
    return isinstance(value, list) and len(value) == 2 and not any(isinstance(v, (list, dict)) for v in value)


def _ring(value: Any) -> list | None:
    """One polygon as a flat list; a value that is no number stays as it is."""
    if isinstance(value, dict):
        for key in ("points", "exterior", "polygon"):
            if isinstance(value.get(key), list):
                return None if value.get("interior") else _ring(value[key])
        xs, ys = value.get("x", value.get("all_points_x")), value.get("y", value.get("all_points_y"))
        if not (isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys)):
            return None
        value = [v for pair in zip(xs, ys, strict=True) for v in pair]
    if not isinstance(value, list):
        return None
    if value and all(map(_is_point, value)):
        value = [v for p in value for v in ((p["x"], p["y"]) if isinstance(p, dict) else p)]
    if any(isinstance(item, (list, dict)) for item in value):
        return None
    numbers = [item if type(item) in (int, float) else number(item) for item in value]
    return [value[i] if v is None else v for i, v in enumerate(numbers)]


def _plain_rle(value: dict, notes: Notes, place: str) -> dict:
    """An RLE whose size and counts are whole numbers, where they are written as text or as floats."""
    size, counts = value.get("size"), value["counts"]
    changed = {}
    if isinstance(size, list) and not all(type(side) is int for side in size):
        whole = [whole_number(side) for side in size]
        if None not in whole:
            changed["size"] = whole
    if isinstance(counts, list) and not all(type(run) is int for run in counts[:10]):
        whole = [whole_number(run) for run in counts]
        # Text is not taken, as a list of texts is no form of RLE that a tool writes.
        if None not in whole and not any(isinstance(run, str) for run in counts):
            changed["counts"] = whole
    if changed:
        notes.add("RLEs with sizes or counts that are text or floats", place)
    return {**value, **changed} if changed else value
