"""The largest values by parts, as GPUs and TPUs take them, against a whole sort."""

import jax
import numpy as np
import pytest

from jaxmaskrcnn.ops.top_k import by_parts, top_k


@pytest.mark.parametrize(("n", "k"), [(20_000, 100), (40_001, 700), (4097, 1), (3000, 3000)])
@pytest.mark.parametrize("kinds", [9, 10**6])
def test_the_best_of_parts_are_the_best(n, k, kinds):
    # Of nine kinds of values many are equal, and the first ones have to be taken.
    values = np.random.default_rng(n).integers(0, kinds, n).astype(np.float32)
    values[:: 1 + n // 500] = -np.inf
    best, index = jax.jit(by_parts, static_argnums=1)(values, k)
    order = np.argsort(-values, kind="stable")[:k]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(best, values[order])


def test_values_that_end_within_a_part_and_are_all_gone():
    values = np.full((2, 5000), -np.inf, np.float32)
    _, index = jax.jit(jax.vmap(lambda x: by_parts(x, 10)))(values)
    np.testing.assert_array_equal(index, [range(10)] * 2)


def test_every_platform_gives_the_same():
    values = np.random.default_rng(0).integers(0, 50, 20_000).astype(np.float32)
    found = jax.jit(top_k, static_argnums=1)(values, 300)
    for got, expected in zip(found, jax.lax.top_k(values, 300), strict=True):
        np.testing.assert_array_equal(got, expected)
