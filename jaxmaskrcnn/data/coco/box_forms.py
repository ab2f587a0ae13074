"""Tells what the four numbers of a box are: x, y, width, height, or corners, or shares of the image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxmaskrcnn.data.coco.fit import iou
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.packing import unpacked
from jaxmaskrcnn.data.coco.segmentation import plain_segmentation
from jaxmaskrcnn.data.coco.values import number

_SAMPLE = 2000  # annotations that are looked at
_LEAST = 3  # boxes that cannot be x, y, width, height, before another form is considered
_AGREES = 0.9  # mean IoU with the polygons in the form that the boxes have

Form = Callable[[Sequence[float], Sequence[float]], Sequence[float]]

# Each turns four numbers and an image's (height, width) into x, y, width, height in pixels.
_FORMS: dict[str, Form] = {
    "corners x1, y1, x2, y2": lambda b, s: [b[0], b[1], b[2] - b[0], b[3] - b[1]],
    "x, y, width, height as shares of the image": lambda b, s: [
        b[0] * s[1], b[1] * s[0], b[2] * s[1], b[3] * s[0]
    ],
    "corners x1, y1, x2, y2 as shares of the image": lambda b, s: [
        b[0] * s[1], b[1] * s[0], (b[2] - b[0]) * s[1], (b[3] - b[1]) * s[0]
    ],
    "the centre's x, y, width, height as shares of the image": lambda b, s: [
        (b[0] - b[2] / 2) * s[1], (b[1] - b[3] / 2) * s[0], b[2] * s[1], b[3] * s[0]
    ],
}  # fmt: skip


def sampled(entries: Sequence[Mapping]) -> Sequence[Mapping]:
    """The annotations that are looked at; of them again, all."""
    return entries[:: max(1, len(entries) // _SAMPLE)]


def box_form(
    entries: Sequence[Mapping], size_of: Callable[[Any], tuple[int, int] | None]
) -> tuple[str, Form | None]:
    """Finds the form that a json's boxes have.

    With polygons, it is the form in which the boxes fit them. Without, it is the only one in which all
    boxes lie in their images, if they can't be x, y, width and height.

    Args:
        entries: The json's 'annotations'.
        size_of: The height and width of the image with an ``image_id``.

    Returns:
        The form's name and a function that makes x, y, width and height of it; ("", None) where the
        boxes are written as COCO writes them or nothing can be said, and (name, None) where the boxes are
        shares of the image and nothing says which.
    """
    samples = []
    for entry in sampled(entries):
        box, size = entry.get("bbox"), size_of(entry.get("image_id"))
        if isinstance(box, list) and len(box) == 4 and size is not None and min(size) > 0:
            values = [number(v) if not isinstance(v, list) else None for v in box]
            if None not in values:
                samples.append((values, size, _extent(entry.get("segmentation"))))
    if len(samples) < _LEAST:
        return "", None
    masked = [sample for sample in samples if sample[2] is not None]
    if masked:
        return _by_masks(masked)
    return _by_images(samples)


def polygons_are_shares(entries: Sequence[Mapping]) -> bool:
    """Whether all polygons of a json, of which a sample is looked at, lie within the first pixel.

    Example:
        >>> polygons_are_shares([{"segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}])
        True
    """
    found = False
    for entry in sampled(entries):
        extent = _extent(entry.get("segmentation"))
        if extent is not None:
            found = True
            if min(extent) < 0 or extent[0] + extent[2] > 1 or extent[1] + extent[3] > 1:
                return False
    return found


def _by_masks(samples) -> tuple[str, Form | None]:
    if _agreement(samples, lambda box, size: box) >= _AGREES:
        return "", None
    for name, form in _FORMS.items():
        if _agreement(samples, form) >= _AGREES:
            return name, form
    return "", None


def _agreement(samples, form: Form) -> float:
    """The mean IoU of boxes in a form and of the polygons' extents."""
    return sum(iou(form(box, size), extent) for box, size, extent in samples) / len(samples)


def _by_images(samples) -> tuple[str, Form | None]:
    relative = all(max(box) <= 1 and min(box) >= 0 for box, size, _ in samples)
    if not relative:
        impossible = sum(not _inside(box, size) for box, size, _ in samples)
        name = "corners x1, y1, x2, y2"
        corners = all(_inside(_FORMS[name](box, size), size) for box, size, _ in samples)
        return (name, _FORMS[name]) if corners and impossible >= _LEAST else ("", None)
    possible = [
        name for name, form in _FORMS.items()
        if "shares" in name and all(_inside(form(box, size), size) for box, size, _ in samples)
    ]  # fmt: skip
    if len(possible) == 1:
        return possible[0], _FORMS[possible[0]]
    return "shares of the image", None


def _inside(box: Sequence[float], size: Sequence[int]) -> bool:
    x, y, width, height = box
    return (
        width > 0
        and height > 0
        and x >= -1
        and y >= -1
        and x + width <= size[1] + 1
        and y + height <= size[0] + 1
    )


def _extent(segmentation: Any) -> list[float] | None:
    """x, y, width, height of polygons."""
    try:
        rings = plain_segmentation(unpacked(segmentation), Notes(), "")
        xs = [float(x) for ring in rings for x in ring[::2]]
        ys = [float(y) for ring in rings for y in ring[1::2]]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
