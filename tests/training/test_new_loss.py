"""A sixth loss, invented here, reaches the log, the record of a run and its charts by its name alone."""

import logging
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from training.test_train_step import StandIn, make_batch

from jaxmaskrcnn.cli.plot import make_panels
from jaxmaskrcnn.config import Config, TrainConfig
from jaxmaskrcnn.report.history import read_history
from jaxmaskrcnn.structures import LossTerm
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.nonfinite import NonFinite, NonFiniteLossError
from jaxmaskrcnn.training.progress import Progress
from jaxmaskrcnn.training.step import init_state, jit_train_step


class WithEdges(StandIn):
    def loss_terms(self, batch, rng, *, first_position=0):
        terms = super().loss_terms(batch, rng, first_position=first_position)
        return terms | {"loss_mask_edge": LossTerm(0 * self.weight[...].sum() + 6.0, 4.0)}


def test_a_sixth_loss_needs_no_change_anywhere_else(tmp_path, caplog):
    graphdef, optimizer, state = init_state(WithEdges(), nnx.Param, lambda params: optax.sgd(0.1))
    step = jit_train_step(graphdef, optimizer, lambda step: 0.1)
    config = Config(train=TrainConfig(steps=2, log_every=1))
    with MetricsWriter(tmp_path) as writer, caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        progress = Progress(writer, config, None)
        for i in (1, 2):
            batch = make_batch(i)
            state, metrics = step(state, batch, jax.random.key(0))
            progress.step(i, batch.index, metrics)
        progress.flush()
    assert " mask_edge 1.500)" in caplog.text
    history = read_history(tmp_path)
    assert history["loss_mask_edge"].values.tolist() == [1.5, 1.5]
    assert [p.title for p in make_panels([history])] == [
        "Loss", "Box loss", "Mask loss", "Mask edge loss", "Learning rate",
    ]  # fmt: skip


def test_a_sixth_loss_that_is_not_finite_is_named(tmp_path):
    source = SimpleNamespace(image_ids=[7], annotations="train.json")
    policy = NonFinite(TrainConfig(on_nonfinite="stop"), tmp_path, source)
    metrics = {"loss": np.nan, "loss_mask": 1.0, "loss_mask_edge": np.nan, "learning_rate": 0.1}
    with pytest.raises(NonFiniteLossError, match="Step 3 has a loss_mask_edge that is not finite"):
        policy(3, np.array([0]), metrics)
