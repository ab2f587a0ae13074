"""A trace of some steps of a run, ``train.profile_steps``."""

import logging
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger(__name__)


class Profile:
    """Records what host and device do in some steps, by ``jax.profiler``.

    Args:
        workdir: The run's folder; the trace is written to ``<workdir>/profile``.
        steps: The first and the last step, counted from 1; none records nothing.
    """

    def __init__(self, workdir: Path, steps: tuple[int, ...]):
        self._folder, self._steps, self._runs = workdir / "profile", steps, False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_) -> None:
        if self._runs:
            jax.profiler.stop_trace()

    def before(self, step: int) -> None:
        """Begin the trace if a step that is about to be dispatched is the first."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._runs = True

    def after(self, step: int, state: Any) -> None:
        """End the trace when the last step, which has the given state, is computed."""
        if self._runs and step >= self._steps[-1]:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._runs = False
            log.info("The trace of steps %d to %d is in %s.", *self._steps, self._folder)
