"""Convolutions and products with the gradients that suit a CPU, beside XLA's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.models import layers
from jaxmaskrcnn.ops.convolution import (
    convolution,
    dilated_convolution,
    product,
    products,
    winograd_is_faster,
    xla,
)


def plain(x, kernel, bias=None, shortcut=None, stride=1, groups=1, relu=False):
    pad = (kernel.shape[0] // 2,) * 2
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    y = y if bias is None else y + bias
    y = y if shortcut is None else y + shortcut
    return jnp.where(y > 0, y, 0) if relu else y


def assert_same(ours, theirs, *inputs):
    """Values and all gradients, within the rounding of sums of float32."""
    result = jax.eval_shape(theirs, *inputs)
    cotangent = np.random.default_rng(5).normal(size=result.shape).astype(result.dtype)

    @partial(jax.jit, static_argnums=0)
    def all_of(function, *inputs):
        y, gradients = jax.vjp(function, *inputs)
        return y, *gradients(cotangent)

    for actual, wanted in zip(all_of(ours, *inputs), all_of(theirs, *inputs), strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def compare(x, size, features, stride=1, groups=1, relu=True, shortcut=True, implementation=None):
    """The operation with all that can follow beside the plain one."""
    n, h, w, channels = x.shape
    kernel, bias = draw(size, size, channels // groups, features, seed=1), draw(features, seed=2)
    more = (draw(n, -(-h // stride), -(-w // stride), features, seed=3),) if shortcut else ()
    settings = dict(stride=stride, groups=groups, relu=relu)
    ours = partial(convolution, **settings, implementation=implementation)
    assert_same(ours, partial(plain, **settings), x, kernel, bias, *more)
    return kernel


@pytest.mark.slow_except("True-True-winograd")
@pytest.mark.parametrize("implementation", ["winograd", "xla"])
@pytest.mark.parametrize(("relu", "shortcut"), [(False, False), (True, True)])
def test_three_by_three_on_large_maps(relu, shortcut, implementation):
    x = draw(2, 23, 30, 32)
    kernel = compare(x, 3, 40, relu=relu, shortcut=shortcut, implementation=implementation)
    assert winograd_is_faster(x, kernel)


@pytest.mark.parametrize(("dilation", "groups", "shortcut"), [(2, 1, True), (2, 3, False), (3, 1, False)])
def test_dilation(dilation, groups, shortcut):
    """As XLA's own, for sides that are no multiple of the dilation."""
    x, kernel, bias = draw(2, 7, 10, 6), draw(3, 3, 6 // groups, 6, seed=1), draw(6, seed=2)
    more = (draw(2, 7, 10, 6, seed=3),) if shortcut else ()

    def ours(x, kernel, bias, shortcut=None):
        return dilated_convolution(x, kernel, bias, shortcut, groups, True, dilation)

    def theirs(x, kernel, bias, shortcut=0.0):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((dilation, dilation),) * 2, rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip
        y = y + bias + shortcut
        return jnp.where(y > 0, y, 0)

    assert_same(ours, theirs, x, kernel, bias, *more)


def test_three_by_three_on_small_maps():
    x = draw(1, 5, 6, 3)
    kernel = compare(x, 3, 2)
    assert not winograd_is_faster(x, kernel)


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 6), (8, 9), (5, 1), (1, 1)])
def test_stride_two(height, width):
    """Gradients by parity, for even and odd sides."""
    compare(draw(2, height, width, 3), 3, 4, stride=2, implementation="stride2")


@pytest.mark.slow_except("46-45")
@pytest.mark.parametrize(("height", "width"), [(46, 45), (2048, 1)])
def test_stride_one_on_large_maps(height, width):
    compare(draw(2, height, width, 3), 3, 4, implementation="stride1")


@pytest.mark.slow_except("3-1-None", "3-1-xla", "3-2-groups", "1-1-groups")
@pytest.mark.parametrize("implementation", [None, "xla", "groups"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (5, 1)])
def test_groups(size, stride, implementation):
    settings = dict(stride=stride, groups=2, implementation=implementation)
    compare(draw(2, 7, 6, 4), size, 6, **settings)


def test_wide_groups_use_the_fastest_way_of_each():
    compare(draw(1, 33, 32, 64), 3, 64, groups=2, shortcut=False, implementation="groups")
    text = str(jax.make_jaxpr(partial(convolution, groups=2))(draw(1, 33, 32, 64), draw(3, 3, 32, 64)))
    assert "36,32,32" in text  # Winograd's points of one group


