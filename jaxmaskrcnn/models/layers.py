"""Convolutions and linear layers as the reference libraries pad and initialise them.

Shapes: N maps (images or regions), h and w, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.models.norm import (
    BatchNorm,
    FrozenBatchNorm,
    StandardisedGroupNorm,
    make_norm,
    param_dtype,
)
from jaxmaskrcnn.ops.convolution import convolution, dilated_convolution, finish
from jaxmaskrcnn.ops.product_of_maps import product_of_maps
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array

# He et al., 2015, fan-out: ResNets and mask heads.
kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# Caffe2's "XavierFill", which is torch's kaiming_uniform(a=1): pyramids and fully connected layers.
xavier_fill = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")


class Conv(nnx.Module):
    """A square convolution with explicit padding on every side: ``size // 2`` times the dilation.

    "SAME" pads a strided convolution on one side only, which shifts the features of every
    model that was trained with torch.

    Attributes:
        kernel: [size, size, C_in / groups, C_out].
        bias: [C_out], or None.
    """

    def __init__(self, features_in: int, features_out: int, size: int, *, stride=1, groups=1, dilation=1,
                 bias=True, init=kaiming_normal, dtype="float32", rngs: nnx.Rngs):  # fmt: skip
        weight_dtype = param_dtype(dtype)
        shape = (size, size, features_in // groups, features_out)
        self.kernel = nnx.Param(init(rngs.params(), shape, weight_dtype))
        self.bias = nnx.Param(jnp.zeros(features_out, weight_dtype)) if bias else None
        self.stride, self.groups, self.dilation, self.dtype = stride, groups, dilation, dtype
        if dilation > 1 and stride > 1:
            raise ValueError(f"Conv: stride is {stride} and dilation {dilation}; give 1 for one of them.")

    def __call__(
        self,
        x: Array,
        affine=None,
        *,
        shortcut: Array | None = None,
        relu: bool = False,
        standardise: bool = False,
    ) -> Array:
        """``relu(affine(conv(x)) + shortcut)``.

        Args:
            x: [N, h, w, C_in].
            affine: Scale and shift of a fixed norm, each [C_out]. The scale goes into the kernel.
            shortcut: An array of the result's shape, or None.
            relu: Whether negative results become 0.
            standardise: Whether to standardise the kernel, see `standardised`.

        Returns:
            [N, h / stride, w / stride, C_out], rounded up.
        """
        kernel, bias = self.weights(affine, standardise)
        x = x.astype(self.dtype)
        return self.convolve(x, kernel, bias, shortcut, relu)

    def weights(self, affine=None, standardise: bool = False) -> tuple[Array, Array | None]:
        """The kernel and the bias of the layer, with the norm in them, in the dtype of the activations.

        Args:
            affine: As of a call.
            standardise: Likewise.
        """
        kernel, bias = self.kernel[...], None if self.bias is None else self.bias[...]
        if standardise:
            kernel = standardised(kernel)
        if affine is not None:
            scale, shift = affine
            kernel, bias = kernel * to_rank(scale, 4), shift if bias is None else bias * scale + shift
        return kernel.astype(self.dtype), None if bias is None else bias.astype(self.dtype)

    def convolve(
        self, x: Array, kernel: Array, bias: Array | None, shortcut: Array | None, relu: bool
    ) -> Array:
        """Compute the layer with a kernel and a bias that contain the norm."""
        if self.dilation > 1:
            return dilated_convolution(x, kernel, bias, shortcut, self.groups, relu, self.dilation)
        return convolution(x, kernel, bias, shortcut, self.stride, self.groups, relu)


def is_predictor(layer: Any, features: int | None = None) -> bool:
    """Whether a layer is a `Conv` that multiplies the channels of each cell and adds a bias.

    Args:
        layer: Any layer.
        features: Number of channels that it has to return; None for any.
    """
    return (
        type(layer) is Conv
        and layer.kernel.shape[:2] == (1, 1)
        and layer.bias is not None
        and (layer.stride, layer.groups, layer.dilation) == (1, 1, 1)
        and features in (None, layer.kernel.shape[-1])
    )


def conv_norm(conv: Conv, norm, x: Array, mask: Array | None, train: bool, *, shortcut=None, relu=False):
    """``relu(norm(conv(x)) + shortcut)``, as one operation if there is no norm or a fixed one.

    Batch norm is fixed outside of training, where it takes the running statistics.

    Args:
        conv: Conv.
        norm: A layer of `norm.py`, or None.
        x: [N, h, w, C].
        mask: bool, broadcastable to the output: the cells that the norm takes into account; or None.
        train: See `norm.py`.
        shortcut: An array of the result's shape, or None.
        relu: Whether negative results become 0.

    Returns:
        [N, h / stride, w / stride, C_out], rounded up.
    """
    if norm is None:
        return conv(x, shortcut=shortcut, relu=relu)
    if isinstance(norm, FrozenBatchNorm) or (isinstance(norm, BatchNorm) and not train):
        return conv(x, norm.affine(), shortcut=shortcut, relu=relu)
    y = conv(x, standardise=isinstance(norm, StandardisedGroupNorm))
    return finish(norm(y, mask, train), None, shortcut, relu)


def standardised(kernel: Array) -> Array:
    """Give every output of a convolution weights with mean 0 and standard deviation 1.

    Source: Qiao et al., 2019, equation 4; the epsilon, which is added to the unbiased standard deviation, is
    that of MMDetection's ``ConvWS``.

    Args:
        kernel: [size, size, C_in, C_out].

    Returns:
        [size, size, C_in, C_out].
    """
    inputs = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(inputs)
    return centred / (jnp.sqrt(jnp.square(centred).sum(inputs) / (kernel[..., 0].size - 1)) + 1e-5)


def linear(
    features_in: int, features_out: int, *, bias=True, init=xavier_fill, dtype="float32", rngs
) -> nnx.Linear:
    """A fully connected layer."""
    return nnx.Linear(
        features_in,
        features_out,
        use_bias=bias,
        kernel_init=init,
        dtype=jnp.dtype(dtype),
        param_dtype=param_dtype(dtype),
        rngs=rngs,
    )


def linear_of_maps(layer: nnx.Linear, x: Array) -> Array:
    """Apply a fully connected layer to flattened maps.

    Args:
        layer: The layer.
        x: [R, S, S, C], which are flattened in the order (y, x, channel).

    Returns:
        [R, features], as ``layer(x.reshape(R, -1))``.
    """
    if type(layer) is not nnx.Linear or layer.bias is None:
        return layer(x.reshape(x.shape[0], -1))
    arrays = x, layer.kernel[...], layer.bias[...]
    x, kernel, bias = layer.promote_dtype(arrays, dtype=layer.dtype)
    return product_of_maps(x, kernel) + bias[None]


class ConvNorm(nnx.Module):
    """A convolution and its norm; the convolution has a bias if no norm follows, or if ``bias`` is True.

    Attributes:
        conv: Conv.
        norm: A layer of `norm.py`, or None.
    """

    def __init__(self, features_in, features_out, size, *, norm="none", epsilon=1e-5, bias=False, stride=1,
                 init=kaiming_normal, dtype="float32", rngs):  # fmt: skip
        c: dict[str, Any] = dict(bias=bias or norm == "none", init=init, dtype=dtype, rngs=rngs)
        self.conv = Conv(features_in, features_out, size, stride=stride, **c)
        self.norm = make_norm(norm, features_out, epsilon=epsilon, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Array, mask: Array | None = None, train=False, *, shortcut=None, relu=False
    ) -> Array:
        """Arguments as in `conv_norm`."""
        return conv_norm(self.conv, self.norm, x, mask, train, shortcut=shortcut, relu=relu)


def conv_stack(features_in: int, features: int, count: int, *, rngs, **options: Any) -> nnx.List:
    """``count`` 3x3 ConvNorm layers, with which box and mask heads begin; options as of ConvNorm."""
    layers = []
    for _ in range(count):
        layers.append(ConvNorm(features_in, features, 3, rngs=rngs, **options))
        features_in = features
    return nnx.List(layers)


class Conv2x2(nnx.Module):
    """Convolution with kernel 2 and stride 2, without padding: four cells become one, as a matrix product.

    Attributes:
        kernel: [2, 2, C_in, C_out].
        bias: [C_out].
    """

    def __init__(self, features_in: int, features_out: int, *, dtype="float32", rngs: nnx.Rngs):
        weight_dtype = param_dtype(dtype)
        self.kernel = nnx.Param(
            kaiming_normal(rngs.params(), (2, 2, features_in, features_out), weight_dtype)
        )
        self.bias = nnx.Param(jnp.zeros(features_out, weight_dtype))
        self.dtype = dtype

    def __call__(self, x: Array, relu: bool = False) -> Array:
        """[N, 2h, 2w, C_in] -> [N, h, w, C_out]."""
        n, h, w, features = x.shape
        x = x.astype(self.dtype).reshape(n, h // 2, 2, w // 2, 2, features).swapaxes(2, 3)
        x = x.reshape(n, h // 2, w // 2, -1)
        kernel = self.kernel[...].astype(self.dtype).reshape(1, 1, x.shape[-1], -1)
        y: Any = convolution(x, kernel, self.bias[...].astype(self.dtype), relu=relu)
        return y


class Deconv2x2(nnx.Module):
    """Transposed convolution with kernel 2 and stride 2: every cell becomes four.

    The four outputs of a cell depend only on that cell, so the layer is one matrix product
    followed by a rearrangement of depth into space; that is exact, and its gradient is a
    matrix product as well, where a general transposed convolution's is slow on GPUs.

    Attributes:
        kernel: [2, 2, C_in, C_out]; ``kernel[a, b]`` makes the output at (2y + a, 2x + b).
        bias: [C_out].
    """

    def __init__(self, features_in: int, features_out: int, *, dtype="float32", rngs: nnx.Rngs):
        weight_dtype = param_dtype(dtype)
        # Fan-out of a transposed convolution as torch counts it: C_in * 4 for weights [in, out, 2, 2].
        init = nnx.initializers.normal((2.0 / (4 * features_in)) ** 0.5)
        self.kernel = nnx.Param(init(rngs.params(), (2, 2, features_in, features_out), weight_dtype))
        self.bias = nnx.Param(jnp.zeros(features_out, weight_dtype))
        self.dtype = dtype

    def __call__(self, x: Array, relu: bool = False) -> Array:
        """[N, h, w, C_in] -> [N, 2h, 2w, C_out]."""
        return depth_to_space(self.depths(x, relu))

    def depths(self, x: Array, relu: bool = False) -> Array:
        """The four outputs of each cell side by side: [N, h, w, C_in] -> [N, h, w, 4, C_out]."""
        kernel = self.kernel[...].astype(self.dtype).transpose(2, 0, 1, 3)  # [C_in, 2, 2, C_out]
        kernel = kernel.reshape(1, 1, kernel.shape[0], -1)
        bias = jnp.tile(self.bias[...].astype(self.dtype), 4)
        y = convolution(x.astype(self.dtype), kernel, bias, relu=relu)
        shape = (*x.shape[:-1], 4, -1)
        return y.reshape(shape)  # pyright: ignore[reportAttributeAccessIssue] (custom_vjp hides the type)


class Deconv4x4(nnx.Module):
    """Transposed convolution with kernel 4, stride 2 and padding 1, which doubles the sides of a map.

    Like `Deconv2x2` it is one matrix product; here each result is the sum of what two neighbouring cells
    give it in either direction.

    Attributes:
        kernel: [4, 4, C_in, C_out]; ``kernel[a, b]`` takes (y, x) to (2y + a - 1, 2x + b - 1).
        bias: [C_out].
    """

    def __init__(self, features_in: int, features_out: int, *, dtype="float32", rngs: nnx.Rngs):
        weight_dtype = param_dtype(dtype)
        # Fan-out of a transposed convolution as torch counts it: C_in * 16 for weights [in, out, 4, 4].
        init = nnx.initializers.normal((2.0 / (16 * features_in)) ** 0.5)
        self.kernel = nnx.Param(init(rngs.params(), (4, 4, features_in, features_out), weight_dtype))
        self.bias = nnx.Param(jnp.zeros(features_out, weight_dtype))
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        """[N, h, w, C_in] -> [N, 2h, 2w, C_out]."""
        n, h, w, features = x.shape
        kernel = self.kernel[...].astype(self.dtype).transpose(2, 0, 1, 3).reshape(1, 1, features, -1)
        y: Any = convolution(x.astype(self.dtype), kernel)
        y = y.reshape(n, h, w, 4, 4, -1)
        below = jnp.pad(y[:, 1:, :, 0], ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
        above = jnp.pad(y[:, :-1, :, 3], ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
        y = jnp.stack([y[:, :, :, 1] + above, y[:, :, :, 2] + below], 2).reshape(n, 2 * h, w, 4, -1)
        right = jnp.pad(y[:, :, 1:, 0], ((0, 0), (0, 0), (0, 1), (0, 0)))
        left = jnp.pad(y[:, :, :-1, 3], ((0, 0), (0, 0), (1, 0), (0, 0)))
        y = jnp.stack([y[:, :, :, 1] + left, y[:, :, :, 2] + right], 3).reshape(n, 2 * h, 2 * w, -1)
        return y + to_rank(self.bias[...].astype(self.dtype), y.ndim)


def depth_to_space(x: Array) -> Array:
    """[N, h, w, 4, C] -> [N, 2h, 2w, C]; number 2a + b of a cell goes to (2y + a, 2x + b)."""
    n, h, w, _, channels = x.shape
    x = x.reshape(n, h, w, 2, 2, channels).swapaxes(2, 3)  # [N, h, 2, w, 2, C]
    return x.reshape(n, 2 * h, 2 * w, channels)
