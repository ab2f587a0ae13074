"""Early stopping, with evaluations that are given; losses over the evaluation data, with a real model."""

import json
import logging

import jax
import numpy as np
import pytest
from detectors import random_model
from flax import nnx
from small_runs import CountingStep, GivenScores, run_tiny, tiny_config

from jaxmaskrcnn.config import DataConfig
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training import setup
from jaxmaskrcnn.training.early_stopping import score, since_best
from jaxmaskrcnn.training.run_config import to_model_config
from jaxmaskrcnn.training.validation_loss import ValidationLoss

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sources(cache, tmp_path_factory):
    config = tiny_config(cache)
    train, evaluation = setup.prepare_sources(config, tmp_path_factory.mktemp("sources"))
    return to_model_config(config.model, train.categories), train, evaluation


def test_what_evaluations_are_compared_by():
    assert score({"mask_AP": 0.0, "box_AP": 0.5}) == 0.0
    assert score({"mask_AP": None, "box_AP": 0.5}) == 0.5
    assert score({"eval/box_AP": None}, "eval/") == 0.0
    assert since_best({}) == 0
    assert [since_best({i: {"eval/mask_AP": x} for i, x in enumerate(values)}) for values in (
        [0.1], [0.1, 0.2], [0.2, 0.1], [0.2, 0.2, 0.2], [0.1, 0.3, 0.2, None], [0.3, 0.1, 0.4])
    ] == [0, 0, 1, 2, 2, 0]  # fmt: skip


@pytest.fixture
def run(cache, sources, tmp_path):
    """A run with given mask APs, one an evaluation; returns its step and metrics."""
    model = random_model(sources[0])

    def start(scores, parts=None, **changes):
        step = CountingStep()
        settings = {"train__steps": 20, "train__eval_every": 2, "train__checkpoint_every": 7}
        parts = {"evaluator": GivenScores(scores)} | (parts or {})
        config = tiny_config(cache, **settings | changes)
        metrics = run_tiny(config, tmp_path, model=model, around_step=lambda _: step, **parts)
        return step, metrics

    return start


@pytest.mark.slow
def test_a_run_ends_when_it_gets_no_better(run, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        step, metrics = run([0.1, 0.3, 0.2, 0.3], train__patience=2)
    assert len(step.seen) == 8 and metrics["mask_AP"] == 0.3
    assert "Ended after step 8: the last 2 evaluations were no better (train.patience)." in caplog.text
    assert (tmp_path / "model").exists() and (tmp_path / "checkpoints" / "8").exists()
    # The same command does nothing more; more patience goes on from there.
    again, same = run([], train__patience=2)
    assert again.seen == [] and same == metrics
    more, metrics = run([0.1, 0.2], train__patience=4)
    assert more.steps == list(range(8, 12)) and metrics["mask_AP"] == 0.2


@pytest.mark.slow
def test_without_patience_a_run_goes_on(run):
    assert len(run([0.5] + [0.1] * 9)[0].seen) == 20


def test_patience_needs_evaluations(run):
    with pytest.raises(UserError, match=r"train\.patience counts evaluations, but train\.eval_every is 0"):
        run([], train__patience=2, train__eval_every=0)
    with pytest.raises(UserError, match=r"train\.patience is -1"):
        run([], train__patience=-1)


@pytest.mark.slow
def test_validation_losses_are_means_over_the_data_set(sources):
    config, _, source = sources
    model = random_model(config)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    before = [np.asarray(x) for x in jax.tree.leaves((params, rest))]
    losses = ValidationLoss(config, graphdef, source, DataConfig(eval_batch_size=2, min_sizes=(64,)))
    found = losses.run(params, rest)
    assert found == losses.run(params, rest)
    for old, new in zip(before, jax.tree.leaves((params, rest)), strict=True):
        np.testing.assert_array_equal(old, new)
    # By hand: three images in batches of two, the last one half empty; sums and counts add up.
    terms = jax.jit(lambda batch, key: model.loss_terms(batch, key, train=False))
    total = {}
    for i, indices in enumerate(([0, 1], [2, 2])):
        examples = [source[j] for j in indices]
        targets = [
            {"boxes": e.boxes, "labels": e.labels, "masks": e.masks(), "crowd": e.crowd} for e in examples
        ]
        batch = make_batch(model, [e.pixels() for e in examples], targets)
        batch = batch._replace(valid=np.array([True, indices[0] != indices[1]]))
        for name, term in terms(batch, jax.random.fold_in(jax.random.key(0), i)).items():
            total[name] = total.get(name, np.zeros(2)) + np.array(term, np.float64)
    expected = {name: value[0] / max(value[1], 1) for name, value in total.items()}
    assert found["loss"] == pytest.approx(sum(expected.values()), rel=1e-4)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_validation_losses_need_the_models_categories(sources):
    config, _, source = sources

    class Other:
        categories, annotations, has_masks = source.categories[:2], "val.json", True

    class Maskless:
        categories, annotations, has_masks = source.categories, "val.json", False

    with pytest.raises(UserError, match=r"train.eval_loss needs .* in val.json: the ids are \[1, 2\]"):
        ValidationLoss(config, None, Other, DataConfig())
    with pytest.raises(UserError, match=r"train.eval_loss needs masks, and val.json"):
        ValidationLoss(config, None, Maskless, DataConfig())


@pytest.mark.slow
def test_validation_losses_are_in_the_record(run, tmp_path):
    class Given:
        def run(self, *states):
            return {"loss": 2.5, "loss_mask": 0.5}

    run([0.1], {"validation": Given()}, train__steps=1)
    (line,) = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines() if "eval/" in x]
    assert line["eval/loss"] == 2.5 and line["eval/loss_mask"] == 0.5 and line["eval/mask_AP"] == 0.1
