"""The optimizer against a plain NumPy version of torch.optim.SGD, and the schedule by hand."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxmaskrcnn.config import ConfigError, ModelConfig, OptimizerConfig
from jaxmaskrcnn.training.optimizer import decay_mask, learning_rate, make_optimizer


class Norm(nnx.Module):
    def __init__(self):
        self.scale, self.bias = nnx.Param(jnp.full(3, 1.5)), nnx.Param(jnp.full(3, -0.5))


class Net(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.Linear(4, 3, rngs=nnx.Rngs(0))])
        self.bn1 = Norm()


def torch_sgd(params, grads_of_steps, rates, *, momentum, weight_decay, nesterov, clip_norm, exempt):
    """torch.nn.utils.clip_grad_norm_ and torch.optim.SGD.step, written out."""
    params = {k: v.astype(np.float64) for k, v in params.items()}
    buffers = {}
    for grads, rate in zip(grads_of_steps, rates, strict=True):
        norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads.values()))
        shrink = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for k in params:
            g = grads[k] * shrink + (0.0 if k in exempt else weight_decay) * params[k]
            buffers[k] = g if k not in buffers else momentum * buffers[k] + g
            params[k] = params[k] - rate * (g + momentum * buffers[k] if nesterov else buffers[k])
    return params


def flat(state):
    return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


@pytest.mark.parametrize("exempts_norm", [False, True])
@pytest.mark.parametrize("nesterov, clip_norm", [(False, 0.0), (True, 0.0), (False, 1.0)])
def test_updates_equal_torch_sgd(exempts_norm, nesterov, clip_norm):
    config = OptimizerConfig(
        learning_rate=0.1, reference_batch_size=0, momentum=0.9, nesterov=nesterov, weight_decay=0.05,
        clip_norm=clip_norm, schedule="step", decay_steps=(3,), warmup_steps=2, warmup_factor=0.1,
    )  # fmt: skip
    params = nnx.state(Net(), nnx.Param)
    schedule = learning_rate(config, batch_size=1, steps=6)
    optimizer = make_optimizer(
        config, schedule, params, ModelConfig().replace({"compute.weight_decay_exempts_norm": exempts_norm})
    )
    rng = np.random.default_rng(0)
    names, before = sorted(flat(params)), flat(params)
    grads_of_steps = [
        {k: rng.normal(size=before[k].shape).astype(np.float32) for k in names} for _ in range(6)
    ]

    @jax.jit
    def update(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for grads in grads_of_steps:
        tree = nnx.from_flat_state(
            [
                (path, leaf.replace(grads[".".join(map(str, path))]))
                for path, leaf in nnx.to_flat_state(params)
            ]
        )
        params, opt_state = update(params, opt_state, tree)

    expected = torch_sgd(
        before, grads_of_steps, [0.01, 0.055, 0.1, 0.01, 0.01, 0.01], momentum=0.9, weight_decay=0.05,
        nesterov=nesterov, clip_norm=clip_norm, exempt={"bn1.scale", "bn1.bias"} if exempts_norm else set(),
    )  # fmt: skip
    for name, value in flat(params).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_decay_mask_knows_norm_layers_by_their_scale():
    mask = decay_mask({"conv": {"bias": 0, "kernel": 1}, "0": {"bn": {"scale": 2, "bias": 3}}}, True)
    assert mask == {"conv": {"bias": True, "kernel": True}, "0": {"bn": {"scale": False, "bias": False}}}


def test_rate_is_scaled_with_the_batch_and_the_log_says_so(caplog):
    config = OptimizerConfig(learning_rate=0.02, reference_batch_size=16, schedule="constant", warmup_steps=0)
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        rate = learning_rate(config, batch_size=2, steps=10)(5)
    assert float(rate) == pytest.approx(0.0025)
    for figure in ("0.02", "16", "0.125", "batch of 2", "0.0025"):
        assert figure in caplog.text


def test_schedules_follow_their_formulas():
    def rates(steps=10, **settings):
        config = OptimizerConfig(learning_rate=1.0, reference_batch_size=0, **settings)
        schedule = jax.jit(learning_rate(config, batch_size=1, steps=steps))
        return [float(schedule(step)) for step in range(steps)]

    ramp = [0.2, 0.4, 0.6, 0.8]  # 0.2 + 0.8 * step / 4
    warm = {"warmup_steps": 4, "warmup_factor": 0.2}
    np.testing.assert_allclose(rates(schedule="constant", **warm), ramp + [1] * 6, rtol=1e-6)
    np.testing.assert_allclose(
        rates(schedule="step", decay_steps=(6, 8), decay_factor=0.5, **warm),
        ramp + [1, 1, 0.5, 0.5, 0.25, 0.25], rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        rates(schedule="cosine", warmup_steps=0), 0.5 + 0.5 * np.cos(np.pi * np.arange(10) / 10), atol=1e-6
    )


@pytest.mark.parametrize(
    "settings, field",
    [
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"decay_steps": (8, 4)}, "decay_steps"),
        ({"decay_steps": (0,)}, "decay_steps"),
        ({"schedule": "linear"}, "schedule"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov"),
        ({"warmup_factor": 1.5}, "warmup_factor"),
        ({"clip_norm": -1.0}, "clip_norm"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, field):
    with pytest.raises(ConfigError, match=f"optimizer.{field}"):
        learning_rate(OptimizerConfig(**settings), batch_size=1, steps=10)


def test_schedules_that_outlast_the_run_are_warned_about(caplog):
    learning_rate(OptimizerConfig(warmup_steps=20, decay_steps=(50,)), batch_size=1, steps=10)
    assert "warmup_steps=20" in caplog.text and "decay_steps=(50,)" in caplog.text
