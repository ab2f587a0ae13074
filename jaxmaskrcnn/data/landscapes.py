"""A generated data set for panoptic segmentation: shapes in front of water, fields and stones.

It lets the way of semantic labels be tried without a download. Each kind of background has a pattern of its
own in any colour: waves, furrows or blots.

Shape legend: S height and width of an image in pixels, G objects.
"""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.generated import save_image, texture, write_once
from jaxmaskrcnn.data.shapes import NAMES, draw_scene

STUFF = ("water", "field", "stones")  # category ids after those of the shapes
_VERSION = 1  # part of the folder's name; goes up when the same arguments give other images
_MOST = 3  # regions of an image
_NOTHING = 0.2  # share of the images of which one region is not annotated


def write_landscapes(
    directory: str | os.PathLike, num_images: int, size: int, seed: int
) -> tuple[Path, Path]:
    """Writes a set of generated images with COCO's panoptic annotations, once.

    One to three regions of stuff per image, and one to five shapes as of `write_shapes` in front of them.

    Args:
        directory: Where the set's own folder is created; its name holds the arguments.
        num_images: Number of images.
        size: S, in pixels.
        seed: Seed of the whole set; other seeds give other images.

    Returns:
        The paths of the json and of the image folder; the folder of the pictures of segments is beside the
        json. A complete set that already exists is used again.

    Raises:
        UserError: There are no images to write, or they are too small for objects.

    Example:
        >>> from jaxmaskrcnn.data import prepare
        >>> annotations, images = write_landscapes("data", 4, 64, seed=0)
        >>> [category.name for category in prepare(annotations, images, "cache").stuff]
        ['water', 'field', 'stones']
    """
    name = f"landscapes-v{_VERSION}-{num_images}x{size}px-seed{seed}"
    return write_once(
        directory, name, num_images, size, lambda folder: _write(folder, num_images, size, seed)
    )


def _write(directory: Path, num_images: int, size: int, seed: int) -> None:
    for folder in ("images", "annotations"):
        (directory / folder).mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        # A generator of its own per image: the first images of a larger set are the same.
        image, segments, categories = draw_landscape(np.random.default_rng([seed, i]), size)
        name, picture = save_image(directory / "images", i, image), f"{i:06d}.png"
        images.append({"id": i + 1, "file_name": name, "height": size, "width": size})
        colours = np.stack([segments, np.zeros_like(segments), np.zeros_like(segments)], -1).astype(np.uint8)
        Image.fromarray(colours).save(directory / "annotations" / picture)
        found = [
            {"id": n, "category_id": c, "area": int((segments == n).sum()), "iscrowd": 0}
            for n, c in enumerate(categories, 1)
        ]
        annotations.append({"image_id": i + 1, "file_name": picture, "segments_info": found})
    kinds = [(name, 1) for name in NAMES] + [(name, 0) for name in STUFF]
    categories = [{"id": k, "name": name, "isthing": thing} for k, (name, thing) in enumerate(kinds, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (directory / "annotations.json").write_text(json.dumps(content))


def draw_landscape(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draws one image.

    Args:
        rng: Random generator for everything in it.
        size: S, in pixels.

    Returns:
        The image, uint8 RGB [S, S, 3]; the number of each pixel's segment, int64 [S, S], 0 for none; and the
        category id of each segment, by number from 1.
    """
    image, masks, labels = draw_scene(rng, size)
    regions = _regions(rng, size)
    kinds = rng.permutation(len(STUFF))[: regions.max() + 1]
    free = ~masks.any(0)
    for number, kind in enumerate(kinds):
        part = (regions == number) & free
        image[part] = _pattern(rng, int(kind), size)[part]
    segments, categories = np.zeros((size, size), np.int64), []
    for mask, label in zip(masks, labels, strict=True):
        categories.append(int(label) + 1)
        segments[mask] = len(categories)
    left_out = int(rng.integers(len(kinds))) if len(kinds) > 1 and rng.random() < _NOTHING else -1
    for number, kind in enumerate(kinds):
        part = (regions == number) & free
        if number != left_out and part.any():
            categories.append(len(NAMES) + int(kind) + 1)
            segments[part] = len(categories)
    return image, segments, categories


def _regions(rng: np.random.Generator, size: int) -> np.ndarray:
    """The number of each pixel's region from 0, int [S, S]: bands between wavy lines in any direction."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.08)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    height = across + bend * np.sin(2 * np.pi * (1.5 * along + rng.random()))
    count = int(rng.integers(1, _MOST + 1))
    bounds = (np.arange(1, count) / count - 0.5) * 0.9 + rng.uniform(-0.08, 0.08, count - 1)
    return np.digitize(height, np.sort(bounds))


def _pattern(rng: np.random.Generator, kind: int, size: int) -> np.ndarray:
    """A pattern of a kind of stuff, uint8 RGB [S, S, 3], in any colour."""
    y, x = np.mgrid[:size, :size].astype(float)
    period = rng.uniform(7, 11)
    wave = 2 * np.pi / period
    if kind == 0:  # waves: lines from left to right that go up and down
        value = np.sin(wave * (y + 2.5 * np.sin(wave * x / 2.5)))
    elif kind == 1:  # furrows: straight lines from top to bottom
        value = np.sin(wave * x)
    else:  # blots
        value = 2 * np.sin(wave * x / 1.5) * np.sin(wave * y / 1.5)
    image = texture(rng, size, rng.uniform(60, 195, 3), contrast=15.0) + 38.0 * value[..., None]
    return np.clip(np.rint(image + rng.normal(0, 4.0, image.shape)), 0, 255).astype(np.uint8)
