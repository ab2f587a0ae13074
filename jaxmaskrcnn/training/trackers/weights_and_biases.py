"""Weights & Biases, configured by its own environment variables (``WANDB_PROJECT``, ``WANDB_MODE``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.training.trackers.tracker import store_id, stored_id


class WeightsAndBiases:
    """Sends a run; see `tracker.Tracker`. A continued run goes on under the same id.

    Example:
        >>> WeightsAndBiases(Path("runs/shapes"), 0, {}).scalars(20, {"loss": 1.5})  # doctest: +SKIP
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any]):
        import wandb  # an extra

        self._wandb, known = wandb, stored_id(workdir, "wandb")
        self._run = wandb.init(
            dir=str(workdir), name=workdir.name, config=dict(settings), id=known, resume="allow"
        )
        if known is None:
            store_id(workdir, "wandb", self._run.id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers of one step."""
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Send pictures, each uint8 [H, W, 3]."""
        images = [self._wandb.Image(picture, caption=name) for name, picture in pictures.items()]
        self._run.log({"pictures": images}, step=step)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Send the distributions of arrays."""
        self._run.log({name: self._wandb.Histogram(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()
