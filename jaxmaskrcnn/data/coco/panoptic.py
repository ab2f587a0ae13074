"""COCO's panoptic format: a json, and a folder of pictures whose colours are numbers of segments.

The folder has the json's name without its suffix. A number is ``red + 256 green + 65536 blue``; 0 is
nobody's.

Format: https://cocodataset.org/#format-data (section 4), https://github.com/cocodataset/panopticapi.

Shape legend: H, W height and width of an image.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.config.semantic import IGNORED, MOST_STUFF
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.segments import AnnotatedSegment
from jaxmaskrcnn.data.coco.values import flag, whole_number
from jaxmaskrcnn.data.fields.semantic import THINGS, SemanticMap
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.utils.texts import is_text


class SegmentedImage(NamedTuple):
    """The segments of an image.

    Attributes:
        picture: The picture whose colours are their numbers.
        place: The annotation, for messages.
        size: Height and width.
        segments: The segments.
    """

    picture: Path
    place: str
    size: tuple[int, int]
    segments: tuple[AnnotatedSegment, ...]

    def numbers(self) -> np.ndarray:
        """The number of each pixel's segment, int64 [H, W]; errors as of `segment_numbers`."""
        return segment_numbers(self.picture, self.place, self.size)


class Panoptic(NamedTuple):
    """A panoptic json.

    Attributes:
        content: What it says about things, as a json of instances: 'images', 'annotations' with masks as RLE,
            and 'categories'.
        things: Categories of things, in ascending order of id.
        stuff: Categories of stuff, likewise.
        images: The segments of images by their ids, as the json has these.
    """

    content: dict[str, Any]
    things: tuple[Category, ...]
    stuff: tuple[Category, ...]
    images: Mapping[Any, SegmentedImage]

    def semantic(self, image_id: Any) -> SemanticMap:
        """The labels of an image's pixels: 0 for things, from 1 on for stuff in ascending order of id.

        Args:
            image_id: Its id, as the json has it.

        Raises:
            UserError: Its picture cannot be read any more.
        """
        image = self.images[image_id]
        labels = {category.id: label for label, category in enumerate(self.stuff, 1)}
        values = {segment.id: labels.get(segment.category_id, THINGS) for segment in image.segments}
        distinct, places = np.unique(image.numbers(), return_inverse=True)
        own = np.array([values.get(number, IGNORED) for number in distinct.tolist()], np.uint8)
        return SemanticMap(own[places].reshape(image.size))


def is_panoptic(content: Any) -> bool:
    """Whether any of a json's annotations has segments.

    Example:
        >>> is_panoptic({"annotations": [{"segments_info": []}]}), is_panoptic({"annotations": []})
        (True, False)
    """
    entries = content.get("annotations") if isinstance(content, dict) else None
    entries = entries if isinstance(entries, list) else ()
    return any(isinstance(entry, dict) and "segments_info" in entry for entry in entries)


def picture_folder(path: Path) -> Path:
    """The folder of a panoptic json's pictures: that with its name without the suffix.

    Args:
        path: The json.

    Raises:
        UserError: There is none.
    """
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise UserError(f"{path} needs the folder of its pictures, {folder}; put it there.")
    return folder


def read_panoptic(content: dict[str, Any], path: Path, problems: Problems) -> Panoptic:
    """Reads a panoptic json and its pictures.

    Args:
        content: The json, with the lists 'images', 'annotations' and 'categories'.
        path: The file.
        problems: Collects what is wrong with an image's segments; its image is then left out.

    Returns:
        The data set.

    Raises:
        UserError: The folder of the pictures is missing, or the categories are wrong.
    """
    folder = picture_folder(path)
    things, stuff = read_kinds(content["categories"], path)
    _check_stuff(stuff, path)
    known = {category.id for category in (*things, *stuff)}
    thing_ids = {category.id for category in things}
    listed = {_key(entry.get("id")): entry for entry in content["images"]}
    images: dict[Any, SegmentedImage] = {}
    annotations: list[dict[str, Any]] = []
    spoiled: set[Any] = set()
    for i, entry in enumerate(content["annotations"]):
        key = _key(entry.get("image_id"))
        place = f"{path}: the annotation of image {entry.get('image_id')!r} (entry {i})"
        try:
            if key in images:
                raise UserError(f"{place} is its second one; leave one of them")
            image = _segmented(entry, listed.get(key), folder, place, known)
            annotations += _objects(image, entry["image_id"], len(annotations), thing_ids)
            images[key] = image
        except UserError as error:
            spoiled.add(key)
            number = whole_number(entry.get("image_id"))
            problems.add("bad segments", str(error).removesuffix("."), image_id=number)
    kept = [entry for entry in content["images"] if _key(entry.get("id")) not in spoiled]
    # Those of an image that is left out for its second annotation, too.
    annotations = [entry for entry in annotations if _key(entry["image_id"]) not in spoiled]
    for entry in kept:
        if _key(entry.get("id")) not in images:
            problems.add(
                "no segments",
                f"{path}: image {entry.get('id')!r} ({entry.get('file_name')}) has no annotation; add one, "
                "or remove the image",
                image_id=whole_number(entry.get("id")),
            )
    kept = [entry for entry in kept if _key(entry.get("id")) in images]
    own = {**content, "images": kept, "annotations": annotations, "categories": [c._asdict() for c in things]}
    return Panoptic(own, things, stuff, images)


