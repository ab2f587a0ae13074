"""Depthwise convolution: every channel is convolved with a kernel of its own.

XLA's CPU backend computes grouped convolutions cell by cell. As a sum of shifted products they are one loop
over the channels, which it vectorises; so are their gradients. Other platforms use XLA's own convolution.

Shapes: N maps, h and w, C channels, a kernel of k x k taps.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.derivatives import wants_every_derivative

Array = jax.Array


def depthwise_convolution(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve every channel with its own kernel, with zeros around the map.

    Args:
        x: [N, h, w, C].
        kernel: [k, k, 1, C], k odd.
        stride: Distance of the results' cells.

    Returns:
        [N, h / stride, w / stride, C], rounded up.

    Example:
        >>> x = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> depthwise_convolution(x, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0].tolist()
        [1.0, 3.0, 6.0, 5.0]
    """
    own_gradient = stride == 1 and not wants_every_derivative()
    return _dense(x, kernel) if own_gradient else _apply(x, kernel, stride)


def _apply(x: Array, kernel: Array, stride: int = 1) -> Array:
    options: dict[str, Any] = dict(
        cpu=functools.partial(shifted_products, stride=stride),
        default=functools.partial(plain, stride=stride),
    )
    return jax.lax.platform_dependent(x, kernel, **options)


def plain(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Define the operation, as XLA's grouped convolution."""
    side = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((side, side), (side, side)), feature_group_count=x.shape[-1],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def shifted_products(x: Array, kernel: Array, stride: int = 1) -> Array:
    """The same as a sum over the taps."""
    total = None
    for tap, shifted in _taps(x, kernel.shape[0], stride):
        product = shifted * kernel[tap][None, None]  # [1, 1, 1, C]
        total = product if total is None else total + product
    assert total is not None
    return total


def _taps(x: Array, size: int, stride: int = 1):
    """Yield each place in a kernel with what it multiplies."""
    side = size // 2
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    for i in range(size):
        for j in range(size):
            yield (i, j), padded[:, i : i + h : stride, j : j + w : stride]


@jax.custom_vjp
def _dense(x: Array, kernel: Array) -> Array:
    return _apply(x, kernel)


def _forward(x, kernel):
    return _apply(x, kernel), (x, kernel)


def _backward(kept, gradient):
    x, kernel = kept
    of_input = _apply(gradient, kernel[::-1, ::-1])
    sums = [
        jnp.einsum("nhwc,nhwc->c", shifted, gradient, preferred_element_type=kernel.dtype)
        for _, shifted in _taps(x, kernel.shape[0])
    ]
    return of_input, jnp.stack(sums).reshape(kernel.shape)


_dense.defvjp(_forward, _backward)
