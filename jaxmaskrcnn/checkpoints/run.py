"""Checkpoints of a run: asynchronous, atomic, and including the position in the data.

A checkpoint has three parts, so that each can be read alone: ``model`` (all variables, frozen
or not), ``train`` (step and optimizer state) and ``data`` (the iterator). Orbax writes it under a
temporary name and renames it last, so an incomplete checkpoint of a killed process is never read. The
checksums of all arrays are in its metadata; a checkpoint that is damaged nevertheless is set aside, and the
run goes on from the one before it.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.checkpoints.damage import (
    checked,
    checksums,
    damage_reported,
    drop_unfinished,
    move_aside,
    quiet_writers,
    remove_folder,
)
from jaxmaskrcnn.checkpoints.latest import checkpoint_directory
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.parallel.processes import gather_json, is_first
from jaxmaskrcnn.structures import State
from jaxmaskrcnn.utils.files import write_problem

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
        workdir: The run's folder; checkpoints are in ``checkpoints/<step>``.
        keep: Number of the latest checkpoints to keep.

    Example:
        >>> with Checkpoints("runs/shapes", keep=2) as checkpoints:  # doctest: +SKIP
        ...     if checkpoints.latest is not None:
        ...         state = checkpoints.restore(state, iterator)
        ...     checkpoints.save(state, iterator)
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int = 2):
        self._directory, self._keep = checkpoint_directory(workdir), keep
        quiet_writers()
        self._remove_surplus()
        self._checkpointer = self._open()
        self._last = self.latest

    def _open(self) -> ocp.training.Checkpointer:
        return ocp.training.Checkpointer(
            self._directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
            cleanup_tmp_directories=True,
        )

    def _remove_surplus(self) -> None:
        """Delete checkpoints beyond ``keep``, which a process leaves that is killed while it deletes one."""
        if jax.process_count() > 1 or not self._directory.is_dir():
            return
        steps = sorted(int(folder.name) for folder in self._directory.iterdir() if folder.name.isdecimal())
        for step in steps[: -self._keep]:
            shutil.rmtree(self._directory / str(step), ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except UserError:
            if kind is None:  # else the exception that ends the run is the one to tell
                raise

    @property
    def latest(self) -> int | None:
        """The step of the latest complete checkpoint."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: State, iterator) -> None:
        """Copy the state off the device and write it in the background.

        In a run of several processes all of them must call it, with global arrays and a workdir on a disk
        they share.

        Args:
            state: State of the training step. It is copied, so it may be donated to the next step at once.
            iterator: Data iterator at the same step; its ``get_state`` returns a dict of numbers.
        """
        step = int(state["step"])
        # The step is not compared with `latest`, which several processes may see change at different times,
        # because all of them must agree on whether they save.
        if step == self._last:
            return
        self._last = step
        parts = {
            "model": nnx.merge_state(state["params"], state["rest"]),
            "train": {"step": state["step"], "opt_state": state["opt_state"]},
            "data": iterator.get_state(),
        }
        with self._writing():
            self._checkpointer.save_checkpointables_async(
                step, parts, force=True, custom_metadata={"checksums": checksums(parts)}
            )

    def restore(self, state: State, iterator, *, strict: bool = False) -> State:
        """Read the latest checkpoint that is intact.

        A damaged one is renamed to ``checkpoints/damaged-<step>``, with an error in the log that says what is
        wrong with it, and the one before it is read.

        Args:
            state: A state of the same structure, for shapes and placement on the devices.
            iterator: Set to the position of the checkpoint, in place.
            strict: Whether a damaged checkpoint is an error instead.

        Returns:
            The restored state.

        Raises:
            UserError: The checkpoint's files are damaged, and it is the only one or ``strict`` is set.
        """
        with self._writing():
            self._checkpointer.wait()
        model = nnx.merge_state(state["params"], state["rest"])
        train = {"step": state["step"], "opt_state": state["opt_state"]}
        abstract = jax.tree.map(_abstract, {"model": model, "train": train})
        while True:
            read, problem = self._read({**abstract, "data": None})
            # Processes may see different damage, but have to go on from the same step.
            problem = next(filter(None, gather_json(problem)), None)
            if problem is None:
                break
            drop_unfinished()
            if len(self._checkpointer.checkpoints) < 2:
                raise UserError(f"{problem} There is no other one; start anew in another --workdir.")
            if strict:
                raise UserError(
                    f"{problem} Rename this folder, or set train.strict_resume=False, to go on from the "
                    "checkpoint before it."
                )
            self._set_aside(problem)
        iterator.set_state(read["data"])
        variables = dict(nnx.to_flat_state(read["model"]))
        parts = {
            name: nnx.from_flat_state([(path, variables[path]) for path, _ in nnx.to_flat_state(state[name])])
            for name in ("params", "rest")
        }
        return {**read["train"], **parts}

    def _read(self, abstract: dict) -> tuple[dict, str | None]:
        """The parts of the latest checkpoint, and what is wrong with it."""
        step = self.latest
        try:
            with damage_reported(self._directory / str(step)):
                read = self._checkpointer.load_checkpointables(step, abstract)
                stored = self._checkpointer.checkpointables_metadata(step).custom_metadata
            return checked(read, stored, self._directory / str(step)), None
        except UserError as error:
            return {}, str(error)

    def _set_aside(self, problem: str) -> None:
        """Rename the latest checkpoint, and go on with the one before it."""
        folder = self._directory / str(self.latest)
        self._checkpointer.close()
        renamed = move_aside(folder) if is_first() else None
        renamed = gather_json(renamed)[0]
        self._checkpointer = self._open()
        self._last = self.latest
        log.error("%s It is now %s, and the run goes on from step %s.", problem, renamed, self.latest)

    def close(self) -> None:
        """Wait for the checkpoint being written.

        Raises:
            UserError: It cannot be written.
        """
        with self._writing():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Reports a disk that takes no more, whether Orbax meets it at once or has met it in the background.

        Raises:
            UserError: A checkpoint cannot be written. What it had written is removed; others are intact.
        """
        try:
            yield
        except Exception as error:  # Orbax raises ValueError where a disk is full
            problem = write_problem(error)
            if problem is None:
                raise
            drop_unfinished()
            if is_first():
                for folder in self._directory.glob("*.orbax-checkpoint-tmp"):
                    remove_folder(folder)
            steps = [int(folder.name) for folder in self._directory.glob("*") if folder.name.isdigit()]
            then = f"goes on from step {max(steps)}" if steps else "begins anew"
            raise UserError(
                f"A checkpoint cannot be written to {self._directory} ({problem}); make room there, and the "
                f"same command {then}."
            ) from None


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
