"""What a person may hand over: an image as one kind of array, and names of files.

Shape legend: H, W height and width of the image.
"""

import glob
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.errors import UserError


def read_image(image: Any) -> np.ndarray:
    """Reads a path, a PIL image or an array as uint8 RGB.

    Args:
        image: Path of an image file or PIL image (of any mode; the EXIF orientation is
            applied), or a uint8 RGB array [H, W, 3], which is taken as it is.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: The file is missing or no image, or the array has another shape or type.

    Example:
        >>> read_image("photo.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    if isinstance(image, (str, os.PathLike, Image.Image)):
        return decode_image(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(
            f"An image array is {array.dtype} of shape {list(array.shape)}; give uint8 RGB values of shape "
            "[height, width, 3], a PIL image or a path."
        )
    return array


def find_files(patterns: Sequence[str], suffixes: Collection[str], kind: str = "image") -> list[Path]:
    """Files for what a person names: files themselves, folders, patterns.

    Args:
        patterns: Paths, or patterns with ``*``, ``?``, ``[...]`` and ``**``.
        suffixes: What is taken from folders and by patterns, in lower case; a file that is named
            itself is taken whatever its suffix.
        kind: What they are called in messages.

    Returns:
        The files, without repetitions; a folder's or pattern's in alphabetical order.

    Raises:
        UserError: There is no such file, or none in the folder.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = _of_kind(path.iterdir(), suffixes)
            if not matches:
                raise UserError(f"The folder {path} holds no {kind}s; give one that does, or files.")
        elif path.exists():
            matches = [path]
        elif glob.has_magic(pattern):
            matches = _of_kind(map(Path, glob.glob(pattern, recursive=True)), suffixes)
            if not matches:
                raise UserError(f"No {kind} matches {pattern!r}; give files, folders or another pattern.")
        else:
            raise UserError(f"{path} does not exist; give {kind} files, folders or patterns.")
        found += matches
    return list(dict.fromkeys(found))


def _of_kind(paths: Iterable[Path], suffixes) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in suffixes and path.is_file())


def output_names(paths: Sequence[Path], folder: Path, patterns: Sequence[str]) -> list[str]:
    """A name for each input's results: its own without the suffix, numbered where two are the same.

    Args:
        paths: The inputs.
        folder: Of the results.
        patterns: Of the files in it, such as ``"labelme/{}.json"``; none of them ever takes the
            place of an input.

    Returns:
        What stands for the braces.

    Example:
        >>> output_names([Path("a/x.jpg"), Path("b/x.jpg")], Path("out"), ["{}.png"])
        ['x', 'x-2']
    """
    inputs = {path.resolve() for path in paths}
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = path.stem, 1
        # Some file systems do not tell A.png from a.png.
        while name.lower() in taken or any((folder / p.format(name)).resolve() in inputs for p in patterns):
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
