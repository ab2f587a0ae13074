"""Object stores by the scheme of their addresses, through fsspec.

Known are gs:// (``gcs://``) and s3:// (``s3a://``), each with a package that is an extra of this one,
fsspec's own memory://, and what a program registers itself with ``fsspec.register_implementation``, as a
module that ``--import`` names can. Accounts, endpoints and the like are settings of these packages.
"""

import datetime
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import address_text, file_path, split_scheme

# The package that fsspec needs for a scheme, and the extra of this package that brings it.
_EXTRAS = {
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "memory": ("fsspec", ""),
}
SCHEMES = ("gs", "s3")  # what messages name

# What tells two versions of a file apart; the first of these that a store gives.
_MARKS = ("etag", "ETag", "generation", "md5Hash", "content_md5", "LastModified", "last_modified", "updated")
_MARKS += ("mtime", "created")
_TRIES, _PAUSE = 4, 0.5  # seconds, and twice as many after each try
_ENOUGH = 20.0  # seconds after which a package has tried again and again itself
_LEAST, _SPAN = 10**9, 5 * 10**8

T = TypeVar("T")


class StoredFile(NamedTuple):
    """A file in a store.

    Attributes:
        path: As its file system names it.
        size: In bytes.
        stamp: A number made of the version, in seconds as a file's modification time is.
    """

    path: str
    size: int
    stamp: int


class Place(NamedTuple):
    """An address in a store.

    Attributes:
        address: As the user gave it, without a slash at its end.
        setting: What the user set it as, for messages.
        files: fsspec's file system.
        path: As ``files`` names it.
    """

    address: str
    setting: str
    files: Any
    path: str

    def below(self, name: str) -> "Place":
        """The address of a file or folder in this one.

        Args:
            name: Its parts, with slashes between them.
        """
        return self._replace(address=f"{self.address}/{name}", path=f"{self.path}/{name}")


def is_stored(given: str | os.PathLike) -> bool:
    """Whether a path is an address in a store.

    Example:
        >>> is_stored("gs://bucket/train.json"), is_stored("train.json"), is_stored("https://a.org/b.pth")
        (True, False, False)
    """
    parts = split_scheme(address_text(given))
    return parts is not None and (parts[0] in _EXTRAS or _registered(parts[0]))


def local_or_stored(given: str | os.PathLike, setting: str) -> Path | Place:
    """What a user has given where both a path and an address in a store can stand.

    Args:
        given: A path or an address.
        setting: What the user set it as, such as "--annotations", for messages.

    Returns:
        The local path, or the place in a store.

    Raises:
        UserError: The address is of no known kind, or a package is missing that reads it.

    Example:
        >>> try:
        ...     local_or_stored("x://bucket/train.json", "--annotations")
        ... except UserError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        --annotations is x://bucket/train.json, and nothing here reads x://; give a local path, or ...
    """
    text = address_text(given)
    parts = split_scheme(text)
    if parts is None:
        return Path(given)
    scheme, rest = parts
    if scheme == "file":
        return Path(file_path(text))
    if not is_stored(text):
        known = ", ".join(f"{name}://" for name in (*SCHEMES, "file"))
        raise UserError(
            f"{setting} is {text}, and nothing here reads {scheme}://; give a local path, or an address "
            f"with one of {known}."
        )
    names = [name for name in rest.split("/") if name]
    if not names or any(name in (".", "..") for name in names):
        raise UserError(
            f"{setting} is {text}, which names no place in a store; give one such as gs://bucket/a."
        )
    import fsspec  # here, since it is needed for addresses alone

    address = f"{scheme}://{'/'.join(names)}"
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package, extra = _EXTRAS.get(scheme, (error.name or "a package", ""))
        how = f"install jaxmaskrcnn[{extra}], or {package} itself" if extra else f"install it ({error})"
        raise UserError(
            f"{setting} is {text}, and {package}, which reads {scheme}://, is missing; {how}."
        ) from None
    except Exception as error:  # each package has its own, such as those about accounts
        raise UserError(f"{setting} is {text}, and the store cannot be used ({_words(error)}).") from None
    return Place(address, setting, files, str(path).rstrip("/"))


def list_files(place: Place) -> dict[str, StoredFile]:
    """All files of a folder, and of those in it, by their names from there; a file has the name "".

    Args:
        place: The folder or the file.

    Returns:
        The files; none if there is nothing.

    Raises:
        UserError: The store cannot be asked, or a name in it leads out of the folder.
    """

    def ask() -> dict[str, Any]:
        place.files.invalidate_cache()  # what another program has changed
        found = place.files.find(place.path, detail=True)
        if found and place.path not in {path.rstrip("/") for path in found}:
            return found
        # A file alone is asked in its own way, as some stores' lists say nothing of it.
        info = place.files.info(place.path)
        return {place.path: info} if info.get("type") == "file" else {}

    listed = {}
    for path, info in with_tries(ask, place, "read", missing={}).items():
        name = path[len(place.path) :].strip("/")
        if path.endswith("/") or info.get("type") == "directory":  # some stores mark folders by empty files
            continue
        if ".." in PurePosixPath(name).parts:
            raise UserError(f"{place.address} holds a file {name!r}, which leads out of it; rename it.")
        listed[name] = StoredFile(path, int(info["size"]), _stamp(info))
    return listed


def with_tries(action: Callable[[], T], place: Place, verb: str, missing: Any = None) -> T:
    """Asks a store for something, again where it fails for a while.

    Args:
        action: What to do.
        place: What it is about, for the message.
        verb: "read" or "written", for the message.
        missing: Is returned if there is no such file; None is an error.

    Raises:
        UserError: It fails each time.
    """
    start = time.monotonic()
    for number in range(_TRIES):
        try:
            return action()
        except FileNotFoundError as error:
            if missing is not None:
                return missing
            failure: Exception = error
        except Exception as error:  # a store's package raises exceptions of its own
            failure = error
        if isinstance(failure, PermissionError | FileNotFoundError) or time.monotonic() - start > _ENOUGH:
            break
        if number == _TRIES - 1:
            break
        time.sleep(_PAUSE * 2**number)
    raise UserError(
        f"{place.setting} is {place.address}, which cannot be {verb} ({_words(failure)}); check the address, "
        "the access to it and the network."
    ) from None


def _registered(scheme: str) -> bool:
    from fsspec.registry import known_implementations, registry

    return scheme in registry and scheme not in known_implementations


def _stamp(info: dict[str, Any]) -> int:
    mark = next((info[key] for key in _MARKS if info.get(key) is not None), None)
    if isinstance(mark, datetime.datetime):  # the same time, in another call, may come as a number
        mark = mark.timestamp()
    digest = hashlib.sha256(f"{info['size']} {mark}".encode()).digest()
    # Even, as some disks keep times in steps of two seconds.
    return _LEAST + 2 * (int.from_bytes(digest[:8]) % _SPAN)


def _words(error: Exception) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