def test_depthwise_convolutions_are_those_of_xla():
    with pytest.raises(ValueError, match=r"'groups' is not for .* groups 4"):
        convolution(draw(1, 8, 8, 4), draw(3, 3, 1, 4), groups=4, implementation="groups")
    compare(draw(2, 7, 6, 4), 3, 8, groups=4)


@pytest.mark.parametrize(("stride", "cells"), [(1, 1000), (1, 40), (1, 7), (2, 5)])
def test_one_by_one_in_blocks(stride, cells):
    """However the cells are cut into blocks, the last of which repeats a part of the one before."""
    x, kernel, bias = draw(2, 6, 9, 3), draw(1, 1, 3, 6, seed=1), draw(6, seed=2)
    shortcut = draw(2, -(-6 // stride), -(-9 // stride), 6, seed=3)
    blocks = partial(products.product_in_blocks, stride=stride, relu=True, block_bytes=cells * 6 * 4)
    expected = jax.jit(partial(plain, stride=stride, relu=True))(x, kernel, bias, shortcut)
    np.testing.assert_allclose(jax.jit(blocks)(x, kernel, bias, shortcut), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("features", [8, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("implementation", ["product", "xla"])
def test_one_by_one(implementation, stride, features):
    compare(draw(2, 9, 8, 6), 1, features, stride=stride, implementation=implementation)


@pytest.mark.slow_except("15-9")
@pytest.mark.parametrize(("height", "width"), [(16, 22), (15, 9), (3, 8)])
def test_the_stem(height, width):
    for implementation, strides in (("xla", "(1, 1)"), ("stem", "(2, 2)")):
        settings = dict(stride=2, implementation=implementation)
        kernel = compare(draw(2, height, width, 3), 7, 8, shortcut=False, **settings)
        text = str(jax.make_jaxpr(partial(convolution, **settings))(draw(1, 16, 16, 3), kernel))
        assert text.count("window_strides=") == text.count(f"window_strides={strides}") == 1
    # Six channels and more are not folded.
    compare(draw(2, height, width, 6), 7, 8, stride=2, implementation="xla")


def test_a_wrong_implementation_is_named():
    x, kernel = draw(1, 8, 8, 3), draw(3, 3, 3, 4)
    with pytest.raises(ValueError, match='\'cudnn\'; choose "winograd", .*"xla" or None'):
        convolution(x, kernel, implementation="cudnn")
    with pytest.raises(
        ValueError, match=r"'winograd' is not for a float32 array \[1, 8, 8, 3\] and a kernel"
    ):
        convolution(x, kernel, implementation="winograd")


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradients_of_a_product_are_the_same_of_maps_and_of_matrices(stride):
    draw = np.random.default_rng(0).normal
    x, kernel, cotangent = draw(size=(2, 6, 5, 4)), draw(size=(1, 1, 4, 3)), draw(size=(2, 6, 5, 3))
    cotangent = cotangent[:, ::stride, ::stride]
    of_x = np.zeros_like(x)
    of_x[:, ::stride, ::stride] = cotangent @ kernel[0, 0].T
    of_kernel = np.einsum("nhwc,nhwd->cd", x[:, ::stride, ::stride], cotangent)
    for gradients in (xla.gradients, xla.gradients_on_tpus):
        found = gradients(*(jnp.float32(a) for a in (x, kernel, cotangent)), stride, 1)
        np.testing.assert_allclose(found[0], of_x, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1][0, 0], of_kernel, rtol=1e-5, atol=1e-5)


def test_other_gradients_on_tpus_are_those_of_every_platform():
    arrays = draw(1, 8, 6, 4), draw(3, 3, 4, 5), draw(1, 8, 6, 5)
    for found, expected in zip(
        xla.gradients_on_tpus(*arrays, 1, 1), xla.gradients(*arrays, 1, 1), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_only_tpus_have_gradients_of_products_of_maps():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 6, 5, 4), (1, 1, 4, 3))]
    traced = jax.jit(jax.grad(lambda *arrays: convolution(*arrays).sum(), argnums=1)).trace(*shapes)
    for platform, whole in {"cpu": False, "cuda": False, "tpu": True}.items():
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert any("tensor<2x6x5x4xf32>" in line for line in products) == whole


def test_the_gradient_looks_at_the_result_through_a_barrier():
    # Without it XLA:GPU compares the ReLU's input, which then has two uses and is not fused.
    x, kernel = draw(1, 8, 8, 8), draw(3, 3, 8, 8)
    gradient = jax.grad(lambda x: convolution(x, kernel, relu=True).sum())
    assert "optimization_barrier" in jax.jit(gradient).lower(x).as_text()


def test_bias_of_another_type_and_no_bias():
    x, kernel = draw(1, 6, 9, 3), draw(1, 1, 3, 6, seed=1)
    assert_same(convolution, plain, x, kernel)
    x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    y = convolution(x, kernel, relu=True)
    assert y.dtype == jnp.bfloat16


def test_gradient_needs_the_result_alone():
    """A negative sum passes no gradient on, nor does one of exactly zero, as torch has it."""
    x = jnp.array([-1.0, 0.0, 2.0]).reshape(1, 3, 1, 1)
    slope = jax.jit(jax.grad(lambda x: convolution(x, jnp.ones((1, 1, 1, 1)), relu=True).sum()))(x)
    np.testing.assert_array_equal(slope.ravel(), [0, 0, 1])


def test_product():
    x, kernel = draw(2, 4, 5, 3), draw(3, 6, seed=1)
    assert_same(product, lambda x, k: jnp.einsum("nhwc,cd->nhwd", x, k), x, kernel)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_layers_equal_the_plain_convolution(size, stride):
    layer = layers.Conv(4, 6, size, stride=stride, rngs=nnx.Rngs(0))
    x = draw(2, 9, 12, 4)
    layer.bias[...] = draw(6, seed=1)
    expected = jax.jit(partial(plain, stride=stride))(x, layer.kernel[...], layer.bias[...])
    found = jax.jit(lambda layer, x: layer(x))(layer, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow_except("gn", "bn")
@pytest.mark.parametrize("kind", ["none", "frozen_bn", "bn_eval", "bn", "gn"])
def test_norm_sum_and_relu_in_one(kind):
    """``relu(norm(conv(x)) + shortcut)`` with every kind of norm, and its gradients in all parameters."""
    layer = layers.ConvNorm(4, 32, 3, norm=kind, rngs=nnx.Rngs(0))
    if kind in ("frozen_bn", "bn_eval"):
        for i, name in enumerate(("scale", "bias", "mean", "var")):
            getattr(layer.norm, name)[...] = np.abs(draw(32, seed=i)) + 0.5
    x, shortcut = draw(2, 6, 7, 4), draw(2, 6, 7, 32, seed=9)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def ours(params):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        return layer(x, None, True, shortcut=shortcut, relu=True)

    def apart(params):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        y = layer.conv(x)
        y = y if layer.norm is None else layer.norm(y, None, True)
        return nnx.relu(y + shortcut)

    assert_trees_same(ours, apart, params)


def assert_trees_same(ours, theirs, params):
    cotangent = draw(*jax.eval_shape(theirs, params).shape, seed=5)

    @partial(jax.jit, static_argnums=0)
    def all_of(function, params):
        y, gradients = jax.vjp(function, params)
        return y, gradients(cotangent)

    (expected, gradients), (actual, actual_gradients) = all_of(theirs, params), all_of(ours, params)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for wanted, found in zip(*map(jax.tree.leaves, (gradients, actual_gradients)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_winograd_is_for_cpus_and_float32_alone():
    """The same layer compiles to products on a CPU and to a convolution for a GPU or TPU."""
    layer = layers.Conv(32, 32, 3, rngs=nnx.Rngs(0))
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
    assert not winograd_is_faster(large.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))


@pytest.mark.slow  # a full-size compilation
def test_a_stack_of_layers_keeps_one_map_a_layer():
    """The gradient on a CPU: no bare convolutions, and no border, kernel or zero made too early."""
    layers, side, channels = 12, 96, 64

    def loss(kernels, x):
        for kernel in kernels:
            x = convolution(x, kernel, relu=True)
        return x.sum()

    x, kernels = jnp.ones((1, side, side, channels)), [jnp.ones((3, 3, channels, channels))] * layers
    compiled = jax.jit(jax.grad(loss)).lower(kernels, x).compile()
    maps = compiled.memory_analysis().temp_size_in_bytes / x.nbytes
    assert maps < 2 * layers, f"{maps:.1f} maps for {layers} layers"
