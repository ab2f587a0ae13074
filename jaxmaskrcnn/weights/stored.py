"""Weights in a store: a file, a model directory, or what is needed of a training workdir."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import copied
from jaxmaskrcnn.stores.filesystem import local_or_stored

MODEL = "model.json"
# Orbax's own file, which is sent last.
COMPLETE = re.compile(r"checkpoints/(\d+)/_CHECKPOINT_METADATA")


def copy_weights(given: str | os.PathLike, setting: str = "the checkpoint") -> Path:
    """The path of a copy of weights in a store.

    Args:
        given: The address of a file, a model directory or a training workdir. Of a workdir, the best model is
            copied, or the complete checkpoints where there is none.
        setting: What the user set it as, for messages.

    Raises:
        UserError: There is no such thing, or it cannot be copied.
    """
    place = local_or_stored(given, setting)
    if isinstance(place, Path):
        return place

    def needed(files: Mapping[str, Any]) -> list[str]:
        if MODEL in files:
            return list(files)
        if f"best/{MODEL}" in files:
            return [name for name in files if name.startswith("best/")]
        steps = {found[1] for found in map(COMPLETE.fullmatch, files) if found}
        if not steps:
            raise UserError(
                f"{setting} is {place.address}, which is neither a model directory (it has no {MODEL}) nor a "
                "training workdir with a best model or a complete checkpoint; check the address."
            )
        return [name for name in files if name == "config.json" or _step(name) in steps]

    return copied(place, needed)


def _step(name: str) -> str | None:
    parts = name.split("/")
    return parts[1] if parts[0] == "checkpoints" and len(parts) > 2 else None
