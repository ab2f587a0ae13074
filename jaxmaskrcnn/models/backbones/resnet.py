"""ResNet backbones (He et al., 2015), with torchvision's module names.

The stride of a bottleneck is in its 3x3 convolution (torchvision, MMDetection's "pytorch"
style) or in its first 1x1 convolution (the original MSRA weights, Detectron2, MMDetection's "caffe"
style); ``ResNetConfig.stride_in_1x1`` chooses.

Shapes: B images, H and W of the canvas, C2 to C5 the stages' outputs at strides 4 to 32.
"""

from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.backbones import STAGE_BLOCKS, ResNetConfig
from jaxmaskrcnn.models.context import ContextBlock
from jaxmaskrcnn.models.deformable import spread_conv
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.norm import FrozenBatchNorm, make_norm
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.models.stem import stem
from jaxmaskrcnn.ops.convolution import finish
from jaxmaskrcnn.ops.window_pooling import max_pool

Array = jax.Array


class Downsample(nnx.Module):
    """The 1x1 convolution and norm on a shortcut whose shape changes."""

    def __init__(self, features_in, features_out, *, stride, config: ResNetConfig, dtype, rngs):
        # RegNets, which have this layer too, have no such setting.
        c: dict[str, Any] = dict(bias=getattr(config, "conv_bias", False), dtype=dtype, rngs=rngs)
        self.conv = Conv(features_in, features_out, 1, stride=stride, **c)
        self.bn = _norm(features_out, config, dtype, rngs)

    def __call__(self, x, mask, train):
        return conv_norm(self.conv, self.bn, x, mask, train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions: ResNet-18 and 34."""

    def __init__(self, features_in, width, number, *, stride, config: ResNetConfig, dtype, rngs):
        c: dict[str, Any] = dict(bias=config.conv_bias, dtype=dtype, rngs=rngs)
        self.conv1 = Conv(features_in, width, 3, stride=stride, **c)
        self.bn1 = _norm(width, config, dtype, rngs)
        self.conv2 = Conv(width, width, 3, **c)
        self.bn2 = _norm(width, config, dtype, rngs)
        self.downsample = _shortcut(features_in, width, stride, config, dtype, rngs)

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        x = conv_norm(self.conv1, self.bn1, zero_outside(x, mask_in), mask, train, relu=True)
        x = zero_outside(x, mask)
        return conv_norm(self.conv2, self.bn2, x, mask, train, shortcut=shortcut, relu=True)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions: ResNet-50, 101 and 152, ResNeXt and wide ResNet.

    The 3x3 convolutions of a stage may be deformable, and those of the last stage dilated. A global context
    block may come before the sum.
    """

    def __init__(self, features_in, width, number, *, stride, config: ResNetConfig, dtype, rngs):
        inner = width * config.width_per_group // 64 * config.groups
        stride1, stride2 = (stride, 1) if config.stride_in_1x1 else (1, stride)
        c: dict[str, Any] = dict(bias=config.conv_bias, dtype=dtype, rngs=rngs)
        self.conv1 = Conv(features_in, inner, 1, stride=stride1, **c)
        self.bn1 = _norm(inner, config, dtype, rngs)
        spread: dict[str, Any] = dict(stride=stride2, groups=config.groups)
        spread["dilation"] = 2 if number == 5 and config.dilated_c5 else 1
        self.conv2 = spread_conv(inner, number, config, **spread, **c)
        self.bn2 = _norm(inner, config, dtype, rngs)
        self.conv3 = Conv(inner, 4 * width, 1, **c)
        self.bn3 = _norm(4 * width, config, dtype, rngs)
        hidden = 4 * width // config.context_reduction
        context = number in config.context_stages
        self.context = ContextBlock(4 * width, hidden, dtype=dtype, rngs=rngs) if context else None
        self.downsample = _shortcut(features_in, 4 * width, stride, config, dtype, rngs)
        self.stride_in_1x1 = config.stride_in_1x1

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        mask_inner = mask if self.stride_in_1x1 else mask_in
        x = conv_norm(self.conv1, self.bn1, x, mask_inner, train, relu=True)
        x = conv_norm(self.conv2, self.bn2, zero_outside(x, mask_inner), mask, train, relu=True)
        if self.context is not None:
            x = self.context(conv_norm(self.conv3, self.bn3, x, mask, train), mask)
            return finish(x, None, shortcut, True)
        return conv_norm(self.conv3, self.bn3, x, mask, train, shortcut=shortcut, relu=True)


class ResNet(nnx.Module):
    """Stem and four stages of a ResNet (He et al., 2015), a wide ResNet or a ResNeXt.

    Args:
        config: Gives the depth, width, groups and norm.
        dtype: Dtype of the activations.
        remat: Whether to recompute the stages for the gradient, which saves memory.
        channels: Channels of the pictures.
        rngs: Random keys of the initial weights.

    Attributes:
        conv1, bn1: The stem.
        layer1, layer2, layer3, layer4: Lists of blocks, up to the last stage that is an output.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = ResNetConfig(depth=18, width=8)
        >>> body = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 8), (1, 8, 12, 16), (1, 4, 6, 32), (1, 2, 3, 64)]
    """

    def __init__(
        self, config: ResNetConfig, *, dtype: str = "float32", remat: bool = False, channels: int = 3,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        width = config.width
        self.conv1 = Conv(channels, width, 7, stride=2, bias=config.conv_bias, dtype=dtype, rngs=rngs)
        self.bn1 = _norm(width, config, dtype, rngs)
        self.levels, self.remat, self.freeze_at = config.levels, remat, config.freeze_at
        self.pool_border = _POOL_BORDERS[config.pool_padding]
        features, self.outputs, self.strides = width, config.outputs, ()
        for number in range(2, config.outputs[-1] + 1):
            before = self.strides[-1] if self.strides else 4
            self.strides += (config.stage(number).stride,)
            stride = self.strides[-1] // before
            blocks = stage(config, number, features, stride, dtype=dtype, rngs=rngs)
            setattr(self, f"layer{number - 1}", blocks)
            features = config.stage(number).channels

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            One map for each of ``config.outputs``: C2 [B, H/4, W/4, C] to C5 [B, H/32, W/32, C], rounded up;
            a dilated C5 is as large as C4.
        """
        x = self._stem(images, pass_)
        mask = pass_.inside(4, x.shape[1:3])
        outputs = {}
        before = 4
        for number, stride in enumerate(self.strides, 2):
            mask_in = mask
            if stride > before:
                mask = pass_.inside(stride, tuple(-(-n // 2) for n in x.shape[1:3]))
            before = stride
            apply = run_blocks_again if self.remat else run_blocks
            x = outputs[number] = apply(getattr(self, f"layer{number - 1}"), x, mask_in, mask, pass_.train)
        return tuple(outputs[number] for number in self.outputs)

    def _stem(self, images: Array, pass_: Pass) -> Array:
        if isinstance(self.bn1, FrozenBatchNorm):
            kernel, bias = self.conv1.weights(self.bn1.affine())
            assert bias is not None  # it has the norm's summand
            return stem(images.astype(self.conv1.dtype), kernel, bias, pass_.extents, self.pool_border)
        mask = pass_.inside(2, tuple(-(-side // 2) for side in images.shape[1:3]))
        x = conv_norm(self.conv1, self.bn1, images, mask, pass_.train, relu=True)
        # Pooling pads with -inf; after a ReLU, the zeros outside of an extent have the same effect.
        return max_pool(zero_outside(x, mask), self.pool_border)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that ``freeze_at`` freezes, as paths in this module.

        Source: Detectron2's FREEZE_AT; torchvision's 3 trainable layers and MMDetection's
        frozen_stages=1 are ``freeze_at=2``.

        Returns:
            Glob patterns, such as "layer1.*".
        """
        stem = ("conv1.*", "bn1.*") if self.freeze_at >= 1 else ()
        return (*stem, *(f"layer{i}.*" for i in range(1, self.freeze_at)))


# Rows and columns of -inf before and after the map.
_POOL_BORDERS = {"both": (1, 1), "end": (0, 1)}


def stage(
    config: ResNetConfig, number: int, features_in: int, stride: int, *, dtype: str, rngs: nnx.Rngs
) -> nnx.List:
    """Make the blocks of a stage.

    Args:
        config: Configuration of the ResNet.
        number: Number of the stage, 2 to 5; its output is C2 to C5.
        features_in: Channels of its input.
        stride: Stride of its first block.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.
    """
    c: dict[str, Any] = dict(config=config, dtype=dtype, rngs=rngs)
    block = Bottleneck if config.depth >= 50 else BasicBlock
    blocks = []
    for i in range(STAGE_BLOCKS[config.depth][number - 2]):
        width = config.width * 2 ** (number - 2)
        blocks.append(block(features_in, width, number, stride=stride if i == 0 else 1, **c))
        features_in = config.stage(number).channels
    return nnx.List(blocks)


def run_blocks(blocks, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
    """Run one stage. Its first block may have a stride, so input and output have their own masks."""
    for block in blocks:
        x = block(x, mask_in, mask, train)
        mask_in = mask
    return x


def run_blocks_again(blocks, x, mask_in, mask, train: bool) -> Array:
    """Run one stage and keep only its input; the gradient recomputes the rest."""
    graphdef, state = nnx.split(blocks)

    @jax.checkpoint
    def run(state, x, mask_in, mask):
        copy = nnx.merge(graphdef, state, copy=True)
        return run_blocks(copy, x, mask_in, mask, train), nnx.state(copy, nnx.BatchStat)

    x, statistics = run(state, x, mask_in, mask)
    # Only training changes statistics. In a prediction the model may be one that must not be changed.
    if train:
        nnx.update(blocks, statistics)
    return x


def _shortcut(features_in, features_out, stride, config: ResNetConfig, dtype, rngs) -> Downsample | None:
    if stride == 1 and features_in == features_out:
        return None
    return Downsample(features_in, features_out, stride=stride, config=config, dtype=dtype, rngs=rngs)


def _norm(features, config: ResNetConfig, dtype, rngs):
    return make_norm(config.norm, features, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
