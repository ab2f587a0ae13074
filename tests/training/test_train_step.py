"""The train step on a small stand-in for the detector, whose gradients are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxmaskrcnn.structures import Batch, LossTerm
from jaxmaskrcnn.training.step import init_state, jit_train_step, train_step

RATE = 0.1


class Mean(nnx.BatchStat):
    """A running mean of the inputs."""


class StandIn(nnx.Module):
    """Two losses with counts of their own, a frozen parameter, a statistic and random numbers."""

    def __init__(self):
        self.weight, self.frozen = nnx.Param(jnp.arange(1.0, 4.0)), nnx.Param(jnp.float32(2.0))
        self.mean = Mean(jnp.zeros(3))

    def loss_terms(self, batch, rng, *, first_position=0):
        x = batch.images  # [B, 3]
        place = first_position + jnp.arange(x.shape[0])
        noise = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(rng, i)))(place)
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * x.mean(0)
        error = (x @ self.weight[...] * self.frozen[...] - noise) ** 2
        seen = batch.valid.astype(x.dtype)
        return {
            "loss_box_reg": LossTerm((error * seen).sum(), seen.sum()),
            "loss_mask": LossTerm((x * self.weight[...]).sum(), jnp.float32(x.size)),
        }


def make_batch(seed, size=4, scale=1.0):
    rng = np.random.default_rng(seed)
    sizes = np.zeros((size, 2), np.int32)
    return Batch(
        images=(scale * rng.normal(size=(size, 3))).astype(np.float32), image_sizes=sizes, extents=sizes,
        original_sizes=sizes, index=np.arange(size, dtype=np.int32), valid=np.arange(size) != 1,
    )  # fmt: skip


def start(momentum=0.9):
    trainable = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("frozen")))
    graphdef, optimizer, state = init_state(
        StandIn(), trainable, lambda params: optax.sgd(RATE, momentum=momentum)
    )
    parts = {"graphdef": graphdef, "optimizer": optimizer, "schedule": lambda step: RATE}
    return parts, state


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_one_step_is_the_gradient_of_the_sum_of_the_losses():
    parts, state = start(momentum=0.0)
    batch, key = make_batch(0), jax.random.key(7)
    noise = [float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 0), i))) for i in range(4)]
    x, w = batch.images.astype(np.float64), np.arange(1.0, 4.0)
    off = (x @ w * 2.0 - noise) * batch.valid
    expected_grad = (2 * off[:, None] * 2.0 * x).sum(0) / 3 + x.sum(0) / 12

    state, metrics = jit_train_step(**parts)(state, batch, key)
    np.testing.assert_allclose(state["params"]["weight"][...], w - RATE * expected_grad, rtol=1e-5)
    assert float(metrics["loss_box_reg"]) == pytest.approx((off**2).sum() / 3, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(
        float(metrics["loss_box_reg"]) + float(metrics["loss_mask"]), rel=1e-5
    )
    assert float(metrics["grad_norm"]) == pytest.approx(np.linalg.norm(expected_grad), rel=1e-5)
    assert float(metrics["learning_rate"]) == pytest.approx(RATE) and bool(metrics["finite"])
    assert int(state["step"]) == 1


def test_frozen_parameters_stay_and_statistics_move():
    parts, state = start()
    batch = make_batch(0)
    state, _ = jit_train_step(**parts)(state, batch, jax.random.key(0))
    assert float(state["rest"]["frozen"][...]) == 2.0
    np.testing.assert_allclose(state["rest"]["mean"][...], 0.1 * batch.images.mean(0), rtol=1e-5)


def test_random_numbers_change_with_the_step():
    parts, state = start()
    batch, key = make_batch(0), jax.random.key(0)
    step = jax.jit(functools.partial(train_step, **parts))
    _, first = step(state, batch, key)
    _, again = step(state, batch, key)
    _, later = step({**state, "step": state["step"] + 1}, batch, key)
    assert float(first["loss"]) == float(again["loss"]) != float(later["loss"])


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_of_a_named_axis_equal_the_whole_batch(replicas):
    parts, state = start()
    whole, key = make_batch(3), jax.random.key(1)
    split = jax.tree.map(lambda x: x.reshape(replicas, -1, *x.shape[1:]), whole)
    expected, expected_metrics = jax.jit(functools.partial(train_step, **parts))(state, whole, key)
    named = functools.partial(train_step, **parts, axis_name="batch")
    mapped = jax.jit(jax.vmap(named, in_axes=(None, 0, None), axis_name="batch"))
    result, metrics = mapped(state, split, key)
    for replica in range(replicas):
        for got, want in zip(arrays((result, metrics)), arrays((expected, expected_metrics)), strict=True):
            np.testing.assert_allclose(got[replica], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_changes_nothing_but_the_step(bad):
    parts, state = start()
    step = jit_train_step(**parts)
    state, _ = step(state, make_batch(0), jax.random.key(0))
    before = arrays({name: state[name] for name in ("params", "rest", "opt_state")})
    state, metrics = step(state, make_batch(1, scale=bad), jax.random.key(0))
    assert not bool(metrics["finite"]) and int(state["step"]) == 2
    after = arrays({name: state[name] for name in ("params", "rest", "opt_state")})
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_state_is_donated_and_the_model_keeps_its_arrays():
    trainable = nnx.Param
    model = StandIn()
    graphdef, optimizer, state = init_state(model, trainable, lambda params: optax.sgd(RATE))
    kept = state["params"]["weight"][...]
    jit_train_step(graphdef, optimizer, lambda step: RATE)(state, make_batch(0), jax.random.key(0))
    assert kept.is_deleted()
    np.testing.assert_array_equal(model.weight[...], [1.0, 2.0, 3.0])
