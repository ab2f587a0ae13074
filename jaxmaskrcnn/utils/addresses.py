"""Addresses such as ``gs://bucket/run`` where a path can stand.

Everything that opens or makes a file that a user names asks here first, or asks `stores`, which does. Without
it, ``gs://bucket/run`` would become a local folder ``gs:`` with the run in it.
"""

import os
import re
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from jaxmaskrcnn.errors import UserError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.S)


def address_text(given: str | os.PathLike) -> str:
    """A path or an address as text; a ``Path`` makes one slash of the two of an address.

    So do tools that join paths, so that a text with one slash is an address too.

    Example:
        >>> address_text(PurePosixPath("https://a.org/b.pth")), address_text("gs:/bucket/run")
        ('https://a.org/b.pth', 'gs://bucket/run')
        >>> address_text("file:/data/b.pth"), address_text("C:/data/b.pth")
        ('file:///data/b.pth', 'C:/data/b.pth')
    """
    text = os.fspath(given)
    # One letter is a drive of Windows, but not in a path of another system.
    letters = "*" if isinstance(given, PurePosixPath) else "+"
    found = re.match(rf"([A-Za-z][A-Za-z0-9+.-]{letters}):/(?!/)", text)
    if found is None:
        return text
    slashes = "///" if found[1].lower() == "file" else "//"  # it names no host
    return f"{found[1]}:{slashes}{text[found.end() :]}"


def split_scheme(text: str) -> tuple[str, str] | None:
    """What stands before and after the "://" of an address, or None if a text is none.

    Example:
        >>> split_scheme("detectron2://a/b.pkl"), split_scheme("runs/mine")
        (('detectron2', 'a/b.pkl'), None)
    """
    found = _SCHEME.fullmatch(text)
    return (found[1].lower(), found[2]) if found else None


def file_path(text: str) -> str:
    """The path of a ``file://`` address.

    Raises:
        UserError: It is on another machine, or names nothing.

    Example:
        >>> file_path("file:///data/model.pth")
        '/data/model.pth'
    """
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UserError(f"{text} is no file of this machine; give an address such as file:///data/model.pth.")
    return urllib.request.url2pathname(parts.path)


def local_path(given: str | os.PathLike, setting: str) -> Path:
    """A path that has to be on a disk of this machine.

    Args:
        given: A path, or a ``file://`` address.
        setting: What the user set it as, for the message.

    Raises:
        UserError: It is another address.

    Example:
        >>> try:
        ...     local_path("gs://bucket/records", "data.cache_dir")
        ... except UserError as error:
        ...     print(error)
        data.cache_dir is gs://bucket/records, which is not on a disk of this machine; give a local path.
    """
    text = address_text(given)
    parts = split_scheme(text)
    if parts is None:
        return Path(given)
    if parts[0] == "file":
        return Path(file_path(text))
    raise UserError(f"{setting} is {text}, which is not on a disk of this machine; give a local path.")
