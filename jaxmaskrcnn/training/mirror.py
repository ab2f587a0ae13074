"""What of a run's local folder a store has, and how the rest gets there.

A checkpoint or a model is known by one small file, which is sent when all others have arrived: what is there
in part is never taken for whole.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from jaxmaskrcnn.stores.copies import fetch_files
from jaxmaskrcnn.stores.filesystem import Place, StoredFile, list_files
from jaxmaskrcnn.stores.sending import remove, send, send_bytes
from jaxmaskrcnn.training.lock import FILE as LOCK
from jaxmaskrcnn.utils.files import write_json

log = logging.getLogger(__name__)

NOTE = ".store.json"  # in the local folder: which address it is of, and whether anything was sent
_CHECKPOINT = re.compile(r"checkpoints/(\d+)/_CHECKPOINT_METADATA")
_MODEL = re.compile(r"(best|model)/model\.json")
_METRICS = "metrics.jsonl"
_FOLDERS = ("checkpoints/", "best/", "model/")  # in which what is gone locally is removed from the store
_BROUGHT = re.compile(r"tensorboard/.+|[^/]+\.(json|jsonl|txt)")


class Mirror:
    """A run's local folder, and what the store has of it.

    Args:
        folder: The local folder.
        place: The workdir in the store.
    """

    def __init__(self, folder: Path, place: Place):
        self.folder, self.place = folder, place
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of local files that the store has
        self._stored: set[str] = set()  # names of files in the store

    def bring(self) -> None:
        """Make the local folder what the store has, unless it has gone further than that.

        Raises:
            UserError: The store cannot be read.
        """
        files = list_files(self.place)
        files = {name: file for name, file in files.items() if name != LOCK}
        self._stored = set(files)
        steps = {found[1] for found in map(_CHECKPOINT.fullmatch, files) if found}
        own = {found[1] for found in map(_CHECKPOINT.fullmatch, self._local()) if found}
        if not files and self._note().get("sent"):
            self._set_aside()
        elif own and max(map(int, own)) > max(map(int, steps), default=-1):
            log.warning(
                "%s has gone to step %d and %s only to %s, so the run goes on from the former, and what is "
                "missing is sent.", self.folder, max(map(int, own)), self.place.address,
                max(map(int, steps), default="none"),
            )  # fmt: skip
        elif files:
            whole = {
                *(f"checkpoints/{step}" for step in steps),
                *(name[:-11] for name in files if _MODEL.fullmatch(name)),
            }
            self._take({name: file for name, file in files.items() if _is_brought(name, whole)})
        write_json(self.folder / NOTE, {"address": self.place.address, "sent": bool(files)})

    def _take(self, files: dict[str, StoredFile]) -> None:
        for name in self._local():
            if name not in files:
                (self.folder / name).unlink(missing_ok=True)
        for folder in (*self.folder.glob("checkpoints/*"), self.folder / "best", self.folder / "model"):
            if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
                shutil.rmtree(folder)  # else it would be taken for one that is damaged
        fetch_files(self.place, {self.folder / name: file for name, file in files.items()})
        self._sent = {name: _state(self.folder / name) for name in files}

    def send(self) -> None:
        """Send what is new, and remove from the store what is gone from checkpoints and models.

        Raises:
            UserError: It failed; the next call goes on from there.
        """
        with contextlib.suppress(
            FileNotFoundError
        ):  # a file that was removed meanwhile; the next call goes on
            self._send()

    def _send(self) -> None:
        # What is read first was complete when what is read later was there. Checkpoints are sent after the
        # metrics, which have to reach as far, and these after the best model, whose score they hold.
        names = self._local()
        checkpoints = self._new([name for name in names if _CHECKPOINT.fullmatch(name)])
        metrics = self._new([name for name in names if name == _METRICS])
        models = self._new([name for name in names if _MODEL.fullmatch(name)])
        names = set(self._local())
        states = {name: _state(self.folder / name) for name in names if not _says_complete(name)}
        others = [
            name for name, state in states.items() if name != _METRICS and self._sent.get(name) != state
        ]
        send(self.folder, self.place, others)
        self._record({name: states[name] for name in others})
        for group in (models, metrics, checkpoints):
            for name, (state, content) in group.items():
                if not (self.folder / name).is_file():  # an old checkpoint, some of whose files may be gone
                    continue
                send_bytes(self.place.below(name), content)
                self._record({name: state})
        gone = [name for name in self._stored if name.startswith(_FOLDERS) and name not in names]
        gone.sort(key=lambda name: not _says_complete(name))
        for name in gone:
            remove(self.place, [name])
            self._stored.discard(name)
            self._sent.pop(name, None)

    def _new(self, names: list[str]) -> dict[str, tuple[tuple[int, int], bytes]]:
        """Those files that the store does not have yet, with their state and their content."""
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                state = _state(self.folder / name)
                if self._sent.get(name) != state:
                    found[name] = state, (self.folder / name).read_bytes()
        return found

    def _record(self, states: dict[str, tuple[int, int]]) -> None:
        if states and not self._note().get("sent"):
            write_json(self.folder / NOTE, {"address": self.place.address, "sent": True})
        self._sent |= states
        self._stored |= states.keys()

    def _local(self) -> list[str]:
        """The run's files by their names in the workdir, without data, and without what is not complete."""
        names = []
        for folder, folders, files in os.walk(self.folder):
            above = Path(folder).relative_to(self.folder)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and not name.endswith("-tmp") and (above / name) != Path("data")
            ]
            own = (name for name in files if not name.startswith(".") and name != LOCK)
            names += [(above / name).as_posix() for name in own]
        return names

    def _note(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / NOTE).read_bytes())
        except (OSError, ValueError):
            return {}

    def _set_aside(self) -> None:
        """Keep what is left here of a run that was removed from the store, under another name."""
        left = self.folder.with_name(f"{self.folder.name}.left-{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(self.folder, left)
        self.folder.mkdir()
        log.warning(
            "%s is empty and a run was sent there before, so a new one begins; what is here of the other is "
            "now %s.", self.place.address, left,
        )  # fmt: skip


def _is_brought(name: str, whole: set[str]) -> bool:
    """Whether a file of a store is needed to go on, and is of no checkpoint or model that is not complete."""
    parts = name.split("/")
    if f"{parts[0]}/" in _FOLDERS:
        return "/".join(parts[: 2 if parts[0] == "checkpoints" else 1]) in whole
    return _BROUGHT.fullmatch(name) is not None


def _says_complete(name: str) -> bool:
    return bool(_CHECKPOINT.fullmatch(name) or _MODEL.fullmatch(name))


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
