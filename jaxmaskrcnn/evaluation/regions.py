"""Objects and detections as columns, which take a small part of the memory of a dictionary for each.

Shape legend: N objects or detections of all images.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.rle import mask_areas
from jaxmaskrcnn.errors import UserError


class Regions(NamedTuple):
    """Objects or detections of all images.

    Attributes:
        images: int [N], the place of the image in ascending order of ids.
        labels: int [N], the place of the class in ascending order of ids.
        areas: float64 [N], in square pixels; they decide what is small, medium and large.
        shapes: float64 [N, 4], boxes as x, y, width, height, or N masks as compressed RLE.
    """

    images: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    shapes: np.ndarray | list[dict[str, Any]]

    def shapes_of(self, rows: np.ndarray) -> np.ndarray | list[dict[str, Any]]:
        """The boxes or masks of some rows, as ``pycocotools.mask.iou`` takes them."""
        if isinstance(self.shapes, np.ndarray):
            return self.shapes[rows]
        return [self.shapes[row] for row in rows]


class Detected(NamedTuple):
    """COCO results whose ids are known, before boxes or masks are read from them.

    Attributes:
        entries: The N results, as they were given.
        image_ids: N numbers of images.
        images: int [N], the place of the image in ascending order of ids.
        labels: int [N], the place of the class in ascending order of ids; -1 for an unknown class.
        scores: float64 [N].
    """

    entries: Sequence[dict[str, Any]]
    image_ids: list[int]
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def detected(
    entries: Sequence[dict[str, Any]],
    image_id: Callable[[Any], int | None],
    category_id: Callable[[Any], int | None],
    places: Mapping[int, int],
    labels: Mapping[int, int],
) -> Detected:
    """Looks up the images and classes of COCO results.

    Args:
        entries: COCO results.
        image_id: Gives the number of an image's id as it is written, or None.
        category_id: Gives the number of a category's id or name as it is written, or None.
        places: The place of each image that is scored, by id.
        labels: The place of each class, by id.

    Returns:
        The results with the numbers of their ids; those of unknown classes are among them.

    Raises:
        UserError: There are results of images that are not scored.
    """
    image_ids = _numbers((d["image_id"] for d in entries), image_id)
    unknown = set(image_ids) - places.keys()
    if unknown:
        raise UserError(
            f"The detections name {len(unknown)} image ids that the annotations do not have "
            f"(for example {min(unknown, key=str)}); score them against the annotations they were made "
            "for."
        )
    category_ids = _numbers((d["category_id"] for d in entries), category_id)
    return Detected(
        entries,
        image_ids,
        np.array([places[i] for i in image_ids], int),
        np.array([labels.get(i, -1) for i in category_ids], int),
        np.array([d["score"] for d in entries], np.float64),
    )


def _numbers(written: Any, number: Callable[[Any], int | None]) -> list[Any]:
    """The numbers of ids as they are written; an id that is not known stays as it is."""
    known: dict[Any, Any] = {}

    def of(value):
        key = (type(value), value)  # 1, 1.0 and True are equal
        if key not in known:
            found = number(value)
            known[key] = value if found is None else found
        return known[key]

    return [of(value) for value in written]


def box_regions(found: Detected) -> Regions:
    """The boxes of detections; whether one is small follows from its box."""
    boxes = np.array([d["bbox"] for d in found.entries], np.float64).reshape(-1, 4)
    return Regions(found.images, found.labels, boxes[:, 2] * boxes[:, 3], boxes)


def mask_regions(found: Detected, sizes: Mapping[int, tuple[int | None, int | None]]) -> Regions:
    """The masks of detections; whether one is small follows from its mask.

    COCO's loadRes would use the area of the box if there are both.

    Args:
        found: The detections.
        sizes: Height and width of every image by id; None where they are not known.

    Raises:
        UserError: A mask has another size than its image; pycocotools would find no overlap then.
    """
    masks = [d["segmentation"] for d in found.entries]
    for number, (image_id, mask) in enumerate(zip(found.image_ids, masks, strict=True)):
        size = sizes[image_id]
        if not isinstance(mask, dict) or None in size:
            continue
        own = mask.get("size")
        if own is not None and not _same(own, size):
            raise UserError(
                f"Detection {number} (from 0), of image {image_id}, has an RLE of size {own} "
                f"(height, width) for an image of {list(size)}; give masks at the size of the "
                "annotations' images."
            )
    return Regions(found.images, found.labels, mask_areas(masks).astype(np.float64), masks)


def _same(own: Any, size: tuple[int | None, int | None]) -> bool:
    # Nearly all are lists, and comparing these takes a tenth of the time.
    return own == list(size) if type(own) is list else np.array_equal(own, size)
