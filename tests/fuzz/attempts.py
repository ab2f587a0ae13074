"""One hostile input at one door: what became of it, how long it took and how much memory."""

import contextlib
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.errors import UserError

# Processor time is the measure, as a machine that does other work besides makes the clock run on.
SECONDS = 10.0  # of processor time that one input may take
WAITING = 60.0  # seconds by the clock, for an input that waits for something and computes nothing
MEMORY = 2 * 2**30  # bytes that one input may add
FAULTS = ("traceback", "hang", "memory", "outside", "signal")


class Outcome(NamedTuple):
    """What became of an input.

    Attributes:
        kind: "read", "refused", or one of `FAULTS`.
        words: The sentence of a refusal, or the end of a traceback.
        seconds: The processor time that it took, of all threads and of ended processes it had begun.
        memory: Bytes by which the process grew at most.
    """

    kind: str
    words: str
    seconds: float
    memory: int


class Hang(BaseException):
    """The time is over. No Exception, as code that turns any exception into a sentence would hide it."""


class Outside(BaseException):
    """Something was about to be written, removed or renamed outside of the folder of the test."""


def attempt(call: Callable[[], object]) -> Outcome:
    """Calls a door and says what came of it.

    Args:
        call: Returns an exit code, or anything else where the input was read.
    """
    before, start = _restart_peak(), _processor_time()
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        with warnings.catch_warnings(), _time_limit():
            warnings.simplefilter("ignore")
            kind, words = _called(call)
    seconds, memory = _processor_time() - start, max(_peak() - before, 0)
    if kind == "refused" and not words:
        words = said.getvalue().strip()
    if kind in ("read", "refused"):
        if "Traceback (most recent call last)" in said.getvalue():
            kind, words = "traceback", said.getvalue()
        elif memory > MEMORY:
            kind, words = "memory", f"{memory / 2**30:.1f} GB"
        elif seconds > SECONDS:
            kind, words = "hang", f"{seconds:.1f} s of processor time"
    return Outcome(kind, words[-3000:], seconds, memory)


def _called(call) -> tuple[str, str]:
    try:
        code = call()
    except UserError as error:
        return "refused", str(error)
    except OSError as error:
        # Commands make a sentence of an error that names a path.
        if error.filename is not None:
            return "refused", str(error)
        return "traceback", traceback.format_exc()
    except SystemExit as error:  # argparse's
        return ("refused", "") if error.code in (0, 2) else ("traceback", f"exit code {error.code}")
    except (Hang, Outside) as error:
        return type(error).__name__.lower(), traceback.format_exc()
    except Exception:
        return "traceback", traceback.format_exc()
    if isinstance(code, int) and not isinstance(code, bool) and code not in (0, 2):
        return "traceback", f"exit code {code}"
    return ("refused", "") if code == 2 and not isinstance(code, bool) else ("read", "")


@contextlib.contextmanager
def _time_limit():
    """Raises `Hang` when the time is over; code in C is only stopped when it returns."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, _):
        if number == signal.SIGPROF:
            raise Hang(f"more than {SECONDS:g} s of processor time")
        raise Hang(f"more than {WAITING:g} s")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITING),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _processor_time() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _restart_peak() -> int:
    """Begins a new measurement of the largest memory; returns the present one (0 where Linux is not)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


_WRITING = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.truncate"}


def forbid_writes_outside(*folders: Path) -> None:
    """From now on, whatever Python writes, renames or removes outside of these folders raises `Outside`."""
    allowed = tuple(os.path.realpath(folder) for folder in (*folders, os.devnull, "/proc/self"))

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            writes = (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            paths = [path] if writes else []
        elif event in _WRITING:
            paths = [value for value in arguments[:2] if isinstance(value, str | bytes | os.PathLike)]
        else:
            return
        for path in paths:
            if isinstance(path, int):
                continue
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(allowed):
                raise Outside(f"{event} of {real}")

    sys.addaudithook(hook)
