"""A workdir in a store: the run works in a local folder, and what it writes is sent.

    $JAXMASKRCNN_HOME/workdirs/<name>-<hash of the address>

At the start the folder gets what the store has. During the run a thread looks for what is new and sends it,
so the steps wait for nothing, and the rest is sent when the run ends.
"""

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.parallel.processes import gather_json, is_first
from jaxmaskrcnn.stores.copies import copied, copy_path
from jaxmaskrcnn.stores.filesystem import Place, list_files, local_or_stored
from jaxmaskrcnn.training.mirror import NOTE, Mirror
from jaxmaskrcnn.training.stored_lock import StoredLock, stored_lock
from jaxmaskrcnn.utils.cache_folder import HOME, home

log = logging.getLogger(__name__)

_SETTINGS = "run.json"
_SECONDS = 10.0  # between two looks
_LOCK_SECONDS = 1.5  # between two counts of the lock, in the same unit
_LONGEST = 300.0  # after several failures


@contextlib.contextmanager
def opened_workdir(given: str | os.PathLike, setting: str, *, seconds: float = _SECONDS) -> Iterator[Path]:
    """The local folder of a run's workdir within the block; all processes of a run must call it.

    Args:
        given: A path, which is yielded as it is, or an address in a store. What the store has is there when
            the block begins, and what is new in the folder is sent until it has ended.
        setting: What the user set it as, for messages.
        seconds: How often it is looked for what is new.

    Raises:
        UserError: The address is of no known kind, the store cannot be read, another run holds the workdir,
            or something could not be sent; the message says where that is.

    Example:
        >>> with opened_workdir("runs/mine", "--workdir") as workdir:
        ...     print(workdir)
        runs/mine
    """
    place = local_or_stored(given, setting)
    if isinstance(place, Path):
        yield place
        return
    folder = local_folder(place)
    with contextlib.ExitStack() as opened:
        problem = None
        if is_first():
            try:
                opened.enter_context(_mirrored(folder, place, seconds))
            except UserError as error:
                problem = str(error)
        if problem := gather_json(problem)[0]:
            raise UserError(problem)
        if not all(gather_json((folder / NOTE).is_file())):
            raise UserError(
                f"{folder}, in which the run in {place.address} works, is not the same for all processes; "
                f"set {HOME} to a folder that their hosts share."
            )
        yield folder


def settings_folder(given: str | os.PathLike, setting: str) -> Path:
    """A local folder that has the settings of a run, for who does not go on with it.

    Args:
        given: A workdir, or its address in a store, from which its settings are copied.
        setting: What the user set it as, for messages.

    Raises:
        UserError: The address is of no known kind, or the store cannot be read.
    """
    place = local_or_stored(given, setting)
    if isinstance(place, Path):
        return place
    return copied(place, lambda files: files.keys() & {_SETTINGS}) if list_files(place) else copy_path(place)


def local_folder(place: Place) -> Path:
    """The local folder of a workdir in a store."""
    mark = hashlib.sha256(place.address.encode()).hexdigest()[:12]
    return home() / "workdirs" / f"{place.address.rpartition('/')[2]}-{mark}"


@contextlib.contextmanager
def _mirrored(folder: Path, place: Place, seconds: float) -> Iterator[None]:
    if "" in list_files(place):
        raise UserError(f"{place.setting} is {place.address}, which is a file; give a folder.")
    with stored_lock(place, interval=_LOCK_SECONDS * seconds) as lock:
        folder.mkdir(parents=True, exist_ok=True)
        mirror = Mirror(folder, place)
        mirror.bring()
        log.info("The run in %s works in %s, from which it is sent there.", place.address, folder)
        ended = threading.Event()
        thread = threading.Thread(
            target=_send_again_and_again, args=(mirror, lock, seconds, ended), daemon=True
        )
        thread.start()
        failed = True
        try:
            yield
            failed = False
        finally:
            ended.set()
            thread.join()
            problem = _send_rest(mirror, lock)
            if problem and failed:  # the exception that ends the run is the one to tell
                log.error("%s", problem)
        if problem:
            raise UserError(problem)


def _send_again_and_again(mirror: Mirror, lock: StoredLock, seconds: float, ended: threading.Event) -> None:
    pause = seconds
    while not ended.wait(pause) and lock.holder is None:
        try:
            mirror.send()
            pause = seconds
        except UserError as error:
            pause = min(2 * pause, _LONGEST)
            log.warning("%s The run goes on, and sending is tried again in %.0f s.", error, pause)


def _send_rest(mirror: Mirror, lock: StoredLock) -> str | None:
    """Sends what is left at the end of a run; returns what is to be said where that fails."""
    if lock.holder is not None:
        return (
            f"Another run, of process {lock.holder.get('process')} on {lock.holder.get('host')}, has taken "
            f"over {mirror.place.address}, so nothing more was sent; what this one has written is in "
            f"{mirror.folder}."
        )
    try:
        mirror.send()
    except UserError as error:
        return (
            f"{str(error).rstrip('.')}; all of the run is in {mirror.folder}, and the same command on this "
            "machine sends it."
        )
    log.info("All of the run is in %s.", mirror.place.address)
    return None
