"""Norm layers where there is nothing to take a mean of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.models.layers import conv_stack


@pytest.mark.slow_except("gn")
@pytest.mark.parametrize("norm", ["bn", "gn", "gn_ws", "ln"])
def test_regions_that_are_padding_leave_no_nan_in_gradients(norm):
    """They are left out of the loss, so nothing may depend on what norms make of them."""
    layers = conv_stack(8, 32, 2, norm=norm, rngs=nnx.Rngs(0))
    layers = nnx.Dict(layers=layers)
    graphdef, params, rest = nnx.split(layers, nnx.Param, ...)
    regions = np.random.default_rng(0).normal(size=(4, 5, 5, 8)).astype(np.float32)
    regions[2:] = 0
    valid = np.array([True, True, False, False])[:, None, None, None]

    def total(params, regions, valid):
        x = jnp.asarray(regions)
        for layer in nnx.merge(graphdef, params, rest, copy=True)["layers"]:
            x = layer(x, valid, True, relu=True)
        return (jnp.where(valid, x, 0) ** 2).sum()

    value_and_gradient = jax.jit(jax.value_and_grad(total))
    value, gradient = value_and_gradient(params, regions, valid)
    expected, alone = value_and_gradient(params, regions[:2], valid[:2])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(gradient), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3 * np.abs(two).max() + 1e-6)
