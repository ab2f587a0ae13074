"""The model of a training run's latest checkpoint.

A workdir's ``config.json`` has the model's configuration, and ``checkpoints/<step>`` stores its variables in
a separate part, ``model``, so that they can be read without making an optimizer.
"""

import logging
import os
from pathlib import Path

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.checkpoints.damage import checked, damage_reported, drop_unfinished
from jaxmaskrcnn.config.json import config_from_json
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model

log = logging.getLogger(__name__)


def checkpoint_directory(workdir: str | os.PathLike) -> Path:
    """The folder of a run's checkpoints, as an absolute path, which Orbax requires."""
    return Path(workdir).absolute() / "checkpoints"


def latest_model(workdir: str | os.PathLike) -> MaskRCNN | None:
    """The model of a run's latest checkpoint that is intact; a warning names those that are not.

    Args:
        workdir: A training workdir.

    Returns:
        The model, or None if the folder holds no config or no complete checkpoint.

    Raises:
        UserError: The files of all checkpoints are damaged.
    """
    path, directory = Path(workdir) / "config.json", checkpoint_directory(workdir)
    if not path.exists() or not directory.exists():
        return None
    with ocp.training.Checkpointer(directory) as checkpointer:
        if checkpointer.latest is None:
            return None
        config = config_from_json(path.read_bytes(), str(path))
        graphdef, shapes = nnx.split(abstract_model(config))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
        steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
        for step in sorted(steps, reverse=True):
            try:
                with damage_reported(directory / str(step)):
                    read = checkpointer.load_checkpointables(step, {"model": placed})
                    stored = checkpointer.checkpointables_metadata(step).custom_metadata
                read = checked(read, stored, directory / str(step))
                break
            except UserError as error:
                if step == min(steps):
                    raise
                log.warning("%s The checkpoint before it is read.", error)
            drop_unfinished()
    return nnx.merge(graphdef, read["model"])
