"""A generated data set: circles, squares and triangles that occlude one another.

It lets everything be tried without a download, and because the scenes are computed, their masks are
exact.

Shape legend: S height and width of an image in pixels.
"""

import json
import os
from pathlib import Path

import numpy as np

from jaxmaskrcnn.data.generated import mask_annotation, painted, save_image, visible_parts, write_once

NAMES = ("circle", "square", "triangle")  # category ids 1, 2, 3
_VERSION = 1  # part of the folder's name; goes up when the same arguments give other images
_MIN_VISIBLE = 0.3  # share of an object that the ones in front leave uncovered
_MIN_PIXELS = 20
_MAX_OBJECTS = 5
_RADII = (8 / 128, 40 / 128)  # smallest and largest, as shares of the image's side


def write_shapes(directory: str | os.PathLike, num_images: int, size: int, seed: int) -> tuple[Path, Path]:
    """Writes a set of generated images with COCO-format annotations, once.

    One to five objects per image, of varied size, colour and rotation, on smooth textured
    backgrounds with light noise. An object's mask is what the objects in front of it leave
    visible; objects with less than 30 % or 20 pixels visible are not annotated and not drawn.

    Args:
        directory: Where the set's own folder is created; its name holds the arguments.
        num_images: Number of images.
        size: S, in pixels.
        seed: Seed of the whole set; other seeds give other images.

    Returns:
        The paths of the json and of the image folder. A complete set that already exists is used
        again.

    Raises:
        UserError: There are no images to write, or they are too small for objects.

    Example:
        >>> from jaxmaskrcnn.data import prepare
        >>> annotations, images = write_shapes("data", 10, 64, seed=0)
        >>> len(prepare(annotations, images, "cache"))
        10
    """
    name = f"shapes-v{_VERSION}-{num_images}x{size}px-seed{seed}"
    return write_once(
        directory, name, num_images, size, lambda folder: _write(folder, num_images, size, seed)
    )


def _write(directory: Path, num_images: int, size: int, seed: int) -> None:
    (directory / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        # A generator of its own per image: the first images of a larger set are the same.
        image, masks, labels = draw_scene(np.random.default_rng([seed, i]), size)
        name = save_image(directory / "images", i, image)
        images.append({"id": i + 1, "file_name": name, "height": size, "width": size})
        for mask, label in zip(masks, labels, strict=True):
            annotations.append(mask_annotation(len(annotations) + 1, i + 1, mask, label))
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (directory / "annotations.json").write_text(json.dumps(content))


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
        rng: Random generator for everything in the scene.
        size: S, in pixels.

    Returns:
        The image, uint8 RGB [S, S, 3]; masks of the visible parts, bool [G, S, S]; labels,
        int [G], indices into ``NAMES``.
    """
    labels, outlines = _place(rng, size)
    visible = visible_parts(outlines)
    return painted(rng, visible), visible, labels


def _place(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [G] and whole outlines [G, S, S], back to front, of objects that remain visible."""
    labels: list[int] = []
    outlines = np.zeros((0, size, size), bool)
    target_count = rng.integers(1, _MAX_OBJECTS + 1)
    # An object that would hide too much of another is not placed, so every drawn object is annotated.
    for _ in range(4 * target_count):
        if len(labels) == target_count:
            break
        label = int(rng.integers(len(NAMES)))
        radius = size * np.exp(rng.uniform(*np.log(_RADII)))
        centre = rng.uniform(0.35 * radius, size - 0.35 * radius, 2)
        outline = _outline(label, centre, radius, rng.uniform(0, 2 * np.pi), size)
        tried = np.concatenate([outlines, outline[None]])
        pixels = visible_parts(tried).sum(axis=(1, 2))
        if (pixels >= np.maximum(_MIN_PIXELS, _MIN_VISIBLE * tried.sum(axis=(1, 2)))).all():
            outlines, labels = tried, [*labels, label]
    return np.asarray(labels, np.int64), outlines


def _outline(label: int, centre: np.ndarray, radius: float, angle: float, size: int) -> np.ndarray:
    """Pixels whose centre lies within the shape, bool [S, S]."""
    grid = np.arange(size) + 0.5
    y, x = grid[:, None] - centre[0], grid[None, :] - centre[1]
    if label == 0:
        return x * x + y * y <= radius * radius
    # A regular polygon is where the distance along each edge's normal stays below the inner radius.
    sides = 4 if label == 1 else 3
    normals = angle + 2 * np.pi * np.arange(sides) / sides
    inner = radius * np.cos(np.pi / sides)
    return np.logical_and.reduce([x * np.cos(n) + y * np.sin(n) <= inner for n in normals])
