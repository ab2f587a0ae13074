"""3x3 convolutions by Winograd's filtering beside the plain convolution."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxmaskrcnn.ops.convolution import winograd


def oracle(x, kernel):
    """A 3x3 convolution in float64."""
    n, h, w, _ = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3)
    )


def oracle_gradients(x, kernel, cotangent):
    n, h, w, _ = x.shape
    input_gradient = oracle(cotangent, kernel[::-1, ::-1].swapaxes(2, 3))
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel_gradient = [
        [np.einsum("nhwc,nhwd->cd", padded[:, i : i + h, j : j + w], cotangent) for j in range(3)]
        for i in range(3)
    ]
    return input_gradient, np.array(kernel_gradient)


def assert_close(actual, expected):
    # Rounding of float32 grows with the size of the sums, not with that of each result.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def draw(rng, n, h, w, channels_in, channels_out):
    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return (
        normal(n, h, w, channels_in),
        normal(3, 3, channels_in, channels_out),
        normal(n, h, w, channels_out),
    )


@pytest.mark.slow_except("shape0-64", "shape4-6")
@pytest.mark.parametrize(
    ("shape", "tiles"),
    [
        ((1, 1, 1, 2, 3), 64),
        ((1, 4, 4, 3, 2), 64),
        ((2, 9, 14, 3, 5), 64),  # the whole batch at once
        ((5, 6, 7, 2, 2), 9),  # two maps at a time, the last block half full
        ((2, 23, 10, 4, 3), 6),  # bands of rows, the last one not full
        ((1, 17, 9, 2, 2), 1),  # a row of tiles is more than a block
    ],
)
def test_equals_the_plain_convolution(shape, tiles):
    """Forward and both gradients, however the maps are cut into blocks."""
    limit = dict(block_bytes=tiles * winograd.POINTS * 4 * max(shape[3:]))
    convolve = partial(winograd.convolve, **limit)
    x, kernel, cotangent = draw(np.random.default_rng(0), *shape)
    assert_close(jax.jit(convolve)(x, kernel), oracle(x, kernel))
    bias = np.arange(shape[4], dtype=np.float32)
    full = jax.jit(convolve, static_argnums=4)(x, kernel, bias, cotangent, True)
    assert_close(full, np.maximum(oracle(x, kernel) + bias + cotangent, 0))
    of_input, of_kernel = oracle_gradients(x, kernel, cotangent)
    assert_close(jax.jit(partial(winograd.input_gradient, **limit))(cotangent, kernel), of_input)
    assert_close(jax.jit(partial(winograd.kernel_gradient, **limit))(x, cotangent), of_kernel)


def test_rounding_error_of_many_channels():
    """256 channels, as in the pyramid: 2e-6 of the deviation of the result."""
    x, kernel, _ = draw(np.random.default_rng(1), 1, 12, 12, 256, 16)
    expected = oracle(np.maximum(x, 0), kernel)
    error = jax.jit(winograd.convolve)(np.maximum(x, 0), kernel) - expected
    assert np.sqrt((error**2).mean()) < 2e-6 * expected.std()


def test_blocks_cover_every_map_once():
    for n, h, w, channels in [(1, 200, 336, 256), (128, 14, 14, 256), (3, 25, 42, 2048), (1, 1344, 1344, 64)]:
        blocks = winograd._blocks(n, h, w, channels)
        assert blocks.maps * blocks.along_batch >= n > blocks.maps * (blocks.along_batch - 1)
        assert 4 * blocks.rows * blocks.along_rows >= h > 4 * blocks.rows * (blocks.along_rows - 1)
        assert 4 * blocks.columns >= w > 4 * (blocks.columns - 1)
