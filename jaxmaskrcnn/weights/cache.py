"""The folder in which published weights are kept, and how a file gets there.

    $JAXMASKRCNN_HOME/weights/<host>/<path of the address>

By default the folder is the platform's for caches (``~/.cache/jaxmaskrcnn`` on Linux). The layout is that of
``wget -x``, so that the folder of one machine, served by any web server, is the mirror of another.

A file has its name there only when all of it has arrived and nothing speaks against its size and its hash;
before that it is ``<name>.part``. A lock lets one process at a time fetch a file. It is of the operating
system, which ends it with its process (``filelock``). Where a shared disk does not honour it, two processes
can fetch a file at a time; each still checks the whole before it gives the file its name.
"""

import logging
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import filelock
import tqdm

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.cache_folder import HOME, home
from jaxmaskrcnn.utils.files import write_problem
from jaxmaskrcnn.weights.addresses import Wanted, names_host
from jaxmaskrcnn.weights.integrity import known, problem, size_fits
from jaxmaskrcnn.weights.transfer import Interrupted, NoRoom, TransferError, Unreachable, forget, transfer
from jaxmaskrcnn.zoo.hosts import host_of

log = logging.getLogger(__name__)

MIRROR = "JAXMASKRCNN_MIRROR"
OFFLINE = "JAXMASKRCNN_OFFLINE"
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def place(address: str) -> Path:
    """Where the file of an address is kept, whether it is there or not.

    Args:
        address: An http or https address.

    Raises:
        UserError: Its path leads out of the folder.

    Example:
        >>> place("https://download.pytorch.org/models/resnet50-0676ba61.pth").relative_to(home()).as_posix()
        'weights/download.pytorch.org/models/resnet50-0676ba61.pth'
    """
    parts = urlsplit(address)
    names = [parts.netloc.rpartition("@")[2], *filter(None, map(unquote, parts.path.split("/")))]
    if parts.query:  # another file of the same name
        names[-1] = f"{names[-1]}?{parts.query}"
    if any(name in (".", "..") for name in names):
        raise UserError(f"{address} has '..' in its path; give the address without it.")
    return home().joinpath("weights", *(re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name) for name in names))


def fetch(wanted: Wanted) -> Path:
    """The local path of a published file, which is fetched if it is not there.

    Args:
        wanted: The file.

    Returns:
        Its path in the folder of `place`.

    Raises:
        UserError: It cannot be fetched, or it is not the published one.
    """
    path = place(wanted.address)
    if not path.is_file():
        if _offline():
            raise UserError(_unreachable(wanted, path, f"{OFFLINE} is set"))
        _fetch_alone(wanted, path)
    elif found := problem(path, wanted):
        raise UserError(
            f"{path} is not the file that is published as {wanted.name}: {found}; delete it, and it is "
            "fetched again."
        )
    return path


def _fetch_alone(wanted: Wanted, path: Path) -> None:
    """Fetch a file while no other process of this machine does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("Another process fetches %s; waiting for it.", wanted.name)
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"{path.parent}, where the file of {wanted.name} would be kept, cannot be written "
            f"({error.strerror}); give another folder in {HOME}."
        ) from None
    try:
        if not path.is_file():
            _fetch(wanted, path)
    finally:
        lock.release()


def _fetch(wanted: Wanted, path: Path) -> None:
    part, source = path.with_name(f"{path.name}.part"), _source(wanted.address)
    log.info("Fetching %s from %s.", wanted.name, source)
    with _Bar(path.name) as bar:
        try:
            transfer(
                source,
                part,
                bar,
                verifiable=wanted.checksum is not None,
                fits=lambda size: size_fits(wanted, size),
            )
        except Unreachable as error:
            raise UserError(_unreachable(wanted, path, str(error), source)) from None
        except Interrupted as error:
            arrived = part.stat().st_size if part.is_file() else 0
            raise UserError(
                f"{wanted.name} cannot be fetched from {source}: {error}, after {arrived / 1e6:.1f} MB; the "
                "same command goes on from there."
            ) from None
        except TransferError as error:
            raise UserError(
                f"{wanted.name} cannot be fetched from {source}: {error}; check the "
                f"address, or get the file elsewhere and put it into {path.parent} as {path.name}."
            ) from None
        except NoRoom as error:
            raise UserError(
                f"{path.parent}, where the file of {wanted.name} is kept, cannot be written ({error}); make "
                f"room there and the same command goes on, or give another folder in {HOME}."
            ) from None
    if found := problem(part, wanted):
        forget(part)
        raise UserError(
            f"what {source} sends is not the file that is published as {wanted.name}: {found}; it was "
            "removed, so try again, or get the file elsewhere and give its path, which is read as it is."
        )
    try:
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({write_problem(error) or error}); make room there, or give another "
            f"folder in {HOME}."
        ) from None
    forget(part)


def _source(address: str) -> str:
    """The address that is asked: the published one, or that of a mirror."""
    mirror = os.environ.get(MIRROR, "")
    if not mirror or host_of(address) is None:
        return address
    if not re.match(r"https?://[^/]", mirror) or not names_host(mirror):
        raise UserError(f"{MIRROR} is {mirror!r}; give the http or https address of a mirror, or unset it.")
    return f"{mirror.rstrip('/')}/{address.partition('://')[2]}"


def _offline() -> bool:
    value = os.environ.get(OFFLINE, "").lower()
    if value not in (*_YES, *_NO):
        raise UserError(f"{OFFLINE} is {value!r}; set it to 1 or to 0.")
    return value in _YES


def _unreachable(wanted: Wanted, path: Path, reason: str, source: str = "") -> str:
    """The sentence for a machine without a network: what to fetch elsewhere, and where to put it."""
    asked = f" by {source}" if source not in ("", wanted.address) else ""
    return (
        f"{wanted.name} is not on this machine and cannot be fetched{asked} ({reason}); get "
        f"{wanted.address} elsewhere ({known(wanted)}) and put it into {path.parent} as {path.name}."
    )


class _Bar:
    """A progress bar, on a terminal; see `transfer.Progress`."""

    def __init__(self, name: str):
        self._name = name
        self._bar: tqdm.tqdm | None = None

    def start(self, have: int, total: int | None) -> None:
        """See `transfer.Progress`."""
        self.close()
        self._bar = tqdm.tqdm(
            desc=self._name, total=total, initial=have, unit="B", unit_scale=True, disable=None
        )

    def add(self, count: int) -> None:
        """See `transfer.Progress`."""
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_) -> None:
        self.close()
