"""Upsampling as on TPUs against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops import upsampling


@pytest.mark.parametrize("sides", [(6, 8), (7, 1)])
def test_values_and_gradients_are_those_of_the_definition(sides):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 3)), jnp.float32)
    (found, gradient), (expected, expected_gradient) = (
        (y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0])
        for y, pull in (jax.vjp(way, x) for way in (upsampling.sum_of_windows, upsampling.repeated))
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_strange_values_stay_in_their_cells():
    x = jnp.array([jnp.inf, 1, jnp.nan, -jnp.inf]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(upsampling.sum_of_windows(x), upsampling.repeated(x))


def test_tpus_sum_windows():
    traced = jax.jit(upsampling.upsample).trace(jnp.zeros((1, 8, 8, 4)))
    for platform, number in {"cpu": 0, "cuda": 0, "tpu": 1}.items():
        assert (
            traced.lower(lowering_platforms=(platform,)).as_text().count('"stablehlo.reduce_window"')
            == number
        )
