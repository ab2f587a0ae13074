"""Deformable convolution beside torchvision's, a loop in NumPy, and differences of values."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.convolution import convolution
from jaxmaskrcnn.ops.deform_conv import deform_conv2d

CASES = [
    "plain", "stride", "dilation", "groups", "offset_groups", "both_groups", "more_offset_groups",
    "flat_kernel", "no_padding", "one_cell",
]  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "goldens/torchvision_deform_conv.npz") as arrays:
        return dict(arrays)


def case_of(golden, name):
    case = {k.partition("/")[2]: v for k, v in golden.items() if k.startswith(f"{name}/")}
    return case, json.loads(str(case.pop("settings")))


def differentiate(settings, inputs, cotangent):
    y, gradients = jax.vjp(lambda *inputs: deform_conv2d(*inputs, **settings), *inputs)
    return y, gradients(cotangent)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.slow_except("both_groups", "plain")
@pytest.mark.parametrize("name", CASES)
def test_as_torchvision(golden, name):
    case, settings = case_of(golden, name)
    names = [k for k in ("x", "kernel", "offsets", "mask") if k in case]
    run = jax.jit(lambda inputs, cotangent: differentiate(settings, inputs, cotangent))
    y, gradients = run([case[k] for k in names], case["cotangent"])
    assert_close(y, case["y"])
    for k, gradient in zip(names, gradients, strict=True):
        assert_close(gradient, case[f"gradient_{k}"])


def oracle(x, kernel, offsets, mask, stride, padding, dilation, groups):
    """The definition, number by number in float64."""
    n, h, w, channels = x.shape
    kh, kw, own, features = kernel.shape
    oh, ow = offsets.shape[1:3]
    per_offset_group = channels * 2 * kh * kw // offsets.shape[3]
    y = np.zeros((n, oh, ow, features))

    def value(i, row, column, channel):
        total = 0.0
        for r in (math.floor(row), math.floor(row) + 1):
            for c in (math.floor(column), math.floor(column) + 1):
                if 0 <= r < h and 0 <= c < w:
                    total += (1 - abs(row - r)) * (1 - abs(column - c)) * float(x[i, r, c, channel])
        return total

    for i, a, b, d in np.ndindex(y.shape):
        for k, c in np.ndindex(kh * kw, own):
            channel = d // (features // groups) * own + c
            number = channel // per_offset_group * kh * kw + k
            dy, dx = map(float, offsets[i, a, b, 2 * number : 2 * number + 2])
            row = a * stride - padding + k // kw * dilation + dy
            column = b * stride - padding + k % kw * dilation + dx
            factor = 1 if mask is None else float(mask[i, a, b, number])
            y[i, a, b, d] += kernel[k // kw, k % kw, c, d] * factor * value(i, row, column, channel)
    return y


@pytest.mark.parametrize("name", ["plain", "both_groups", "flat_kernel", "more_offset_groups"])
def test_torchvision_follows_the_definition(golden, name):
    """What torchvision's results, which ours are compared with above, are: numbers of this loop."""
    case, settings = case_of(golden, name)
    expected = oracle(case["x"], case["kernel"], case["offsets"], case.get("mask"), **settings)
    assert_close(case["y"], expected)


def test_gradients_are_slopes(golden):
    """Of x, kernel and mask, in which values are linear, and of offsets away from cells, in float64."""
    case, settings = case_of(golden, "both_groups")
    rng = np.random.default_rng(3)
    offsets = np.floor(case["offsets"]) + rng.uniform(0.2, 0.8, case["offsets"].shape)
    inputs = {k: case[k].astype(np.float64) for k in ("x", "kernel", "mask")} | {"offsets": offsets}

    def total(inputs):
        y = oracle(inputs["x"], inputs["kernel"], inputs["offsets"], inputs["mask"], **settings)
        return (y * case["cotangent"]).sum()

    order = ("x", "kernel", "offsets", "mask")
    arrays = [jnp.float32(inputs[k]) for k in order]
    gradients = differentiate(settings, arrays, case["cotangent"])[1]
    for k, gradient in zip(order, gradients, strict=True):
        direction = rng.normal(size=inputs[k].shape)
        ends = [total(inputs | {k: inputs[k] + s * 1e-4 * direction}) for s in (-1, 1)]
        slope = (ends[1] - ends[0]) / 2e-4
        assert abs(float((gradient * direction).sum()) - slope) < 2e-4 * np.abs(gradient * direction).sum(), k


def test_no_offsets_are_an_ordinary_convolution():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 9, 8)), rng.normal(size=(3, 3, 2, 8))
    x, kernel = jnp.float32(x), jnp.float32(kernel)
    offsets = jnp.zeros((2, 3, 5, 18))
    y = deform_conv2d(x, kernel, offsets, stride=2, padding=1, groups=4)
    assert_close(y, convolution(x, kernel, stride=2, groups=4))
    half = deform_conv2d(x, kernel, offsets, jnp.full((2, 3, 5, 9), 0.5), stride=2, padding=1, groups=4)
    assert_close(half, y / 2)


HEIGHT = 63


