"""Batch norms that are computed with the convolution before them, as one operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.norm import make_norm


@pytest.fixture(params=["frozen_bn", "bn", "bn_eval"])
def layers(request):
    """A convolution and a norm with drawn values."""
    draw = np.random.default_rng(0).normal
    conv = Conv(3, 5, 3, rngs=nnx.Rngs(0))
    norm = make_norm(request.param, 5, epsilon=1e-3, dtype="float32", rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.asarray(draw(size=5), jnp.float32)
    for name in ("scale", "bias", "mean"):
        getattr(norm, name)[...] = jnp.asarray(draw(size=5), jnp.float32)
    norm.var[...] = jnp.asarray(np.square(draw(size=5)), jnp.float32)
    return conv, norm


def test_outside_of_training_the_norm_is_part_of_the_convolution(layers):
    conv, norm = layers
    x, shortcut = (
        jnp.asarray(np.random.default_rng(i).normal(size=(2, 6, 7, c)), jnp.float32)
        for i, c in ((1, 3), (2, 5))
    )

    @jax.jit
    def both(layers, x, shortcut):
        conv, norm = layers
        ours = conv_norm(conv, norm, x, None, False, shortcut=shortcut, relu=True)
        return ours, jax.nn.relu(norm(conv(x)) + shortcut)

    ours, apart = both(layers, x, shortcut)
    np.testing.assert_allclose(ours, apart, atol=2e-5 * float(apart.max()))
    # By the definition, in float64.
    y, *values = (np.asarray(a, np.float64) for a in (conv(x), *(norm.scale, norm.bias, norm.mean, norm.var)))
    scale, bias, mean, var = values
    expected = np.maximum((y - mean) / np.sqrt(var + 1e-3) * scale + bias + shortcut, 0)
    np.testing.assert_allclose(ours, expected, atol=2e-5 * expected.max())


def test_in_training_batch_norm_counts_the_batch():
    conv, norm = (
        Conv(3, 5, 3, rngs=nnx.Rngs(0)),
        make_norm("bn", 5, epsilon=0.0, dtype="float32", rngs=nnx.Rngs(0)),
    )
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 7, 3)), jnp.float32)
    y = conv_norm(conv, norm, x, None, True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-4)
    assert float(jnp.abs(norm.mean[...]).max()) > 0
