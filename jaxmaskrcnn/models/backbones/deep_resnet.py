"""What ResNeSt and Res2Net share: the deep stem, shortcuts with an average, and the order of the stages.

Source: He et al., 2018, "Bag of tricks for image classification", ResNet-C and ResNet-D.

Shapes: B images, H and W of the canvas, h and w of a map, C channels, C2 to C5 the stages' outputs at
strides 4 to 32.
"""

from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.backbones import STAGE_BLOCKS
from jaxmaskrcnn.config.deep_resnets import DeepResNetConfig
from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.models.backbones.resnet import run_blocks, run_blocks_again
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, conv_norm
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.ops.window_pooling import average_pool, max_pool

Array = jax.Array


class DeepStem(nnx.Module):
    """Three 3x3 convolutions, the first with a stride of 2, in place of one of 7x7.

    Attributes:
        convs, norms: The layers; a ReLU follows each pair.
    """

    def __init__(self, config: DeepResNetConfig, *, dtype: str, rngs: nnx.Rngs):
        half = config.stem // 2
        widths = ((3, half), (half, half), (half, config.stem))
        c: dict[str, Any] = dict(bias=False, dtype=dtype, rngs=rngs)
        self.convs = nnx.List([Conv(*pair, 3, stride=1 if i else 2, **c) for i, pair in enumerate(widths)])
        self.norms = nnx.List([norm_of(config, width, dtype, rngs) for _, width in widths])

    def __call__(self, x: Array, mask: Array | None, train: bool) -> Array:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = zero_outside(conv_norm(conv, norm, x, mask, train, relu=True), mask)
        return x


class AverageShortcut(nnx.Module):
    """The mean of every two rows and columns where there is a stride, then a 1x1 convolution and a norm."""

    def __init__(self, features_in, features_out, *, stride, config: DeepResNetConfig, dtype, rngs):
        self.conv = Conv(features_in, features_out, 1, bias=False, dtype=dtype, rngs=rngs)
        self.bn = norm_of(config, features_out, dtype, rngs)
        self.stride = stride

    def __call__(self, x: Array, mask: Array | None, train: bool) -> Array:
        if self.stride > 1:
            x = average_pool(x, 2, 2)
        return conv_norm(self.conv, self.bn, x, mask, train)


class DeepResNet(nnx.Module):
    """Stem and four stages; the classes of this base have a ``block``.

    A block is made as ``block(features_in, width, number, first=, config=, dtype=, rngs=)`` with the number
    of its stage, whose first block may have a stride of 2; it is called as a ResNet's.

    Args:
        config: Gives the depth, widths and norm.
        dtype: Dtype of the activations.
        remat: Whether to recompute the stages for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        stem: DeepStem.
        layer1, layer2, layer3, layer4: Lists of blocks.
        levels: Stride and channels of the maps that it returns.
    """

    block: Any

    def __init__(
        self, config: DeepResNetConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs
    ):
        c: dict[str, Any] = dict(config=config, dtype=dtype, rngs=rngs)
        self.stem = DeepStem(**c)
        self.levels, self.remat, self.freeze_at = config.levels, remat, config.freeze_at
        features = config.stem
        for number, count in enumerate(STAGE_BLOCKS[config.depth], 2):
            width, blocks = config.width * 2 ** (number - 2), []
            for i in range(count):
                blocks.append(self.block(features, width, number, first=i == 0, **c))
                features = 4 * width
            setattr(self, f"layer{number - 1}", nnx.List(blocks))

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image; H and W are multiples of 32.
            pass_: See `Pass`.

        Returns:
            C2 [B, H/4, W/4, C] to C5 [B, H/32, W/32, C].

        Raises:
            ConfigError: The sides of the canvas are no multiples of 32.
        """
        height, width = images.shape[1:3]
        if height % 32 or width % 32:
            raise ConfigError(
                f"A ResNeSt or Res2Net is given a canvas of {height} x {width} pixels, of whose last ones "
                "its averages would leave out some; give sides that are multiples of 32 (input.pad_divisor)."
            )
        x = self.stem(images, pass_.inside(2, (height // 2, width // 2)), pass_.train)
        # Pooling pads with -inf; after a ReLU, the zeros outside of an extent have the same effect.
        x = max_pool(x)
        mask = pass_.inside(4, x.shape[1:3])
        outputs = []
        for number, level in enumerate(self.levels, 1):
            mask_in, mask = mask, pass_.inside(level.stride, (height // level.stride, width // level.stride))
            apply = run_blocks_again if self.remat else run_blocks
            x = apply(getattr(self, f"layer{number}"), x, mask_in, mask, pass_.train)
            outputs.append(x)
        return tuple(outputs)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that ``freeze_at`` freezes, as paths in this module."""
        stem = ("stem.*",) if self.freeze_at >= 1 else ()
        return (*stem, *(f"layer{i}.*" for i in range(1, self.freeze_at)))


def average_of_nine(x: Array) -> Array:
    """Every second cell's mean with its eight neighbours; zeros beside the map count.

    Args:
        x: [B, h, w, C] with even h and w, zero outside of each image's extent.

    Returns:
        [B, h / 2, w / 2, C].

    Example:
        >>> average_of_nine(jnp.ones((1, 2, 4, 1)))[0, 0, :, 0] * 9
        Array([4., 6.], dtype=float32)
    """
    return average_pool(x, 3, 2, border=1)


def shortcut_of(features_in: int, width: int, number: int, first: bool, **c: Any) -> AverageShortcut | None:
    """Return a block's shortcut: None where the block keeps the shape of its input."""
    if not first:
        return None
    return AverageShortcut(features_in, 4 * width, stride=1 if number == 2 else 2, **c)


def norm_of(config: DeepResNetConfig, features: int, dtype: str, rngs: nnx.Rngs):
    """Return a norm layer as the configuration has it."""
    return make_norm(config.norm, features, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
