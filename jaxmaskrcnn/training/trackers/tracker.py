"""The interface of what shows a run, and the table of what is known.

Another one is a class with these methods in a file of its own, and a line in `TRACKERS`.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import write_json


class Tracker(Protocol):
    """What shows a run. Only the first process of a run has trackers.

    Args:
        workdir: The run's folder.
        step: The completed steps that the run starts from.
        settings: Every setting of the run by its path.
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any]): ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers of one step by name, all of them finite."""

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Show pictures by name, each uint8 [H, W, 3]."""

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Show the distributions of arrays by name."""

    def close(self) -> None:
        """Finish what is still to be written."""


class Entry(NamedTuple):
    """A line of the table.

    Attributes:
        place: The class as "module:Class".
        package: What it imports.
    """

    place: str
    package: str


# The names are those of the extras that install the packages.
TRACKERS = {
    "tensorboard": Entry("jaxmaskrcnn.training.trackers.tensorboard:TensorBoard", "tensorboardX"),
    "wandb": Entry("jaxmaskrcnn.training.trackers.weights_and_biases:WeightsAndBiases", "wandb"),
    "mlflow": Entry("jaxmaskrcnn.training.trackers.mlflow_runs:MLflow", "mlflow"),
}


def open_trackers(
    names: Sequence[str], workdir: Path, step: int, settings: Mapping[str, Any]
) -> tuple[Tracker, ...]:
    """Open the trackers of a run.

    Args:
        names: Keys of `TRACKERS`.
        workdir: The run's folder.
        step: The completed steps that the run starts from.
        settings: Every setting of the run by its path.

    Returns:
        One for each name.

    Raises:
        UserError: The package of one is not installed.
    """
    opened = []
    for name in dict.fromkeys(names):
        entry = TRACKERS[name]
        module, _, kind = entry.place.partition(":")
        tracker = getattr(importlib.import_module(module), kind)
        try:
            opened.append(tracker(workdir, step, settings))
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != entry.package:
                raise
            raise UserError(
                f"the tracker {name!r} needs the package {entry.package}, which is not installed; "
                f"install the extra with pip install 'jaxmaskrcnn[{name}]', or leave the tracker out of "
                "train.trackers."
            ) from None
    return tuple(opened)


def stored_id(workdir: Path, name: str) -> str | None:
    """Return the id that a tracker gave the run when it was started, or None for a new run."""
    path = workdir / "trackers.json"
    return json.loads(path.read_text(encoding="utf-8")).get(name) if path.exists() else None


def store_id(workdir: Path, name: str, number: str) -> None:
    """Keep the id of a run, so that it is continued under the same one."""
    path = workdir / "trackers.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**known, name: number}, indent=1, durable=True)
