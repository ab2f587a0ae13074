"""A COCO data set in a store: its json, and of its image folder the files that the json names."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from jaxmaskrcnn.data.coco.file_names import path_parts, written_names
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.panoptic import is_panoptic
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import copied, local_copy
from jaxmaskrcnn.stores.filesystem import local_or_stored

_NAMES = ("the annotation file", "the image folder")


def local_data(
    annotations: str | os.PathLike, images: str | os.PathLike, settings: tuple[str, str] = _NAMES
) -> tuple[Path, Path]:
    """Local paths of a json and its image folder; what is in a store is copied.

    Args:
        annotations: Path or address of a COCO-format json.
        images: Those of its image folder.
        settings: What the user set the two as, for messages.

    Returns:
        Local paths, which need not exist if paths were given.

    Raises:
        UserError: An address is of no known kind, or what is there cannot be copied; or the images are in a
            store and the json cannot be read.
    """
    # Both are looked at before anything is copied.
    place = local_or_stored(images, settings[1])
    stored = not isinstance(local_or_stored(annotations, settings[0]), Path)
    path = local_copy(annotations, settings[0])
    if isinstance(place, Path) and not stored:
        return path, place
    content = load_json(path)
    if stored and is_panoptic(content):
        raise UserError(
            f"{os.fspath(annotations)} is a panoptic json in a store, whose pictures of segments are not "
            "copied; copy it and the folder of its pictures, and give the local path."
        )
    if isinstance(place, Path):
        return path, place
    entries = content["images"]
    return path, copied(place, lambda files: named_files(entries, files))


def named_files(entries: Collection[Mapping[str, Any]], files: Collection[str]) -> set[str]:
    """The files that the images of a json may be: all that `FileNames` would look at.

    Args:
        entries: The json's 'images'.
        files: The files of the image folder, from there.

    Example:
        >>> entries = [{"file_name": "a.png"}, {"file_name": "x/C.jpg"}]
        >>> sorted(named_files(entries, ["a.png", "b.png", "c.jpg"]))
        ['a.png', 'c.jpg']
    """
    taken: set[str] = set()
    ends: set[str] = set()
    for entry in entries:
        names = written_names(entry)
        first = PurePosixPath(names[0]).as_posix() if names else ""
        if first in files:
            taken.add(first)
        else:
            ends |= {_end(text) for name in names for text in (name, unquote(name))}
    return taken | {name for name in files if _end(name) in ends} if ends else taken


def _end(name: str) -> str:
    """A file's own name without its suffix, as a key for comparisons."""
    parts = path_parts(name)
    return parts[-1].rpartition(".")[0] or parts[-1] if parts else ""
