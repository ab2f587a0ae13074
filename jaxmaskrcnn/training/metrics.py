"""The record of a run: metrics.jsonl, and the trackers of ``train.trackers``."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmaskrcnn.training.trackers.tracker import Tracker
from jaxmaskrcnn.utils.files import about, complete_file

log = logging.getLogger(__name__)


class MetricsWriter:
    """Appends to ``metrics.jsonl``, one object per line with ``"step"``, and passes all on to trackers.

    A resumed run drops the lines beyond the step it starts from, so that no step occurs twice.

    Args:
        workdir: The run's folder.
        step: The completed steps that the run starts from.
        trackers: What shows the run too; closed with the writer.
        write: Whether to write; only one process of a run does, the others only read the file.

    Attributes:
        evaluations: By step, the values of the lines with an "eval/" name, including those of earlier runs.

    Example:
        >>> with MetricsWriter("runs/shapes") as writer:  # doctest: +SKIP
        ...     writer.write(20, {"loss": 1.5})
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        step: int = 0,
        trackers: Sequence[Tracker] = (),
        write: bool = True,
    ):
        self._trackers = trackers
        self.evaluations: dict[int, dict] = {}
        self._path, self._writes = Path(workdir) / "metrics.jsonl", write
        self._open(step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def write(self, step: int, values: dict[str, float | None]) -> None:
        """Record values of one step; values that are not finite become null, because JSON has no NaN."""
        numbers = {name: _number(value) for name, value in values.items()}
        line = {"step": step, **numbers}
        with about(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._remember(line)
        for tracker in self._trackers:
            tracker.scalars(step, {name: value for name, value in numbers.items() if value is not None})

    @property
    def has_trackers(self) -> bool:
        """Whether anything shows pictures and histograms, which metrics.jsonl does not hold."""
        return bool(self._trackers)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Show pictures, each uint8 [H, W, 3], in the trackers."""
        for tracker in self._trackers:
            tracker.pictures(step, pictures)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Show the distributions of arrays in the trackers."""
        for tracker in self._trackers:
            tracker.histograms(step, values)

    def rewind(self, step: int) -> None:
        """Drop the lines beyond a step, because a run that goes back to it will write them again."""
        with about(self._path):
            self._file.close()
        self._open(step)

    def _open(self, step: int) -> None:
        kept = _lines(self._path, step) if self._path.exists() else []
        self.evaluations.clear()
        for line in kept:
            self._remember(line)
        if self._writes and self._path.exists():
            _rewrite(self._path, kept)
        # os.devnull, because every process of a run keeps the lines but only one writes the file.
        self._file = open(self._path if self._writes else os.devnull, "a", encoding="utf-8")

    def _remember(self, line: dict) -> None:
        if any(name.startswith("eval/") for name in line):
            self.evaluations[line["step"]] = line

    def close(self) -> None:
        """Close the files."""
        try:
            with about(self._path):  # what a full disk has not taken is tried again
                self._file.close()
        finally:
            for tracker in self._trackers:
                tracker.close()


def _number(value) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _lines(path: Path, step: int) -> list[dict]:
    """Reads the lines up to a step, and says how many cannot be read."""
    kept, damaged = [], 0
    *lines, _ = path.read_bytes().split(b"\n")  # the last is empty, or cut off where a run was killed
    for text in lines:
        try:
            line = json.loads(text)
            if line["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):  # not UTF-8, not JSON, or no step in it
            damaged += 1
    if damaged:
        log.warning("%s: %d lines are damaged and are dropped.", path, damaged)
    return kept


def _rewrite(path: Path, lines: list[dict]) -> None:
    with complete_file(path, durable=True) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
