"""A generated data set: circles, squares and triangles that occlude one another.

It lets everything be tried without a download, and because the scenes are computed, their masks are
exact.

Shape legend: S height and width of an image in pixels.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import local_path
from jaxmaskrcnn.utils.files import about

NAMES = ("circle", "square", "triangle")  # category ids 1, 2, 3
_VERSION = 1  # part of the folder's name; goes up when the same arguments give other images
_MIN_VISIBLE = 0.3  # share of an object that the ones in front leave uncovered
_MIN_PIXELS = 20
_MAX_OBJECTS = 5
_RADII = (8 / 128, 40 / 128)  # smallest and largest, as shares of the image's side
_JPEG_EVERY = 4  # some images are JPEG, as in any mixed collection


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
    if num_images < 1 or size < 32:
        raise UserError(
            f"generated data of {num_images} images of {size} pixels is not possible; make at least one "
            "image, of at least 32 pixels."
        )
    directory = local_path(directory, "the folder of the generated images")
    final = directory / f"shapes-v{_VERSION}-{num_images}x{size}px-seed{seed}"
    if not final.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".shapes-", dir=directory))
        try:
            # One level down, because the temporary folder itself can only be read by its owner.
            with about(final):
                _write(temporary / final.name, num_images, size, seed)
            try:
                (temporary / final.name).rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process was first, with the same images
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final / "annotations.json", final / "images"


def _write(directory: Path, num_images: int, size: int, seed: int) -> None:
    (directory / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        # A generator of its own per image: the first images of a larger set are the same.
        image, masks, labels = draw_scene(np.random.default_rng([seed, i]), size)
        name = f"{i:06d}.jpg" if i % _JPEG_EVERY == _JPEG_EVERY - 1 else f"{i:06d}.png"
        options = {"quality": 92} if name.endswith("jpg") else {"compress_level": 1}
        Image.fromarray(image).save(directory / "images" / name, **options)
        images.append({"id": i + 1, "file_name": name, "height": size, "width": size})
        for mask, label in zip(masks, labels, strict=True):
            annotations.append(_annotation(len(annotations) + 1, i + 1, mask, label))
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (directory / "annotations.json").write_text(json.dumps(content))


def _annotation(identity: int, image_id: int, mask: np.ndarray, label: int) -> dict:
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": int(label) + 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
    }


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
    visible = _visible(outlines)
    image = _texture(rng, size, rng.uniform(40, 215, 3), contrast=45.0)
    background = image.mean(axis=(0, 1))
    for mask in visible:
        colour = rng.uniform(0, 255, 3)
        while np.abs(colour - background).max() < 60:
            colour = rng.uniform(0, 255, 3)
        fill = _texture(rng, size, colour, contrast=15.0)
        image[mask] = fill[mask]
    image += rng.normal(0, 4.0, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), visible, labels


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
        pixels = _visible(tried).sum(axis=(1, 2))
        if (pixels >= np.maximum(_MIN_PIXELS, _MIN_VISIBLE * tried.sum(axis=(1, 2)))).all():
            outlines, labels = tried, [*labels, label]
    return np.asarray(labels, np.int64), outlines


def _visible(outlines: np.ndarray) -> np.ndarray:
    """The part of each outline that later ones leave visible."""
    visible = outlines.copy()
    for i in range(len(visible) - 1):
        visible[i] &= ~outlines[i + 1 :].any(axis=0)
    return visible


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


def _texture(rng: np.random.Generator, size: int, colour: np.ndarray, contrast: float) -> np.ndarray:
    """A smooth random field around a colour, float32 [S, S, 3]."""
    cells = int(rng.integers(3, 9))
    coarse = rng.normal(0, contrast, (cells, cells)).astype(np.float32)
    field = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    tint = 1 + rng.uniform(-0.3, 0.3, 3)
    return (np.asarray(colour) + np.asarray(field)[..., None] * tint).astype(np.float32)
