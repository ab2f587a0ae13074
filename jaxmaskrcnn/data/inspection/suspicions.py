"""Oddities of a data set that training accepts, but that are probably mistakes."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.packing import no_collection
from jaxmaskrcnn.data.coco.problems import Problem
from jaxmaskrcnn.data.images import used_range
from jaxmaskrcnn.data.rle import mask_areas

_LITTLE = 1 / 8  # of the range of 16 bits


@no_collection()
def suspicions(annotations: Annotations, path: Path) -> list[Problem]:
    """Finds objects, images and classes that occur twice, and empty masks.

    Args:
        annotations: The usable images and objects.
        path: The json, for messages.

    Returns:
        The findings, whose messages are sentences without their full stop.
    """
    found = list(_repeated_names(annotations, path))
    files: dict[str, int] = {}
    for image in annotations.images:
        first = files.setdefault(image.file_name, image.id)
        if first != image.id:
            message = f"{path}: images {first} and {image.id} are both {image.file_name}"
            found.append(Problem("same file twice", message, image.id))
        found += _objects(image, path)
    return found


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


def _objects(image: AnnotatedImage, path: Path) -> Iterator[Problem]:
    place = f"image {image.id} ({image.file_name})"
    seen: dict[tuple, int] = {}
    for item in image.objects:
        first = seen.setdefault((item.label, item.crowd, item.box), item.id)
        if first != item.id:
            message = f"{path}: annotations {first} and {item.id} of {place} have the same class and box"
            yield Problem("same object twice", message, image.id, item.id)
    masked = [item for item in image.objects if item.counts]
    if not masked:
        return
    rles = [{"size": [image.height, image.width], "counts": item.counts} for item in masked]
    for i in np.flatnonzero(mask_areas(rles) == 0):
        item = masked[i]
        message = f"{path}: annotation {item.id} of {place} has a mask without a pixel"
        yield Problem("empty mask", message, image.id, item.id)
