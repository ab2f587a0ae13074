"""MLflow, which its own environment variables configure (``MLFLOW_TRACKING_URI``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.training.trackers.tracker import store_id, stored_id

_LONGEST = 500  # characters of a parameter, which older servers limit
_AT_ONCE = 100  # parameters that a server takes in one call
_BINS = 64


class MLflow:
    """Sends a run; see `tracker.Tracker`. A continued run goes on under the same id.

    MLflow has no histograms: they are stored as arrays of counts and edges.

    Example:
        >>> MLflow(Path("runs/shapes"), 0, {}).scalars(20, {"loss": 1.5})  # doctest: +SKIP
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any]):
        import mlflow  # an extra

        self._mlflow, known = mlflow, stored_id(workdir, "mlflow")
        self._id = mlflow.start_run(run_id=known, run_name=None if known else workdir.name).info.run_id
        if known is None:
            store_id(workdir, "mlflow", self._id)
            # A parameter cannot be changed, so a continued run keeps those that it was started with.
            texts = [(name, str(value)[:_LONGEST]) for name, value in settings.items()]
            for start in range(0, len(texts), _AT_ONCE):
                mlflow.log_params(dict(texts[start : start + _AT_ONCE]))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers of one step."""
        self._mlflow.log_metrics(dict(values), step=step, run_id=self._id)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Send pictures, each uint8 [H, W, 3]."""
        for name, picture in pictures.items():
            self._mlflow.log_image(picture, artifact_file=f"pictures/{step}/{name}.png")

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Send the distributions of arrays, as counts and the edges of their bins."""
        counted = {}
        for name, value in values.items():
            counts, edges = np.histogram(value, bins=_BINS)
            counted[name] = {"counts": counts.tolist(), "edges": edges.tolist()}
        self._mlflow.log_dict(counted, f"histograms/{step}.json")

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()
