"""The largest values by parts, as GPUs take them, and by rows, as TPUs do, against a whole sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.top_k import by_parts, by_rows, top_k

WAYS = pytest.mark.parametrize("way", [by_parts, by_rows])


def assert_the_same(way, values, k):
    best, index = jax.jit(way, static_argnums=1)(values, k)
    expected, order = jax.lax.top_k(values, k)
    np.testing.assert_array_equal(index, order)
    # Bit by bit: the two zeros differ.
    assert best.dtype == expected.dtype and np.asarray(best).tobytes() == np.asarray(expected).tobytes()


@WAYS
@pytest.mark.parametrize(("n", "k"), [(20_000, 100), (40_001, 700), (4097, 1), (3000, 3000), (2500, 1500)])
@pytest.mark.parametrize("kinds", [9, 10**6])
def test_the_best_of_parts_are_the_best(way, n, k, kinds):
    # Of nine kinds of values many are equal, and the first ones have to be taken.
    values = np.random.default_rng(n).integers(0, kinds, n).astype(np.float32)
    values[:: 1 + n // 500] = -np.inf
    best, index = jax.jit(way, static_argnums=1)(values, k)
    order = np.argsort(-values, kind="stable")[:k]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(best, values[order])


@WAYS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_no_number(way, dtype):
    """NaNs of both signs, infinities and both zeros come in the order of jax.lax.top_k."""
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 2.0, -2.0]
    values = np.random.default_rng(0).choice(np.array(special, np.float32), 5000)
    assert np.signbit(values[np.isnan(values)]).any()
    for k in (700, 2400):  # of 5000, also the smallest
        assert_the_same(way, jnp.asarray(values, dtype), k)


@WAYS
def test_the_smallest_values_come_before_padding(way):
    # All bits of the last value are set: nothing is smaller.
    values = np.full(2049, -np.nan, np.float32)
    values[-1] = np.uint32(0xFFFFFFFF).view(np.float32)
    assert_the_same(way, values, 2049)


@WAYS
def test_values_that_end_within_a_part_and_are_all_gone(way):
    values = np.full((2, 5000), -np.inf, np.float32)
    _, index = jax.jit(jax.vmap(lambda x: way(x, 10)))(values)
    np.testing.assert_array_equal(index, [range(10)] * 2)


@WAYS
def test_none_of_many(way):
    best, index = way(jnp.ones(5000), 0)
    assert best.shape == index.shape == (0,)


def test_every_platform_gives_the_same():
    values = np.random.default_rng(0).integers(0, 50, 20_000).astype(np.float32)
    found = jax.jit(top_k, static_argnums=1)(values, 300)
    for got, expected in zip(found, jax.lax.top_k(values, 300), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_few_values_are_sorted_at_once_and_no_values_are_none():
    program = jax.jit(lambda x: top_k(x, 300)).trace(jnp.ones(2000)).lower(lowering_platforms=("tpu",))
    assert "while" not in program.as_text()
    best, index = top_k(jnp.ones(0), 0)
    assert best.shape == index.shape == (0,) and index.dtype == jnp.int32


def test_tpus_sort_no_long_rows():
    """XLA:TPU takes 20 seconds and more to compile one sort of as many values as P2 has anchors."""
    lowered = jax.jit(lambda x: top_k(x, 2000)).trace(jnp.ones(201_600)).lower(lowering_platforms=("tpu",))
    sorted_shapes = [
        line for line in lowered.as_text().splitlines() if "stablehlo.sort" in line or "top_k" in line
    ]
    assert sorted_shapes and "201600" not in "".join(sorted_shapes)
    assert "x4048xi32" in lowered.as_text()
