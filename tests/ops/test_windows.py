"""Pooling and upsampling as on TPUs against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops import windows

AROUND, BEHIND = ((1, 1), (1, 1)), ((0, 1), (0, 1))
WAYS = {
    "pool": [
        functools.partial(f, padding=AROUND)
        for f in (windows.max_of_rows_and_columns, windows.max_of_windows)
    ],
    "pool-behind": [
        functools.partial(f, padding=BEHIND)
        for f in (windows.max_of_rows_and_columns, windows.max_of_windows)
    ],
    "upsample": [windows.sum_of_windows, windows.repeated],
}


@pytest.mark.parametrize("sides", [(6, 8), (7, 5)])
@pytest.mark.parametrize("case", WAYS)
def test_values_and_gradients_are_those_of_the_definition(case, sides):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *sides, 3)), jnp.float32)
    (found, gradient), (expected, expected_gradient) = (
        (y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0])
        for y, pull in (jax.vjp(jax.jit(function), x) for function in WAYS[case])
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_strange_values_stay_in_their_cells():
    x = jnp.array([jnp.inf, 1, jnp.nan, -jnp.inf]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(windows.sum_of_windows(x), windows.repeated(x))


def test_tpus_pool_along_one_axis_at_a_time():
    def program(function, platform):
        traced = jax.jit(function).trace(jnp.zeros((1, 8, 8, 4)))
        return traced.lower(lowering_platforms=(platform,)).as_text().count("reduce_window")

    assert [program(windows.max_pool, platform) for platform in ("cpu", "cuda", "tpu")] == [1, 1, 2]
    assert [program(windows.upsample, platform) for platform in ("cpu", "cuda", "tpu")] == [0, 0, 1]
