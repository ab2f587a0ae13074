"""Handles steps whose loss or gradient is not finite: stop, skip, or roll back.

Whichever is chosen, the training step itself leaves parameters, optimizer state and batch statistics
unchanged at such a step.
"""

import logging
import math
from pathlib import Path

import jax
import numpy as np

from jaxmaskrcnn.config import TrainConfig
from jaxmaskrcnn.data import Source
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import write_json
from jaxmaskrcnn.utils.loss_names import losses_among

log = logging.getLogger(__name__)


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss or its gradient is NaN or infinite; the message names the step and the images."""


class RollBack(Exception):  # noqa: N818  (a request to the loop, not an error)
    """Asks the loop to go back to the latest checkpoint.

    Attributes:
        step: The step that was not finite.
    """

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class NonFinite:
    """Handles steps that are not finite according to ``train.on_nonfinite``.

    Every such step writes ``<workdir>/nonfinite-<step>.json``: the step, the run's seed, the ids of
    the batch's images, their positions in the source, and the step's metrics.

    Args:
        config: Gives ``on_nonfinite``, ``skip_limit``, ``rollback_limit`` and ``seed``.
        workdir: The run's folder.
        source: Training data, to name the images.
        cause: A sentence about what is wrong with the run beside its learning rate, or nothing.
    """

    def __init__(self, config: TrainConfig, workdir: Path, source: Source, cause: str = ""):
        self._config, self._workdir, self._source, self._cause = config, workdir, source, cause
        self._in_a_row, self._last, self._rollbacks = 0, None, 0

    def __call__(self, step: int, index: np.ndarray, metrics: dict[str, float]) -> None:
        """Handle one step that is not finite; returns if it is skipped.

        Args:
            step: Number of the step.
            index: int [B], positions of its images in the source.
            metrics: Metrics of the step, as Python numbers.

        Raises:
            NonFiniteLossError: The run must stop.
            RollBack: The run must go back to its latest checkpoint.
        """
        config, index = self._config, [int(i) for i in np.asarray(index) if i >= 0]
        ids = [int(self._source.image_ids[i]) for i in index]
        record = self._workdir / f"nonfinite-{step}.json"
        if jax.process_index() == 0:
            self._write(record, step, index, ids, metrics)
        bad = [name for name in losses_among(metrics) if not math.isfinite(metrics[name])]
        found = (
            f"Step {step} has a {' and '.join(bad) or 'gradient'} that is not finite, with the images {ids} "
            f"of {self._source.annotations} and the learning rate {metrics['learning_rate']:.3g}"
        )
        advice = f"{self._cause}. Otherwise " if self._cause else ""
        advice += (
            "lower optimizer.learning_rate, set optimizer.clip_norm, or look at these images "
            f"({record} has everything needed to reproduce the step)."
        )
        if config.on_nonfinite == "stop":
            raise NonFiniteLossError(f"{found}; {advice}")
        if config.on_nonfinite == "skip":
            self._in_a_row = self._in_a_row + 1 if self._last == step - 1 else 1
            self._last = step
            if self._in_a_row > config.skip_limit:
                raise NonFiniteLossError(
                    f"{found}, after {config.skip_limit} steps in a row that were skipped "
                    f"(train.skip_limit); {advice}"
                )
            log.warning("%s; it is skipped.", found)
            return
        self._rollbacks += 1
        if self._rollbacks > config.rollback_limit:
            raise NonFiniteLossError(
                f"{found}, after {config.rollback_limit} rollbacks (train.rollback_limit); {advice}"
            )
        log.warning("%s; going back to the latest checkpoint.", found)
        raise RollBack(step)

    def _write(self, path: Path, step: int, index: list[int], ids: list[int], metrics) -> None:
        # JSON has no NaN, so nan, inf and -inf are written as text.
        numbers = {name: x if math.isfinite(x) else str(x) for name, x in metrics.items()}
        write_json(
            path,
            {
                "step": step, "seed": self._config.seed, "on_nonfinite": self._config.on_nonfinite,
                "annotations": self._source.annotations, "image_ids": ids, "positions": index,
                "metrics": numbers,
            },
            indent=1,
        )  # fmt: skip


def position_after(position: dict[str, int], step: int, bad_step: int) -> dict[str, int]:
    """The position at which the data continue after a rollback: after the batch that was not finite.

    Args:
        position: The data iterator's present state.
        step: The step whose batch it returned last.
        bad_step: The step that was not finite.

    Returns:
        A state for the iterator.

    Example:
        >>> position_after({"step": 41}, step=41, bad_step=40)
        {'step': 40}
    """
    return {**position, "step": int(position["step"]) - (step - bad_step)}
