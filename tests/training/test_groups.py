"""Parameter groups against torch.optim.SGD's rule, written out; averaged parameters against their formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxmaskrcnn.config import Config, ConfigError, ModelConfig, OptimizerConfig
from jaxmaskrcnn.config.groups import Group, parse_groups
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.training.ema import EmaState, ema_decay, weights_to_use, with_ema
from jaxmaskrcnn.training.groups import check_freeze
from jaxmaskrcnn.training.optimizer import make_optimizer
from jaxmaskrcnn.training.step import init_state, jit_train_step


class Norm(nnx.Module):
    def __init__(self):
        self.scale, self.bias = nnx.Param(jnp.full(3, 1.5)), nnx.Param(jnp.full(3, -0.5))


class Net(nnx.Module):
    def __init__(self):
        self.body = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.norm = Norm()
        self.head = nnx.Linear(3, 2, rngs=nnx.Rngs(1))


def flat(state):
    return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def like(params, values):
    entries = [
        (path, leaf.replace(values[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(params)
    ]
    return nnx.from_flat_state(entries)


def settings(**changes):
    values = {"learning_rate": 0.1, "reference_batch_size": 0, "weight_decay": 0.05, "warmup_steps": 0}
    return OptimizerConfig(**{**values, **changes})


def torch_sgd(values, grads_of_steps, rates, groups, momentum):
    """torch.optim.SGD.step over parameter groups: every name has a rate factor and a weight decay."""
    values, buffers = {k: v.astype(np.float64) for k, v in values.items()}, {}
    for grads, rate in zip(grads_of_steps, rates, strict=True):
        for name, (factor, decay) in groups.items():
            grad = grads[name] + decay * values[name]
            buffers[name] = momentum * buffers[name] + grad if name in buffers else grad
            values[name] = values[name] - factor * rate * buffers[name]
    return values


def run(optimizer, params, grads_of_steps):
    @jax.jit
    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state, path = optimizer.init(params), []
    for grads in grads_of_steps:
        params, state = update(params, state, like(params, grads))
        path.append(flat(params))
    return path, state


def gradients(params, steps=4):
    rng = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in flat(params).items()}
    return [{k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} for _ in range(steps)]


RATES = [0.1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize(
    "groups, expected",
    [
        ((), {}),
        (("body.*:0.1",), {"body.kernel": (0.1, 0.05), "body.bias": (0.1, 0.05)}),
        # Detectron2: BIAS_LR_FACTOR 2, WEIGHT_DECAY_BIAS 0; the norm's bias is a bias as well.
        (("*.bias:2:0",), {"body.bias": (2, 0), "norm.bias": (2, 0), "head.bias": (2, 0)}),
        # The first that matches wins; a decay that is given beats the exemption of norm layers.
        (
            ("head.*:3", "*.bias:2:0.5", "body.*:0.5"),
            {"head.kernel": (3, 0.05), "head.bias": (3, 0.05), "norm.bias": (2, 0.5), "body.bias": (2, 0.5),
             "body.kernel": (0.5, 0.05)},
        ),
    ],
)  # fmt: skip
def test_updates_equal_torch_sgd_with_parameter_groups(groups, expected):
    params = nnx.state(Net(), nnx.Param)
    optimizer = make_optimizer(
        settings(groups=groups), lambda step: jnp.where(step < 2, 0.1, 0.05), params,
        ModelConfig().replace({"compute.weight_decay_exempts_norm": True}),
    )  # fmt: skip
    grads = gradients(params)
    base = {name: (1, 0 if name.startswith("norm") else 0.05) for name in flat(params)}
    want = torch_sgd(flat(params), grads, RATES, base | expected, 0.9)
    got, _ = run(optimizer, params, grads)
    for name, value in want.items():
        np.testing.assert_allclose(got[-1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_decay_of_a_group_alone():
    params = nnx.state(Net(), nnx.Param)
    optimizer = make_optimizer(
        settings(weight_decay=0.0, groups=("head.kernel:1:0.5",)), lambda step: 0.1, params, ModelConfig()
    )
    grads = gradients(params)
    base = {name: (1, 0.5 if name == "head.kernel" else 0) for name in flat(params)}
    want = torch_sgd(flat(params), grads, [0.1] * 4, base, 0.9)
    for name, value in run(optimizer, params, grads)[0][-1].items():
        np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_groups_are_read_from_text():
    assert parse_groups(["a.*:0.1", " b:2:0"]) == (Group("a.*", 0.1, None), Group("b", 2.0, 0.0))
    for wrong in ("a", "a:", ":1", "a:x", "a:1:2:3", "a:nan", "a:1:inf"):
        with pytest.raises(ConfigError, match="write PATTERN:FACTOR"):
            settings(groups=(wrong,)).check()
    with pytest.raises(ConfigError, match=r"'a:0'.*optimizer\.freeze"):
        settings(groups=("a:0",)).check()
    with pytest.raises(ConfigError, match="weight decay cannot be negative"):
        settings(groups=("a:1:-1",)).check()


def test_patterns_that_match_nothing_are_named():
    model = Net()
    params = nnx.state(model, nnx.Param)
    with pytest.raises(ConfigError, match=r"'heads\.\*', which matches no parameter that is trained; paths "
                       "begin with body, head, norm and look like body.bias"):  # fmt: skip
        make_optimizer(settings(groups=("head.*:2", "heads.*:2")), lambda s: 0.1, params, ModelConfig())
    check_freeze(model, ("head.*", "*.scale"))
    with pytest.raises(ConfigError, match=r"optimizer\.freeze has 'body', which matches no parameter"):
        check_freeze(model, ("head.*", "body"))


# -- averaged parameters


def test_the_average_follows_its_formula_and_leaves_the_updates_alone():
    params = nnx.state(Net(), nnx.Param)
    schedule = lambda step: 0.1  # noqa: E731
    grads = gradients(params, steps=8)
    plain, _ = run(make_optimizer(settings(), schedule, params, ModelConfig()), params, grads)
    path, state = run(make_optimizer(settings(ema_decay=0.3), schedule, params, ModelConfig()), params, grads)
    average = {name: value.astype(np.float64) for name, value in flat(params).items()}
    for count, (values, same) in enumerate(zip(path, plain, strict=True)):
        decay = min(0.3, (1 + count) / (10 + count))
        assert (decay < 0.3) == (count < 3)
        for name in average:
            np.testing.assert_array_equal(values[name], same[name])
            average[name] = decay * average[name] + (1 - decay) * values[name]
    assert isinstance(state, EmaState) and int(state.count) == 8
    for name, value in flat(state.average).items():
        np.testing.assert_allclose(value, average[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert weights_to_use({"params": params, "opt_state": state}) is state.average
    assert weights_to_use({"params": params, "opt_state": state.inner}) is params
    assert float(ema_decay(0.999, 10**6)) == pytest.approx(0.999)


def test_an_average_can_be_donated_with_the_parameters():
    graphdef, optimizer, state = init_state(Net(), nnx.Param, lambda p: with_ema(optax.sgd(0.1), 0.9))
    arrays = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(arrays)) == len(arrays)
    assert callable(jit_train_step(graphdef, optimizer, lambda step: 0.1))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_cannot_work_is_refused(decay):
    with pytest.raises(ConfigError, match=r"optimizer\.ema_decay"):
        settings(ema_decay=decay).check()


def test_patterns_are_written_with_plain_commas():
    given = ["--config.optimizer.freeze=backbone.*, *.bias", "-config.optimizer.groups=a.*:0.1,*.b:2:0"]
    config = override(Config(), [*given, "--config.model.weights=a,b"])
    assert config.optimizer.freeze == ("backbone.*", "*.bias") and config.model.weights == "a,b"
    assert parse_groups(config.optimizer.groups) == (Group("a.*", 0.1, None), Group("*.b", 2.0, 0.0))
    quoted = override(Config(), ["--config.optimizer.freeze=('a','b')", "--config.optimizer.groups='a:1',"])
    assert quoted.optimizer.freeze == ("a", "b") and quoted.optimizer.groups == ("a:1",)
    config = override(config, ["--config.optimizer.freeze=", "--config.optimizer.groups=[ab]*:2"])
    assert config.optimizer.freeze == () and config.optimizer.groups == ("[ab]*:2",)
