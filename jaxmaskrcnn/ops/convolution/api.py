"""The convolutions of the models with bias, shortcut and ReLU, computed in the fastest way on each platform.

``relu(convolution(x, kernel) + bias + shortcut)`` is one operation whose gradient needs ``x`` and the
result, and nothing in between. On GPUs and TPUs it is XLA's convolution, which cuDNN computes in one pass
with the other steps, with XLA's own gradients (of a 1x1 convolution: those of a product). On CPUs, where
XLA's gradients of convolutions are several times slower than the convolutions themselves (jaxlib 0.10.2), the
table `_ON_CPU` chooses by shapes: Winograd's filtering, products of matrices, one group of channels after
the other, or parts of XLA's.

On CPUs large maps are computed block by block in a loop, including the sums and the ReLU. Otherwise XLA
would keep the bare convolution for the gradient, beside the result that the next layer reads.

The results are the same except for rounding. Only reverse-mode gradients are supported, except within
`ops.every_derivative`.

Shapes: N maps of h x w cells, C and D channels in and out.
"""

import functools
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.computed_once import computed_once
from jaxmaskrcnn.ops.convolution import in_groups, products, winograd, xla
from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.ops.xla_memory import without_elements, zero_depending_on

Array = jax.Array


def convolution(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    shortcut: Array | None = None,
    stride: int = 1,
    groups: int = 1,
    relu: bool = False,
    implementation: str | None = None,
) -> Array:
    """A square convolution with a border of ``size // 2`` zeros, a sum and a ReLU.

    Args:
        x: [N, h, w, C].
        kernel: [size, size, C / groups, D] with an odd size.
        bias: [D], or None.
        shortcut: An array of the result's shape that is added to it, or None.
        stride: Stride of rows and columns.
        groups: Channels are convolved in this many groups.
        relu: Whether negative results become 0.
        implementation: None for the fastest on the platform that a program is compiled for, or the name of
            one, for the gradient as well: "xla", "winograd", "product", "stride1", "stride2", "groups" or
            "stem". Forward-mode and second derivatives need `ops.every_derivative`, in which XLA's is used.

    Returns:
        [N, h / stride, w / stride, D], rounded up.

    Raises:
        ValueError: ``implementation`` is unknown, or does not apply to this convolution.

    Example:
        >>> loss = lambda kernel: convolution(jnp.ones((1, 8, 8, 1)), kernel).sum()
        >>> float(jax.grad(loss)(jnp.zeros((3, 3, 1, 1)))[1, 1, 0, 0])
        64.0
    """
    if wants_every_derivative():
        return xla.forward(x, kernel, bias, shortcut, stride=stride, groups=groups, relu=relu)
    return _convolution(x, kernel, bias, shortcut, stride, groups, relu, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _convolution(x, kernel, bias, shortcut, stride, groups, relu, implementation) -> Array:
    row = _choose(x, kernel, stride, groups, implementation)
    settings = dict(stride=stride, groups=groups, relu=relu)
    y = _on_platform("forward", row, implementation, settings, x, kernel, bias, shortcut)
    return y if shortcut is None else computed_once(y)


def _forward(x, kernel, bias, shortcut, stride, groups, relu, implementation):
    y = _convolution(x, kernel, bias, shortcut, stride, groups, relu, implementation)
    added = tuple(None if a is None else without_elements(a) for a in (bias, shortcut))
    return y, (x, kernel, added, y if relu else None)


def _backward(stride, groups, relu, implementation, saved, cotangent):
    x, kernel, (bias, shortcut), y = saved
    if relu:
        # Without the barrier XLA compares the input of the ReLU with 0 instead of its result. That input then
        # has two uses: it is kept in memory, and cuDNN's convolution is not fused with what follows.
        y = jax.lax.optimization_barrier(y)
        cotangent = jnp.where(y > 0, cotangent, 0)
    row = _choose(x, kernel, stride, groups, implementation)
    settings = dict(stride=stride, groups=groups)
    of_x, of_kernel = _on_platform("backward", row, implementation, settings, x, kernel, cotangent)
    of_bias = None if bias is None else cotangent.sum((0, 1, 2)).astype(bias.dtype)
    return of_x, of_kernel, of_bias, None if shortcut is None else cotangent.astype(shortcut.dtype)


_convolution.defvjp(_forward, _backward)


def _on_platform(direction, row, implementation, settings, *arrays):
    """Call the row for CPUs there, and XLA's elsewhere; with a named implementation, that one everywhere."""
    rows = {"cpu": row, "tpu": row if row.on_tpus else _XLA_ON_TPUS, "default": _XLA}
    functions = {
        platform: functools.partial(getattr(row, direction), **settings) for platform, row in rows.items()
    }
    if implementation is not None or row is _XLA:
        return functions["cpu"](*arrays)
    return jax.lax.platform_dependent(*arrays, **functions)


def winograd_is_faster(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> bool:
    """Whether a 3x3 convolution is large enough, and float32, for Winograd's filtering on a CPU."""
    n, h, w, _ = x.shape
    tiles = n * ceil(h / winograd.TILE) * ceil(w / winograd.TILE)
    return (
        (*kernel.shape[:2], stride, groups) == (3, 3, 1, 1)
        and x.dtype == kernel.dtype == jnp.float32
        and min(kernel.shape[2:]) >= 32
        and tiles >= 64
    )


def _winograd_forward(x, kernel, bias, shortcut, stride, groups, relu) -> Array:
    return winograd.convolve(x, kernel, bias, shortcut, relu=relu)


def _winograd_gradients(x, kernel, cotangent, stride, groups) -> tuple[Array, Array]:
    of_kernel = winograd.kernel_gradient(x, cotangent)
    # Computed in sequence, so that only one of the two has padded maps in memory.
    return winograd.input_gradient(cotangent, kernel + zero_depending_on(of_kernel)), of_kernel


def _product_forward(x, kernel, bias, shortcut, stride, groups, relu) -> Array:
    return products.product_in_blocks(x, kernel, bias, shortcut, stride, relu)


def _is_three_by_three(kernel: Array, stride: int) -> bool:
    return (*kernel.shape[:2], stride) == (3, 3, 1)


def _stride1_gradients(x, kernel, cotangent, stride, groups) -> tuple[Array, Array]:
    return products.stride1_gradients(x, kernel, cotangent)


def _stride2_gradients(x, kernel, cotangent, stride, groups) -> tuple[Array, Array]:
    return products.stride2_gradients(x, kernel, cotangent)


def _group_forward(x, kernel, bias, shortcut, stride, groups, relu) -> Array:
    one = _choose(*_of_one_group(x, kernel, groups), stride, 1, None)
    of_group = functools.partial(one.forward, stride=stride, groups=1, relu=relu)
    shape = (x.shape[0], *(ceil(side / stride) for side in x.shape[1:3]), kernel.shape[3])
    return in_groups.convolve(of_group, x, kernel, bias, shortcut, shape, groups)


def _group_gradients(x, kernel, cotangent, stride, groups) -> tuple[Array, Array]:
    one = _choose(*_of_one_group(x, kernel, groups), stride, 1, None)
    # In a loop, XLA computes its own gradients by plain code: those of 32 groups of 32 channels on a map of
    # 25 x 34 cells in 400 milliseconds in place of 26 (jaxlib 0.10.2, two cores of an AMD EPYC).
    backward = _stride1_gradients if one is _XLA and _is_three_by_three(kernel, stride) else one.backward
    of_group = functools.partial(backward, stride=stride, groups=1)
    return in_groups.gradients(of_group, x, kernel, cotangent, groups)


def _of_one_group(x, kernel, groups: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shapes = ((*a.shape[:-1], a.shape[-1] // groups) for a in (x, kernel))
    first, second = (jax.ShapeDtypeStruct(s, a.dtype) for s, a in zip(shapes, (x, kernel), strict=True))
    return first, second


class Implementation(NamedTuple):
    """One way to compute some convolutions and their gradients.

    ``applies(x, kernel, stride, groups)`` returns whether it can compute a convolution. ``forward`` has the
    arguments of `convolution`, and ``backward(x, kernel, cotangent, stride, groups)`` returns the gradients
    with respect to ``x`` and ``kernel``. ``on_tpus`` is whether TPUs use it too.
    """

    name: str
    applies: Callable
    forward: Callable
    backward: Callable
    on_tpus: bool = False


_CHANNELS_OF_A_GROUP = 2
_CELLS = 2048  # of a map whose gradients are computed as products; below, XLA's are as fast
# For every convolution on every platform; GPUs always use it.
_XLA = Implementation("xla", lambda x, kernel, stride, groups: True, xla.forward, xla.gradients)
_XLA_ON_TPUS = _XLA._replace(backward=xla.gradients_on_tpus)
# For CPUs, and some for TPUs: the first that applies is used, otherwise XLA's.
_ON_CPU = (
    Implementation("winograd", winograd_is_faster, _winograd_forward, _winograd_gradients),
    Implementation(
        "product",
        lambda x, kernel, stride, groups: xla.is_product(kernel, groups),
        _product_forward,
        xla.gradients,
    ),
    Implementation(
        "stride1",
        lambda x, kernel, stride, groups: (
            _is_three_by_three(kernel, stride) and groups == 1 and x.shape[1] * x.shape[2] >= _CELLS
        ),
        xla.forward,
        _stride1_gradients,
    ),
    Implementation(
        "stride2",
        lambda x, kernel, stride, groups: (*kernel.shape[:2], stride, groups) == (3, 3, 2, 1),
        xla.forward,
        _stride2_gradients,
    ),
    Implementation(
        "groups",
        # A depthwise convolution has a group for every channel (`ops.depthwise`).
        lambda x, kernel, stride, groups: groups > 1 and kernel.shape[2] >= _CHANNELS_OF_A_GROUP,
        _group_forward,
        _group_gradients,
    ),
    Implementation(
        "stem",
        lambda x, kernel, stride, groups: xla.is_stem(kernel, stride, groups),
        functools.partial(xla.forward, fold=False),
        functools.partial(xla.gradients, fold=False),
        # XLA:TPU expects the pixels' transpose to take longer than any other operation (docs/benchmarks.md).
        on_tpus=True,
    ),
)


def _choose(x, kernel, stride, groups, name) -> Implementation:
    """Return the implementation with the given name; for None, the one for CPUs."""
    rows = (*_ON_CPU, _XLA)
    if name is None:
        return next(row for row in rows if row.applies(x, kernel, stride, groups))
    found = [row for row in rows if row.name == name]
    if not found:
        known = ", ".join(f'"{row.name}"' for row in rows)
        raise ValueError(f"convolution: implementation is {name!r}; choose {known} or None.")
    if not found[0].applies(x, kernel, stride, groups):
        raise ValueError(
            f"convolution: the implementation {name!r} is not for a {x.dtype.name} array {list(x.shape)} and "
            f"a kernel {list(kernel.shape)} with stride {stride} and groups {groups}; choose another or None."
        )
    return found[0]
