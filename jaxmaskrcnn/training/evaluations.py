"""The evaluations of a run: when one is due, the files that it writes, and when they stop improving."""

import logging
import time
from collections.abc import Callable

import numpy as np
from flax import nnx
from PIL import Image

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.evaluation.tables import ap_text, format_metrics
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.parallel.processes import is_first
from jaxmaskrcnn.training.early_stopping import score, since_best
from jaxmaskrcnn.training.ema import weights_to_use
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.pictures import draw_pictures
from jaxmaskrcnn.training.setup import Setup
from jaxmaskrcnn.training.step import State
from jaxmaskrcnn.utils.files import write_json

log = logging.getLogger(__name__)


class Evaluations:
    """Evaluates a run's model according to ``train.eval_every`` and ``train.patience``.

    Args:
        setup: The parts of the run.
        writer: The run's record, including the evaluations of earlier runs in the same workdir.
    """

    def __init__(self, setup: Setup, writer: MetricsWriter):
        self._setup, self._writer = setup, writer

    def is_due(self, step: int) -> bool:
        """Whether an evaluation is due after a step and is not in the record yet."""
        train = self._setup.config.train
        regular = train.eval_every and step and step % train.eval_every == 0
        return bool(regular or step == train.steps) and step not in self._writer.evaluations

    def out_of_patience(self) -> bool:
        """Whether none of the last ``train.patience`` evaluations was better than an earlier one."""
        patience = self._setup.config.train.patience
        return bool(patience) and since_best(self._writer.evaluations) >= patience

    def run(self, step: int, state: State, stop: Callable[[], bool] = lambda: False) -> None:
        """Scores the model, keeps it if it is the best so far, and draws some pictures.

        Args:
            step: Completed steps.
            state: State of the training step.
            stop: Asked now and then whether to break off.

        Raises:
            Stopped: It was broken off, and nothing is written.
        """
        setup = self._setup
        weights = weights_to_use(state), state["rest"]
        start = time.monotonic()
        metrics, detections = setup.evaluator.run(*weights, stop=stop)
        scores = ", ".join(
            f"{name} AP {ap_text(metrics[f'{name}_AP'])}"
            for name in ("box", "mask", "keypoint")
            if f"{name}_AP" in metrics
        )
        if "PQ" in metrics:
            scores += f", PQ {ap_text(metrics['PQ'])}"
        log.info("Evaluation after step %d in %.1f s: %s.", step, time.monotonic() - start, scores)
        losses = setup.validation.run(*weights) if setup.validation else {}
        if losses:
            log.info("Loss over the evaluation data after step %d: %.3f.", step, losses["loss"])
        if step == setup.config.train.steps:
            log.info("%s", format_metrics(metrics))
        best = max((score(line, "eval/") for line in self._writer.evaluations.values()), default=-1.0)
        if score(metrics) > best:
            model_directory.save_model(model_of(setup, state), setup.workdir / "best")
        if is_first():
            pictures = setup.workdir / "pictures"
            write_json(setup.workdir / "detections.json", detections, durable=True)
            write_json(setup.workdir / "metrics.json", metrics, indent=1, durable=True)
            drawn = draw_pictures(
                pictures, setup.eval_source, detections,
                setup.evaluator.categories, setup.config.train.pictures,
                pixels=setup.model_config.input.pixels,
                skeleton=setup.model_config.keypoints.lines if setup.model_config.keypoints else (),
            )  # fmt: skip
            if self._writer.has_trackers:
                self._writer.pictures(step, {path.stem: np.asarray(Image.open(path)) for path in drawn})
            if setup.config.train.histograms:
                self._writer.histograms(step, _parameters(weights[0]))
        # Written last, because this line marks the evaluation of this step as complete.
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) or v is None} | losses
        self._writer.write(step, {f"eval/{k}": v for k, v in numbers.items()})


def _parameters(params) -> dict[str, np.ndarray]:
    """The parameters by their paths, on the host."""
    flat = nnx.to_flat_state(params)
    return {".".join(map(str, path)): np.asarray(leaf[...], np.float32) for path, leaf in flat}


def model_of(setup: Setup, state: State) -> MaskRCNN:
    """The model of a state, with the averaged parameters if there are any."""
    return nnx.merge(setup.graphdef, weights_to_use(state), state["rest"])
