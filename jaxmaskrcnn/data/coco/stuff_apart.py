"""Stuff that is kept apart from the objects, as Detectron2's Panoptic FPN has it.

Beside a json of objects there is either a folder of pictures whose values are labels of stuff (what
``prepare_panoptic_fpn.py`` of Detectron2 makes), or a COCO json whose annotations are regions of stuff. Where
pixels belong to one segment each, objects lie on stuff, and a smaller object lies on a larger one.

Shape legend: H, W height and width of an image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxmaskrcnn.config.semantic import IGNORED, numbered_stuff
from jaxmaskrcnn.data.coco.images import Images
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, Object
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.segments import AnnotatedSegment
from jaxmaskrcnn.data.coco.stuff_json import read_stuff_json
from jaxmaskrcnn.data.fields.semantic import THINGS, SemanticMap
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

_FIRST = IGNORED + 1  # number of the first object among an image's segments; below are labels of stuff


class ImageStuff(NamedTuple):
    """The stuff of an image.

    Attributes:
        place: The image, for messages.
        size: Height and width.
        present: The labels of stuff that occur, ascending.
        picture: The picture whose values are labels; None where regions are given.
        regions: Label and compressed RLE of each region, those behind others first.
    """

    place: str
    size: tuple[int, int]
    present: tuple[int, ...]
    picture: Path | None
    regions: tuple[tuple[int, bytes], ...] = ()

    def labels(self) -> np.ndarray:
        """The label of each pixel, uint8 [H, W]: 0 for things, 255 for none; errors as of `read_picture`."""
        if self.picture is not None:
            return read_picture(self.picture, self.place, self.size)
        labels = np.full(self.size, IGNORED, np.uint8)
        for label, counts in self.regions:
            labels[decode_mask(counts, *self.size).T] = label
        return labels


class SegmentedObjects(NamedTuple):
    """The stuff of an image, and the objects in front of it.

    Attributes:
        stuff: The stuff.
        ids: Category id of each label of stuff, from 1 on.
        objects: The objects and crowd regions that have a mask, those behind others first.
        things: Category id of each of them.
    """

    stuff: ImageStuff
    ids: tuple[int, ...]
    objects: tuple[Object, ...]
    things: tuple[int, ...]

    @property
    def segments(self) -> tuple[AnnotatedSegment, ...]:
        """The kinds of stuff and the objects, also what nothing is seen of behind others."""
        stuff = [AnnotatedSegment(label, self.ids[label - 1], False) for label in self.stuff.present]
        objects = [
            AnnotatedSegment(number, category, item.crowd)
            for number, (item, category) in enumerate(zip(self.objects, self.things, strict=True), _FIRST)
        ]
        return (*stuff, *objects)

    def numbers(self) -> np.ndarray:
        """The number of each pixel's segment, int64 [H, W], 0 for none; errors as of `read_picture`."""
        labels = self.stuff.labels()
        numbers = np.where(labels == IGNORED, 0, labels).astype(np.int64)
        for number, item in enumerate(self.objects, _FIRST):
            numbers[decode_mask(item.rle, *self.stuff.size).T] = number
        return numbers

    def semantic(self) -> np.ndarray:
        """The labels that are learned, uint8 [H, W]: a picture's as they are; objects in front of regions."""
        labels = self.stuff.labels()
        if self.stuff.picture is None:
            for item in self.objects:
                labels[decode_mask(item.rle, *self.stuff.size).T] = THINGS
        return labels


class ObjectsAndStuff(NamedTuple):
    """The segments of a data set whose stuff is kept apart from its objects; see `segments.Segments`.

    Attributes:
        things: Categories of the objects.
        stuff: Categories of stuff, in the order of their labels.
        images: The segments of images by their ids.
    """

    things: tuple[Category, ...]
    stuff: tuple[Category, ...]
    images: Mapping[Any, SegmentedObjects]

    def semantic(self, image_id: Any) -> SemanticMap:
        """See `segments.Segments.semantic`."""
        return SemanticMap(self.images[image_id].semantic())


