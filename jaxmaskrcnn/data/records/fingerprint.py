"""A hash of everything that the records of a data set depend on."""

import hashlib
import json
import os
from pathlib import Path

from jaxmaskrcnn.data.coco.annotations import load_json


def content_hash(annotations: Path, images: Path, memory: Path, settings: list) -> str:
    """Hash of a json's bytes, of the state of every image file it names, and of settings.

    Args:
        annotations: COCO-format json.
        images: Folder that its file names are relative to.
        memory: Folder in which the json's file names are cached.
        settings: Anything json can hold that the records depend on.

    Returns:
        16 hexadecimal digits.

    Raises:
        UserError: The json is missing or is not COCO json.
    """
    digest = hashlib.sha1()
    names = _referenced_files(annotations, memory, digest)
    digest.update(json.dumps([*settings, os.fspath(images.resolve())]).encode())
    for name in names:
        try:
            status = (images / name).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{name}\0missing\n".encode())
    return digest.hexdigest()[:16]


def _referenced_files(annotations: Path, memory: Path, digest) -> list[str]:
    """The image files a json names, cached under its hash because parsing a large json takes seconds."""
    try:
        data = annotations.read_bytes()
    except OSError:
        load_json(annotations)  # raises the sentence for a missing file
        raise
    digest.update(data)
    remembered = memory / f".files-{digest.hexdigest()[:16]}.json"
    if remembered.is_file():
        return json.loads(remembered.read_text())
    content = load_json(annotations)
    names = sorted({e["file_name"] for e in content["images"] if isinstance(e.get("file_name"), str)})
    temporary = remembered.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(names))
    temporary.replace(remembered)
    return names
