"""ConvNeXt backbones (Liu et al., 2022), with the module names of MMDetection's (mmpretrain).

Shapes: B images, H and W of the canvas, h and w of a map, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.config.convnext import ConvNeXtConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import linear
from jaxmaskrcnn.models.norm import LayerNorm, param_dtype
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.models.transformer import MLP, apply_again, drop_path, drop_rates, patches, small_normal
from jaxmaskrcnn.ops.computed_once import computed_once
from jaxmaskrcnn.ops.depthwise import depthwise_convolution
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


class DepthwiseConv(nnx.Module):
    """A convolution of each channel with itself.

    Attributes:
        kernel: [size, size, 1, C].
        bias: [C].
    """

    def __init__(self, features: int, size: int, *, dtype: str, rngs: nnx.Rngs):
        stored = param_dtype(dtype)
        self.kernel = nnx.Param(small_normal(rngs.params(), (size, size, 1, features), stored))
        self.bias = nnx.Param(jnp.zeros(features, stored))
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        """[B, h, w, C] -> [B, h, w, C]."""
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        return depthwise_convolution(x, kernel) + to_rank(self.bias[...].astype(self.dtype), 4)


class Block(nnx.Module):
    """A depthwise 7x7 convolution, a norm and an MLP, with a factor for each channel, added to the input."""

    def __init__(self, features, config: ConvNeXtConfig, *, drop, number, dtype, rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConv(features, 7, **c)
        self.norm = LayerNorm(features, epsilon=config.norm_epsilon, **c)
        self.mlp = MLP(features, 4 * features, **c)
        self.gamma = nnx.Param(jnp.full(features, config.layer_scale, param_dtype(dtype)))
        self.drop, self.number = drop, number

    def __call__(self, x: Array, mask: Array | None, pass_: Pass) -> Array:
        y = self.mlp(self.norm(self.depthwise(zero_outside(x, mask))))
        y = y * to_rank(self.gamma[...].astype(y.dtype), 4)
        return computed_once(x + drop_path(y, self.drop, self.number, pass_))


class Stem(nnx.Module):
    """Makes a cell of each 4 x 4 pixels, with a convolution whose stride is its size, and a norm."""

    def __init__(self, features, config: ConvNeXtConfig, *, dtype, rngs):
        self.conv = linear(3 * 16, features, init=small_normal, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(features, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return self.norm(self.conv(patches(images, 4)))


class Downsample(nnx.Module):
    """A norm, and one cell of each 2 x 2 with other channels."""

    def __init__(self, features_in, features, config: ConvNeXtConfig, *, dtype, rngs):
        self.norm = LayerNorm(features_in, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.conv = linear(4 * features_in, features, init=small_normal, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.conv(patches(self.norm(x), 2))


class ConvNeXt(nnx.Module):
    """ConvNeXt with a norm on the output of each stage.

    Its layers leave out pixels beyond a multiple of 32, so it takes canvases of such sides
    (``input.pad_divisor``).

    Args:
        config: Gives the blocks and widths.
        dtype: Dtype of the activations.
        remat: Whether to recompute the blocks for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        downsample_layers: The stem, and what halves the map before each further stage.
        stages: Lists of blocks.
        norms: Norms of the outputs.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = ConvNeXtConfig(blocks=(1, 1, 1, 1), widths=(8, 16, 24, 32))
        >>> body = nnx.eval_shape(lambda: ConvNeXt(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 8), (1, 8, 12, 16), (1, 4, 6, 24), (1, 2, 3, 32)]
    """

    def __init__(
        self, config: ConvNeXtConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs
    ):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        rates = drop_rates(config.drop_path, sum(config.blocks))
        downsample: list[nnx.Module] = []
        stages, norms, number, before = [], [], 0, 0
        for i, features in enumerate(config.widths):
            downsample.append(Downsample(before, features, config, **c) if i else Stem(features, config, **c))
            blocks = []
            for _ in range(config.blocks[i]):
                # As in the library, nothing is left out in stages that are not trained.
                drop = rates[number] if config.freeze_at < i + 2 else 0.0
                blocks.append(Block(features, config, drop=drop, number=number, **c))
                number += 1
            stages.append(nnx.List(blocks))
            norms.append(LayerNorm(features, epsilon=config.norm_epsilon, **c))
            before = features
        self.downsample_layers, self.stages, self.norms = map(nnx.List, (downsample, stages, norms))
        self.levels, self.remat, self.freeze_at = config.levels, remat, config.freeze_at

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
        if any(side % 32 for side in images.shape[1:3]):
            raise ConfigError(
                f"A ConvNeXt is given a canvas of {images.shape[1]} x {images.shape[2]} pixels, of whose "
                "last ones its layers would leave out some; give sides that are multiples of 32 "
                "(input.pad_divisor)."
            )
        x, outputs = images, []
        layers: Any = zip(self.downsample_layers, self.stages, self.norms, self.levels, strict=True)
        for downsample, stage, norm, level in layers:
            x = downsample(x)
            mask = pass_.inside(level.stride, x.shape[1:3])
            for block in stage:
                x = apply_again(block, x, mask, pass_) if self.remat else block(x, mask, pass_)
            outputs.append(norm(x))
        return tuple(outputs)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that ``freeze_at`` freezes, as paths in this module."""
        stem = ("downsample_layers.0.*",) if self.freeze_at >= 1 else ()
        stages = range(self.freeze_at - 1)
        return (*stem, *(f"{part}.{i}.*" for i in stages for part in ("downsample_layers", "stages")))
