"""COCO jsons whose coordinates are shares of the image's width and height, as some scripts write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.ids import Ids
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.packing import packed, unpacked
from jaxmaskrcnn.data.coco.segmentation import plain_segmentation
from jaxmaskrcnn.data.coco.values import number, whole_number
from jaxmaskrcnn.data.fields.polygons import are_numbers
from jaxmaskrcnn.errors import UserError


def to_pixels(content: Mapping[str, list[dict]], path: Path) -> int:
    """Multiplies the polygons of a json by the sizes of their images, in place.

    The boxes and areas beside polygons are left out, as those of the masks are exact. Boxes alone stay as
    they are: what reads them tells shares from pixels, and a centre from a corner.

    Args:
        content: The json; polygons may be packed.
        path: Its path, for messages.

    Returns:
        How many annotations have polygons.

    Raises:
        UserError: A coordinate is not between 0 and 1, an image's size is missing, or there is no polygon.
    """
    ids = Ids(entry.get("id") for entry in content["images"])
    sizes = {ids.of(entry.get("id")): entry for entry in content["images"]}
    count = 0
    for index, entry in enumerate(content["annotations"]):
        place = f"{path}: annotation {entry.get('id', index)}"
        polygons = plain_segmentation(unpacked(entry.get("segmentation")), Notes(), place)
        box = entry.get("bbox")
        if isinstance(box, list):
            _check([v for v in map(_number, box) if v is not None], "bbox", place)
        image = sizes.get(ids.of(entry.get("image_id")))
        if image is None or not isinstance(polygons, list) or not polygons:
            continue  # what reads the json says what is wrong
        if not all(isinstance(ring, list) and are_numbers(ring) for ring in polygons):
            continue
        height, width = _size(image, path)
        for ring in polygons:
            _check(ring, "polygon", place)
        entry["segmentation"] = [
            [round(value * (height if i % 2 else width), 4) for i, value in enumerate(ring)]
            for ring in polygons
        ]
        entry["bbox"] = entry["area"] = None
        packed(entry)
        count += 1
    if not count:
        raise UserError(f"{path} has no polygons, which --relative is about; leave it out.")
    return count


def _number(value: Any) -> float | None:
    return None if isinstance(value, list) else number(value)


def _check(values: list, what: str, place: str) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise UserError(
                f"{place} has a {what} with the value {value:g}, and with --relative all coordinates are "
                "shares of the image, from 0 to 1; correct it, or leave out --relative."
            )


def _size(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    height, width = whole_number(image.get("height")), whole_number(image.get("width"))
    if not height or not width or min(height, width) < 1:
        raise UserError(
            f"{path}: image {image.get('id')} ({image.get('file_name')}) has the height "
            f"{image.get('height')!r} and width {image.get('width')!r}, by which --relative multiplies; give "
            "its size in pixels."
        )
    return height, width
