"""Local copies of files in a store, each fetched once, and again when it has changed.

    $JAXMASKRCNN_HOME/stores/<scheme>/<bucket>/<path>

Readers get these, since what reads a model, an image or a json here maps files into memory, seeks in them, or
opens thousands of them. The modification time of a copy is a number made of the version of its file (the
store's ``etag``, or what it has in its place), so that one listing of a folder tells which copies are up to
date. A copy has its name only when all of it has arrived.
"""

import contextlib
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import tqdm

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.filesystem import Place, StoredFile, list_files, local_or_stored, with_tries
from jaxmaskrcnn.utils.cache_folder import HOME, home
from jaxmaskrcnn.utils.files import write_problem

log = logging.getLogger(__name__)

_THREADS = 16  # files at a time, since most of the time of small ones is waiting
_OLD = 24 * 3600  # seconds after which what a killed process has left is removed


def local_copy(given: str | os.PathLike, setting: str) -> Path:
    """A path that can be opened: the given one, or that of a copy of what is in a store.

    Args:
        given: A path, or the address of a file or of a folder with all that is in it.
        setting: What the user set it as, such as "--annotations", for messages.

    Returns:
        A local path, which need not exist if a path was given.

    Raises:
        UserError: The address is of no known kind, nothing is there, or it cannot be copied.

    Example:
        >>> local_copy("runs/mine", "--checkpoint").as_posix()
        'runs/mine'
    """
    place = local_or_stored(given, setting)
    return place if isinstance(place, Path) else copied(place)


def copied(place: Place, wanted: Callable[[Mapping[str, StoredFile]], Collection[str]] | None = None) -> Path:
    """The path of a copy of a file, or of a folder, in a store.

    Args:
        place: The file or the folder.
        wanted: Chooses among a folder's files, by their names from there; None takes all.

    Returns:
        The local path. A folder's copy may have more files than the wanted ones, but none that the store's
        does not have.

    Raises:
        UserError: Nothing is there, or it cannot be copied.
    """
    files = list_files(place)
    if not files:
        raise UserError(f"{place.setting} is {place.address}, where there is nothing; check the address.")
    root = copy_path(place)
    names = sorted(files if wanted is None or "" in files else wanted(files))
    with _lock(place):
        if "" not in files:
            root.mkdir(parents=True, exist_ok=True)
            _remove_others(root, files)
        fetch_files(place, {root / name if name else root: files[name] for name in names})
    return root


def copy_path(place: Place) -> Path:
    """Where the copy of a file or folder of a store is, whether it is there or not."""
    scheme, _, rest = place.address.partition("://")
    return home().joinpath("stores", scheme, *rest.split("/"))


def with_addresses(text: str) -> str:
    """A text with the addresses of stores in the place of the paths of their copies.

    Args:
        text: Such as a message about a file that was read from its copy, or written before it is sent.
    """
    folder = re.escape(os.fspath(home()))
    return re.sub(rf"{folder}/(?:stores|outgoing/[0-9a-f]{{16}})/([a-z0-9+.-]+)/", r"\1://", text)


def _incoming() -> Path:
    """Where files arrive, on the disk of the copies."""
    return home() / "stores" / ".incoming"


@contextlib.contextmanager
def _lock(place: Place) -> Iterator[None]:
    """Lets one process of this machine at a time copy from an address."""
    name = hashlib.sha256(place.address.encode()).hexdigest()[:16]
    try:
        incoming = _incoming()
        incoming.mkdir(parents=True, exist_ok=True)
        for left in incoming.glob("*.part"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - _OLD:
                    left.unlink()
        lock = filelock.FileLock(incoming / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("Another process copies %s; waiting for it.", place.address)
            lock.acquire()
    except OSError as error:
        raise _unwritable(place, error.strerror or str(error)) from None
    try:
        yield
    finally:
        lock.release()


def fetch_files(place: Place, files: Mapping[Path, StoredFile]) -> None:
    """Copy those files whose copies are missing or of another version.

    Args:
        place: The folder or file that they belong to, for messages.
        files: The files by the paths of their copies.

    Raises:
        UserError: A file cannot be copied. Those that were are whole.
    """
    old = {path: file for path, file in files.items() if not _is_current(path, file)}
    if not old:
        return
    total = sum(file.size for file in old.values())
    what = f"{len(old)} files" if len(old) > 1 else "1 file"
    log.info("Copying %s (%.1f MB) from %s.", what, total / 1e6, place.address)
    bar = tqdm.tqdm(desc=place.address, total=total, unit="B", unit_scale=True, disable=None)
    pool = ThreadPoolExecutor(min(_THREADS, len(old)))
    try:
        with bar:
            for size in pool.map(lambda item: _fetch_file(place, *item), old.items()):
                bar.update(size)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_file(place: Place, path: Path, file: StoredFile) -> int:
    part = _incoming() / f"{secrets.token_hex(8)}.part"

    def get() -> None:
        place.files.get_file(file.path, os.fspath(part))
        if (size := part.stat().st_size) != file.size:
            raise OSError(None, f"{size} of {file.size} bytes of {file.path} arrived")

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with_tries(get, place, "read")
        os.utime(part, (file.stamp, file.stamp))
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, path)
    except OSError as error:
        raise _unwritable(place, write_problem(error) or error.strerror or str(error)) from None
    finally:
        part.unlink(missing_ok=True)
    return file.size


def _is_current(path: Path, file: StoredFile) -> bool:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return status.st_size == file.size and int(status.st_mtime) == file.stamp and path.is_file()


def _remove_others(root: Path, files: Mapping[str, StoredFile]) -> None:
    """Remove copies of files that the store no longer has."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.relative_to(root).as_posix() not in files:
                path.unlink(missing_ok=True)


def _unwritable(place: Place, reason: str) -> UserError:
    return UserError(
        f"{place.address} cannot be copied to {home() / 'stores'} ({reason}); make room there, or give "
        f"another folder in {HOME}."
    )
