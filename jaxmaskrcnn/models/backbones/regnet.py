"""RegNet backbones (Radosavovic et al., 2020), with the same module names as ResNet.

Shapes: B images, H and W of the canvas, h and w of a feature map, C channels, C2 to C5 the stages' outputs at
strides 4 to 32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.backbones import RegNetConfig
from jaxmaskrcnn.models.backbones.resnet import Downsample, run_blocks, run_blocks_again
from jaxmaskrcnn.models.deformable import spread_conv
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class SqueezeExcitation(nnx.Module):
    """Multiplies each channel by a factor computed from the means of all channels (Hu et al., 2018).

    The libraries take the means over the whole canvas. Here they are taken over the image's own extent, the
    canvas that it would have alone.

    Args:
        features: Number of channels C.
        hidden: Channels between the two layers.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        reduce, expand: 1x1 convolutions with a bias.

    Example:
        >>> layer = SqueezeExcitation(8, 2, rngs=nnx.Rngs(0))
        >>> layer(jnp.zeros((1, 4, 4, 8))).shape
        (1, 4, 4, 8)
    """

    def __init__(self, features: int, hidden: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.reduce = Conv(features, hidden, 1, dtype=dtype, rngs=rngs)
        self.expand = Conv(hidden, features, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Multiply the channels by their factors.

        Args:
            x: [B, h, w, C].
            mask: bool [B, h, w, 1], the cells inside the images' extents; None for all.

        Returns:
            [B, h, w, C].
        """
        values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if mask is None:
            mean = values.mean((1, 2), keepdims=True)
        else:
            mean = zero_outside(values, mask).sum((1, 2), keepdims=True) / mask.sum((1, 2), keepdims=True)
        factors = jax.nn.sigmoid(self.expand(self.reduce(mean, relu=True)))
        return x * factors.astype(x.dtype)


class Block(nnx.Module):
    """1x1, grouped 3x3 and 1x1 convolutions, in RegNetY with squeeze-and-excitation before the last one.

    The 3x3 convolutions of a stage may be deformable.
    """

    def __init__(self, features_in, width, number, *, stride, config: RegNetConfig, dtype, rngs):
        c: dict[str, Any] = dict(bias=False, dtype=dtype, rngs=rngs)
        self.conv1 = Conv(features_in, width, 1, **c)
        self.bn1 = _norm(width, config, dtype, rngs)
        groups = width // min(config.group_width, width)
        self.conv2 = spread_conv(width, number, config, stride=stride, groups=groups, **c)
        self.bn2 = _norm(width, config, dtype, rngs)
        hidden = round(config.squeeze_ratio * features_in)
        self.squeeze = SqueezeExcitation(width, hidden, dtype=dtype, rngs=rngs) if hidden else None
        self.conv3 = Conv(width, width, 1, **c)
        self.bn3 = _norm(width, config, dtype, rngs)
        same = stride == 1 and features_in == width
        c = dict(stride=stride, config=config, dtype=dtype, rngs=rngs)
        self.downsample = None if same else Downsample(features_in, width, **c)

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        x = conv_norm(self.conv1, self.bn1, x, mask_in, train, relu=True)
        x = conv_norm(self.conv2, self.bn2, zero_outside(x, mask_in), mask, train, relu=True)
        x = x if self.squeeze is None else self.squeeze(x, mask)
        return conv_norm(self.conv3, self.bn3, x, mask, train, shortcut=shortcut, relu=True)


class RegNet(nnx.Module):
    """A stem without pooling, and four stages that each begin with a stride of 2.

    Source: Detectron2 ``modeling/backbone/regnet.py``; MMDetection ``models/backbones/regnet.py``.

    Args:
        config: Gives the widths, numbers of blocks and norm.
        dtype: Dtype of the activations.
        remat: Whether to recompute the stages for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        conv1, bn1: The stem.
        layer1, layer2, layer3, layer4: Lists of blocks.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = RegNetConfig(w0=16, wa=14, wm=2, depth=7, group_width=12)
        >>> body = nnx.eval_shape(lambda: RegNet(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 12), (1, 8, 12, 36), (1, 4, 6, 60), (1, 2, 3, 132)]
    """

    def __init__(self, config: RegNetConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs):
        self.conv1 = Conv(3, config.stem, 3, stride=2, bias=False, dtype=dtype, rngs=rngs)
        self.bn1 = _norm(config.stem, config, dtype, rngs)
        self.levels, self.remat, self.freeze_at = config.levels, remat, config.freeze_at
        features = config.stem
        for number, (width, count) in enumerate(config.stages, 2):
            blocks = []
            for i in range(count):
                c: dict[str, Any] = dict(stride=2 if i == 0 else 1, config=config, dtype=dtype, rngs=rngs)
                blocks.append(Block(features, width, number, **c))
                features = width
            setattr(self, f"layer{number - 1}", nnx.List(blocks))

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            C2 [B, H/4, W/4, C] to C5 [B, H/32, W/32, C], rounded up.
        """
        mask = pass_.inside(2, _half(images))
        x = conv_norm(self.conv1, self.bn1, images, mask, pass_.train, relu=True)
        outputs = []
        for number, level in enumerate(self.levels, 1):
            mask_in, mask = mask, pass_.inside(level.stride, _half(x))
            apply = run_blocks_again if self.remat else run_blocks
            x = apply(getattr(self, f"layer{number}"), x, mask_in, mask, pass_.train)
            outputs.append(x)
        return tuple(outputs)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that ``freeze_at`` freezes, as paths in this module."""
        stem = ("conv1.*", "bn1.*") if self.freeze_at >= 1 else ()
        return (*stem, *(f"layer{i}.*" for i in range(1, self.freeze_at)))


def _half(x: Array) -> tuple[int, int]:
    """Height and width after a layer with a stride of 2."""
    return -(-x.shape[1] // 2), -(-x.shape[2] // 2)


def _norm(features, config: RegNetConfig, dtype, rngs):
    return make_norm(config.norm, features, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
