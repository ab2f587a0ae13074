"""Checkpoints of a run: asynchronous, atomic, with the position in the data inside.

A checkpoint has three parts, so that each can be read alone: ``model`` (all variables, whatever
was frozen), ``train`` (step and optimizer state) and ``data`` (the iterator). Orbax writes it
under a temporary name and renames it last; what a killed process leaves half-written is never
seen.
"""

import contextlib
import os
from pathlib import Path

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn import model_io
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.training.step import State


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
        workdir: The run's folder; checkpoints lie in ``checkpoints/<step>``.
        keep: How many of the latest ones to keep.

    Example:
        >>> with Checkpoints("runs/shapes", keep=2) as checkpoints:  # doctest: +SKIP
        ...     if checkpoints.latest is not None:
        ...         state = checkpoints.restore(state, iterator)
        ...     checkpoints.save(state, iterator)
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int = 2):
        self._directory = _directory(workdir)
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

        Of several processes all call it, with global arrays, and their workdir is a disk they share.

        Args:
            state: Of the train step; may be donated to the next step at once.
            iterator: Data iterator at the same step; its ``get_state`` is a dict of numbers.
        """
        step = int(state["step"])
        # Not `latest`, which several processes may see change at different times.
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
        with _damage_told(self._directory / str(self.latest)):
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


def latest_model(workdir: str | os.PathLike) -> MaskRCNN | None:
    """The model of a run's latest checkpoint.

    Args:
        workdir: A training workdir.

    Returns:
        The model, or None where the folder holds no config or no complete checkpoint.

    Raises:
        UserError: The checkpoint's files are damaged.
    """
    path = Path(workdir) / "config.json"
    if not path.exists() or not _directory(workdir).exists():
        return None
    with ocp.training.Checkpointer(_directory(workdir)) as checkpointer:
        if checkpointer.latest is None:
            return None
        config = model_io.config_from_json(path.read_text(encoding="utf-8"), str(path))
        graphdef, shapes = nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda x: _abstract(x, device), shapes)
        step = checkpointer.latest.step
        with _damage_told(_directory(workdir) / str(step)):
            read = checkpointer.load_checkpointables(step, {"model": abstract})
    return nnx.merge(graphdef, read["model"])


def _directory(workdir: str | os.PathLike) -> Path:
    return Path(workdir).absolute() / "checkpoints"  # Orbax wants absolute paths


@contextlib.contextmanager
def _damage_told(directory: Path):
    """A sentence in place of what Orbax raises: files cut off by a full disk, a copy that was stopped."""
    try:
        yield
    except Exception as error:  # which of its own kind depends on the file
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:150]
        raise UserError(
            f"The checkpoint {directory} cannot be read ({reason}); delete this folder to go on from the "
            "checkpoint before it, or start anew in another --workdir."
        ) from error


def _abstract(x, sharding=None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding)
