"""CARAFE beside a NumPy oracle, its definition and its gradient; the pyramid on a larger canvas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_helpers import check

from jaxmaskrcnn.config import CarafeConfig, CarafeFPNConfig, ConfigError, Level
from jaxmaskrcnn.models.carafe import Carafe
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.necks.carafe_fpn import CarafeFPN
from jaxmaskrcnn.ops.carafe import reassemble, reassemble_reference, window_weights

pytestmark = pytest.mark.usefixtures("highest_precision")


def softmax_oracle(logits):
    """torch's pixel shuffle of [h, w, k * k * 4], and a softmax over the windows: [2h, 2w, k * k]."""
    h, w, _ = logits.shape
    wide = np.zeros((2 * h, 2 * w, logits.shape[-1] // 4))
    for channel in range(logits.shape[-1]):
        place, a, b = channel // 4, channel % 4 // 2, channel % 2
        wide[a::2, b::2, place] = logits[..., channel]
    wide = np.exp(wide - wide.max(-1, keepdims=True))
    return wide / wide.sum(-1, keepdims=True)


def reassembly_oracle(x, weights):
    """[h, w, C] and [2h, 2w, k * k] to [2h, 2w, C], cell by cell in float64."""
    h, w, channels = x.shape
    side = round(weights.shape[-1] ** 0.5)
    result = np.zeros((2 * h, 2 * w, channels))
    for row, column in np.ndindex(2 * h, 2 * w):
        for place in range(side**2):
            y = row // 2 + place // side - side // 2
            x_ = column // 2 + place % side - side // 2
            if 0 <= y < h and 0 <= x_ < w:
                result[row, column] += weights[row, column, place] * x[y, x_]
    return result


def side_by_side(wide):
    """[2h, 2w, C] to [h, w, 4, C]."""
    h, w, channels = wide.shape
    return wide.reshape(h // 2, 2, w // 2, 2, channels).swapaxes(1, 2).reshape(h // 2, w // 2, 4, channels)


@pytest.mark.parametrize("kernel", [5, 3])
def test_reassembly(kernel):
    rng = np.random.default_rng(kernel)
    x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    logits = rng.normal(scale=2.0, size=(2, 4, 6, 4 * kernel**2)).astype(np.float32)
    weights = jax.jit(window_weights)(logits)
    fast, plain = (
        np.asarray(jax.jit(function)(x, weights)) for function in (reassemble, reassemble_reference)
    )
    weights = np.asarray(weights)
    for n in range(2):
        expected = softmax_oracle(logits[n].astype(np.float64))
        check("weights", np.abs(weights[n].swapaxes(2, 3) - side_by_side(expected)), 1e-6)
        result = side_by_side(reassembly_oracle(x[n].astype(np.float64), expected))
        check("reassembly", np.abs(fast[n] - result), 1e-5)
        check("its definition", np.abs(plain[n] - result), 1e-5)


def test_gradient_of_the_reassembly():
    rng = np.random.default_rng(0)
    x, weights, factors = (
        jnp.asarray(rng.normal(size=shape).astype(np.float32))
        for shape in ((1, 3, 4, 2), (1, 3, 4, 9, 4), (1, 3, 4, 4, 2))
    )

    def gradient(function):
        return jax.jit(jax.grad(lambda *inputs: (function(*inputs) * factors).sum(), (0, 1)))(x, weights)

    for name, ours, theirs in zip(
        ("x", "weights"), gradient(reassemble), gradient(reassemble_reference), strict=True
    ):
        check(f"gradient of {name}", np.abs(ours - theirs), 1e-5)


def test_bfloat16_weights_are_float32():
    """Twenty-five numbers are added up in float32, whatever the activations are."""
    upsample = Carafe(CarafeConfig(channels=4), 8, dtype="bfloat16", rngs=nnx.Rngs(0))
    x = jnp.ones((1, 5, 6, 8), jnp.bfloat16)
    result = jax.jit(upsample.__call__)(x)
    assert result.dtype == jnp.bfloat16 and window_weights(x).dtype == jnp.float32
    np.testing.assert_array_equal(np.float32(result)[0, 4:6, 4:8], 1.0)  # the mean of equal cells


def test_pyramid_on_a_larger_canvas():
    """What is beside an image's extent has no effect, also where the last window lies half in it."""
    strides = (4, 8, 16, 32)
    neck = CarafeFPN(
        CarafeFPNConfig(channels=4, upsample=CarafeConfig(channels=3)),
        [Level(s, 2) for s in strides],
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    for upsample in neck.upsamples:
        upsample.compress.bias[...] = rng.normal(size=3)
        upsample.encode.kernel[...] = rng.normal(size=upsample.encode.kernel.shape)
    for layer in neck.inner_blocks:
        layer.conv.bias[...] = rng.normal(size=4)
    run = jax.jit(lambda neck, maps, extents: neck(maps, Pass(extents)))
    # 96 pixels: P6 has 2 rows, which make 4 of P5, one too many.
    maps = [rng.normal(size=(1, 96 // s, 128 // s, 2)).astype(np.float32) for s in strides]
    wide = [
        np.pad(x, ((0, 0), (0, 64 // s), (0, 32 // s), (0, 0)), constant_values=50.0)
        for s, x in zip(strides, maps, strict=True)
    ]
    alone, beside = run(neck, maps, None), run(neck, wide, jnp.array([[96, 128]]))
    assert [x.shape[1:3] for x in alone] == [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    for ours, theirs in zip(beside, alone, strict=True):
        h, w = theirs.shape[1:3]
        check("pyramid", np.abs(ours[:, :h, :w] - theirs), 1e-5)


def test_even_windows_are_refused():
    with pytest.raises(ConfigError, match="CarafeConfig.kernel is 4; give an odd number of at least 1"):
        CarafeConfig(kernel=4)