def read_kinds(entries: list[dict], path: Path) -> tuple[tuple[Category, ...], tuple[Category, ...]]:
    """The categories of things and those of stuff, each in ascending order of id.

    Args:
        entries: The json's 'categories'.
        path: The file, for messages.

    Raises:
        UserError: One has no id of its own, no name or no 'isthing'; or none is a thing.
    """
    found: dict[int, tuple[Category, bool]] = {}
    for entry in entries:
        identity, name = whole_number(entry.get("id")), entry.get("name")
        thing = flag(entry["isthing"]) if "isthing" in entry else None
        if identity is None or not isinstance(name, str) or thing is None or identity in found:
            raise UserError(
                f"{path} has the category {dict(list(entry.items())[:4])!r}; give each an id of its own, a "
                "name and 'isthing' (1 for classes of objects, 0 for others)."
            )
        found[identity] = Category(identity, name), thing
    kinds = [found[identity] for identity in sorted(found)]
    things, stuff = (tuple(c for c, thing in kinds if thing == wanted) for wanted in (True, False))
    if not things:
        raise UserError(f"{path} has no class with 'isthing' 1, and stuff has no objects; give another json.")
    return things, stuff


def _check_stuff(stuff: tuple[Category, ...], path: Path) -> None:
    """Check that a semantic head can learn the classes of stuff."""
    names = [category.name for category in stuff]
    if len(names) > MOST_STUFF:
        raise UserError(
            f"{path} has {len(names)} classes of stuff, and a label of pixels is one of at most "
            f"{MOST_STUFF}; join some of them."
        )
    for name in names:
        if not name.strip() or names.count(name) > 1 or not is_text(name):
            raise UserError(
                f"{path} has a class of stuff with the name {name!r}, which is no text, empty or also "
                "another one's; give each a name of its own."
            )


def _key(identity: Any) -> Any:
    """An image's id as a key of dictionaries."""
    number = whole_number(identity)
    return str(identity) if number is None else number


def _segmented(entry: dict, listed: dict | None, folder: Path, place: str, known: set[int]) -> SegmentedImage:
    """An annotation, checked without its picture."""
    if listed is None:
        raise UserError(f"{place} is of an image that 'images' lacks; add the image or remove the annotation")
    file, segments = entry.get("file_name"), entry.get("segments_info")
    if not isinstance(file, str) or not file:
        raise UserError(f"{place} has no file_name; give the name of its picture in {folder}")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise UserError(f"{place} has no list 'segments_info'; give COCO's panoptic json")
    size = tuple(whole_number(listed.get(side)) for side in ("height", "width"))
    if not all(side is not None and side > 0 for side in size):
        raise UserError(
            f"{place}: its image has the height {listed.get('height')!r} and the width "
            f"{listed.get('width')!r}; give them in pixels"
        )
    found: dict[int, AnnotatedSegment] = {}
    for segment in segments:
        identity, category = whole_number(segment.get("id")), whole_number(segment.get("category_id"))
        crowd = flag(segment.get("iscrowd", 0))
        where = f"{place} has the segment {segment.get('id')!r}"
        if identity is None or identity <= 0 or identity in found:
            raise UserError(f"{where}; give each segment a number of its own from 1 on")
        if category is None or category not in known:
            raise UserError(
                f"{where} with the category_id {segment.get('category_id')!r}, which 'categories' lacks; add "
                "the category or correct the segment"
            )
        if crowd is None:
            raise UserError(f"{where} with the iscrowd {segment.get('iscrowd')!r}; give 0 or 1")
        found[identity] = AnnotatedSegment(identity, category, crowd)
    picture = folder / Path(file.replace("\\", "/")).name
    return SegmentedImage(picture, place, size, tuple(found.values()))  # pyright: ignore[reportArgumentType]


def _objects(image: SegmentedImage, image_id: Any, first: int, things: set[int]) -> list[dict[str, Any]]:
    """Annotations of an image's things, whose masks are in its picture."""
    numbers = image.numbers()
    there = set(np.unique(numbers).tolist()) - {0}
    listed = {segment.id for segment in image.segments}
    if missing := sorted(listed - there):
        raise UserError(
            f"{image.place} has the segment {missing[0]}, of which {image.picture} has no pixel; correct its "
            "id or remove it"
        )
    if unknown := sorted(there - listed):
        raise UserError(
            f"{image.picture} has pixels of the segment {unknown[0]}, which {image.place} does not list; "
            "give the picture of this image"
        )
    objects = []
    for segment in image.segments:
        if segment.category_id in things:
            rle: Any = mask_utils.encode(np.asfortranarray(numbers == segment.id).astype(np.uint8))
            objects.append({
                "id": first + len(objects) + 1,
                "image_id": image_id,
                "category_id": segment.category_id,
                "iscrowd": int(segment.crowd),
                "segmentation": {"size": list(image.size), "counts": rle["counts"].decode("ascii")},
                "bbox": mask_utils.toBbox(rle).tolist(),
                "area": int(mask_utils.area(rle)),
            })  # fmt: skip
    return objects


def segment_numbers(path: Path, place: str, size: tuple[int, int] | None) -> np.ndarray:
    """The numbers of segments in a picture, int64 [H, W].

    Args:
        path: The picture.
        place: Its annotation, for messages.
        size: Height and width that it has to have, or None.

    Raises:
        UserError: The picture is missing, cannot be read, or is not of the image's size.
    """
    try:
        with Image.open(path) as image:
            # Before it is decoded, as a damaged header can promise any number of pixels.
            if size is not None and image.size[::-1] != size:
                raise UserError(
                    f"{path} is {image.width} x {image.height} pixels, and its image {size[1]} x {size[0]}; "
                    "give the picture of this image."
                )
            values: Any = np.asarray(image if image.mode in ("L", "I", "I;16") else image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # whatever Pillow raises about a damaged file
        raise UserError(
            f"{place} has its segments in {path}, which cannot be read ({type(error).__name__}); restore it."
        ) from error
    values = values.astype(np.int64)
    return values if values.ndim == 2 else values @ np.array([1, 256, 65536])
