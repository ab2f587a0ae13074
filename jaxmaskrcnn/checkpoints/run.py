"""Checkpoints of a run: asynchronous, atomic, and including the position in the data.

A checkpoint has three parts, so that each can be read alone: ``model`` (all variables, frozen
or not), ``train`` (step and optimizer state) and ``data`` (the iterator). Orbax writes it under a
temporary name and renames it last, so an incomplete checkpoint of a killed process is never read.
"""

import os

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.checkpoints.latest import checkpoint_directory, damage_reported
from jaxmaskrcnn.structures import State


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
        self._directory = checkpoint_directory(workdir)
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._last = self.latest

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

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
        self._checkpointer.save_checkpointables_async(step, parts, force=True)

    def restore(self, state: State, iterator) -> State:
        """Read the latest checkpoint.

        Args:
            state: A state of the same structure, for shapes and placement on the devices.
            iterator: Set to the position of the checkpoint, in place.

        Returns:
            The restored state.

        Raises:
            UserError: The checkpoint's files are damaged.
        """
        self._checkpointer.wait()
        model = nnx.merge_state(state["params"], state["rest"])
        train = {"step": state["step"], "opt_state": state["opt_state"]}
        abstract = jax.tree.map(_abstract, {"model": model, "train": train})
        with damage_reported(self._directory / str(self.latest)):
            read = self._checkpointer.load_checkpointables(self.latest, {**abstract, "data": None})
        iterator.set_state(read["data"])
        variables = dict(nnx.to_flat_state(read["model"]))
        parts = {
            name: nnx.from_flat_state([(path, variables[path]) for path, _ in nnx.to_flat_state(state[name])])
            for name in ("params", "rest")
        }
        return {**read["train"], **parts}

    def close(self) -> None:
        """Wait for the checkpoint being written."""
        self._checkpointer.close()


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
