"""The model of a training run's latest checkpoint.

A workdir's ``config.json`` has the model's configuration, and ``checkpoints/<step>`` stores its variables in
a separate part, ``model``, so that they can be read without making an optimizer.
"""

import contextlib
import os
from pathlib import Path

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.checkpoints.fit import abstract_model
from jaxmaskrcnn.config.json import config_from_json
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN


def checkpoint_directory(workdir: str | os.PathLike) -> Path:
    """The folder of a run's checkpoints, as an absolute path, which Orbax requires."""
    return Path(workdir).absolute() / "checkpoints"


def latest_model(workdir: str | os.PathLike) -> MaskRCNN | None:
    """The model of a run's latest checkpoint.

    Args:
        workdir: A training workdir.

    Returns:
        The model, or None if the folder holds no config or no complete checkpoint.

    Raises:
        UserError: The checkpoint's files are damaged.
    """
    path, directory = Path(workdir) / "config.json", checkpoint_directory(workdir)
    if not path.exists() or not directory.exists():
        return None
    with ocp.training.Checkpointer(directory) as checkpointer:
        if checkpointer.latest is None:
            return None
        config = config_from_json(path.read_text(encoding="utf-8"), str(path))
        graphdef, shapes = nnx.split(abstract_model(config))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
        step = checkpointer.latest.step
        with damage_reported(directory / str(step)):
            read = checkpointer.load_checkpointables(step, {"model": placed})
    return nnx.merge(graphdef, read["model"])


@contextlib.contextmanager
def damage_reported(checkpoint: Path):
    """Reports damaged files, such as files truncated by a full disk or a stopped copy, in one sentence.

    Args:
        checkpoint: Folder of the checkpoint, for the message.

    Raises:
        UserError: Reading within the block raised an exception.
    """
    try:
        yield
    except Exception as error:  # Orbax raises a different exception for each file that is damaged
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:150]
        raise UserError(
            f"The checkpoint {checkpoint} cannot be read ({reason}); delete this folder to go on from the "
            "checkpoint before it, or start anew in another --workdir."
        ) from error
