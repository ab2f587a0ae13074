"""The product of flattened maps, as TPUs and as other platforms compute it, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops import product_of_maps

RNG = np.random.default_rng(0)
MAPS, KERNEL, COTANGENT = (
    RNG.normal(size=shape).astype(np.float32) for shape in ((5, 3, 4, 6), (72, 2), (5, 2))
)


@pytest.mark.parametrize("way", ["product_of_maps", "summed", "flattened"])
def test_values_and_gradients(way):
    rows = MAPS.reshape(5, -1)
    product, pull = jax.vjp(getattr(product_of_maps, way), jnp.asarray(MAPS), jnp.asarray(KERNEL))
    maps_gradient, kernel_gradient = pull(jnp.asarray(COTANGENT))
    np.testing.assert_allclose(product, rows @ KERNEL, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        maps_gradient, (COTANGENT @ KERNEL.T).reshape(MAPS.shape), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(kernel_gradient, rows.T @ COTANGENT, rtol=1e-5, atol=1e-5)


def test_only_tpus_multiply_maps_that_are_not_flattened():
    def both(maps, kernel):
        return jax.vjp(product_of_maps.product_of_maps, maps, kernel)[1](jnp.asarray(COTANGENT))

    traced = jax.jit(both).trace(MAPS, KERNEL)
    for platform, number in {"cpu": 0, "cuda": 0, "tpu": 1}.items():
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        sides = [line for line in text.splitlines() if "dot_general" in line and "5x3x4x6xf32" in line]
        assert (len(sides) > 0) == number
