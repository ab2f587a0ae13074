"""Writes to a store: locally first, then file by file, those last that make the others complete."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.filesystem import Place, list_files, local_or_stored, with_tries
from jaxmaskrcnn.utils.cache_folder import home

_THREADS = 8
_SMALL = 2**23  # bytes


@contextlib.contextmanager
def sent_path(given: str | os.PathLike, setting: str, *, folder: bool) -> Iterator[Path]:
    """A local path to write to, whose files are sent when the block has succeeded.

    Args:
        given: A path, which is yielded as it is, or an address in a store.
        setting: What the user set it as, such as "--output", for messages.
        folder: Whether it is a folder, or the name of a file; what is written beside the file is sent too.

    Yields:
        A local path. Its folder exists if the address is in a store.

    Raises:
        UserError: The address is of no known kind, or the files cannot be sent; they are then kept.
    """
    place = local_or_stored(given, setting)
    if isinstance(place, Path):
        yield place
        return
    if not folder and place.address.count("/") < 3:
        raise UserError(f"{setting} is {place.address}, which names no file; give one in a bucket.")
    token = secrets.token_hex(8)
    outgoing = home() / "outgoing" / token
    scheme, _, rest = place.address.partition("://")
    path = outgoing.joinpath(scheme, *rest.split("/"))
    root = path if folder else path.parent
    root.mkdir(parents=True)
    try:
        yield path
        target = place if folder else _parent(place)
        try:
            send(root, target)
        except UserError as error:
            kept = home() / "unsent" / token
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.rename(root, kept)
            raise UserError(f"{str(error).rstrip('.')}; what was written is kept in {kept}.") from None
    finally:
        shutil.rmtree(outgoing, ignore_errors=True)


def send(
    root: Path,
    place: Place,
    names: Sequence[str] | None = None,
    *,
    is_last: Callable[[str], bool] = lambda name: False,
) -> None:
    """Send a folder's files to a store, where they replace files of the same name.

    Args:
        root: The local folder.
        place: The folder in the store.
        names: The files, from the folder; None takes all that are in it.
        is_last: Which of them are sent when all others have arrived, as they say that these are complete.

    Raises:
        UserError: A file cannot be sent; of those that come last, none was then sent.
    """
    if names is None:
        names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    for last in (False, True):
        some = [name for name in names if is_last(name) == last]
        if not some:
            continue
        pool = ThreadPoolExecutor(min(_THREADS, len(some)))
        try:
            list(pool.map(lambda name: _send_file(root / name, place.below(name)), some))
        finally:
            pool.shutdown(cancel_futures=True)


def remove(place: Place, names: Sequence[str]) -> None:
    """Remove files from a folder of a store, one after the other.

    Args:
        place: The folder.
        names: The files, from the folder. One that is not there is passed over.

    Raises:
        UserError: A file cannot be removed.
    """
    for name in names:
        file = place.below(name)
        with_tries(lambda file=file: file.files.rm_file(file.path), file, "written", missing=())


def check_free(place: Place, mark: str) -> bool:
    """Check that a folder of a store may be written.

    Args:
        place: The folder.
        mark: The file by which one is known that may be replaced.

    Returns:
        Whether it holds one.

    Raises:
        UserError: It holds something else.
    """
    files = list_files(place)
    if "" in files:
        raise UserError(f"{place.address} is a file; give a directory for the model.")
    if files and mark not in files:
        raise UserError(
            f"{place.address} is not empty and holds no model, so it is not overwritten; give another "
            "directory."
        )
    return bool(files)


def send_bytes(place: Place, content: bytes) -> None:
    """Write a small file to a store.

    Args:
        place: The file.
        content: What it holds.

    Raises:
        UserError: It cannot be written.
    """
    with_tries(lambda: place.files.pipe_file(place.path, content), place, "written")


def _send_file(path: Path, place: Place) -> None:
    if path.stat().st_size <= _SMALL:  # which a run may be writing to
        send_bytes(place, path.read_bytes())
    else:
        with_tries(lambda: place.files.put_file(os.fspath(path), place.path), place, "written")


def _parent(place: Place) -> Place:
    return place._replace(address=place.address.rpartition("/")[0], path=place.path.rpartition("/")[0])
