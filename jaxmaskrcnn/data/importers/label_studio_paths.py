"""Finds the image of a task of Label Studio: an upload, a file of local or cloud storage, an address."""

import base64
import binascii
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.errors import UserError

_IMAGE_KEYS = ("image", "img", "picture", "photo")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the name of each uploaded file


def image_name(data: dict, place: str) -> str:
    """The image of a task's ``data``, as a path.

    Raises:
        UserError: There is none, or more than one.
    """
    texts = {key: task_path(value) for key, value in data.items() if isinstance(value, str)}
    named = [key for key, text in texts.items() if text.lower().endswith(tuple(SUFFIXES))]
    likely = [key for key in _IMAGE_KEYS if texts.get(key)]
    if len(named) == 1:
        return texts[named[0]]
    for key in likely:
        if key in named or not named:
            return texts[key]
    if len(named) > 1:
        raise UserError(
            f"{place} names several images ({named[0]!r}, {named[1]!r}); give tasks of one image each."
        )
    raise UserError(f"{place} names no image; give tasks with the path of an image.")


def task_path(text: str) -> str:
    """The path of a file that an address names: of an upload, of local storage, or of a cloud's."""
    scheme, cloud, rest = text.partition("://")
    if cloud and scheme.lower() not in ("http", "https"):
        return rest.partition("/")[2] or rest  # s3, gs, azure-blob: after the bucket; nothing is encoded
    if "?" not in text and not cloud:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    query = parse_qs(parts.query)
    if query.get("d"):  # /data/local-files/?d=folder/name.jpg
        return query["d"][0]
    if query.get("fileuri"):  # /tasks/1/presign/?fileuri=..., in base64
        try:
            return task_path(base64.b64decode(query["fileuri"][0], validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            return text
    return unquote(parts.path)


def find_image(name: str, place: str, path: Path, builder: Builder) -> Path:
    """The file of a task. An upload's name begins with eight letters that the file itself need not have.

    Args:
        name: As `image_name` returns it.
        place: The task, for messages.
        path: The json.
        builder: Has the image folder; counts the names that were changed.

    Raises:
        UserError: There is no such file, or more than one.
    """
    name = name.replace("\\", "/").lstrip("/")
    try:
        return builder.folder.find(name, place, near=path.parent)
    except UserError:
        folder, _, last = name.rpartition("/")
        start = _UPLOAD.match(last)
        if start is None:
            raise
        own = last[start.end() :]
        found = _saved(own, builder) or own
        try:
            file = builder.folder.find(found, place)
        except UserError:
            file = None
        if file is None:
            raise
        builder.tally("images are found without what Label Studio puts before their names", place)
        return file


def _saved(name: str, builder: Builder) -> str | None:
    """The image whose name is this one when it is uploaded: without spaces and most signs."""
    found = [n for n in builder.folder.names() if _upload_name(n.rpartition("/")[2]) == name]
    return found[0] if len(found) == 1 else None


def _upload_name(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
