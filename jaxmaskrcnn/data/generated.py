"""Folders of generated data sets, written once and completely or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import local_path
from jaxmaskrcnn.utils.files import about

_JPEG_EVERY = 4  # some images are JPEG, as in any mixed collection


def write_once(
    directory: str | os.PathLike, name: str, num_images: int, size: int, write: Callable[[Path], None]
) -> tuple[Path, Path]:
    """Writes a generated data set, unless its folder is there.

    Args:
        directory: Where the set's own folder is created.
        name: Name of that folder, which holds what the set depends on.
        num_images: Number of images.
        size: Their height and width in pixels.
        write: Writes ``annotations.json`` and the folder ``images`` into a folder that does not exist yet.

    Returns:
        The paths of the json and of the image folder.

    Raises:
        UserError: There are no images to write, or they are too small for objects.
    """
    if num_images < 1 or size < 32:
        raise UserError(
            f"generated data of {num_images} images of {size} pixels is not possible; make at least one "
            "image, of at least 32 pixels."
        )
    directory = local_path(directory, "the folder of the generated images")
    final = directory / name
    if not final.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name.partition('-')[0]}-", dir=directory))
        try:
            # One level down, because the temporary folder itself can only be read by its owner.
            with about(final):
                write(temporary / final.name)
            try:
                (temporary / final.name).rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process was first, with the same images
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final / "annotations.json", final / "images"


def save_image(folder: Path, number: int, pixels: np.ndarray) -> str:
    """Saves an image, every fourth one as JPEG and the others as PNG.

    Args:
        folder: Its folder.
        number: Its number in the set.
        pixels: uint8 RGB [S, S, 3].

    Returns:
        The name of its file.
    """
    name = f"{number:06d}.jpg" if number % _JPEG_EVERY == _JPEG_EVERY - 1 else f"{number:06d}.png"
    options = {"quality": 92} if name.endswith("jpg") else {"compress_level": 1}
    Image.fromarray(pixels).save(folder / name, **options)
    return name


def mask_annotation(identity: int, image_id: int, mask: np.ndarray, label: int) -> dict:
    """The COCO annotation of a mask, whose box and area are those of its pixels.

    Args:
        identity: Its id.
        image_id: Id of its image.
        mask: bool [S, S], with at least one pixel.
        label: Its class, from 0.
    """
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


def texture(rng: np.random.Generator, size: int, colour: np.ndarray, contrast: float) -> np.ndarray:
    """A smooth random field around a colour.

    Args:
        rng: Random generator.
        size: S, in pixels.
        colour: [3], its mean.
        contrast: Standard deviation.

    Returns:
        float32 [S, S, 3].
    """
    cells = int(rng.integers(3, 9))
    coarse = rng.normal(0, contrast, (cells, cells)).astype(np.float32)
    field = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    tint = 1 + rng.uniform(-0.3, 0.3, 3)
    return (np.asarray(colour) + np.asarray(field)[..., None] * tint).astype(np.float32)


def visible_parts(outlines: np.ndarray) -> np.ndarray:
    """The part of each outline, bool [G, S, S], that later ones leave visible."""
    visible = outlines.copy()
    for i in range(len(visible) - 1):
        visible[i] &= ~outlines[i + 1 :].any(axis=0)
    return visible


def painted(rng: np.random.Generator, visible: np.ndarray) -> np.ndarray:
    """Paints objects, each in a colour that differs from that of the background.

    Args:
        rng: Random generator.
        visible: bool [G, S, S], the visible parts of the objects.

    Returns:
        uint8 RGB [S, S, 3], with light noise.
    """
    size = visible.shape[-1]
    image = texture(rng, size, rng.uniform(40, 215, 3), contrast=45.0)
    background = image.mean(axis=(0, 1))
    for mask in visible:
        colour = rng.uniform(0, 255, 3)
        while np.abs(colour - background).max() < 60:
            colour = rng.uniform(0, 255, 3)
        fill = texture(rng, size, colour, contrast=15.0)
        image[mask] = fill[mask]
    image += rng.normal(0, 4.0, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
