"""Steps that are not finite: stop, skip and rollback, with a step that only counts."""

import json
import logging
import re

import numpy as np
import pytest
from detectors import random_model
from flax import nnx
from small_runs import CountingStep, GivenScores, run_tiny, tiny_config

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.data.sampler import TrainPlan
from jaxmaskrcnn.training import setup
from jaxmaskrcnn.training.nonfinite import NonFiniteLossError, position_after
from jaxmaskrcnn.training.run_config import to_model_config

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first_model():
    """The random weights are made once."""
    made = {}

    def make(config, seed=0):
        if config not in made:
            made[config] = random_model(config, seed)
        return made[config]

    return make


@pytest.fixture(scope="module")
def model_config(cache, tmp_path_factory):
    config = tiny_config(cache)
    source, _ = setup.prepare_sources(config, tmp_path_factory.mktemp("sources"))
    return to_model_config(config.model, source.categories)


@pytest.fixture
def train(cache, first_model, model_config, tmp_path):
    """A run whose steps only count; returns the step."""

    def run(bad_calls=(), **changes):
        step = CountingStep(bad_calls)
        changes = {"train__steps": 8, "train__eval_every": 0, "train__log_every": 1} | changes
        try:
            run_tiny(
                tiny_config(cache, **changes), tmp_path, model=first_model(model_config),
                around_step=lambda _: step, evaluator=GivenScores(),
            )  # fmt: skip
        except NonFiniteLossError as error:
            step.error = str(error)
        return step

    return run


def batches(cache, tmp_path, count=30):
    """The images of every step's batch, straight from the plan."""
    config = tiny_config(cache)
    source, _ = setup.prepare_sources(config, tmp_path)
    plan = TrainPlan(source, to_model_config(config.model, source.categories), config.data, seed=0)
    return [plan(step).index.tolist() for step in range(count)], source


def lines(workdir):
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in found if "loss" in line]


def updates(workdir, first_model):
    """How often the step has changed the parameters of the latest checkpoint."""
    model = latest_model(workdir)
    start = first_model(model.config)
    change = [
        (np.asarray(new[...], np.float64) - np.asarray(old[...], np.float64)).round(3)
        for (_, new), (_, old) in zip(
            *(nnx.to_flat_state(nnx.state(m, nnx.Param)) for m in (model, start)), strict=True
        )
    ]
    assert len({x for leaf in change for x in np.unique(leaf)}) == 1
    return int(change[0].flat[0])


def test_stop_leaves_a_record(train, cache, tmp_path):
    order, source = batches(cache, tmp_path)
    step = train(bad_calls=[5])
    ids = [int(source.image_ids[i]) for i in order[4]]
    assert step.error.startswith(f"Step 5 has a loss_mask that is not finite, with the images {ids} of ")
    assert "nonfinite-5.json" in step.error
    record = json.loads((tmp_path / "nonfinite-5.json").read_text())
    assert record == {
        "step": 5, "seed": 0, "on_nonfinite": "stop", "annotations": source.annotations, "image_ids": ids,
        "positions": order[4],
        "metrics": {"loss": "nan", "loss_mask": "nan", "learning_rate": pytest.approx(0.1)},
    }  # fmt: skip
    assert lines(tmp_path) == [1, 2, 3, 4]


@pytest.mark.slow
def test_skip_goes_on_with_the_next_batch(train, cache, tmp_path, first_model, caplog):
    step = train(bad_calls=[2, 5], train__on_nonfinite="skip", train__skip_limit=1)
    assert step.seen == batches(cache, tmp_path)[0][:8] and step.steps == list(range(8))
    assert lines(tmp_path) == [1, 3, 4, 6, 7, 8]
    assert updates(tmp_path, first_model) == 6
    assert len(re.findall(r"Step \d has .*; it is skipped", caplog.text)) == 2
    assert (tmp_path / "nonfinite-2.json").exists() and (tmp_path / "nonfinite-5.json").exists()


@pytest.mark.slow
def test_skip_stops_after_too_many_in_a_row(train, tmp_path):
    step = train(bad_calls=[2, 4, 5, 6], train__on_nonfinite="skip", train__skip_limit=2)
    assert step.error.startswith("Step 6 has") and "after 2 steps in a row that were skipped" in step.error


@pytest.mark.slow
def test_rollback_restores_and_goes_on_behind_the_bad_batch(train, cache, tmp_path, first_model, caplog):
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        step = train(bad_calls=[5], train__on_nonfinite="rollback")
    order, _ = batches(cache, tmp_path)
    # Step 5 is bad and step 6 on its way when that is seen; the checkpoint is of step 3. The first
    # canvas of a run is waited for, the later steps are not.
    assert step.steps == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    assert step.seen == order[:6] + order[5:10]
    assert lines(tmp_path) == list(range(1, 9))
    assert updates(tmp_path, first_model) == 8
    assert "going back to the latest checkpoint" in caplog.text
    assert "Continuing from step 3 with the data of step 6." in caplog.text
    assert model_directory.load_model(tmp_path / "model")


@pytest.mark.slow
def test_a_rollback_before_the_first_checkpoint_starts_anew(train, cache, tmp_path):
    step = train(bad_calls=[2], train__on_nonfinite="rollback")
    order, _ = batches(cache, tmp_path)
    assert step.steps == [0, 1, 2, *range(8)] and step.seen == order[:3] + order[2:10]


@pytest.mark.slow
def test_the_position_after_a_rollback_is_in_the_next_checkpoint(train, cache, tmp_path):
    train(bad_calls=[5], train__on_nonfinite="rollback")
    order, _ = batches(cache, tmp_path)
    assert train(train__steps=10, train__on_nonfinite="rollback").seen == order[10:12]


@pytest.mark.slow
def test_rollback_stops_at_its_limit(train, tmp_path):
    step = train(bad_calls=[5, 8, 11], train__on_nonfinite="rollback", train__rollback_limit=2)
    assert "after 2 rollbacks (train.rollback_limit)" in step.error and len(step.seen) == 12


def test_policies_that_cannot_work(train):
    for changes, message in (
        ({"train__on_nonfinite": "ignore"}, "train.on_nonfinite is 'ignore'; give 'stop' or 'skip' or"),
        ({"train__skip_limit": -1}, "train.skip_limit is -1"),
        ({"train__rollback_limit": -1}, "train.rollback_limit is -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(**changes)


def test_position_after_keeps_what_else_an_iterator_remembers():
    assert position_after({"step": 9, "more": 1}, step=7, bad_step=7) == {"step": 9, "more": 1}
