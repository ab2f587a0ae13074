"""Inputs from a user: images in any form as arrays, and file names, folders and patterns as files.

Shape legend: H, W height and width of the image.
"""

import glob
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.array_pixels import pixel_array
from jaxmaskrcnn.data.coco.file_names import is_leftover
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import copied, local_copy
from jaxmaskrcnn.stores.filesystem import Place, local_or_stored


def read_image(image: Any, pixels: PixelConfig = DEFAULT_PIXELS, name: str = "the image") -> np.ndarray:
    """Reads a picture in any form as uint8 RGB.

    Args:
        image: One of these:

            * the path of an image file, also in a store (``gs://``, ``s3://``);
            * the bytes of an image file;
            * a PIL image. Of files and PIL images any mode is converted, and the EXIF orientation is applied;
            * an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8, uint16 or floats from 0 to 1, see
              `data.array_pixels.pixel_array`; uint8 [H, W, 3] is returned unchanged.
        pixels: Which page of a file is read, and how its values become uint8.
        name: What to call the picture in an error message, if it is not a file.

    Returns:
        uint8 [H, W, 3], or [H, W, C] with the C channels that ``pixels`` asks for.

    Raises:
        UserError: The file is missing or is not an image, or the array has another shape or dtype.

    Example:
        >>> read_image("photo.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    if isinstance(image, (str, os.PathLike)):
        return decode_image(local_copy(image, "the image"), pixels=pixels)
    if isinstance(image, Image.Image):
        return decode_image(image, name=getattr(image, "filename", "") or name, pixels=pixels)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_image(bytes(image), name=name, pixels=pixels)
    array = np.asarray(image)
    if array.dtype == object or array.dtype.kind in "USV":
        raise UserError(
            f"{name} is of the type {type(image).__name__}; give a path, the bytes of a file, a PIL image or "
            "an array."
        )
    return pixel_array(array, pixels, name)


def find_files(patterns: Sequence[str], suffixes: Collection[str], noun: str = "image") -> list[Path]:
    """Finds the files that a user names directly, by their folder or by a pattern.

    Args:
        patterns: Paths, or patterns with ``*``, ``?``, ``[...]`` and ``**``; or addresses of files or folders
            in a store (``gs://``, ``s3://``), which are copied.
        suffixes: Suffixes, in lower case, of the files to take from folders and patterns. A file that is
            named directly is taken whatever its suffix.
        noun: Name of such a file in messages.

    Returns:
        The files, each once; those of a folder or pattern in alphabetical order, without what macOS left
        behind there.

    Raises:
        UserError: There is no such file, or none in the folder.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = local_or_stored(pattern, f"the {noun}")
        if isinstance(path, Place):
            path = _copied(path, suffixes)
        if path.is_dir():
            matches = _with_suffix(path.iterdir(), suffixes)
            if not matches:
                raise UserError(f"The folder {path} holds no {noun}s; give one that does, or files.")
        elif path.exists():
            matches = [path]
        elif glob.has_magic(pattern):
            matches = _with_suffix(map(Path, glob.glob(pattern, recursive=True)), suffixes)
            if not matches:
                raise UserError(f"No {noun} matches {pattern!r}; give files, folders or another pattern.")
        else:
            raise UserError(f"{path} does not exist; give {noun} files, folders or patterns.")
        found += matches
    return list(dict.fromkeys(found))


def _copied(place: Place, suffixes: Collection[str]) -> Path:
    """A copy of a file in a store, or of those files in a folder of a store that would be taken from it."""

    def wanted(files: Iterable[str]) -> list[str]:
        return [name for name in files if "/" not in name and PurePosixPath(name).suffix.lower() in suffixes]

    return copied(place, wanted)


def _with_suffix(paths: Iterable[Path], suffixes) -> list[Path]:
    own = (path for path in paths if not is_leftover([path.name]))
    return sorted(path for path in own if path.suffix.lower() in suffixes and path.is_file())


def output_names(paths: Sequence[Path], folder: Path, patterns: Sequence[str]) -> list[str]:
    """Names for the results of each input: the file's stem, with a number added where two are equal.

    Args:
        paths: The inputs.
        folder: Folder that the results are written to.
        patterns: File names of the results, such as ``"labelme/{}.json"``; a name is chosen so that none
            of them overwrites an input.

    Returns:
        For each input the text that replaces the braces.

    Example:
        >>> output_names([Path("a/x.jpg"), Path("b/x.jpg")], Path("out"), ["{}.png"])
        ['x', 'x-2']
    """
    inputs = {path.resolve() for path in paths}
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = path.stem, 1
        # On some file systems A.png and a.png are the same file.
        while name.lower() in taken or any((folder / p.format(name)).resolve() in inputs for p in patterns):
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
