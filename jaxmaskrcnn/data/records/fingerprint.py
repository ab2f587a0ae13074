"""A hash of everything that the records of a data set depend on."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from jaxmaskrcnn.data.coco.file_names import FileNames, written_names
from jaxmaskrcnn.data.coco.load import check_content as check_coco
from jaxmaskrcnn.data.coco.load import load_json, quick_content, read_bytes, unread
from jaxmaskrcnn.data.coco.panoptic import is_panoptic, picture_folder
from jaxmaskrcnn.utils.checksums import check_content, with_checksum
from jaxmaskrcnn.utils.files import write_json


def content_hash(
    annotations: Path, images: Path, memory: Path, settings: list, stuff: Path | None = None
) -> str:
    """Hash of a json's bytes, of the state of every image file it names, and of settings.

    Args:
        annotations: COCO-format json.
        images: Folder that its file names are relative to.
        memory: Folder in which the json's file names are cached.
        settings: Anything json can hold that the records depend on.
        stuff: The json or the folder of pictures of stuff that is kept apart.

    Returns:
        16 hexadecimal digits.

    Raises:
        UserError: The json is missing or is not COCO json.
    """
    digest = hashlib.sha1()
    names, pictures = _referenced_files(annotations, memory, digest)
    digest.update(json.dumps([*settings, os.fspath(images.resolve())]).encode())
    if pictures:  # of a panoptic json
        _add_folder(picture_folder(annotations), digest)
    if stuff is not None and stuff.is_dir():
        _add_folder(stuff, digest)
    elif stuff is not None:
        digest.update(read_bytes(stuff))
    files = FileNames(images)
    for written in names:
        name = written[0]
        try:
            status = (images / name).stat()
        except (OSError, ValueError):
            found = files.find(dict(zip(("file_name", "coco_url"), written, strict=False))).name
            status = None if found is None else (images / found).stat()
            name = f"{name}\0{found}"
        state = "missing" if status is None else f"{status.st_size}\0{status.st_mtime_ns}"
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _add_folder(folder: Path, digest) -> None:
    """Adds the state of every file in a folder and in its folders."""
    for place in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = place.stat()
        name = place.relative_to(folder)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))


def _referenced_files(annotations: Path, memory: Path, digest) -> tuple[list[list[str]], bool]:
    """How a json names each image file, and whether it has pictures of segments.

    It is cached under its hash because parsing a large json takes seconds.
    """
    data = read_bytes(annotations)
    digest.update(data)
    remembered = memory / f".names-{digest.hexdigest()[:16]}.json"
    if remembered.is_file():
        # A damaged file is written anew.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = check_content(json.loads(remembered.read_bytes()), "", required=True)
            return known["names"], known.get("panoptic", False)
    content = quick_content(data, annotations=unread)
    if content is None:
        content = load_json(annotations)
    content = check_coco(content, annotations)
    written = map(written_names, content["images"])
    names = sorted(map(list, {tuple(names) for names in written if names}))
    pictures = is_panoptic(content)
    write_json(remembered, with_checksum({"names": names, **({"panoptic": True} if pictures else {})}))
    return names, pictures
