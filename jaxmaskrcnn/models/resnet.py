"""ResNet backbones (He et al., 2015), by the names of torchvision's modules.

The stride of a bottleneck lies in its 3x3 convolution (torchvision, MMDetection's "pytorch"
style) or in its first 1x1 (the original MSRA weights, Detectron2, MMDetection's "caffe"
style): ``ModelConfig.backbone_stride_in_1x1``.

Shapes: B images, H and W of the canvas, C2 to C5 the stages' outputs at strides 4 to 32.
"""

import jax
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.padding import inside, zero_outside

Array = jax.Array

STAGE_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def stage_channels(config: ModelConfig) -> tuple[int, ...]:
    """Channels of C2 to C5."""
    expansion = 4 if config.backbone_depth >= 50 else 1
    return tuple(config.backbone_width * 2**i * expansion for i in range(4))


class Downsample(nnx.Module):
    """The 1x1 convolution and norm on a shortcut whose shape changes."""

    def __init__(self, features_in, features_out, *, stride, config: ModelConfig, rngs):
        self.conv = Conv(
            features_in, features_out, 1, stride=stride, bias=False, dtype=config.dtype, rngs=rngs
        )
        self.bn = _norm(features_out, config, rngs)

    def __call__(self, x, mask, train):
        return conv_norm(self.conv, self.bn, x, mask, train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions: ResNet-18 and 34."""

    def __init__(self, features_in, width, *, stride, config: ModelConfig, rngs):
        c = dict(bias=False, dtype=config.dtype, rngs=rngs)
        self.conv1 = Conv(features_in, width, 3, stride=stride, **c)
        self.bn1 = _norm(width, config, rngs)
        self.conv2 = Conv(width, width, 3, **c)
        self.bn2 = _norm(width, config, rngs)
        self.downsample = _shortcut(features_in, width, stride, config, rngs)

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        x = conv_norm(self.conv1, self.bn1, zero_outside(x, mask_in), mask, train, relu=True)
        x = zero_outside(x, mask)
        return conv_norm(self.conv2, self.bn2, x, mask, train, shortcut=shortcut, relu=True)


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1: ResNet-50, 101 and 152, ResNeXt and wide ResNet."""

    def __init__(self, features_in, width, *, stride, config: ModelConfig, rngs):
        inner = width * config.backbone_width_per_group // 64 * config.backbone_groups
        stride1, stride2 = (stride, 1) if config.backbone_stride_in_1x1 else (1, stride)
        c = dict(bias=False, dtype=config.dtype, rngs=rngs)
        self.conv1 = Conv(features_in, inner, 1, stride=stride1, **c)
        self.bn1 = _norm(inner, config, rngs)
        self.conv2 = Conv(inner, inner, 3, stride=stride2, groups=config.backbone_groups, **c)
        self.bn2 = _norm(inner, config, rngs)
        self.conv3 = Conv(inner, 4 * width, 1, **c)
        self.bn3 = _norm(4 * width, config, rngs)
        self.downsample = _shortcut(features_in, 4 * width, stride, config, rngs)
        self.stride_in_1x1 = config.backbone_stride_in_1x1

    def __call__(self, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
        shortcut = x if self.downsample is None else self.downsample(x, mask, train)
        mask_inner = mask if self.stride_in_1x1 else mask_in
        x = conv_norm(self.conv1, self.bn1, x, mask_inner, train, relu=True)
        x = conv_norm(self.conv2, self.bn2, zero_outside(x, mask_inner), mask, train, relu=True)
        return conv_norm(self.conv3, self.bn3, x, mask, train, shortcut=shortcut, relu=True)


class ResNet(nnx.Module):
    """Stem and four stages (He et al., 2015; of wide ResNets and ResNeXt too).

    Args:
        config: ``backbone_*``, ``norm_epsilon``, ``dtype`` and ``remat``.
        rngs: For the initial weights.

    Attributes:
        conv1, bn1: The stem.
        layer1, layer2, layer3, layer4: Lists of blocks.

    Example:
        >>> config = ModelConfig(backbone_depth=18, backbone_width=8)
        >>> body = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 8), (1, 8, 12, 16), (1, 4, 6, 32), (1, 2, 3, 64)]
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width = config.backbone_width
        self.conv1 = Conv(3, width, 7, stride=2, bias=False, dtype=config.dtype, rngs=rngs)
        self.bn1 = _norm(width, config, rngs)
        self.remat = config.remat
        block = Bottleneck if config.backbone_depth >= 50 else BasicBlock
        features = width
        for stage, count in enumerate(STAGE_BLOCKS[config.backbone_depth]):
            blocks = []
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(block(features, width * 2**stage, stride=stride, config=config, rngs=rngs))
                features = stage_channels(config)[stage]
            setattr(self, f"layer{stage + 1}", nnx.List(blocks))

    def __call__(self, images: Array, extents: Array | None = None, train: bool = False) -> list[Array]:
        """Features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            extents: int [B, 2], see `padding.py`; None where all images fill the canvas.
            train: Batch norm (kind "bn") uses and updates the batch's statistics.

        Returns:
            C2, C3, C4, C5: [B, H/4, W/4, C], ..., [B, H/32, W/32, C], rounded up.
        """
        mask = inside(extents, 2, tuple(-(-side // 2) for side in images.shape[1:3]))
        x = conv_norm(self.conv1, self.bn1, images, mask, train, relu=True)
        x = zero_outside(x, mask)
        # Pooling pads with -inf; behind a ReLU the zeros outside of an extent do the same.
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        mask = inside(extents, 4, x.shape[1:3])
        outputs = []
        for stage in range(4):
            mask_in = mask
            if stage > 0:
                size = tuple(-(-n // 2) for n in x.shape[1:3])
                mask = inside(extents, 4 * 2**stage, size)
            run = _run_again_for_gradient if self.remat else _run
            x = run(getattr(self, f"layer{stage + 1}"), x, mask_in, mask, train)
            outputs.append(x)
        return outputs


def _run(blocks, x: Array, mask_in: Array | None, mask: Array | None, train: bool) -> Array:
    """One stage; its first block may have a stride, which the two masks differ by."""
    for block in blocks:
        x = block(x, mask_in, mask, train)
        mask_in = mask
    return x


def _run_again_for_gradient(blocks, x, mask_in, mask, train: bool) -> Array:
    """One stage of which only the input is kept; the gradient computes the rest once more."""
    graphdef, state = nnx.split(blocks)

    @jax.checkpoint
    def run(state, x, mask_in, mask):
        copy = nnx.merge(graphdef, state, copy=True)
        return _run(copy, x, mask_in, mask, train), nnx.state(copy, nnx.BatchStat)

    x, statistics = run(state, x, mask_in, mask)
    # Nothing moves in a prediction, and a model may then be one that cannot be changed.
    if train:
        nnx.update(blocks, statistics)
    return x


def _shortcut(features_in, features_out, stride, config: ModelConfig, rngs) -> Downsample | None:
    if stride == 1 and features_in == features_out:
        return None
    return Downsample(features_in, features_out, stride=stride, config=config, rngs=rngs)


def _norm(features, config: ModelConfig, rngs):
    return make_norm(
        config.backbone_norm, features, epsilon=config.norm_epsilon, dtype=config.dtype, rngs=rngs
    )
