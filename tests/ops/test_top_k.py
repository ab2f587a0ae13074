"""The largest values by parts, as GPUs take them, and by counting, as TPUs do, against a whole sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.top_k import by_counting, by_parts, one_by_one, top_k

WAYS = pytest.mark.parametrize("way", [by_parts, by_counting])


def assert_the_same(way, values, k):
    best, index = jax.jit(way, static_argnums=1)(values, k)
    expected, order = jax.lax.top_k(values, k)
    np.testing.assert_array_equal(index, order)
    # Bit by bit: the two zeros differ.
    assert best.dtype == expected.dtype and np.asarray(best).tobytes() == np.asarray(expected).tobytes()


@WAYS
@pytest.mark.parametrize(("n", "k"), [(20_000, 100), (4097, 1), (3000, 3000)])
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
    assert_the_same(way, jnp.asarray(values, dtype), 4800)


@WAYS
def test_the_smallest_values_come_before_padding(way):
    # All bits of the last value are set: nothing is smaller.
    values = np.full(2049, -np.nan, np.float32)
    values[-1] = np.uint32(0xFFFFFFFF).view(np.float32)
    assert_the_same(way, values, 2049)


@pytest.mark.parametrize(("way", "rows"), [(by_parts, 2), (one_by_one, 2), (one_by_one, 33)])
def test_rows_of_values_that_end_within_a_part_and_are_all_gone(way, rows):
    values = np.full((rows, 5000), -np.inf, np.float32)
    values[1, 4000:] = 1
    _, index = jax.jit(jax.vmap(lambda x: way(x, 10)))(values)
    np.testing.assert_array_equal(index[:2], [range(10), range(4000, 4010)])


@pytest.mark.parametrize("way", [by_counting, top_k])
@pytest.mark.parametrize("columns", [1000, 500])
def test_rows_are_counted_column_by_column(way, columns):
    values = np.random.default_rng(2).integers(0, 9, (3, columns)).astype(np.float32)
    best, index = jax.jit(way, static_argnums=(1, 2))(values.reshape(-1), 700, 3)
    order = np.argsort(-values.T.reshape(-1), kind="stable")[:700]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(best, values.T.reshape(-1)[order])


def test_every_platform_gives_the_same():
    values = np.random.default_rng(0).integers(0, 50, 20_000).astype(np.float32)
    found = jax.jit(top_k, static_argnums=1)(values, 300)
    for got, expected in zip(found, jax.lax.top_k(values, 300), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_none_and_few_values():
    for n in (0, 5000):
        best, index = top_k(jnp.ones(n), 0)
        assert best.shape == index.shape == (0,) and index.dtype == jnp.int32
    program = jax.jit(lambda x: top_k(x, 300)).trace(jnp.ones(2000)).lower(lowering_platforms=("tpu",))
    assert "while" not in program.as_text()


def test_tpus_sort_only_what_is_selected():
    """XLA:TPU takes 20 seconds and more to compile one sort of as many values as P2 has anchors."""
    lowered = jax.jit(lambda x: top_k(x, 2000)).trace(jnp.ones(201_600)).lower(lowering_platforms=("tpu",))
    operations = lowered.as_text().splitlines()
    starts = [i for i, line in enumerate(operations) if "stablehlo.sort" in line or "top_k" in line]
    ends = [next(line for line in operations[i:] if "}) :" in line) for i in starts]
    assert len(ends) == 1 and "(tensor<2000xui32>, tensor<2000xi32>)" in ends[0]
