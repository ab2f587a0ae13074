"""Convolutions and linear layers as the reference libraries pad and initialise them.

Shapes: N maps (images or regions), h and w, C channels.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.models.norm import make_norm, param_dtype
from jaxmaskrcnn.ops import convolution

Array = jax.Array

# He et al., 2015, fan-out: ResNets and mask heads.
kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# Caffe2's "XavierFill", which is torch's kaiming_uniform(a=1): pyramids and fully connected layers.
xavier_fill = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")


def conv(
    features_in: int,
    features_out: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
    init=kaiming_normal,
    dtype: str = "float32",
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution with explicit padding ``size // 2`` on every side.

    "SAME" pads a strided convolution on one side only, which shifts the features of every
    model that was trained with torch.
    """
    pad = size // 2
    return nnx.Conv(
        features_in,
        features_out,
        (size, size),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=init,
        dtype=jnp.dtype(dtype),
        param_dtype=param_dtype(dtype),
        conv_general_dilated=_implementation(size, stride, groups),
        rngs=rngs,
    )


def _implementation(size: int, stride: int, groups: int):
    """What computes a kind of convolution, with the arguments of ``lax.conv_general_dilated``."""
    if groups == 1 and size == 1:
        return lambda x, kernel, *_, **__: convolution.product(x[:, ::stride, ::stride], kernel[0, 0])
    if groups == 1 and size == 3 and stride in (1, 2):
        one = convolution.convolution3x3 if stride == 1 else convolution.convolution3x3_stride2
        return lambda x, kernel, *_, **__: one(x, kernel)
    return jax.lax.conv_general_dilated


def linear(features_in: int, features_out: int, *, init=xavier_fill, dtype="float32", rngs) -> nnx.Linear:
    """A fully connected layer."""
    return nnx.Linear(
        features_in,
        features_out,
        kernel_init=init,
        dtype=jnp.dtype(dtype),
        param_dtype=param_dtype(dtype),
        rngs=rngs,
    )


class ConvNorm(nnx.Module):
    """A convolution and its norm; the convolution has a bias only where no norm follows.

    Attributes:
        conv: nnx.Conv.
        norm: A layer of `norm.py`, or None.
    """

    def __init__(self, features_in, features_out, size, *, norm="none", epsilon=1e-5, stride=1,
                 init=kaiming_normal, dtype="float32", rngs):  # fmt: skip
        self.conv = conv(
            features_in,
            features_out,
            size,
            stride=stride,
            bias=norm == "none",
            init=init,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = make_norm(norm, features_out, epsilon=epsilon, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """``mask`` (bool, broadcastable to the output) tells the norm which cells count."""
        x = self.conv(x)
        return x if self.norm is None else self.norm(x, mask, train)


def conv_stack(features_in: int, features: int, count: int, *, norm: str, dtype: str, rngs) -> nnx.List:
    """``count`` 3x3 ConvNorm layers, as box and mask heads begin with."""
    layers = []
    for _ in range(count):
        layers.append(ConvNorm(features_in, features, 3, norm=norm, dtype=dtype, rngs=rngs))
        features_in = features
    return nnx.List(layers)


class Deconv2x2(nnx.Module):
    """Transposed convolution with kernel 2 and stride 2: every cell becomes four.

    The four outputs of a cell depend on that cell alone, so the layer is one matrix product
    followed by a rearrangement of depth into space; that is exact, and its gradient is a
    matrix product as well, where a general transposed convolution's is slow on GPUs.

    Attributes:
        kernel: [2, 2, C_in, C_out]; ``kernel[a, b]`` makes the output at (2y + a, 2x + b).
        bias: [C_out].
    """

    def __init__(self, features_in: int, features_out: int, *, dtype="float32", rngs: nnx.Rngs):
        kind = param_dtype(dtype)
        # Fan-out of a transposed convolution as torch counts it: C_in * 4 for weights [in, out, 2, 2].
        init = nnx.initializers.normal((2.0 / (4 * features_in)) ** 0.5)
        self.kernel = nnx.Param(init(rngs.params(), (2, 2, features_in, features_out), kind))
        self.bias = nnx.Param(jnp.zeros(features_out, kind))
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.dtype)
        n, h, w, _ = x.shape
        kernel = self.kernel[...].astype(self.dtype).transpose(2, 0, 1, 3)  # [C_in, 2, 2, C_out]
        y = convolution.product(x, kernel.reshape(kernel.shape[0], -1))
        y = y.reshape(n, h, w, 2, 2, -1).swapaxes(2, 3)  # [N, h, 2, w, 2, C_out]
        return y.reshape(n, 2 * h, 2 * w, -1) + self.bias[...].astype(self.dtype)
