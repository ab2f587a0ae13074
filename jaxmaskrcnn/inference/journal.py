"""Remembers the images that ``predict`` has finished, so that it can go on after an interruption.

    predictions.part.jsonl    one line of what the results depend on, then a line for each finished image

The file is beside the results, and removed when they are complete.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.errors import UserError

JOURNAL = "predictions.part.jsonl"


class Journal:
    """The finished images of a run.

    Args:
        folder: Of the results.
        settings: What the results depend on, which json can hold.
        resume: Whether to go on with a run that was interrupted; otherwise its journal is replaced.

    Attributes:
        finished: For each finished image, in their order, its path, its entry and those of its objects.

    Raises:
        UserError: There is nothing to go on with, or the run had other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool):
        self._path = folder / JOURNAL
        self.finished: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = []
        settings = json.loads(json.dumps(settings))
        if resume:
            self._read(settings)
        self._finished = len(self.finished)
        self._file = self._path.open("w", encoding="utf-8")
        self._line(settings)
        for entry in self.finished:
            self._line(entry)

    def _read(self, settings: Mapping[str, Any]) -> None:
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]  # the last one may be incomplete
            before, *rest = map(json.loads, lines)
        except FileNotFoundError:
            raise UserError(
                f"{self._path.parent} holds no interrupted run, as {JOURNAL} is missing there; leave out "
                "--resume."
            ) from None
        except ValueError as error:
            raise UserError(f"{self._path} is damaged ({error}); leave out --resume to begin anew.") from None
        different = [name for name in settings if before.get(name) != settings[name]]
        if different:
            name = different[0]
            raise UserError(
                f"The interrupted run in {self._path.parent} had another {name} ({before.get(name)!r} in the "
                f"place of {settings[name]!r}); give the same, or leave out --resume."
            )
        self.finished = [(path, image, entries) for path, image, entries in rest]

    def add(self, path: str, image: Mapping[str, Any], entries: list[dict[str, Any]]) -> None:
        """Adds an image all of whose files are there."""
        self._line((path, image, entries))
        self._finished += 1

    def _line(self, content: Any) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()

    def close(self, complete: bool) -> None:
        """Closes the journal, and removes it if the results are complete or no image is finished."""
        self._file.close()
        if complete or not self._finished:
            self._path.unlink(missing_ok=True)