class Stuff(NamedTuple):
    """The stuff of a data set.

    Attributes:
        names: The name of each label from 1 on.
        ids: Their category ids; () where they have none of their own.
        images: The stuff of images by their ids.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    images: Mapping[int, ImageStuff]

    def with_objects(self, things: Sequence[Category], images: Sequence[AnnotatedImage]) -> ObjectsAndStuff:
        """Puts the objects in front of the stuff.

        Args:
            things: Their categories, in ascending order of id.
            images: The images with their objects.
        """
        categories = numbered_stuff(self.names, self.ids, [category.id for category in things])
        ids = tuple(category.id for category in categories)
        found = {}
        for image in images:
            masks = [item for item in (*image.objects, *image.ignored) if item.rle]
            masks.sort(key=lambda item: (not item.crowd, -item.area))
            classes = tuple(things[item.label].id for item in masks)
            found[image.id] = SegmentedObjects(self.images[image.id], ids, tuple(masks), classes)
        return ObjectsAndStuff(tuple(things), categories, found)


def read_stuff(
    source: str,
    names: Sequence[str],
    images: Images,
    categories: Sequence[Mapping],
    problems: Problems,
    notes: Notes,
) -> Stuff:
    """Reads stuff that is kept apart from the objects.

    Args:
        source: Path of a COCO json of stuff, or of a folder of pictures whose values are labels: 0 for
            things, from 1 on for stuff, 255 for nothing.
        names: The names of the labels of pictures, from 1 on; () where nobody knows them.
        images: The images; those whose stuff cannot be used are left out of them.
        categories: The entries of the objects' json, whose classes are things wherever they occur.
        problems: Collects what is wrong with an image's stuff.
        notes: Gets what is probably a mistake.

    Raises:
        UserError: There is nothing at the path, or it holds no stuff.
    """
    path = Path(source)
    if path.is_dir():
        return _of_pictures(path, names, images, problems, notes)
    found = read_stuff_json(path, images, categories, problems)
    stuff = {}
    for identity, regions in found.regions.items():
        image = images.usable[identity]
        present = tuple(sorted({label for label, _ in regions} - {THINGS}))
        size = image.height, image.width
        stuff[identity] = ImageStuff(f"{path}: image {identity}", size, present, None, tuple(regions))
    return Stuff(found.names, found.ids, stuff)


def _of_pictures(
    folder: Path, names: Sequence[str], images: Images, problems: Problems, notes: Notes
) -> Stuff:
    """Looks for the picture of every image, and at the labels in it."""
    stuff: dict[int, ImageStuff] = {}
    for identity, image in list(images.usable.items()):
        size, place = (image.height, image.width), f"image {identity} ({image.file_name})"
        try:
            picture = _picture_of(folder, image, place)
            labels = read_picture(picture, place, size)
            values = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORED + 1)).tolist()
            present = tuple(value for value in values if value not in (THINGS, IGNORED))
            if names and present and present[-1] > len(names):
                raise UserError(
                    f"{picture} has the label {present[-1]}, and the model {len(names)} classes of stuff; "
                    "give the names of all in model.semantic.stuff, or correct the picture"
                )
            stuff[identity] = ImageStuff(place, size, present, picture)
        except UserError as error:
            images.leave_out(identity)
            problems.add("bad segments", str(error).removesuffix("."), image_id=identity)
    count = max((found.present[-1] for found in stuff.values() if found.present), default=0)
    if not names and stuff and not count:
        raise UserError(
            f"the pictures in {folder} have no label of stuff, which begin at 1; give the folder of the "
            "pictures that prepare_panoptic_fpn.py has written, or leave the stuff out."
        )
    if count < len(names):
        kind = f"labels of stuff that end before the {len(names)} names of model.semantic.stuff"
        notes.add(kind, f"{count} in {folder}")
    return Stuff(tuple(names) or tuple(f"stuff {i + 1}" for i in range(count)), (), stuff)


def _picture_of(folder: Path, image: AnnotatedImage, place: str) -> Path:
    """The picture with the image's name and the suffix .png, in the same subfolder or without one."""
    name = Path(image.file_name.replace("\\", "/"))
    if not name.stem:
        raise UserError(f"{place} has no file_name, by which the picture of its stuff is found; add one")
    name = name.with_suffix(".png")
    within = not name.is_absolute() and ".." not in name.parts
    for path in (folder / name, folder / name.name) if within else (folder / name.name,):
        if path.is_file():
            return path
    raise UserError(
        f"{place} has no picture of its stuff, {folder / name.name}; restore it, or remove the image"
    )


def read_picture(path: Path, place: str, size: tuple[int, int]) -> np.ndarray:
    """The values of a picture of stuff, uint8 [H, W].

    Args:
        path: The picture.
        place: Its image, for messages.
        size: Height and width that it has to have.

    Raises:
        UserError: It cannot be read, has several channels, or is not of the image's size.
    """
    try:
        with Image.open(path) as image:
            # Before it is decoded, as a damaged header can promise any number of pixels.
            if image.size[::-1] != size:
                raise UserError(
                    f"{path} is {image.width} x {image.height} pixels, and {place} {size[1]} x {size[0]}; "
                    "give the picture of this image."
                )
            if image.mode not in ("L", "P", "1"):
                raise UserError(
                    f"{path} has pixels of the mode {image.mode}, and labels of stuff are single values of 8 "
                    "bits; give pictures as prepare_panoptic_fpn.py writes them, none of a panoptic json."
                )
            return np.asarray(image).astype(np.uint8)
    except UserError:
        raise
    except Exception as error:  # whatever Pillow raises about a damaged file
        raise UserError(
            f"{place} has its stuff in {path}, which cannot be read ({type(error).__name__}); restore it."
        ) from error
