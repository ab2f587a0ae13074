"""Pooling against a loop over windows, the gradient of max pooling, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.window_pooling import average_pool, columns_after_rows, max_pool, plain


def oracle(x, border, cotangent):
    """The result and the gradient, window by window: the first of the largest cells takes the cotangent."""
    before = border[0]
    around = ((0, 0), border, border, (0, 0))
    padded = np.pad(x, around, constant_values=-np.inf)
    n, height, width, channels = padded.shape
    h, w = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    y, gradient = np.empty((n, h, w, channels), x.dtype), np.zeros_like(padded)
    for image, row, column, channel in np.ndindex(n, h, w, channels):
        window = padded[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        i, j = np.unravel_index(np.argmax(window), (3, 3))
        y[image, row, column, channel] = window[i, j]
        if cotangent is not None:
            gradient[image, 2 * row + i, 2 * column + j, channel] += cotangent[image, row, column, channel]
    inside = slice(before, before + x.shape[1]), slice(before, before + x.shape[2])
    return y, gradient[:, *inside]


@pytest.mark.parametrize("border", [(1, 1), (0, 1)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 3), (2, 9)])
def test_results_and_gradients_are_those_of_a_loop_over_windows(size, border):
    rng = np.random.default_rng(0)
    # Whole numbers from 0 to 3, so that most windows have several largest cells, as after a ReLU.
    x = rng.integers(0, 4, (2, *size, 3)).astype(np.float32)
    y, _ = oracle(x, border, None)
    cotangent = rng.normal(size=y.shape).astype(np.float32)

    @jax.jit
    def all_of(x):
        result, gradient = jax.vjp(lambda x: max_pool(x, border), x)
        return result, columns_after_rows(x, border), gradient(cotangent)[0]

    result, as_on_tpus, gradient = all_of(x)
    np.testing.assert_array_equal(result, y)
    np.testing.assert_array_equal(as_on_tpus, y)
    np.testing.assert_allclose(gradient, oracle(x, border, cotangent)[1], atol=1e-6)


def test_the_gradient_is_that_of_xla():
    """With negative values too, where a border of zeros would be larger, and with infinities."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 11, 12, 4)).astype(np.float32) - 2
    x[0, :3, :3] = -np.inf
    x[0, 9, 9] = np.inf
    cotangent = rng.normal(size=(1, 6, 6, 4)).astype(np.float32)
    of_ours, of_xla = (
        jax.jit(lambda x, c, f=f: jax.vjp(f, x)[1](c)[0])(x, cotangent) for f in (max_pool, plain)
    )
    finite = np.isfinite(x)
    np.testing.assert_allclose(of_ours[finite], of_xla[finite], atol=1e-6)


def test_bfloat16_and_maps_of_a_batch():
    x = jax.random.normal(jax.random.key(0), (3, 6, 6, 2)).astype(jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda x: (max_pool(x).astype(jnp.float32) ** 2).sum()))
    whole, one = gradient(x), gradient(x[1:2])
    assert whole.dtype == jnp.bfloat16
    np.testing.assert_array_equal(whole[1:2].astype(np.float32), one.astype(np.float32))


def test_another_border_is_refused():
    with pytest.raises(ValueError, match=r"^max_pool: border is \(2, 1\); give \(0, 1\) or \(1, 1\)\.$"):
        max_pool(jnp.ones((1, 4, 4, 1)), (2, 1))


@pytest.mark.parametrize(("size", "stride", "border"), [(2, 2, 0), (3, 2, 1), (4, 4, 0), (3, 1, 1)])
def test_averages_are_those_of_a_loop_over_windows(size, stride, border):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    h, w = ((side - size) // stride + 1 for side in padded.shape[1:3])
    expected = [
        [
            padded[:, stride * i : stride * i + size, stride * j : stride * j + size].mean((1, 2))
            for j in range(w)
        ]
        for i in range(h)
    ]
    found = jax.jit(lambda x: average_pool(x, size, stride, border))(x)
    np.testing.assert_allclose(found, np.array(expected).transpose(2, 0, 1, 3), atol=1e-6)
