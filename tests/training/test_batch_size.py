"""The largest batch that fits the devices' memory, ``data.batch_size=0``."""

import dataclasses
import logging

import numpy as np
import pytest
from small_runs import tiny_config

from jaxmaskrcnn.config import Config, ConfigError, DataConfig, TrainConfig
from jaxmaskrcnn.data.sampler import TrainPlan
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.batch_size import largest_fit, step_bytes, with_batch_size
from jaxmaskrcnn.training.run_config import to_model_config, write_settings
from jaxmaskrcnn.training.setup import make_setup, prepare_sources

pytestmark = pytest.mark.usefixtures("quick_compilation")


def automatic(config, batch_size=0):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=batch_size))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Settings, training data, the model's configuration, and the devices."""
    folder = tmp_path_factory.mktemp("data")
    config = tiny_config(folder)
    source, _ = prepare_sources(config, folder)
    return config, source, to_model_config(config.model, source.categories), Layout()


def test_it_is_the_largest_number():
    rng = np.random.default_rng(0)
    for trial in range(200):
        steps = rng.uniform(0, 3, 60) if trial % 3 else np.full(60, rng.uniform(0.1, 3))
        needs = np.concatenate([[0.0], rng.uniform(0, 20) + np.cumsum(steps)])
        if trial % 5 == 0:
            needs[int(rng.integers(2, 60)) :] = np.inf  # the compiler refuses these
        limit, most = rng.uniform(0, 60), int(rng.integers(1, 60))
        called = []

        def need(count, needs=needs, called=called):
            called.append(count)
            return needs[count]

        wanted = max((n for n in range(1, most + 1) if needs[n] <= limit), default=0)
        assert largest_fit(need, limit, most) == wanted
        assert len(called) == len(set(called)) and max(called) <= most
        if trial % 3 == 0 and trial % 5:
            assert len(called) <= 5  # linear


def test_a_cpu_does_not_tell_its_memory(parts, tmp_path):
    config, *_ = parts
    with pytest.raises(ConfigError, match="data.batch_size is 0, but the device cpu does not tell how much"):
        make_setup(automatic(config), tmp_path)


def test_a_run_that_goes_on_keeps_its_number(parts, tmp_path):
    config, source, model, layout = parts
    write_settings(tmp_path, model, automatic(config, 6))
    assert with_batch_size(automatic(config), tmp_path, source, model, layout).data.batch_size == 6
    given = automatic(config, 4)
    assert with_batch_size(given, tmp_path, source, model, layout) is given


def test_what_is_refused(parts, tmp_path):
    config, source, model, _ = parts
    with pytest.raises(ConfigError, match="train.parallel is 'pmap', which does not tell its memory"):
        with_batch_size(automatic(config), tmp_path, source, model, Layout("pmap"), limit=10**9)
    with pytest.raises(ConfigError, match="train.device_batch limits"):
        Config(data=DataConfig(batch_size=0), train=TrainConfig(device_batch=2)).check()
    with pytest.raises(ConfigError, match="data.device_resize needs depends on the images"):
        DataConfig(batch_size=0, device_resize=True).check()
    with pytest.raises(UserError, match="which a run replaces by the number that fits"):
        TrainPlan(source, model, automatic(config).data, 0)


@pytest.mark.slow  # the step is compiled for three numbers of images
def test_the_number_of_a_limit(parts, tmp_path, caplog):
    config, source, model, layout = parts
    two = step_bytes(automatic(config, 2), source, model, layout)
    with caplog.at_level(logging.INFO):
        found = with_batch_size(automatic(config), tmp_path, source, model, layout, limit=int(two / 0.9) + 10)
    assert found.data.batch_size == 2 and "data.batch_size: 2." in caplog.text
    with pytest.raises(ConfigError, match="not even one image fits the 1 MiB"):
        with_batch_size(automatic(config), tmp_path, source, model, layout, limit=2**20)
