"""Tries many inputs at many doors in processes that may die, and counts what became of them."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from folders import ROOT, TESTS

from .attempts import FAULTS, MEMORY, WAITING, Outcome

_PATIENCE = 2 * WAITING + 5  # by the clock, after which a process that has not ended an input is stopped
_START = 120  # seconds for imports and the valid files of a door


class Fault(NamedTuple):
    """An input that became something else than what it may.

    Attributes:
        door: The door's name.
        way: "damaged" or "generated".
        seed: The campaign's.
        index: The input's number; -1 is the valid one.
        outcome: What became of it.
    """

    door: str
    way: str
    seed: int
    index: int
    outcome: Outcome

    def __str__(self) -> str:
        last = "\n".join(self.outcome.words.strip().splitlines()[-14:])
        return (
            f"{self.outcome.kind} at the door {self.door!r}, {self.way} input {self.index}; "
            "to see it again:\n"
            f"    python tests/fuzz --doors='{self.door}' --way={self.way} --seed={self.seed} "
            f"--first={max(self.index, 0)} --inputs=1\n{last}"
        )


class Tally:
    """Counts by door.

    Attributes:
        counts: For each door the number of inputs of each kind.
        memory: For each door the most bytes that an input added.
        seconds: For each door the most processor time of an input.
        faults: All inputs that became something else than what they may.
    """

    def __init__(self):
        self.counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self.memory: collections.Counter = collections.Counter()
        self.seconds: collections.Counter = collections.Counter()
        self.faults: list[Fault] = []

    def add(self, door: str, way: str, seed: int, index: int, outcome: Outcome) -> None:
        """Counts one input."""
        if index < 0:
            if outcome.kind != "read":  # valid files have to be read
                self.faults.append(Fault(door, way, seed, index, outcome))
            return
        self.counts[door][outcome.kind] += 1
        self.memory[door] = max(self.memory[door], outcome.memory)
        self.seconds[door] = max(self.seconds[door], outcome.seconds)
        if outcome.kind in FAULTS:
            self.faults.append(Fault(door, way, seed, index, outcome))

    def line(self, door: str) -> str:
        """The counts of one door."""
        return ", ".join(f"{count} {kind}" for kind, count in self.counts[door].items())

    def table(self) -> str:
        """A table in Markdown, a row for each door and one for all."""
        kinds = ("refused", "read", "traceback", "signal", "hang", "outside")
        rows = ["| Door | Inputs | Refused | Read | Tracebacks | Signals | Hangs | Writes outside "]
        rows[0] += "| Most processor time (s) | Largest memory (MB) |"
        rows.append("|---" + "|---:" * 9 + "|")
        for door in (*self.counts, None):
            counts = self.counts[door] if door else sum(self.counts.values(), collections.Counter())
            memory = self.memory[door] if door else max(self.memory.values(), default=0)
            seconds = self.seconds[door] if door else max(self.seconds.values(), default=0)
            cells = [door or "all", counts.total(), *(counts[kind] for kind in kinds)]
            cells += [f"{seconds:.1f}", f"{memory / 1e6:.0f}"]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
        return "\n".join(rows)


def run_campaign(jobs: Iterable, scratch: Path, tally: Tally, said: Callable[[str], None] = lambda _: None):
    """Runs jobs, each as in `worker.main`; begins a new process where one has died.

    Args:
        jobs: Lists of door, way, seed, first number and the number after the last.
        scratch: An empty folder; nothing outside of it is written.
        tally: Counts.
        said: Called with the name of every door that is done.
    """
    waiting = [list(job) for job in jobs]
    while waiting:
        log = scratch / f"log-{time.monotonic_ns()}"
        log.touch()
        work = scratch / f"work-{log.name}"
        work.mkdir()
        cache = scratch / "compiled"
        cache.mkdir(exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS), *_given_path()]), "JAX_PLATFORMS": "cpu",
            "TMPDIR": str(work), "JAX_COMPILATION_CACHE_DIR": str(cache), "HOME": str(work),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "fuzz.worker",
             json.dumps(waiting), str(log), str(work)],
            env=environment, cwd=work, stdout=subprocess.DEVNULL,
            stderr=(errors := open(work / "stderr", "wb")),
        )  # fmt: skip
        pending = _follow(process, log, waiting, tally, said)
        errors.close()
        if process.returncode == 0:
            return
        words = (work / "stderr").read_text(errors="replace")
        # Of a crash the innermost calls, which faulthandler writes first; of an exception the last lines.
        words = words[words.find("Current thread") :][:900] if "Current thread" in words else words[-2000:]
        if pending is None or pending[1] == "setup":
            raise RuntimeError(f"the process could not begin its work ({pending}):\n{words}")
        door, way, seed, index = pending
        number = -process.returncode
        kind = "hang" if number == signal.SIGKILL else "signal"
        name = signal.Signals(number).name if number > 0 else f"exit code {process.returncode}"
        tally.add(door, way, seed, index, Outcome(kind, f"{name}\n{words}", 0.0, 0))
        waiting = _rest(waiting, door, way, index)


def _given_path() -> list[str]:
    """Where extras may be that are installed elsewhere."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _rest(waiting: list, door: str, way: str, index: int) -> list:
    """The jobs after an input; the rest of generated inputs cannot be made without the one that failed."""
    at = next(i for i, job in enumerate(waiting) if job[:2] == [door, way])
    first = waiting[at]
    rest = [[*first[:3], index + 1, first[4]]] if way == "damaged" and index + 1 < first[4] else []
    return rest + waiting[at + 1 :]


def _follow(process, log: Path, waiting: list, tally: Tally, said) -> tuple | None:
    """Reads the lines of a process until it ends; returns the input that it had begun and not ended."""
    pending, last, door = None, time.monotonic(), None
    with open(log) as file:
        part = ""
        while True:
            ended = process.poll() is not None
            part += file.read()
            *lines, part = part.split("\n")
            for line in lines:
                last = time.monotonic()
                what, *values = json.loads(line)
                if what == "begin":
                    pending = tuple(values)
                    if door not in (None, pending[0]):
                        said(door)
                    door = pending[0]
                else:
                    tally.add(*pending, Outcome(*values))
                    pending = None
            if ended:
                if door is not None and process.returncode == 0:
                    said(door)
                return pending
            patience = _START if pending is None or pending[1] == "setup" or pending[3] < 0 else _PATIENCE
            if time.monotonic() - last > patience:
                process.kill()
                process.wait()
            time.sleep(0.02)


__all__ = ["MEMORY", "Fault", "Tally", "run_campaign"]