@pytest.fixture(scope="module")
def large():
    """Arrays for a map that is computed in several pieces, the last one not full; and a jitted run."""
    rng = np.random.default_rng(1)
    shapes = [(1, HEIGHT, 70, 8), (3, 3, 8, 8), (1, HEIGHT, 70, 18), (1, HEIGHT, 70, 9), (1, HEIGHT, 70, 8)]
    run = jax.jit(lambda *inputs: differentiate({"padding": 1}, inputs[:4], inputs[4]))
    return [jnp.float32(rng.normal(size=shape)) for shape in shapes], run


@pytest.mark.slow
def test_pieces_of_a_large_map(large):
    """Rows computed alone are those of the whole, and the gradients of parts add up."""
    (x, kernel, *by_row), run = large
    y, gradients = run(x, kernel, *by_row)
    sums = [0, 0]
    for rows in (slice(0, 7), slice(7, 40), slice(40, HEIGHT)):
        own = rows.stop - rows.start
        # At the top, with offsets from there.
        parts = [jnp.pad(a[:, rows], ((0, 0), (0, HEIGHT - own), (0, 0), (0, 0))) for a in by_row]
        parts[0] = parts[0].at[..., ::2].add(rows.start)
        part, slopes = run(x, kernel, *parts)
        assert_close(part[:, :own], y[:, rows])
        for slope, gradient in zip(slopes[2:], gradients[2:], strict=True):
            assert_close(slope[:, :own], gradient[:, rows])
        sums = [a + b for a, b in zip(sums, slopes[:2], strict=True)]
    for total, gradient in zip(sums, gradients[:2], strict=True):
        assert_close(total, gradient)


def test_memory():
    """Results and all that is in memory on the way are less than four times the map alone."""
    forward = jax.jit(lambda *inputs: deform_conv2d(*inputs, padding=1))
    gradients = jax.jit(lambda *inputs: differentiate({"padding": 1}, inputs[:4], inputs[4])[1])
    shapes = [(2, 100, 136, 64), (3, 3, 64, 64), (2, 100, 136, 18), (2, 100, 136, 9), (2, 100, 136, 64)]
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    map_size = 4 * math.prod(shapes[0])
    for function, arguments, limit in ((forward, inputs[:4], 2.5), (gradients, inputs, 4)):
        memory = function.lower(*arguments).compile().memory_analysis()
        used = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / map_size
        print(f"{used:.2f} times the map")
        assert used < limit


def test_what_is_outside_of_an_extent_is_zero():
    """A small image on a large canvas has its own results, once what is outside is zero."""
    rng = np.random.default_rng(4)
    x, kernel = jnp.float32(rng.normal(size=(1, 5, 6, 4))), jnp.float32(rng.normal(size=(3, 3, 4, 4)))
    offsets = jnp.float32(rng.normal(scale=3, size=(1, 5, 6, 18)))
    alone = deform_conv2d(x, kernel, offsets, padding=1)
    room = ((0, 0), (0, 3), (0, 4), (0, 0))
    shared = deform_conv2d(jnp.pad(x, room), kernel, jnp.pad(offsets, room), padding=1)
    assert_close(shared[:, :5, :6], alone)


def test_bfloat16_and_places_far_away():
    """Sums are float32; no offset, however large, reads beyond an array or makes NaN."""
    rng = np.random.default_rng(5)
    x, kernel = rng.normal(size=(1, 4, 4, 8)), rng.normal(size=(3, 3, 8, 8))
    offsets = rng.normal(size=(1, 4, 4, 18))
    offsets[0, 0, 0, 0], offsets[0, 1, 1, 5] = 1e30, -1e30
    wide = deform_conv2d(jnp.float32(x), jnp.float32(kernel), jnp.float32(offsets), padding=1)
    narrow = deform_conv2d(jnp.bfloat16(x), jnp.bfloat16(kernel), jnp.float32(offsets), padding=1)
    assert narrow.dtype == jnp.bfloat16 and wide.dtype == jnp.float32
    assert np.isfinite(wide).all()
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.02 * np.abs(wide).max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"offsets": (1, 4, 5, 17)},
            r"offsets have the shape \[1, 4, 5, 17\]; give \[1, 4, 5\] and 18 ",
        ),
        ({"offsets": (1, 4, 4, 18)}, "offsets have the shape"),
        ({"mask": (1, 4, 5, 18)}, r"mask has the shape .* give \[1, 4, 5, 9\]"),
        ({"kernel": (3, 3, 2, 8)}, "a kernel .* in 1 groups does not fit 4 channels"),
        ({"x": (4, 5, 4)}, r"x has the shape \[4, 5, 4\]"),
    ],
)
def test_shapes_that_do_not_fit(changes, message):
    shapes = {"x": (1, 4, 5, 4), "kernel": (3, 3, 4, 8), "offsets": (1, 4, 5, 18), "mask": (1, 4, 5, 9)}
    arrays = {name: jnp.zeros(shape) for name, shape in (shapes | changes).items()}
    with pytest.raises(ValueError, match=f"^deform_conv2d: {message}"):
        deform_conv2d(**arrays, padding=1)
