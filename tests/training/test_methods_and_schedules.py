"""LARS, LAMB, clipping and noise against optax and plain NumPy; schedules against torch's schedulers."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from folders import ROOT
from test_groups import Net, flat, gradients, run, settings

from jaxmaskrcnn.config import Config, ConfigError, ModelConfig
from jaxmaskrcnn.config.recipe_files import ConfigFile
from jaxmaskrcnn.training.epochs import steps_of_epochs
from jaxmaskrcnn.training.optimizer import learning_rate, make_optimizer

GOLDEN = np.load(ROOT / "tests" / "goldens" / "torch_schedules.npz")
EXEMPT = ModelConfig().replace({"compute.weight_decay_exempts_norm": True})


def ratio(parameter, update, coefficient=1.0):
    """The trust ratio; vectors keep their update."""
    if parameter.ndim == 1:
        return 1.0
    return coefficient * np.linalg.norm(parameter) / np.linalg.norm(update)


def plain_lars(values, grads_of_steps, rate, decays, momentum, coefficient):
    """Algorithm 1 of the paper: v = m v + rate * ratio * (g + decay * w), w -= v."""
    values, buffers = {k: v.astype(np.float64) for k, v in values.items()}, dict.fromkeys(values, 0.0)
    for grads in grads_of_steps:
        for name, decay in decays.items():
            update = grads[name] + decay * values[name]
            scale = ratio(values[name], update, coefficient)
            buffers[name] = momentum * buffers[name] + rate * scale * update
            values[name] = values[name] - buffers[name]
    return values


def plain_lamb(values, grads_of_steps, rate, decays, betas):
    """Algorithm 2 of the paper."""
    values = {k: v.astype(np.float64) for k, v in values.items()}
    first, second = ({k: np.zeros_like(v) for k, v in values.items()} for _ in range(2))
    for step, grads in enumerate(grads_of_steps, 1):
        for name, decay in decays.items():
            first[name] = betas[0] * first[name] + (1 - betas[0]) * grads[name]
            second[name] = betas[1] * second[name] + (1 - betas[1]) * grads[name].astype(np.float64) ** 2
            corrected = first[name] / (1 - betas[0] ** step), second[name] / (1 - betas[1] ** step)
            update = corrected[0] / (np.sqrt(corrected[1]) + 1e-6) + decay * values[name]
            values[name] = values[name] - rate * ratio(values[name], update) * update
    return values


@pytest.mark.slow_except("lamb")
@pytest.mark.parametrize("method", ["lars", "lamb"])
def test_layerwise_rates(method):
    """Against the papers' algorithms, and for matrices against optax's optimizer as a whole."""
    params = nnx.state(Net(), nnx.Param)
    grads = gradients(params, 5)
    decays = {name: 0.0 if name.startswith("norm") else 0.05 for name in flat(params)}
    if method == "lars":
        config = settings(method="lars", trust_coefficient=0.02, momentum=0.8)
        want = plain_lars(flat(params), grads, 0.1, decays, 0.8, 0.02)
        whole = optax.lars(0.1, 0.05, trust_coefficient=0.02, momentum=0.8)
    else:
        config = settings(method="lamb", beta2=0.95)
        want = plain_lamb(flat(params), grads, 0.1, decays, (0.9, 0.95))
        whole = optax.lamb(0.1, b2=0.95, weight_decay=0.05)
    got = run(make_optimizer(config, lambda step: 0.1, params, EXEMPT), params, grads)[0][-1]
    theirs = run(whole, params, grads)[0][-1]
    for name, value in got.items():
        np.testing.assert_allclose(value, want[name], rtol=2e-5, atol=2e-6, err_msg=name)
        if value.ndim == 2:
            np.testing.assert_allclose(value, theirs[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "name, chosen",
    [
        ("polynomial", dict(schedule="polynomial", power=0.9)),
        ("exponential", dict(schedule="exponential", decay_factor=0.1, decay_every=25)),
        ("cosine_end", dict(schedule="cosine", end_factor=0.1)),
        ("restarts", dict(schedule="cosine_restarts", restart_steps=13, end_factor=0.1)),
        ("growing_restarts", dict(schedule="cosine_restarts", restart_steps=7, restart_factor=2)),
    ],
)
def test_schedules_of_torch(name, chosen):
    config = settings(learning_rate=0.5, **chosen)
    rates = jax.jit(jax.vmap(learning_rate(config, 1, 60)))(np.arange(60))
    np.testing.assert_allclose(rates, GOLDEN[name], rtol=2e-6, atol=1e-7)


def test_gradients_are_clipped_by_value_and_then_by_norm():
    params = {"a": jnp.zeros((3, 4)), "b": jnp.zeros(5)}
    config = settings(clip_value=0.7, clip_norm=1.5, momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(config, lambda step: 1.0, params, ModelConfig())
    grads = {"a": jnp.asarray(GOLDEN["gradient_0"]), "b": jnp.asarray(GOLDEN["gradient_1"])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for i, name in enumerate("ab"):
        np.testing.assert_allclose(-updates[name], GOLDEN[f"clipped_{i}"], rtol=2e-6)


def test_noise_has_the_variance_of_the_settings_and_the_seed_of_the_run():
    params = {"a": jnp.zeros(40000)}
    config = settings(noise=0.04, noise_decay=2.0, momentum=0.0, weight_decay=0.0)

    def noises(seed):
        optimizer = make_optimizer(config, lambda step: 1.0, params, ModelConfig(), seed=seed)
        state, found = optimizer.init(params), []
        for _ in range(2):
            update, state = optimizer.update(params, state, params)
            found.append(np.asarray(update["a"]))
        return found

    first, second = noises(3)
    assert first.std() == pytest.approx(0.2, rel=0.02) and second.std() == pytest.approx(0.1, rel=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    np.testing.assert_array_equal(first, noises(3)[0])
    assert not np.array_equal(first, noises(4)[0])


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"trust_coefficient": 0.1},
            "optimizer.trust_coefficient is for 'lars', but optimizer.method is 'sgd'",
        ),
        ({"power": 2.0}, "optimizer.power is for 'polynomial', but optimizer.schedule is 'step'"),
        ({"end_factor": 0.1}, "optimizer.end_factor is for 'cosine' and 'cosine_restarts' and 'polynomial'"),
        ({"restart_steps": 5, "schedule": "cosine"}, "optimizer.restart_steps is for 'cosine_restarts'"),
        ({"method": "lamb", "nesterov": True}, "optimizer.nesterov is for 'sgd' and 'lars'"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes).check()


# -- an optimizer of the user's


def test_a_recipe_builds_its_optimizer(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "import optax\nfrom jaxmaskrcnn.config import Config\n\n"
        "def get_config():\n    return Config()\n\n"
        "def build_optimizer(config, schedule, params, model_config):\n"
        "    return optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(schedule))\n"
    )
    config = ConfigFile(recipe, ()).load()
    assert config.optimizer.build_optimizer == f"{recipe}:build_optimizer"
    params = nnx.state(Net(), nnx.Param)
    grads = gradients(params, 1)
    optimizer = make_optimizer(config.optimizer, lambda step: 0.25, params, ModelConfig())
    after = run(optimizer, params, grads)[0][-1]
    for name, value in flat(params).items():
        np.testing.assert_allclose(after[name], value - 0.25 * np.sign(grads[0][name]), rtol=1e-6)
    averaged = settings(build_optimizer=config.optimizer.build_optimizer, ema_decay=0.5)
    state = make_optimizer(averaged, lambda step: 0.25, params, ModelConfig()).init(params)
    assert type(state).__name__ == "EmaState"


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing", "optimizer.build_optimizer is 'nothing'; give MODULE:FUNCTION"),
        ("not_a_module_here:f", "names the module not_a_module_here, but there is no module"),
        ("not_there.py:f", "names the file not_there.py, which does not exist"),
        ("math:tau", "math cannot call tau"),
        ("math:nothing", "math has no function nothing"),
    ],
)
def test_a_builder_that_is_none_is_named(name, message):
    params = nnx.state(Net(), nnx.Param)
    with pytest.raises(ConfigError, match=message):
        make_optimizer(settings(build_optimizer=name), lambda step: 0.1, params, ModelConfig())


def test_a_builder_has_to_return_an_optimizer(tmp_path):
    (tmp_path / "wrong.py").write_text("def build(*_):\n    return 3\n")
    with pytest.raises(ConfigError, match="returns int; return an optax optimizer"):
        make_optimizer(
            settings(build_optimizer=f"{tmp_path / 'wrong.py'}:build"), lambda s: 0.1, {}, ModelConfig()
        )


# -- the length in epochs


class Images:
    sizes, object_counts, file_names = np.full((7, 2), 64), np.ones(7, int), ["a.png"] * 7

    def __len__(self):
        return 7


def test_a_run_of_epochs(caplog):
    # 7 images in batches of 2: 4 steps an epoch.
    source = Images()
    config = Config()
    assert steps_of_epochs(config, source, ModelConfig()) is config
    config.train.epochs, config.optimizer.decay_epochs = 1.6, (0.7, 1.25)
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        found = steps_of_epochs(config, source, ModelConfig())
    assert found.train.steps == 7 and found.optimizer.decay_steps == (3, 5)
    assert "1.6 epochs of 4 steps, 7 steps" in caplog.text


def test_epochs_of_the_decay_need_epochs_of_the_run():
    config = Config()
    config.optimizer.decay_epochs = (2.0,)
    with pytest.raises(ConfigError, match="train.epochs is 0; set both"):
        config.check()
