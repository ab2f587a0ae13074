"""Whether a file is the published one, by what is known of its hash and its size."""

import hashlib
import re
from pathlib import Path

from jaxmaskrcnn.weights.addresses import Wanted

_MEBIBYTE = 2**20
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)", re.I)
_ROUNDED = 0.0005  # published sizes have three digits behind the point


def size_fits(wanted: Wanted, size: int) -> bool:
    """Whether a file of so many bytes can be the wanted one.

    Args:
        wanted: The file, with its published size or None.
        size: In bytes.

    Example:
        >>> file = Wanted("a", "https://a.org/a.pth", mebibytes=97.781)
        >>> size_fits(file, 102_530_333), size_fits(file, 102_540_000)
        (True, False)
    """
    published = wanted.mebibytes
    return published is None or abs(size / _MEBIBYTE - published) <= _ROUNDED + 1e-9


def problem(path: Path, wanted: Wanted) -> str | None:
    """What shows that a file is not the published one.

    Args:
        path: The file.
        wanted: What is known of it.

    Returns:
        A part of a sentence, or None if nothing speaks against it.
    """
    size = path.stat().st_size
    if not size:
        return "it is empty"
    if not size_fits(wanted, size):
        return f"it has {size / _MEBIBYTE:.3f} MiB and the published file {wanted.mebibytes}"
    with open(path, "rb") as file:
        if _PAGE.match(file.read(512)):
            return "it is a web page, as proxies and error messages are"
        if wanted.checksum is None:
            return None
        file.seek(0)
        found = hashlib.file_digest(file, _new(wanted.checksum.algorithm)).hexdigest()
    if found.startswith(wanted.checksum.start):
        return None
    title, start = wanted.checksum.title, wanted.checksum.start
    return f"its {title} is {found} and that of the published file begins with {start}"


def known(wanted: Wanted) -> str:
    """What can be compared of a file, for messages: its hash and its size, or that neither is published.

    Example:
        >>> known(Wanted("a", "https://a.org/a.pth"))
        'no hash of it is published'
    """
    checksum = wanted.checksum
    hashed = (
        f"its {checksum.title} begins with {checksum.start}" if checksum else "no hash of it is published"
    )
    return hashed + (f", {wanted.mebibytes:g} MiB" if wanted.mebibytes else "")


def _new(algorithm: str):
    # MD5 is no protection against an attacker, but finds damage; Detectron2 publishes nothing else.
    return lambda: hashlib.new(algorithm, usedforsecurity=False)
