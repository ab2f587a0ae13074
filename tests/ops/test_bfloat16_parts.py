import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.bfloat16_parts import bfloat16_parts


def numbers():
    rng = np.random.default_rng(0)
    several = rng.normal(size=2000) * 2.0 ** rng.integers(-60, 60, 2000)
    return np.concatenate([several, [0, -0.0, 1, 1 / 3, 2**24 - 1, -(2**24 - 1), 255.5]]).astype(np.float32)


@pytest.mark.parametrize("compiled", [False, True])
def test_three_parts_are_exact(compiled):
    split = jax.jit(bfloat16_parts, static_argnums=1) if compiled else bfloat16_parts
    parts = split(jnp.asarray(numbers()), 3)
    assert all(part.dtype == jnp.bfloat16 for part in parts)
    np.testing.assert_array_equal(sum(np.asarray(part, np.float64) for part in parts), numbers())


@pytest.mark.parametrize(("count", "bits"), [(1, 8), (2, 16)])
def test_fewer_parts_leave_out_the_last_bits(count, bits):
    parts = jax.jit(bfloat16_parts, static_argnums=1)(jnp.asarray(numbers()), count)
    error = np.abs(sum(np.asarray(part, np.float64) for part in parts) - numbers())
    assert (error <= np.abs(numbers()) * 2.0**-bits).all()
    assert error.any()  # otherwise the bound would say nothing
