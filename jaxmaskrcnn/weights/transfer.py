"""Transfers a file over HTTP, and goes on where an earlier transfer was cut.

What has arrived stands in ``<file>.part``, and ``<file>.part.json`` says which version of the file it is a
part of: the size of the whole and the server's mark (a strong ``ETag``, or ``Last-Modified``). The rest is
asked for with ``Range``, on the condition (``If-Range``) that the file is still that version. A server that
has another one, or knows no ranges, sends the whole, and the transfer begins anew. (RFC 9110, sections 13.1.5
and 14.)

It is written on Python's ``urllib``, since no library of a reasonable size does this: pooch begins anew after
a cut and locks nothing, and huggingface_hub does both, for its own hub.
"""

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxmaskrcnn import __version__
from jaxmaskrcnn.weights.opener import OPENER, TransferError, ascii_address

_CHUNK = 2**20
_TIMEOUT = 30  # seconds without a byte
_TRIES = 3  # connections in a row that bring nothing new
_PAUSE = 0.5  # seconds after the first of them, and a multiple after the next ones
_DIGITS = 24  # of a size in bytes
_EXTENT = rf"bytes (\d{{1,{_DIGITS}}})-\d+/(\d{{1,{_DIGITS}}}|\*)"
_BUSY = (408, 429, 500, 502, 503, 504)  # answers after which the same question can succeed


class Unreachable(TransferError):
    """No server answered: there is no network, or no such server."""


class Interrupted(TransferError):
    """The connection was cut again and again; what has arrived is kept."""


class NoRoom(Exception):
    """The disk takes no more; the message has the reason."""


class Progress(Protocol):
    """Gets reports of how a transfer goes, as a progress bar does."""

    def start(self, have: int, total: int | None) -> None:
        """The transfer begins, or begins anew, with so many bytes of the whole."""
        ...

    def add(self, count: int) -> None:
        """So many bytes have arrived."""
        ...


class _Version(NamedTuple):
    """Which version of a file a part is of.

    Attributes:
        address: Where it came from.
        size: Of the whole file in bytes, if the server said so.
        mark: The server's name for the version, or None.
    """

    address: str
    size: int | None = None
    mark: str | None = None


class _Cut(Exception):
    """A connection that ended early, or an answer after which another try may succeed."""


def transfer(
    address: str,
    part: Path,
    progress: Progress,
    *,
    verifiable: bool,
    fits: Callable[[int], bool] = lambda size: True,
) -> None:
    """Transfer a file, all of it or the rest of it.

    Args:
        address: An http or https address.
        part: Where it arrives; what is there is taken for the beginning if it belongs to the same version.
        progress: Gets reports of how it goes.
        verifiable: Whether the whole can be checked by a hash afterwards, so that a part may be continued
            where the server has no mark for versions.
        fits: Whether a file of this size, in bytes, can be the wanted one.

    Raises:
        TransferError: It did not succeed; see the classes for the reasons.
        NoRoom: It cannot be written.
    """
    best, failures = _size(part), 0
    while True:
        try:
            _once(address, part, progress, verifiable, fits)
            return
        except _Cut as cut:
            failures = 0 if _size(part) > best else failures + 1
            best = max(best, _size(part))
            if failures == _TRIES:
                raise Interrupted(str(cut)) from None
            time.sleep(_PAUSE * failures)


def forget(part: Path) -> None:
    """Remove what has arrived of a file.

    Args:
        part: As in `transfer`.
    """
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _once(
    address: str, part: Path, progress: Progress, verifiable: bool, fits: Callable[[int], bool]
) -> None:
    have, version = _size(part), _read_version(part, address)
    if version is None or not (version.mark or verifiable):
        have, version = 0, _Version(address)
    if have and have == version.size:
        progress.start(have, have)
        return
    with _answer(address, have, version.mark, part) as answer:
        start, size = _extent(answer, have, version, part)
        if size is not None and not fits(size):
            raise TransferError(f"the file there has {size / 2**20:.3f} MiB, not the published size")
        _check_content(answer)
        _check_room(part, start, size)
        if not start:
            forget(part)
        _write(lambda: _write_version(part, _Version(address, size, _mark(answer))))
        progress.start(start, size)
        with _writable(part, start) as file:
            for chunk in _chunks(answer):
                _write(lambda chunk=chunk: file.write(chunk))
                progress.add(len(chunk))
    arrived = _size(part)
    if size is not None and arrived < size:
        raise _Cut("the connection was cut")
    if size is not None and arrived > size:
        forget(part)
        raise _Cut(f"the server announced {size} bytes and sent more")


