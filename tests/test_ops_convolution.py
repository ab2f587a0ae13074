"""Convolutions and products with the gradients that suit a CPU, beside XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.models import layers
from jaxmaskrcnn.ops import convolution


def plain(stride):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    return convolve


def assert_same(ours, theirs, x, kernel):
    """Values and both gradients, within the rounding of sums of float32."""
    expected, expected_gradients = jax.vjp(theirs, x, kernel)
    cotangent = np.random.default_rng(5).normal(size=expected.shape).astype(x.dtype)

    def both(x, kernel):
        y, gradients = jax.vjp(ours, x, kernel)
        return y, *gradients(cotangent)

    for actual, wanted in zip(
        jax.jit(both)(x, kernel), (expected, *expected_gradients(cotangent)), strict=True
    ):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_three_by_three_on_large_maps():
    x, kernel = draw(2, 23, 30, 32), draw(3, 3, 32, 40, seed=1)
    assert convolution.winograd_is_faster(x, kernel)
    assert_same(convolution.convolution3x3, plain(1), x, kernel)


def test_three_by_three_on_small_maps():
    x, kernel = draw(1, 5, 6, 3), draw(3, 3, 3, 2, seed=1)
    assert not convolution.winograd_is_faster(x, kernel)
    assert_same(convolution.convolution3x3, plain(1), x, kernel)


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 6), (8, 9), (5, 1), (1, 1)])
def test_stride_two(height, width):
    """Gradients by parity, for even and odd sides."""
    x, kernel = draw(2, height, width, 3), draw(3, 3, 3, 4, seed=1)
    assert_same(convolution.convolution3x3_stride2, plain(2), x, kernel)


def test_product():
    x, kernel = draw(2, 4, 5, 3), draw(3, 6, seed=1)
    assert_same(convolution.product, lambda x, k: jnp.einsum("nhwc,cd->nhwd", x, k), x, kernel)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_layers_equal_the_plain_convolution(size, stride):
    layer = layers.conv(4, 6, size, stride=stride, rngs=nnx.Rngs(0))
    x = jnp.asarray(draw(2, 9, 12, 4))
    pad = (size // 2, size // 2)
    expected = jax.lax.conv_general_dilated(
        x, layer.kernel[...], (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer(x), expected + layer.bias[...], rtol=0, atol=1e-5)


def test_winograd_is_for_cpus_and_float32_alone():
    """The same layer compiles to products on a CPU and to a convolution for a GPU or TPU."""
    layer = layers.conv(32, 32, 3, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)

    def lowered(x, platform):
        function = jax.jit(jax.grad(lambda state, x: nnx.merge(graphdef, state)(x).sum()))
        return function.trace(state, x).lower(lowering_platforms=(platform,)).as_text()

    small, large = jnp.ones((1, 8, 8, 32)), jnp.ones((1, 32, 32, 32))
    assert "stablehlo.convolution" in lowered(small, "cpu")
    assert "stablehlo.convolution" not in lowered(large, "cpu")
    assert "stablehlo.convolution" in lowered(large, "cuda")
    assert "stablehlo.convolution" in lowered(large, "tpu")
    kernel = jnp.ones((3, 3, 32, 32))
    assert not convolution.winograd_is_faster(large.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
