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
from jaxmaskrcnn.training.first_weights import fixed_at_random
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.nonfinite import NonFinite, NonFiniteLossError
from jaxmaskrcnn.training.progress import Progress
from jaxmaskrcnn.training.step import init_state, jit_train_step
from jaxmaskrcnn.zoo.lookup import model_config


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
    with pytest.raises(NonFiniteLossError, match="Step 3 has a loss_mask_edge .* 0.1; lower optimizer.learn"):
        policy(3, np.array([0]), metrics)


def test_random_weights_that_are_fixed_are_named_as_the_cause(tmp_path):
    """The learning rate is not what keeps such a run from learning."""
    config = model_config("detectron2/mask_rcnn_R_50_FPN_3x")
    cause = fixed_at_random("", config)
    assert "(model.backbone.freeze_at=2, model.backbone.norm='frozen_bn')" in cause
    assert not fixed_at_random("detectron2/MSRA/R-50", config)
    assert not fixed_at_random("", model_config("detectron2/scratch_mask_rcnn_R_50_FPN_9x_gn"))
    source = SimpleNamespace(image_ids=[7], annotations="train.json")
    policy = NonFinite(TrainConfig(on_nonfinite="stop"), tmp_path, source, cause)
    metrics = {"loss": np.nan, "loss_mask": np.nan, "learning_rate": 0.1}
    with pytest.raises(
        NonFiniteLossError, match="Random weights are partly fixed .*'gn'. Otherwise lower optimizer.learning"
    ):
        policy(3, np.array([0]), metrics)
