"""GRoIE (Rossi et al., 2020): the features of a region are made of those of all levels.

Shapes: L levels that regions are pooled from, R regions of all images, S the pooled side, C channels, A heads
of the attention with d channels each.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import GRoIEConfig
from jaxmaskrcnn.models.layers import Conv, linear, xavier_fill
from jaxmaskrcnn.models.norm import param_dtype
from jaxmaskrcnn.ops.position_attention import attend_to_positions, difference_waves
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


class GRoIE(nnx.Module):
    """One convolution of the features from every level, their sum, and attention to its cells.

    Source: Rossi et al., 2020, section 3; MMDetection's ``GenericRoIExtractor`` with ``ConvModule`` and
    ``GeneralizedAttention``.

    Args:
        config: Gives the layers.
        channels: Number of channels C.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convolve: The convolution, before a ReLU.
        query, value, project: 1x1 convolutions of the attention.
        rows, columns: Linear layers without a bias, of the waves of differences.
        gamma: [1], factor of the attention, which begins with 0.

    Example:
        >>> layers = GRoIE(GRoIEConfig(kernel=3, heads=2), 8, rngs=nnx.Rngs(0))
        >>> jax.eval_shape(layers, [jnp.zeros((5, 7, 7, 8))] * 4).shape
        (5, 7, 7, 8)
    """

    def __init__(self, config: GRoIEConfig, channels: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.size, self.heads, self.stride = channels // config.heads, config.heads, config.key_stride
        width, waves = self.size * config.heads, channels // 2
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.convolve = Conv(channels, channels, config.kernel, **c)
        self.query = Conv(channels, width, 1, bias=False, init=xavier_fill, **c)
        self.value = Conv(channels, width, 1, bias=False, init=xavier_fill, **c)
        self.rows, self.columns = (linear(waves, width, bias=False, **c) for _ in range(2))
        self.project = Conv(width, channels, 1, init=xavier_fill, **c)
        self.gamma = nnx.Param(jnp.zeros(1, param_dtype(dtype)))

    def __call__(self, pooled: Sequence[Array]) -> Array:
        """Merge the features of regions.

        Args:
            pooled: Those from each of the L levels, [R, S, S, C].

        Returns:
            [R, S, S, C].
        """
        total: Any = 0
        for x in pooled:
            total += self.convolve(x, relu=True)
        return total + to_rank(self.gamma[...].astype(total.dtype), 4) * self.attention(total)

    def attention(self, x: Array) -> Array:
        """Return the mean of a region's values around each cell: [R, S, S, C] -> [R, S, S, C]."""

        def split(y):
            return y.reshape(*y.shape[:-1], self.heads, self.size)

        waves = difference_waves(x.shape[1], self.stride, self.rows.in_features)
        # Both have half of the logits' variance.
        rows, columns = (split(layer(jnp.asarray(waves))) / 2**0.5 for layer in (self.rows, self.columns))
        value = split(self.value(x[:, :: self.stride, :: self.stride]))
        y = attend_to_positions(split(self.query(x)), value, rows, columns)
        return self.project(y.reshape(*y.shape[:-2], -1))
