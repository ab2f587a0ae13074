"""Sampling: counts, order, seeds, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops

SAMPLE = jax.jit(ops.sample, static_argnums=(2, 3))


def sample_loop(labels, priority, count, fraction):
    ordered = sorted(range(len(labels)), key=lambda i: (-priority[i], i))
    positive = [i for i in ordered if labels[i] == 1][: int(count * fraction)]
    negative = [i for i in ordered if labels[i] == 0][: count - len(positive)]
    return positive, negative


@pytest.mark.parametrize("n", [0, 1, 5, 40, 300])
def test_equals_a_loop(n):
    rng = np.random.default_rng(n)
    for count, fraction in ((16, 0.25), (7, 0.5), (20, 1.0), (4, 0.0)):
        for balance in ([0.1, 0.8, 0.1], [0.6, 0.1, 0.3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]):
            labels = rng.choice([-1, 0, 1], n, p=balance)
            priority = rng.integers(0, 20, n).astype(np.float32)  # with ties
            samples = SAMPLE(labels, priority, count, fraction)
            positive, negative = sample_loop(labels, priority, count, fraction)
            used = len(positive) + len(negative)
            assert samples.index.shape == samples.positive.shape == samples.valid.shape == (count,)
            np.testing.assert_array_equal(samples.index, positive + negative + [0] * (count - used))
            np.testing.assert_array_equal(samples.positive, np.arange(count) < len(positive))
            np.testing.assert_array_equal(samples.valid, np.arange(count) < used)


def test_index_priority_takes_the_lowest_indices():
    labels = jnp.array([0, 1, -1, 0, 1, 1, 0])
    samples = ops.sample(labels, ops.index_priority(7), 4, 0.5)
    assert samples.index.tolist() == [1, 4, 0, 3]


def test_random_priority_does_not_depend_on_padding():
    key = jax.random.key(3)
    for m, n in ((1, 2), (7, 1000), (1000, 1001)):
        np.testing.assert_array_equal(ops.random_priority(key, n)[:m], ops.random_priority(key, m))
    labels = jnp.where(jnp.arange(100) % 3 == 0, 1, 0)
    plain = ops.sample(labels, ops.random_priority(key, 100), 16, 0.5)
    padded = ops.sample(jnp.pad(labels, (0, 50), constant_values=-1), ops.random_priority(key, 150), 16, 0.5)
    np.testing.assert_array_equal(plain.index, padded.index)


def test_random_draws_are_fair_and_seeded():
    labels = jnp.where(jnp.arange(12) < 4, 1, 0)

    @jax.jit
    @jax.vmap
    def draw(key):
        return ops.sample(labels, ops.random_priority(key, 12), 4, 0.5)

    keys = jax.random.split(jax.random.key(0), 3000)
    samples = draw(keys)
    assert samples.valid.all() and (samples.positive.sum(axis=1) == 2).all()
    share = np.bincount(np.asarray(samples.index).ravel(), minlength=12) / 3000
    # standard deviations are below 0.01
    np.testing.assert_allclose(share[:4], 0.5, atol=0.05)
    np.testing.assert_allclose(share[4:], 0.25, atol=0.05)
    np.testing.assert_array_equal(samples.index, draw(keys).index)
    assert (draw(jax.random.split(jax.random.key(1), 3000)).index != samples.index).any()


def test_under_jit_and_vmap():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (3, 30))
    priority = rng.random((3, 30)).astype(np.float32)
    batch = jax.jit(jax.vmap(lambda a, b: ops.sample(a, b, 8, 0.25)))(labels, priority)
    for i in range(3):
        one = ops.sample(jnp.asarray(labels[i]), jnp.asarray(priority[i]), 8, 0.25)
        np.testing.assert_array_equal(batch.index[i], one.index)
        np.testing.assert_array_equal(batch.valid[i], one.valid)
