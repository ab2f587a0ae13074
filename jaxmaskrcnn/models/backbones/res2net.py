"""Res2Net backbones (Gao et al., 2019): a block's channels in parts, each convolved with the one before.

Shapes: B images, h and w of a map, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.deep_resnets import Res2NetConfig
from jaxmaskrcnn.models.backbones.deep_resnet import DeepResNet, average_of_nine, norm_of, shortcut_of
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class Block(nnx.Module):
    """1x1 convolution, one 3x3 convolution for each part but the last, and 1x1 convolution.

    A part is added to the result of the one before, but in the first block of a stage, where that has
    another number of cells. The last part goes on as it is, or as an average where there is a stride.

    Source: Gao et al., 2019, figure 2b; MMDetection's ``Bottle2neck``.

    Attributes:
        convs, bns: The 3x3 convolutions and their norms.
    """

    def __init__(self, features_in, width, number, *, first, config: Res2NetConfig, dtype, rngs):
        c: dict[str, Any] = dict(bias=False, dtype=dtype, rngs=rngs)
        part = config.scale_width * 2 ** (number - 2)
        stride = 2 if first and number > 2 else 1
        self.conv1 = Conv(features_in, part * config.scales, 1, **c)
        self.bn1 = norm_of(config, part * config.scales, dtype, rngs)
        count = config.scales - 1
        self.convs = nnx.List([Conv(part, part, 3, stride=stride, **c) for _ in range(count)])
        self.bns = nnx.List([norm_of(config, part, dtype, rngs) for _ in range(count)])
        self.conv3 = Conv(part * config.scales, 4 * width, 1, **c)
        self.bn3 = norm_of(config, 4 * width, dtype, rngs)
        self.downsample = shortcut_of(
            features_in, width, number, first, config=config, dtype=dtype, rngs=rngs
        )
        self.first, self.halve = first, stride == 2

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        x = conv_norm(self.conv1, self.bn1, x, mask_in, train, relu=True)
        *parts, last = jnp.split(zero_outside(x, mask_in), len(self.convs) + 1, axis=-1)
        results: list[Array] = []
        for conv, norm, part in zip(self.convs, self.bns, parts, strict=True):
            if results and not self.first:
                part = part + zero_outside(results[-1], mask)
            results.append(conv_norm(conv, norm, part, mask, train, relu=True))
        results.append(average_of_nine(last) if self.halve else last)
        x = jnp.concatenate(results, -1)
        return conv_norm(self.conv3, self.bn3, x, mask, train, shortcut=shortcut, relu=True)


class Res2Net(DeepResNet):
    """Stem and four stages of a Res2Net; arguments and attributes as of `DeepResNet`.

    Example:
        >>> config = Res2NetConfig(width=8, stem=8, scale_width=2)
        >>> body = nnx.eval_shape(lambda: Res2Net(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 32), (1, 8, 12, 64), (1, 4, 6, 128), (1, 2, 3, 256)]
    """

    block = Block
