"""Keeps two trainings out of one workdir in a store, as far as files alone can.

A run holds ``lock.json`` there, with its host, its process and a count that grows. A store has no locks that
end with a process. So whoever finds the file watches it: where the count grows, the run is refused; where it
stands still, the holder has ended, and the lock is taken over. Two runs that start within the same moment can
both miss this, and each looks again afterwards; this is weaker than the lock of a local workdir.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.filesystem import Place, with_tries
from jaxmaskrcnn.stores.sending import remove, send_bytes
from jaxmaskrcnn.training.lock import FILE, alive
from jaxmaskrcnn.utils.json_values import parse_json

log = logging.getLogger(__name__)

_WATCHED = 3  # intervals, as a count may come late


class StoredLock:
    """A lock that is held.

    Attributes:
        holder: Who holds it now, if it is another run that has taken it over; else None.
    """

    holder: dict[str, Any] | None = None


@contextlib.contextmanager
def stored_lock(place: Place, *, host: str | None = None, interval: float) -> Iterator[StoredLock]:
    """Hold the lock of a workdir in a store within the block.

    Args:
        place: The workdir.
        host: Name of this machine; by default that of the system.
        interval: Seconds between two counts. The count of another holder is watched for three of them.

    Raises:
        UserError: Another run holds it; the message names its host and process.
    """
    host = socket.gethostname() if host is None else host
    file, own = place.below(FILE), {"host": host, "process": os.getpid(), "run": secrets.token_hex(4)}
    _wait_for_holder(place, host, interval)
    _write(file, own, 0)
    time.sleep(min(interval / 10, 1.0))  # another run that has looked when we did has written by now
    if (found := _read(file)).get("run") != own["run"]:
        raise UserError(_in_use(place, found))
    lock, ended = StoredLock(), threading.Event()
    counting = threading.Thread(target=_count, args=(file, own, interval, ended, lock), daemon=True)
    counting.start()
    try:
        yield lock
    finally:
        ended.set()
        counting.join()
        with contextlib.suppress(UserError):  # it is taken over later, after a while
            if _read(file).get("run") == own["run"]:
                remove(place, [FILE])


def _wait_for_holder(place: Place, host: str, interval: float) -> None:
    """Return once no count grows.

    Raises:
        UserError: One does.
    """
    first = _read(place.below(FILE))
    if not first or (first.get("host") == host and not alive(first.get("process"))):
        return
    log.info("%s names a run; waiting %.0f s to see whether it lives.", place.address, _WATCHED * interval)
    for _ in range(_WATCHED):
        time.sleep(interval)
        if (now := _read(place.below(FILE))) and now != first:
            raise UserError(_in_use(place, now))


def _count(
    file: Place, own: dict[str, Any], interval: float, ended: threading.Event, lock: StoredLock
) -> None:
    count = 0
    while not ended.wait(interval):
        count += 1
        with contextlib.suppress(UserError):  # a store that fails for a while
            found = _read(file)
            if found and found.get("run") != own["run"]:
                lock.holder = found
                return
            _write(file, own, count)


def _write(file: Place, own: dict[str, Any], count: int) -> None:
    send_bytes(file, json.dumps({**own, "count": count}).encode() + b"\n")


def _read(file: Place) -> dict[str, Any]:
    """The holder, or {} if there is none."""

    def content() -> bytes:
        file.files.invalidate_cache()
        return file.files.cat_file(file.path)

    try:
        found = parse_json(with_tries(content, file, "read", missing=b""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(place: Place, holder: dict[str, Any]) -> str:
    known = {"process", "host"} <= holder.keys()
    by = f"process {holder['process']} on {holder['host']}" if known else "another process"
    return f"{place.address} is in use by {by}; wait until that run has ended, or give another --workdir."
