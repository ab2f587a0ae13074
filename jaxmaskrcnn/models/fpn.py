"""Feature pyramid network (Lin et al., 2017) with P6, and the backbone that ends in it.

Shapes: B images, C2 to C5 the stages of the ResNet, P2 to P6 the pyramid's levels at strides
4, 8, 16, 32 and 64.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.layers import ConvNorm, xavier_fill
from jaxmaskrcnn.models.padding import inside, zero_outside
from jaxmaskrcnn.models.resnet import ResNet, stage_channels

Array = jax.Array

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6


class FPN(nnx.Module):
    """Lateral 1x1 convolutions, a top-down path by nearest neighbour, and 3x3 outputs.

    Source: Lin et al., 2017, figure 3; P6 as in torchvision's ``LastLevelMaxPool``.

    Args:
        features_in: Channels of the four maps that it is made of.
        config: ``fpn_channels`` and ``fpn_norm``.
        rngs: For the initial weights.

    Attributes:
        inner_blocks: Four lateral layers, for C2 to C5.
        layer_blocks: Four output layers, for P2 to P5.

    Example:
        >>> stages = [jnp.zeros((1, 64 // s, 96 // s, 8 * s)) for s in (4, 8, 16, 32)]
        >>> fpn = FPN((32, 64, 128, 256), model.config, rngs=nnx.Rngs(0))
        >>> [level.shape[1:3] for level in jax.eval_shape(fpn, stages)]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    """

    def __init__(self, features_in: tuple[int, ...], config: ModelConfig, *, rngs: nnx.Rngs):
        c = dict(norm=config.fpn_norm, init=xavier_fill, dtype=config.dtype, rngs=rngs)
        features = config.fpn_channels
        self.inner_blocks = nnx.List([ConvNorm(n, features, 1, **c) for n in features_in])
        self.layer_blocks = nnx.List([ConvNorm(features, features, 3, **c) for _ in features_in])

    def __call__(self, stages: list[Array], extents: Array | None = None, train: bool = False) -> list[Array]:
        """The pyramid of a backbone's maps.

        Args:
            stages: C2 to C5, [B, h, w, C] each, at strides 4, 8, 16 and 32.
            extents: int [B, 2], see `padding.py`; None where all images fill the canvas.
            train: See `ResNet`.

        Returns:
            P2 to P6, [B, h, w, fpn_channels] each.
        """
        masks = [inside(extents, s, x.shape[1:3]) for s, x in zip(STRIDES, stages, strict=False)]
        merged: list[Array] = []
        for block, x, mask in reversed(list(zip(self.inner_blocks, stages, masks, strict=True))):
            above = upsample_nearest(merged[0], x.shape[1:3]) if merged else None
            merged.insert(0, block(x, mask, train, shortcut=above))
        levels = [
            block(zero_outside(x, mask), mask, train)
            for block, x, mask in zip(self.layer_blocks, merged, masks, strict=True)
        ]
        # P6 is a max pool with kernel 1 and stride 2, on the output of P5.
        return [*levels, levels[-1][:, ::2, ::2]]


def upsample_nearest(x: Array, size: tuple[int, int]) -> Array:
    """[B, h, w, C] -> [B, 2h, 2w, C], cut to ``size``.

    With strides that round up, a level is twice the next one or one cell less; repeating every
    cell is then what torch's nearest interpolation by a factor of two does.
    """
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return x[:, : size[0], : size[1]]


class Backbone(nnx.Module):
    """ResNet and feature pyramid: images to P2 ... P6 (Lin et al., 2017).

    Args:
        config: ``backbone_*``, ``norm_epsilon``, ``fpn_*``, ``dtype`` and ``remat``.
        rngs: For the initial weights.

    Attributes:
        body: ResNet, or any module that returns four maps as it does.
        fpn: FPN.

    Example:
        >>> levels = jax.eval_shape(model.backbone, jnp.zeros((1, 64, 96, 3)))
        >>> [level.shape[1:] for level in levels]
        [(16, 24, 8), (8, 12, 8), (4, 6, 8), (2, 3, 8), (1, 2, 8)]
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.body = ResNet(config, rngs=rngs)
        self.fpn = FPN(stage_channels(config), config, rngs=rngs)

    def __call__(self, images: Array, extents: Array | None = None, train: bool = False) -> list[Array]:
        """Features of a batch at five scales.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            extents: int [B, 2], see `padding.py`; None where all images fill the canvas.
            train: See `ResNet`.

        Returns:
            P2 to P6: [B, H/4, W/4, fpn_channels] to [B, H/64, W/64, fpn_channels], rounded up.
        """
        return self.fpn(self.body(images, extents, train), extents, train)
