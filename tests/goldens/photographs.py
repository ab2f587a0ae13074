"""Photographs of unusual shapes and kinds, made of a few ordinary ones without any interpolation.

The recording script and the test make the same files: pixels are only cut, put side by side and
turned, so that nothing depends on a library's resampling.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112
LARGE = ("large", "wide")  # names of those that are meant for the network's full input size


def read_photographs(folder: Path) -> list[np.ndarray]:
    """The validation photographs of the balloon data, uint8 RGB, in the order of their ids."""
    images = json.loads((folder / "val.json").read_text())["images"]
    paths = [folder / "val" / image["file_name"] for image in sorted(images, key=lambda image: image["id"])]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def derived_photographs(folder: Path, out: Path) -> Iterator[tuple[str, Path, int]]:
    """Write the images.

    Args:
        folder: The balloon data set.
        out: An existing folder.

    Yields:
        Name, path and a checksum of the stored pixels.
    """
    photos = read_photographs(folder)
    block = [photo[:640, :640] for photo in photos]  # all are at least that large
    rows = [np.concatenate(block[i : i + 4], axis=1) for i in (0, 4, 8, 2, 6, 5)]
    mosaic = np.concatenate(rows)  # 3840 x 2560
    grey = np.asarray(Image.fromarray(photos[1]).convert("L"))
    kinds = {
        "640 x 480": (photos[1][:640, :480], 1),
        "480 x 640": (photos[10][100:580, :640], 1),
        "sides beyond multiples of 32": (photos[4][:673, :545], 1),
        "enlarged": (photos[5][200:330, 260:420], 1),
        "square": (photos[12][:640, :640], 1),
        "64 x 1333": (rows[0][300:364, :1333], 1),
        "1333 x 64": (mosaic[:1333, 250:314], 1),
        "24 x 640": (photos[3][300:324, :640], 1),
        "turned by EXIF 6": (np.rot90(photos[8]), 6),
        "turned by EXIF 3": (photos[6][::-1, ::-1], 3),
        "mirrored by EXIF 5": (photos[2].swapaxes(0, 1), 5),
        "grey": (grey, 1),
        "nothing": (np.full((300, 400, 3), 128, np.uint8), 1),
        "dark": (photos[0] // 4, 1),
        "red and blue interchanged": (photos[7][:, :, ::-1], 1),
        "large": (mosaic, 1),
        "wide": (np.concatenate(rows[1:3])[:1080, :1920], 1),
    }
    for name, (pixels, orientation) in kinds.items():
        image = Image.fromarray(np.ascontiguousarray(pixels))
        exif = image.getexif()
        exif[ORIENTATION_TAG] = orientation
        path = out / f"{name}.png"
        image.save(path, exif=exif, compress_level=1)
        yield name, path, zlib.crc32(np.ascontiguousarray(pixels))
