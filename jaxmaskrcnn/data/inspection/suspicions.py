"""Oddities of a data set that training accepts, but that are probably mistakes."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.fit import OUTLINE
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.packing import no_collection
from jaxmaskrcnn.data.coco.problems import Problem
from jaxmaskrcnn.data.images import used_range
from jaxmaskrcnn.data.inspection.statistics import Table
from jaxmaskrcnn.data.rle import mask_areas

_LITTLE = 1 / 8  # of the range of 16 bits
_TOGETHER = 250  # masks that are measured at a time


@no_collection()
def suspicions(annotations: Annotations, table: Table, path: Path) -> list[Problem]:
    """Finds objects, images and classes that occur twice, and empty masks.

    Args:
        annotations: The usable images and objects.
        table: Their columns.
        path: The json, for messages.

    Returns:
        The findings, whose messages are sentences without their full stop.
    """
    found = list(_repeated_files(annotations, path))
    for i in np.unique(table.image[_repeated_sides(table)]).tolist():
        found += _repeated_objects(annotations.images[i], path)
    found += _empty_masks(annotations, table, path)
    places = {image.id: i for i, image in enumerate(annotations.images)}
    found.sort(key=lambda problem: places[problem.image_id])
    return [*_repeated_names(annotations, path), *found]


def same_content(readable: Iterable[tuple[AnnotatedImage, bytes]], path: Path) -> list[Problem]:
    """Images whose files hold the same bytes under different names.

    Args:
        readable: Images with their files' content; empty content was not read.
        path: The json, for messages.
    """
    found, seen = [], {}
    for image, data in readable:
        if not data:
            continue
        first = seen.setdefault(hashlib.blake2b(data, digest_size=16).digest(), image)
        if first.file_name != image.file_name:
            message = (
                f"{path}: images {first.id} ({first.file_name}) and {image.id} ({image.file_name}) "
                "hold the same picture"
            )
            found.append(Problem("same picture twice", message, image.id))
    return found


def dark_pictures(
    readable: Iterable[tuple[AnnotatedImage, bytes]], path: Path, pixels: PixelConfig, found: list[Problem]
) -> Iterator[tuple[AnnotatedImage, bytes]]:
    """Passes images on, and notes those of 16 bits that use little of their range, which become nearly black.

    Args:
        readable: Images with their files' content; empty content was not read.
        path: The json, for messages.
        pixels: How values become uint8; there is nothing to note where the range is not the type's.
        found: Is added to.

    Yields:
        What comes in.
    """
    for image, data in readable:
        if data and pixels.intensity == "dtype":
            share = used_range(data, name=f"{path}: image {image.id} ({image.file_name})", pixels=pixels)
            if share is not None and share < _LITTLE:
                message = (
                    f"{path}: image {image.id} ({image.file_name}) uses {share:.2%} of the range of its 16 "
                    "bits and becomes nearly black; train with --config.data.intensity=percentile, or with "
                    "--config.data.intensity=range --config.data.intensity_range=LOW,HIGH"
                )
                found.append(Problem("dark 16-bit picture", message, image.id))
        yield image, data


def _repeated_names(annotations: Annotations, path: Path) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for category in annotations.categories:
        first = names.setdefault(category.name, category.id)
        if first != category.id:
            message = f"{path}: categories {first} and {category.id} are both called {category.name!r}"
            yield Problem("class name twice", message)


def _repeated_files(annotations: Annotations, path: Path) -> Iterator[Problem]:
    files: dict[str, int] = {}
    for image in annotations.images:
        first = files.setdefault(image.file_name, image.id)
        if first != image.id:
            message = f"{path}: images {first} and {image.id} are both {image.file_name}"
            yield Problem("same file twice", message, image.id)


def _repeated_sides(table: Table) -> np.ndarray:
    """Which objects have a box of the same sides as another one of their image and class, bool [G]."""
    columns = (table.image, table.label, table.crowd, *table.sides.T)
    order = np.lexsort(columns)
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:][same]] = True
    return repeated


def _repeated_objects(image: AnnotatedImage, path: Path) -> Iterator[Problem]:
    seen: dict[tuple, int] = {}
    for item in image.objects:
        first = seen.setdefault((item.label, item.crowd, item.bbox), item.id)
        if first != item.id:
            place = f"image {image.id} ({image.file_name})"
            message = f"{path}: annotations {first} and {item.id} of {place} have the same class and box"
            yield Problem("same object twice", message, image.id, item.id)


def _empty_masks(annotations: Annotations, table: Table, path: Path) -> Iterator[Problem]:
    # By the rule of `fit`, an area that is larger than its box's outline belongs to a mask that has pixels.
    suspected = np.flatnonzero(table.has_mask & (table.area <= OUTLINE * table.sides.sum(1)))
    first = np.searchsorted(table.image, np.arange(len(annotations.images)))
    for start in range(0, len(suspected), _TOGETHER):
        part = []
        for g in suspected[start : start + _TOGETHER].tolist():
            image = annotations.images[table.image[g]]
            part.append((image, image.objects[g - first[table.image[g]]]))
        areas = mask_areas([{"size": [i.height, i.width], "counts": item.counts} for i, item in part])
        for k in np.flatnonzero(areas == 0):
            image, item = part[k]
            message = (
                f"{path}: annotation {item.id} of image {image.id} ({image.file_name}) has a mask without a "
                "pixel"
            )
            yield Problem("empty mask", message, image.id, item.id)
