"""One channel of a mask head's last layer for each region, in both ways, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.masks import own_class

RNG = np.random.default_rng(0)
CELLS, KERNEL, BIAS, COTANGENT = (
    RNG.normal(size=shape).astype(np.float32) for shape in ((7, 3, 3, 4, 6), (6, 5), (5,), (7, 3, 3, 4))
)
CHANNEL = np.array([0, 4, 2, 2, 1, 3, 0])


ARRAYS = tuple(map(jnp.asarray, (CELLS, KERNEL, BIAS)))


@pytest.mark.parametrize("way", ["own_class_maps", "multiplied", "selected"])
def test_values(way):
    maps = getattr(own_class, way)(*ARRAYS, jnp.asarray(CHANNEL))
    expected = np.einsum("ryxnc,rc->ryxn", CELLS, KERNEL.T[CHANNEL]) + BIAS[CHANNEL, None, None, None]
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def gradients_of_the_whole(*arrays):
    *arrays, channel, cotangent = arrays
    return jax.vjp(lambda *arrays: own_class.own_class_maps(*arrays, channel), *arrays)[1](cotangent)


@pytest.mark.parametrize(
    "gradients", [gradients_of_the_whole, own_class.gradients_of_multiplied, own_class.gradients_of_selected]
)
def test_gradients(gradients):
    found = gradients(*ARRAYS, jnp.asarray(CHANNEL), jnp.asarray(COTANGENT))
    of_cells = COTANGENT[..., None] * KERNEL.T[CHANNEL][:, None, None, None]
    of_kernel, of_bias = np.zeros_like(KERNEL), np.zeros_like(BIAS)
    np.add.at(of_kernel.T, CHANNEL, np.einsum("ryxn,ryxnc->rc", COTANGENT, CELLS))
    np.add.at(of_bias, CHANNEL, COTANGENT.sum((1, 2, 3)))
    for array, expected in zip(found, (of_cells, of_kernel, of_bias), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)


def test_bfloat16_is_summed_in_float32():
    arrays = (jnp.asarray(a, jnp.bfloat16) for a in (CELLS, KERNEL, BIAS))
    maps = own_class.own_class_maps(*arrays, jnp.asarray(CHANNEL))
    assert maps.dtype == jnp.float32
    expected = own_class.selected(*map(jnp.asarray, (CELLS, KERNEL, BIAS, CHANNEL)))
    np.testing.assert_allclose(maps, expected, atol=0.1)


@pytest.mark.parametrize("gradients", [own_class.gradients_of_multiplied, own_class.gradients_of_selected])
def test_gradients_of_many_regions_of_a_class_are_added_in_float32(gradients):
    count = 1024
    cells, kernel = jnp.ones((count, 1, 1, 4, 6), jnp.bfloat16), jnp.ones((6, 5), jnp.bfloat16)
    cotangent, channel = jnp.full((count, 1, 1, 4), 1e-3), jnp.full(count, 2)
    _, of_kernel, of_bias = gradients(cells, kernel, kernel[0], channel, cotangent)
    expected = np.zeros(5, np.float32)
    expected[2] = 4 * count * 1e-3
    np.testing.assert_allclose(of_bias.astype(np.float32), expected, rtol=0.01)
    np.testing.assert_allclose(of_kernel.astype(np.float32), np.broadcast_to(expected, (6, 5)), rtol=0.01)


def test_a_channel_that_does_not_exist_is_zeros():
    maps = own_class.select_channel(jnp.ones((2, 3, 3, 4)), jnp.array([3, 4]))
    np.testing.assert_array_equal(maps[:, 0, 0], [1, 0])


def test_only_tpus_compute_the_own_class_alone():
    def both(*arrays):
        return jax.vjp(lambda *a: own_class.own_class_maps(*a, CHANNEL), *arrays)[1](jnp.asarray(COTANGENT))

    traced = jax.jit(both).trace(CELLS, KERNEL, BIAS)
    programs = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    # The gradient of the maps of all channels.
    assert {p for p, text in programs.items() if "tensor<7x3x12x5xf32>" in text} == {"cpu", "cuda"}
