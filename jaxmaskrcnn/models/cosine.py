"""Layers whose outputs are cosines of their input and their weights, times a scale, and a bias.

Frequent classes get longer weights than rare ones; with cosines the length does not matter.

Shapes: N maps (or regions), h and w, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.models.layers import Conv
from jaxmaskrcnn.models.norm import param_dtype
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


def unit(x: Array, axis: int) -> Array:
    """Divide vectors by their length plus 1e-6; zeros stay zeros and have no gradient.

    Source: MMDetection ``NormedLinear``, with its power of 1.

    Args:
        x: Any shape.
        axis: The axis of a vector's values.

    Returns:
        An array of the same shape.

    Example:
        >>> unit(jnp.array([[3.0, 4.0], [0.0, 0.0]]), 1).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    squares = jnp.square(x).sum(axis, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    return x / (length + 1e-6)


class CosineLinear(nnx.Linear):
    """A fully connected layer of cosines.

    Source: MMDetection ``NormedLinear``, whose ``tempearture`` is the scale.

    Args:
        features_in: Channels of the input.
        features_out: Channels of the output.
        scale: Factor of the cosines.
        init: Initialiser of the kernel.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        kernel: [C_in, C_out].
        bias: [C_out].

    Example:
        >>> layer = CosineLinear(2, 1, scale=20.0, init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[5.0, 5.0]])).round(2).tolist()
        [[20.0]]
    """

    def __init__(
        self, features_in: int, features_out: int, *, scale: float, init: Any, dtype: str = "float32", rngs
    ):
        options: dict[str, Any] = dict(dtype=jnp.dtype(dtype), param_dtype=param_dtype(dtype))
        super().__init__(features_in, features_out, kernel_init=init, rngs=rngs, **options)
        self.scale = scale

    def __call__(self, x: Array) -> Array:
        """[..., C_in] -> [..., C_out]."""
        x = self.scale * unit(x.astype(self.dtype), -1)
        assert self.bias is not None
        y = x @ unit(self.kernel[...], 0).astype(self.dtype)
        return y + to_rank(self.bias[...].astype(self.dtype), y.ndim)


class CosineConv(Conv):
    """A 1x1 convolution of cosines.

    Source: MMDetection ``NormedConv2d``, as `CosineLinear`. Lengths are computed in float32 or more.

    Args:
        features_in: Channels of the input.
        features_out: Channels of the output.
        scale: Factor of the cosines.
        options: As of `Conv`.

    Attributes:
        kernel: [1, 1, C_in, C_out].
        bias: [C_out].

    Example:
        >>> layer = CosineConv(2, 1, scale=20.0, init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> layer(jnp.full((1, 1, 1, 2), 5.0)).round(2).tolist()
        [[[[20.0]]]]
    """

    def __init__(self, features_in: int, features_out: int, *, scale: float, **options: Any):
        super().__init__(features_in, features_out, 1, **options)
        self.scale = scale

    def convolve(
        self, x: Array, kernel: Array, bias: Array | None, shortcut: Array | None, relu: bool
    ) -> Array:
        """Compute the layer; see `Conv`."""
        stored = jnp.promote_types(x.dtype, jnp.float32)
        kernel = unit(kernel.astype(stored), 2).astype(kernel.dtype)
        x = (self.scale * unit(x.astype(stored), -1)).astype(x.dtype)
        return super().convolve(x, kernel, bias, shortcut, relu)
