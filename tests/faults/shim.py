"""Controls ``failing_writes.c``, which makes writes of this process fail, those of C++ libraries as well."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("failing_writes.c")
MISSING = "needs a C compiler (cc) and LD_PRELOAD, which only Linux has"
# Parts of names that are drawn at random, or hash what has a time in it.
_RANDOM = re.compile(
    r"(?<=[.-])[0-9a-f]{16}(?=[./]|$)|(?<=[.-])[0-9a-f]{8}(?=[./]|$)|[0-9a-f]{32}"
    r"|(?<=building-)[a-z0-9_]{8}|(?<=\.shapes-)[a-z0-9_]{8}|(?<=jaxmaskrcnn-)[a-z0-9_]{8}"
    r"|(?<=checkpoints/)\d+|(?<=incomplete)[._]\w+|(?<=/)\d{6}(?=[.])|(?<=[.-])[0-9a-f]{12}(?=[./]|$)"
)
STAYS = {"once": 0, "full": 1, "read-only": 2}


class Write(NamedTuple):
    """A kind of write: an operation, a path with ``*`` for what is random, and the how many-th it is.

    Attributes:
        operation: "create", "write", "sync", "rename" or "mkdir".
        path: Relative to the watched folder.
        count: From 1; of the writes to one file, the first and the last are tried.
    """

    operation: str
    path: str
    count: int = 1


def can_fail() -> bool:
    """Whether writes can be made to fail here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def build(folder: Path) -> Path:
    """Compiles the library that a process is started with, as ``LD_PRELOAD``."""
    library = folder / "failing_writes.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def plain(path: str) -> str:
    """A path with ``*`` in the place of what is random."""
    return _RANDOM.sub("*", path)


def watch(folder: Path | None, log: Path | None = None) -> None:
    """From now on, writes below a folder are noted in a log."""
    _library().faults_watch(os.fsencode(folder or ""), os.fsencode(log or ""))


def writes(log: Path) -> list[Write]:
    """The kinds of writes that a log holds, in their order."""
    counts: dict[tuple[str, str], int] = {}
    for line in log.read_text(errors="surrogateescape").splitlines():
        operation, path = line.split(" ", 1)
        if operation != "remove":
            key = operation, plain(path)
            counts[key] = counts.get(key, 0) + 1
    several = {key: {1, count} for key, count in counts.items()}
    return [Write(*key, count) for key, chosen in several.items() for count in sorted(chosen)]


def arm(write: Write, error: int, mode: str = "once") -> None:
    """Makes a write fail, once or with those after it; the others are noted no longer."""
    words = re.escape(write.path).replace(r"\*", "[^/]*")
    expression = re.sub(r"\\([^.+*?()\[\]{}|^$\\])", r"\1", words)  # POSIX has no escapes of other characters
    arguments = write.operation.encode(), f"^{expression}$".encode(), write.count, error, STAYS[mode]
    if _library().faults_arm(*arguments):
        raise ValueError(f"{expression} is not a regular expression")


def disarm() -> int:
    """Lets all writes succeed; returns how many have failed."""
    fired = _library().faults_fired()
    _library().faults_arm(b"", b"", 0, 0, 0)
    return fired


def turn_clock_back(seconds: int) -> None:
    """Turns the clock back now and at every thousandth look, 24 times at most; 0 sets it right again."""
    _library().faults_clock(ctypes.c_long(seconds))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
