"""Keeps two trainings out of one workdir.

A run holds ``lock.json`` in its workdir, with its host, its process and a count that grows every few
seconds. The operating system ends an ``flock`` with the process that holds it, however that ends. Not every
shared disk has it, and on some it holds among the processes of one host only. There, whether the holder lives
is seen by its count, which needs no clock that two hosts agree on.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.parallel.processes import gather_json, is_first
from jaxmaskrcnn.utils.files import about
from jaxmaskrcnn.utils.json_values import parse_json

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

log = logging.getLogger(__name__)

FILE = "lock.json"
_INTERVAL = 5.0  # seconds between two counts


@contextlib.contextmanager
def hold_workdir(workdir: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of a workdir in the first process of a run; all of its processes must call it.

    Args:
        workdir: The run's folder, which exists.

    Raises:
        UserError: Another run holds it. All processes raise it.
    """
    with contextlib.ExitStack() as held:
        problem = None
        if is_first():
            try:
                held.enter_context(workdir_lock(workdir))
            except UserError as error:
                problem = str(error)
        if problem := gather_json(problem)[0]:
            raise UserError(problem)
        yield


@contextlib.contextmanager
def workdir_lock(
    workdir: str | os.PathLike, *, host: str | None = None, interval: float = _INTERVAL
) -> Iterator[None]:
    """Hold the lock of a workdir within the block.

    Args:
        workdir: The run's folder, which exists.
        host: Name of this machine; by default that of the system.
        interval: Seconds between two counts of the holder. Where another host holds the lock or there is no
            ``flock``, the count is watched for six of them.

    Raises:
        UserError: Another process holds it; the message names its host and number.

    Example:
        >>> with workdir_lock("."):
        ...     print(Path(FILE).is_file())
        True
    """
    path, host = Path(workdir) / FILE, socket.gethostname() if host is None else host
    file = _open(path)
    try:
        locked = _flock(file, path)
        _wait_for_holder(path, host, locked, interval)
        holder = {"host": host, "process": os.getpid()}
        try:
            with about(path):
                _write(file, {**holder, "count": 0})
        except OSError:  # a full disk
            _remove(path)
            raise
        if _read(path).get("process") != os.getpid():
            raise UserError(_in_use(path, _read(path)))  # two that started at once, without flock
        ended = threading.Event()
        counting = threading.Thread(target=_count, args=(file, holder, interval, ended), daemon=True)
        counting.start()
        try:
            yield
        finally:
            ended.set()
            counting.join()
            _remove(path)  # before the lock is given up: who opened it finds that it is gone
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _flock(file: int, path: Path) -> bool:
    """Take the system's lock; returns whether there is one.

    Raises:
        UserError: Another process has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(_in_use(path, _read(path))) from None
    except OSError:  # a disk without such locks
        return False
    try:
        same = os.fstat(file).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        same = False
    if not same:  # its holder ended, and removed the file, between our opening and our locking it
        new = _open(path)
        os.dup2(new, file)
        os.close(new)
        return _flock(file, path)
    return True


def _wait_for_holder(path: Path, host: str, locked: bool, interval: float) -> None:
    """Return once it is certain that no other process lives that holds the lock.

    Raises:
        UserError: One lives.
    """
    first = _read(path)
    if not first or (first.get("host") == host and (locked or not alive(first.get("process")))):
        return
    log.info("%s names another run; waiting %.0f s to see whether it lives.", path, 6 * interval)
    for _ in range(6):
        time.sleep(interval)
        if (now := _read(path)) and now != first:
            raise UserError(_in_use(path, now))


def alive(process: Any) -> bool:
    """Whether a process of this machine, by its number, runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, TypeError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def _count(file: int, holder: dict[str, Any], interval: float, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(interval):
        count += 1
        with contextlib.suppress(OSError):  # a full disk; the system's lock still holds
            _write(file, {**holder, "count": count})


def _write(file: int, content: dict[str, Any]) -> None:
    text = json.dumps(content).encode() + b"\n"
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))


def _read(path: Path) -> dict[str, Any]:
    """The holder, or {} if there is none."""
    # The file is opened anew, which brings the cache of a shared disk up to date.
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # of a disk that has become read-only; the system's lock ends anyway
        path.unlink(missing_ok=True)


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    known = {"process", "host"} <= holder.keys()
    by = f"process {holder['process']} on {holder['host']}" if known else "another process"
    return f"{path.parent} is in use by {by}; wait until that run has ended, or give another --workdir."