def _answer(address: str, have: int, mark: str | None, part: Path) -> Any:
    headers = {"User-Agent": f"jaxmaskrcnn/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        headers |= {"If-Range": mark} if mark else {}
    try:
        return OPENER.open(urllib.request.Request(ascii_address(address), headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the file is shorter now
            forget(part)
            raise _Cut("the server has another version of the file") from None
        # The reason is the server's own text, or a paragraph about a circle of redirections.
        reason = f"{error.reason}".partition("\n")[0][:80]
        problem = f"the server answers {error.code} {reason}".rstrip()
        raise (_Cut if error.code in _BUSY else TransferError)(problem) from None
    except urllib.error.URLError as error:
        reason = error.reason
        text = reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)
        if have:  # a network that was there a moment ago
            raise _Cut(text) from None
        raise Unreachable(text) from None
    except (http.client.InvalidURL, ValueError) as error:  # a redirection to a bracket that is not closed
        raise TransferError(f"it, or where the server leads to, is no address of a file ({error})") from None
    except (OSError, http.client.HTTPException) as error:  # while the answer's head was read
        raise _Cut(_words(error)) from None


def _extent(answer: Any, have: int, version: _Version, part: Path) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and the size of the whole, if the server says so."""
    if answer.status == 206:
        extent = re.fullmatch(_EXTENT, answer.headers.get("Content-Range", "").strip())
        size = int(extent[2]) if extent and extent[2] != "*" else None
        if extent is None or int(extent[1]) != have or version.size not in (None, size):
            forget(part)
            raise _Cut("the server has another version of the file")
        return have, size
    if answer.status != 200:
        raise TransferError(f"the server answers {answer.status} {answer.reason}".rstrip())
    length = answer.headers.get("Content-Length", "")
    if len(length) > _DIGITS:
        raise TransferError(f"the server announces a size of {len(length)} digits")
    return 0, int(length) if length.isdecimal() else None


def _check_content(answer: Any) -> None:
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(f"the server sends it as {answer.headers['Content-Encoding']}")
    if answer.headers.get_content_type() == "text/html":
        raise TransferError("the server sends a web page in its place")


def _mark(answer: Any) -> str | None:
    tag = answer.headers.get("ETag", "")
    # A weak tag says that two files are as good as the same, which is not enough.
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _chunks(answer: Any) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_CHUNK):  # what is there, so that a process that is killed has it
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(_words(error)) from None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing arrived for {_TIMEOUT} seconds"
    return (isinstance(error, OSError) and error.strerror) or str(error) or "the connection was cut"


# -- the disk


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_version(part: Path, address: str) -> _Version | None:
    """The version that a part belongs to; None if that is not known or it came from another address."""
    try:
        version = _Version(**json.loads(_note(part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(version.size, int | None) or not isinstance(version.mark, str | None):
        return None
    return version if version.address == address and _size(part) <= (version.size or _size(part)) else None


def _write_version(part: Path, version: _Version) -> None:
    _note(part).write_text(json.dumps(version._asdict()), encoding="utf-8")


def _check_room(part: Path, start: int, size: int | None) -> None:
    free = shutil.disk_usage(part.parent).free + (_size(part) - start)
    if size is not None and size - start > free:
        raise NoRoom(f"{(size - start) / 1e6:.0f} MB are missing and {free / 1e6:.0f} MB are free there")


def _writable(part: Path, start: int) -> Any:
    """The part, open for what comes after its first bytes."""
    file = _write(lambda: open(part, "r+b" if start else "wb", buffering=0))
    _write(lambda: file.seek(start))
    return file


def _write(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except OSError as error:
        raise NoRoom(error.strerror or str(error)) from None
