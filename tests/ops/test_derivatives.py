"""Forward-mode and second derivatives of operators whose gradients are written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops import deform_conv2d, every_derivative, roi_align
from jaxmaskrcnn.ops.convolution import convolution
from jaxmaskrcnn.ops.depthwise import depthwise_convolution
from jaxmaskrcnn.ops.masks import own_class_maps
from jaxmaskrcnn.ops.product_of_maps import product_of_maps
from jaxmaskrcnn.ops.window_pooling import max_pool

BOXES = jnp.array([[1.0, 2, 9, 11], [0, 0, 4, 5]])


def pool(x, kernel):
    del kernel
    return jax.vmap(lambda x: roi_align(x, BOXES, 2, spatial_scale=0.5))(x)


def convolve(x, kernel):
    return convolution(x, kernel, jnp.ones(kernel.shape[-1]), relu=True)


def depthwise(x, kernel):
    return depthwise_convolution(x, kernel[:, :, :1])


def largest(x, kernel):
    return max_pool(x) * kernel[0, 0, 0]


def fully_connected(x, kernel):
    return product_of_maps(x[:, :3, :3], kernel.reshape(-1, 4))


def own_class(x, kernel):
    return own_class_maps(x.reshape(2, 6, 7, 1, 4), kernel[0, 0], kernel[1, 0, 0], jnp.array([3, 0]))


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 6, 7, 4), (3, 3, 4, 4)))


@pytest.mark.slow_except("depthwise")
@pytest.mark.parametrize("operator", [pool, convolve, depthwise, largest, fully_connected, own_class])
def test_forward_mode_and_second_derivatives(operator, arrays):
    """Along a direction: the slope is the gradient's, and the second one that of differences of slopes."""
    direction = jax.tree.map(lambda x: jnp.cos(7 * x), arrays)
    value = lambda *arrays: jnp.square(operator(*arrays)).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(value, argnums=(0, 1)))
    along = lambda tree: sum((a * b).sum() for a, b in zip(tree, direction, strict=True))  # noqa: E731

    def plain(*arrays):
        with every_derivative():
            return value(*arrays)

    first, slope = jax.jit(lambda: jax.jvp(plain, arrays, direction))()
    np.testing.assert_allclose(first, value(*arrays), rtol=1e-5)
    np.testing.assert_allclose(slope, along(gradient(*arrays)), rtol=1e-4)
    _, bent = jax.jit(lambda: jax.jvp(jax.grad(plain, argnums=(0, 1)), arrays, direction))()
    step = 1e-2
    ends = [
        gradient(*(x + sign * step * d for x, d in zip(arrays, direction, strict=True))) for sign in (1, -1)
    ]
    differences = sum(((a - b) * d).sum() for a, b, d in zip(*ends, direction, strict=True)) / (2 * step)
    np.testing.assert_allclose(along(bent), differences, rtol=0.03)


@pytest.mark.parametrize("operator", [pool, convolve, depthwise, largest, fully_connected, own_class])
def test_without_it_jax_says_that_there_is_none(operator, arrays):
    with pytest.raises(TypeError, match=r"forward-mode .*\(jvp\) to a custom_vjp function"):
        jax.jit(lambda arrays: jax.jvp(operator, arrays, arrays)).lower(arrays)


def test_what_has_none_is_refused():
    x, kernel, offsets = (np.ones(shape, np.float32) for shape in ((1, 4, 4, 1), (1,) * 4, (1, 4, 4, 2)))
    with every_derivative():
        with pytest.raises(ValueError, match="^deform_conv2d has a reverse-mode gradient alone, .*; take a"):
            jax.eval_shape(deform_conv2d, x, kernel, offsets)
        with pytest.raises(ValueError, match="^roi_align with sampling_ratio=0 has .*; give a fixed number"):
            jax.eval_shape(lambda x: roi_align(x, BOXES, 2, sampling_ratio=0), x[0])
    assert jax.eval_shape(deform_conv2d, x, kernel, offsets).shape == x.shape
