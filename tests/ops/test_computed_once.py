"""Values that XLA on CPUs keeps, and would compute again in each operation that reads them otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.computed_once import computed_once
from jaxmaskrcnn.ops.convolution import convolution


def relus_of(chain, blocks: int) -> int:
    """How many ReLUs there are in the program of a chain of residual blocks on this CPU.

    With `computed_once` there are two for each block: the map, and the one element that it looks at.
    """
    x, kernels = jnp.ones((1, 64, 64, 24)), jnp.ones((blocks, 3, 3, 24, 24))
    return jax.jit(chain).lower(x, kernels).compile().as_text().count(" maximum(")


def plain(x, kernels, keep=lambda x: x):
    for kernel in kernels:
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = keep(jax.nn.relu(y + x))
    return x


def with_shortcuts(x, kernels):
    for kernel in kernels:
        x = convolution(x, kernel, shortcut=x, relu=True)
    return x


def test_every_sum_of_a_residual_network_is_computed_once():
    for chain in (lambda x, kernels: plain(x, kernels, computed_once), with_shortcuts):
        assert relus_of(chain, 8) == 2 * relus_of(chain, 4) == 16
    # Otherwise the last block computes those of all blocks before it. If this fails, a new version of XLA
    # does without `computed_once`.
    assert relus_of(plain, 8) > 3 * relus_of(plain, 4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradients_stay_the_same(dtype):
    x = jnp.tile(jnp.array([[1.5, -0.0, jnp.inf], [jnp.nan, -jnp.inf, 1e-40]], dtype), (1, 2**16))
    for function in (computed_once, jax.jit(computed_once), jax.jit(jax.vmap(computed_once))):
        found = function(x)
        assert found.dtype == x.dtype
        assert np.asarray(found).tobytes() == np.asarray(x).tobytes()
    x = jnp.arange(2.0**16)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: computed_once(x * x).sum()))(x), 2 * x)


def test_nothing_is_returned_for_nothing():
    assert computed_once(jnp.zeros((0, 3))).shape == (0, 3)


def test_all_derivatives_exist():
    def cube(x):
        with ops.every_derivative():
            return computed_once(jnp.broadcast_to(x, 2**16) ** 3)[0]

    assert jax.hessian(cube)(2.0) == 12


def test_small_arrays_and_other_platforms_have_no_loop_for_it():
    for size, expected in {2**16: 1, 2**16 - 1: 0}.items():
        traced = jax.jit(computed_once).trace(jnp.zeros(size))
        for platform, number in {"cpu": expected, "cuda": 0, "tpu": 0}.items():
            assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") == number
