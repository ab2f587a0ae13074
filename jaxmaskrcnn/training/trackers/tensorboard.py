"""TensorBoard: events in ``<workdir>/tensorboard``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class TensorBoard:
    """Writes events; see `tracker.Tracker`.

    Example:
        >>> TensorBoard(Path("runs/shapes"), 0, {}).scalars(20, {"loss": 1.5})  # doctest: +SKIP
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any]):
        from tensorboardX import SummaryWriter  # an extra

        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        # Indented by four characters, a text is shown as it is.
        lines = json.dumps(dict(settings), indent=1).splitlines()
        self._events.add_text("settings", "\n".join(f"    {line}" for line in lines), step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one step."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write pictures, each uint8 [H, W, 3]."""
        for name, picture in pictures.items():
            self._events.add_image(f"pictures/{name}", picture, step, dataformats="HWC")

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write the distributions of arrays."""
        for name, value in values.items():
            self._events.add_histogram(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._events.close()
