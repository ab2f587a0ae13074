"""The command ``train`` with a step and an evaluation that compile nothing; all else is the real one."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
from detectors import random_model
from killable_run import quick_step
from small_runs import GivenScores

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.training import setup

RECIPE = """
from small_runs import tiny_config


def get_config():
    small = {"backbone.depth": 18, "backbone.freeze_at": 0}
    return tiny_config("", small, train__steps=2, train__eval_every=2, train__checkpoint_every=1,
                       train__log_every=1, train__keep_checkpoints=1, optimizer__ema_decay=0.9)
"""


@functools.cache
def _model(config):
    return random_model(config)


class _Evaluator(GivenScores):
    """A score that depends on the parameters."""

    def __init__(self, config, *_, **__):
        self.categories = config.known_categories()

    def run(self, *states, stop=None):
        total = sum(float(jnp.mean(x)) for x in jax.tree.leaves(states[0]))
        self._scores = iter([0.5 + abs(total) % 1 / 2])
        return super().run()


@contextlib.contextmanager
def quick_parts(step: Callable = quick_step) -> Iterator[None]:
    """Replaces what a run compiles, which is nearly all of its time, within the block."""
    parts = {
        "make_train_step": lambda *_, **__: step,
        "first_model": lambda config, *_, **__: _model(config),
        "Evaluator": _Evaluator,
    }
    with mock.patch.multiple(setup, **parts):
        yield


def train(recipe: Path, workdir: Path | str, *settings: str, step: Callable = quick_step) -> int:
    """Runs the command with a recipe, which is written if it is not there; returns the exit code."""
    if not recipe.exists():
        recipe.write_text(RECIPE)
    with quick_parts(step):
        return command(["train", f"--config={recipe}", f"--workdir={workdir}", *settings])


def recorded(workdir: Path) -> tuple[list[int], list[int]]:
    """The steps and the evaluations in ``metrics.jsonl``."""
    lines = list(map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()))
    steps = [line["step"] for line in lines if "loss" in line]
    return steps, [line["step"] for line in lines if "eval/box_AP" in line]
