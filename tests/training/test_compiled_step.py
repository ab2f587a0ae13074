"""How the training step is given to the compiler, and ``train.compile_sooner``."""

import jax
import pytest
from small_runs import tiny_config

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.setup import make_setup


class Described(Layout):
    """Devices of another platform, and what is given to their compiler."""

    def __init__(self, mode, platform="tpu"):
        super().__init__(mode, jax.devices()[:1])
        self.devices = [type("Device", (), {"platform": platform})()]
        self.given = []

    def jit(self, function, **options):
        self.given.append(options)
        return function


def step(layout, compile_sooner=False):
    return make_train_step(None, None, None, layout, batch_size=1, compile_sooner=compile_sooner)


@pytest.mark.parametrize("mode", ["jit", "shard_map", "sharded"])
@pytest.mark.parametrize("sooner", [False, True])
def test_every_mode_is_compiled_with_the_options_of_a_step(mode, sooner):
    layout = Described(mode)
    step(layout, sooner)
    assert layout.given == [{"gradients": True, "sooner": sooner, "donate_argnums": 0}]


def test_compiling_sooner_is_refused_where_it_changes_nothing():
    with pytest.raises(ConfigError, match="compile_sooner is for TPUs, but .* platform cuda; leave it False"):
        step(Described("jit", "cuda"), compile_sooner=True)
    with pytest.raises(ConfigError, match="no effect with train.parallel=pmap, .* to shard_map"):
        step(Described("pmap"), compile_sooner=True)


def test_it_is_refused_before_the_data_are_prepared(tmp_path):
    with pytest.raises(ConfigError, match="compile_sooner is for TPUs, but .* platform cpu"):
        make_setup(tiny_config(tmp_path / "data", train__compile_sooner=True), tmp_path)
    assert not list(tmp_path.iterdir())
