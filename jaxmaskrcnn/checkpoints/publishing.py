"""How a model directory appears complete under its name, whenever its writer is stopped."""

import glob
import json
import os
import secrets
import shutil
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

MODEL_FILE = "model.json"


def common_token() -> str:
    """A random name part that is the same in all processes."""
    number = np.int32(secrets.randbits(31))
    if jax.process_count() > 1:
        number = multihost_utils.broadcast_one_to_all(number)
    return f"{int(number):08x}"


def wait_for_all(name: str) -> None:
    """Wait until all processes have come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def remove_leftovers(directory: Path) -> None:
    """Delete the staging folders of writers that were killed."""
    for folder in directory.parent.glob(f".{glob.escape(directory.name)}.{'[0-9a-f]' * 8}"):
        shutil.rmtree(folder, ignore_errors=True)


def publish(staging: Path, directory: Path, occupied: bool) -> None:
    """Make a complete model directory visible under its name."""
    if not occupied:
        os.rename(staging, directory)
        return
    for folder in staging.glob("arrays-*"):
        os.rename(folder, directory / folder.name)
    new = json.loads((staging / MODEL_FILE).read_text(encoding="utf-8"))["array_folder"]
    try:
        os.replace(staging / MODEL_FILE, directory / MODEL_FILE)
    except OSError:
        shutil.rmtree(directory / new, ignore_errors=True)
        raise
    for folder in directory.glob("arrays-*"):
        if folder.name != new:
            shutil.rmtree(folder, ignore_errors=True)
