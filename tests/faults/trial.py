"""One write that fails in one command: what is said, what is left, and whether the command works again."""

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .cases import Case
from .shim import Write, arm, disarm, plain, turn_clock_back, watch, writes

_UNIMPORTANT = ("run/log.txt",)  # without which a run goes on, and says so
_ALWAYS_NEW = ("run/lock.json",)  # gone at the end of every run


class Result(NamedTuple):
    """What came of a write that failed.

    Attributes:
        end: "refused" (exit code 2), "done without it" (exit code 0), or "" if the write did not happen.
        message: The sentence, with ``...`` for folders of the test.
        state: What is there afterwards, in words.
        faults: What should not be so; empty if all is well.
    """

    end: str
    message: str
    state: str
    faults: tuple[str, ...]


class Bench:
    """Runs one case again and again, from the same state.

    Args:
        case: The case.
        inputs: Folder with what it reads.
        folder: An empty folder.
    """

    def __init__(self, case: Case, inputs: Path, folder: Path):
        self.case, self.inputs, self.folder = case, inputs, folder
        self.start, self.out, self.log = folder / "start", folder / "out", folder / "writes"
        (self.out / "tmp").mkdir(parents=True)
        if case.before:
            case.before(inputs, self.out)  # where the paths are those of later
        shutil.copytree(self.out, self.start)
        self.old = _contents(self.start)
        self._fresh()
        code, _ = self._run(Path(os.devnull))  # what a first call compiles and caches
        if code:
            raise RuntimeError(f"the case does not run without a fault: {_}")
        self._fresh()
        self.log.touch()
        self._run(self.log)
        self.new = _contents(self.out)
        if problem := case.check(inputs, self.out):
            raise RuntimeError(problem)

    def writes(self) -> list[Write]:
        """All kinds of writes of the case."""
        return [write for write in writes(self.log) if not write.path.startswith("tmp/") or "/" in write.path]

    def attempt(self, write: Write, error: int, mode: str = "once") -> Result:
        """Makes a write fail, and checks everything."""
        self._fresh()
        watch(self.out)
        arm(write, error, mode)
        code, said = self._called()
        fired = disarm()
        watch(None)
        if not fired:
            return Result("", "", "", ())
        faults, lines = [], [line for line in said.splitlines() if line.startswith("jaxmaskrcnn ")]
        reason = os.strerror(error)
        if "Traceback (most recent call last)" in said or code not in (0, 2):
            faults.append(f"a traceback or the exit code {code}: {said[-1500:]}")
        elif code == 2 and (len(lines) != 1 or reason not in lines[0] or str(self.out) not in lines[0]):
            faults.append(f"the message is {said[-600:]!r}")
        left = _contents(self.out)
        # Where nothing can be removed, temporary files stay; but no others, and none is taken for a result.
        unavoidable = _temporary(left) - self.new.keys() if mode == "read-only" else set()
        faults += self._left({n: x for n, x in left.items() if n not in unavoidable}, code)
        state = self._state(left, code) + (", and temporary files" if unavoidable else "")
        code_again, said_again = self._called()
        if code_again:
            faults.append(f"the next call fails: {said_again[-1500:]}")
        else:
            now = _contents(self.out)
            faults += self._complete({n: x for n, x in now.items() if n not in unavoidable})
        message = lines[0].replace(str(self.out), "...") if lines else ""
        return Result("refused" if code else "done without it", message, state, tuple(faults))

    def with_clock_back(self, seconds: int) -> list[str]:
        """What is wrong with a call during which the clock goes back again and again."""
        self._fresh()
        turn_clock_back(seconds)
        started = time.time()
        code, said = self._called()
        back = started - time.time()
        turn_clock_back(0)
        if code or "Traceback" in said:
            return [f"the exit code is {code}: {said[-1500:]}"]
        return ([] if back > 0 else ["the clock did not go back"]) + self._complete(_contents(self.out))

    def _left(self, left: dict, code: int) -> list[str]:
        """What is wrong with what a failed call has left."""
        faults = []
        for name, content in left.items():
            if name not in self.old and name not in self.new and name not in _ALWAYS_NEW:
                faults.append(f"{name} is left behind")
            elif self.case.exact and content not in (self.old.get(name, b""), self.new.get(name, b"")):
                faults.append(f"{name} is neither as before nor complete")
            elif content == b"" and self.new.get(name, b""):
                faults.append(f"{name} is empty")
        faults += [f"{name} is gone" for name in self.old if name in self.new and name not in left]
        if not code:
            faults += [f"{n} is missing" for n in self.new if n not in left and n not in _UNIMPORTANT]
        return faults

    def _state(self, left: dict, code: int) -> str:
        if not code:
            return "complete" + "".join(
                f", without {n}" for n in _UNIMPORTANT if n in self.new and n not in left
            )
        files = {name for name, content in left.items() if content is not None}
        if files == {name for name, content in self.old.items() if content is not None} and all(
            left[name] == self.old[name] for name in files
        ):
            return "as before"
        return "as before, and complete files of the new run"

    def _complete(self, now: dict) -> list[str]:
        """What is wrong with the outputs of a call that succeeded."""
        faults = [f"after the next call {name} is missing" for name in self.new if name not in now]
        faults += [f"after the next call {name} is there" for name in now if name not in self.new]
        if self.case.exact:
            faults += [
                f"after the next call {n} differs" for n in self.new if n in now and now[n] != self.new[n]
            ]
        if not faults and (problem := self.case.check(self.inputs, self.out)):
            faults.append(f"after the next call: {problem}")
        return faults

    def _fresh(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.start, self.out)

    def _run(self, log: Path) -> tuple[int, str]:
        watch(self.out, log)
        try:
            return self._called()
        finally:
            watch(None)

    def _called(self) -> tuple[int, str]:
        before, tempfile.tempdir = tempfile.tempdir, str(self.out / "tmp")
        try:
            with _captured(self.folder / "said") as said:
                try:
                    code = self.case.run(self.inputs, self.out)
                except BaseException as error:  # the fault to report
                    import traceback

                    traceback.print_exc()
                    code = 130 if isinstance(error, KeyboardInterrupt) else 1
            return code, said[0]
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[list[str]]:
    """Catches what Python and libraries in C write to stderr; the output is lost."""
    said: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 2)
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    try:
        with open(2, "w", closefd=False, buffering=1) as errors:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
                yield said
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(file)
        said.append(path.read_text(errors="replace"))
        for handler in logging.getLogger().handlers[:]:
            if handler not in handlers:
                logging.getLogger().removeHandler(handler)  # it writes to what is closed


def _temporary(names: Iterable[str]) -> set[str]:
    """The names of files and folders that are written under a temporary name, and of what is in them."""
    return {name for name in names if re.search(r"(^|/)\.[^/]*\*|checkpoint-tmp|/jaxmaskrcnn-\*", name)}


def _contents(folder: Path) -> dict[str, bytes | None]:
    """The content of every file by name, with ``*`` for what is random in it; None for a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = plain(str(path.relative_to(folder)))
        while path.is_dir() and name in found:
            name += " (another)"
        found[name] = None if path.is_dir() else path.read_bytes()
    return found
