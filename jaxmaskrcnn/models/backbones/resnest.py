"""ResNeSt backbones (Zhang et al., 2020): two convolutions side by side, weighed channel by channel.

Shapes: B images, h and w of a map, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.deep_resnets import ResNeStConfig
from jaxmaskrcnn.models.backbones.deep_resnet import DeepResNet, average_of_nine, norm_of, shortcut_of
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class SplitAttention(nnx.Module):
    """A 3x3 convolution of two groups with twice the channels; a softmax weighs the two halves of the result.

    The weights come from the mean over the image's own extent, where the libraries take the whole canvas.

    Source: Zhang et al., 2020, section 3.1, for a cardinality of 1 and a radix of 2; MMDetection's
    ``SplitAttentionConv2d``.

    Attributes:
        conv, norm: The convolution.
        reduce, reduce_norm, expand: The layers from the means of C channels to weights of both halves.
    """

    def __init__(self, features: int, *, config: ResNeStConfig, dtype: str, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.conv = Conv(features, 2 * features, 3, groups=2, bias=False, **c)
        self.norm = norm_of(config, 2 * features, dtype, rngs)
        hidden = max(features // 2, 32)
        self.reduce = Conv(features, hidden, 1, **c)
        self.reduce_norm = norm_of(config, hidden, dtype, rngs)
        self.expand = Conv(hidden, 2 * features, 1, **c)

    def __call__(self, x: Array, mask: Array | None, train: bool) -> Array:
        """[B, h, w, C] -> [B, h, w, C]; ``mask`` is that of the cells inside the extents, or None."""
        x = conv_norm(self.conv, self.norm, x, mask, train, relu=True)
        # Sums over an axis of two take XLA's CPU backend ten times as long as these (jaxlib 0.10.2): in one
        # block of stage 2, 355 and 227 milliseconds of a prediction.
        first, second = jnp.split(x, 2, axis=-1)
        total = (first + second).astype(jnp.promote_types(x.dtype, jnp.float32))
        if mask is None:
            mean = total.mean((1, 2), keepdims=True)
        else:
            mean = zero_outside(total, mask).sum((1, 2), keepdims=True) / mask.sum((1, 2), keepdims=True)
        hidden = conv_norm(self.reduce, self.reduce_norm, mean.astype(x.dtype), None, train, relu=True)
        logits = self.expand(hidden)
        weights = jax.nn.softmax(logits.reshape(*logits.shape[:3], 2, -1), axis=3)
        return first * weights[..., 0, :] + second * weights[..., 1, :]


class Block(nnx.Module):
    """1x1 convolution, split attention, an average where there is a stride, and 1x1 convolution."""

    def __init__(self, features_in, width, number, *, first, config: ResNeStConfig, dtype, rngs):
        c: dict[str, Any] = dict(bias=False, dtype=dtype, rngs=rngs)
        self.conv1 = Conv(features_in, width, 1, **c)
        self.bn1 = norm_of(config, width, dtype, rngs)
        self.split = SplitAttention(width, config=config, dtype=dtype, rngs=rngs)
        self.conv3 = Conv(width, 4 * width, 1, **c)
        self.bn3 = norm_of(config, 4 * width, dtype, rngs)
        self.downsample = shortcut_of(
            features_in, width, number, first, config=config, dtype=dtype, rngs=rngs
        )
        self.halve = first and number > 2

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        x = conv_norm(self.conv1, self.bn1, x, mask_in, train, relu=True)
        x = self.split(zero_outside(x, mask_in), mask_in, train)
        if self.halve:
            x = average_of_nine(zero_outside(x, mask_in))
        return conv_norm(self.conv3, self.bn3, x, mask, train, shortcut=shortcut, relu=True)


class ResNeSt(DeepResNet):
    """Stem and four stages of a ResNeSt; arguments and attributes as of `DeepResNet`.

    Example:
        >>> config = ResNeStConfig(width=8, stem=8)
        >>> body = nnx.eval_shape(lambda: ResNeSt(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 32), (1, 8, 12, 64), (1, 4, 6, 128), (1, 2, 3, 256)]
    """

    block = Block
