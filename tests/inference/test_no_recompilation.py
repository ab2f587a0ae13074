"""Every program is compiled once for a canvas.

Neither the number of objects nor that of detections changes a shape, and the state of a training run is
placed in the same way when it is new, after a step, and when it comes from a checkpoint.
"""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoints.test_checkpoints import Position
from data_helpers import random_set
from detectors import Stub, small_config
from flax import nnx
from small_runs import compilations
from training.test_train_step import StandIn, make_batch

from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig
from jaxmaskrcnn.data import eval_batches, prepare, train_iterator, write_shapes
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.optimizer import make_optimizer
from jaxmaskrcnn.training.progress import Progress
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.zoo.lookup import model_config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    return prepare(*write_shapes(directory, 12, 64, seed=0), directory)


@pytest.mark.parametrize(
    "preset", ["jaxmaskrcnn/shapes", "torchvision/maskrcnn_resnet50_fpn"], ids=["polygons", "bitmaps"]
)
def test_batches_of_a_canvas_have_one_shape(preset, source):
    """Images of one to five objects, and with one to the end of an epoch's batches."""
    assert len(set(source.object_counts.tolist())) >= 4
    config = model_config(preset, num_classes=3, **{"input.test_min_size": 64, "input.test_max_size": 64})
    data = DataConfig(batch_size=2, eval_batch_size=5, min_sizes=(64,), max_size=64)
    program = jax.jit(lambda batch: jax.tree.map(lambda x: x.sum(), batch))
    batches, found = train_iterator(source, config, data, seed=0), set()
    for _ in range(9):
        batch = next(batches)
        program(batch)
        found |= set(batch.targets.valid.sum(1).tolist())
    batches.close()
    assert len(found) >= 4 and program._cache_size() == 1
    program.clear_cache()
    valid = []
    for batch in eval_batches(source, config, data):
        program(batch)
        valid.append(int(batch.valid.sum()))
    assert valid == [5, 5, 2] and program._cache_size() == 1


@pytest.mark.slow
def test_the_predictor_compiles_once_for_a_canvas():
    config = model_config(
        "jaxmaskrcnn/shapes", num_classes=3, **{"input.test_min_size": 64, "input.test_max_size": 96}
    )
    found, predictors = [], []
    for threshold in (0.0, 0.45, 0.99):
        predictor = Predictor(Stub(config), threshold, max_batch=2)
        for count, value in ((1, 0), (2, 90), (5, 255)):
            images = [np.full((48, 60 + i, 3), value, np.uint8) for i in range(count)]
            found += [len(out["boxes"]) for out in predictor(images)]
        predictors.append(predictor)
    assert len(set(found)) >= 3 and 0 in found
    assert [predictor._detect.__wrapped__._cache_size() for predictor in predictors] == [1, 1, 1]


def training_start(parallel):
    """A layout, the parts of a step with every part of an optimizer's state, and the first state."""
    model = StandIn()
    model.frozen = nnx.Param(jnp.asarray(2.0))  # weakly typed, as a user's own module may have it
    assert model.frozen[...].weak_type
    config = OptimizerConfig(momentum=0.9, ema_decay=0.9, clip_norm=1.0)
    schedule = optax.constant_schedule(0.1)
    graphdef, optimizer, state = init_state(
        model, nnx.Param, lambda params: make_optimizer(config, schedule, params, small_config())
    )
    layout = Layout(parallel, jax.devices()[:1])
    step = make_train_step(graphdef, optimizer, schedule, layout, batch_size=4)
    return layout, step, *layout.replicate((state, jax.random.key(3)))


@pytest.mark.parametrize("parallel", ["jit", "shard_map", "pmap"])
def test_a_training_step_compiles_once_for_a_canvas(parallel, tmp_path):
    layout, step, state, key = training_start(parallel)
    names = []
    for i in range(3):
        with compilations() as found:
            before = state
            state, _ = step(state, layout.place_batch(make_batch(i)), key)
        names.append([name for name in found if name in ("train_step", "_fun")])  # pmap calls it _fun
        assert all(x.is_deleted() for x in jax.tree.leaves(before))  # its memory was used again
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, Position(3))
    expected = [np.asarray(x) for x in jax.tree.leaves(state)]
    again = training_start(parallel)[2]
    with Checkpoints(tmp_path) as checkpoints:
        again = checkpoints.restore(again, Position(0))
    for restored, saved in zip(jax.tree.leaves(again), expected, strict=True):
        np.testing.assert_array_equal(restored, saved)
    with compilations() as found:
        for _ in range(2):
            again, _ = step(again, layout.place_batch(make_batch(4)), key)
    assert [len(x) for x in names] == [1, 0, 0] and found == []
    # A continued run makes the same program, which it then takes from the cache on disk.
    _, other, fresh, _ = training_start(parallel)
    batch = layout.place_batch(make_batch(5))
    assert other.lower(fresh, batch, key).as_text() == step.lower(again, batch, key).as_text()


def test_an_evaluation_compiles_once_for_a_canvas(tmp_path):
    source = prepare(*random_set(tmp_path, [(64, 64)] * 5), tmp_path)
    config = small_config(**{"detections.score_threshold": 0.1})
    layout = Layout("auto", jax.devices()[:1])
    graphdef, state = nnx.split(Stub(config))
    evaluator = Evaluator(
        config, graphdef, source, DataConfig(eval_batch_size=2), layout=layout, progress=False
    )
    placed = layout.replicate(state)
    with compilations() as found:
        for weights in (placed, jax.jit(lambda x: jax.tree.map(jnp.copy, x))(placed), state):
            evaluator.detect(weights)
    assert found.count("detect") == 1


def test_a_compilation_is_announced_before_it_starts(tmp_path, caplog):
    batch = make_batch(0)._replace(images=np.zeros((2, 64, 96, 3), np.uint8))
    with MetricsWriter(tmp_path) as writer, caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        progress = Progress(writer, Config(), None)
        with progress.compiling(batch):
            assert caplog.messages == ["Compiling the training step for 2 images of 64 x 96 ..."]
        assert caplog.messages[1].startswith("Compiled for 2 images of 64 x 96 in ")
        with progress.compiling(batch):
            pass
        assert len(caplog.messages) == 2
