"""XLA's own convolutions and their gradients, which are the fastest on GPUs and TPUs.

Shapes: N maps of h x w cells, C and D channels in and out.
"""

from math import ceil

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.convolution.epilogue import finish
from jaxmaskrcnn.ops.convolution.products import product

Array = jax.Array


def is_product(kernel: Array, groups: int) -> bool:
    """Whether a convolution is a product over the channels: 1x1, in one group."""
    return kernel.shape[:2] == (1, 1) and groups == 1


def is_stem(kernel: Array, stride: int, groups: int) -> bool:
    """Whether a convolution is a ResNet's first one: 7x7 with stride 2 of an image's few channels."""
    return (*kernel.shape[:2], stride, groups) == (7, 7, 2, 1) and kernel.shape[2] <= 4


def convolve(x: Array, kernel: Array, stride: int = 1, groups: int = 1, border=None) -> Array:
    """XLA's convolution, without bias, shortcut and ReLU.

    Args:
        x: [N, h, w, C].
        kernel: [size, size, C / groups, D].
        stride: Stride of rows and columns.
        groups: Channels are convolved in this many groups.
        border: Zeros (before, after) the rows and the columns; None for ``size // 2`` on every side.

    Returns:
        [N, h / stride, w / stride, D], rounded up.
    """
    numbers = ("NHWC", "HWIO", "NHWC")
    border = border or tuple((size // 2, size // 2) for size in kernel.shape[:2])
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), border, dimension_numbers=numbers, feature_group_count=groups
    )


def fold_and_convolve(x: Array, kernel: Array, stride: int, groups: int) -> Array:
    """:func:`convolve` for the stem of a ResNet, with twelve input channels instead of three.

    GPUs multiply blocks of channels, and an image's three fill only a small part of one. So 2 x 2 pixels are
    folded into channels, and the stem's 7x7 kernel of stride 2 becomes a 4x4 one of stride 1. On TPUs moving
    the pixels would take longer than the convolution.

    Source: space-to-depth in Google's ResNets for TPUs.
    """
    if not is_stem(kernel, stride, groups):
        return convolve(x, kernel, stride, groups)
    n, height, width, channels = x.shape
    h, w = ceil(height / 2), ceil(width / 2)
    x = jnp.pad(x, ((0, 0), (0, 2 * h - height), (0, 2 * w - width), (0, 0)))
    x = x.reshape(n, h, 2, w, 2, channels).swapaxes(2, 3).reshape(n, h, w, 4 * channels)
    # With a row and a column of zeros in front, output y reads the pairs of rows y - 2 to y + 1.
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(4, 2, 4, 2, channels, -1).swapaxes(1, 2).reshape(4, 4, 4 * channels, -1)
    return convolve(x, kernel, border=((2, 1), (2, 1)))


def forward(x, kernel, bias, shortcut, stride, groups, relu, fold=True) -> Array:
    """A convolution with bias, shortcut and ReLU; arguments as for `api.convolution`.

    With ``fold`` the stem's pixels are folded into channels, which is faster on GPUs.
    """
    # If the number of output channels is not a multiple of eight, a convolution pads it in passes over the
    # whole input. With products for such layers a training step of 16 images takes 72.4 ms instead of 73.7
    # (docs/benchmarks.md).
    few = is_product(kernel, groups) and kernel.shape[-1] % 8 > 0
    if few:
        y = _product_at_stride(x, kernel, stride)
    else:
        y = (fold_and_convolve if fold else convolve)(x, kernel, stride, groups)
    return finish(y, bias, shortcut, relu)


def gradients(x, kernel, cotangent, stride, groups, fold=True) -> tuple[Array, Array]:
    """XLA's gradients of a convolution with respect to ``x`` and ``kernel``; a 1x1 one is a product."""

    def plain(x, kernel):
        if is_product(kernel, groups):
            return _product_at_stride(x, kernel, stride)
        return (fold_and_convolve if fold else convolve)(x, kernel, stride, groups)

    return jax.vjp(plain, x, kernel)[1](cotangent)


def gradients_on_tpus(x, kernel, cotangent, stride, groups) -> tuple[Array, Array]:
    """The same gradients as TPUs compute them.

    A product of matrices would need maps in another order than that in which TPUs keep many small ones. So
    the gradient with respect to the kernel is a product of maps that are not flattened, and so is that with
    respect to ``x`` with a stride. Without one it is a convolution, whose result is in the order of the
    others (docs/benchmarks.md).
    """
    if not is_product(kernel, groups):
        return gradients(x, kernel, cotangent, stride, groups)

    def of_maps(x, kernel):
        return jnp.einsum("nhwc,cd->nhwd", x[:, ::stride, ::stride], kernel[0, 0])

    of_x, of_kernel = jax.vjp(of_maps, x, kernel)[1](cotangent)
    if stride == 1:
        (of_x,) = jax.vjp(lambda x: convolve(x, kernel), x)[1](cotangent)
    return of_x, of_kernel


def _product_at_stride(x: Array, kernel: Array, stride: int) -> Array:
    return product(x[:, ::stride, ::stride], kernel[0, 0])
