"""Feature pyramid network (Lin et al., 2017) with P6.

Shapes: B images, C2 to C5 the stages of the ResNet, P2 to P6 the pyramid's levels at strides
4, 8, 16, 32 and 64.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config import FPNConfig, Level
from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm, xavier_fill
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.ops.upsampling import upsample

Array = jax.Array


class FPN(nnx.Module):
    """Lateral 1x1 convolutions, a top-down path by nearest neighbour, and 3x3 outputs.

    Source: Lin et al., 2017, figure 3; P6 as in torchvision's ``LastLevelMaxPool``.

    Args:
        config: Gives the channels and the norm.
        levels_in: Stride and channels of the input maps.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        inner_blocks: Lateral layers, one for each map (C2 to C5).
        layer_blocks: Output layers, likewise (P2 to P5).
        levels: Stride and channels of the maps that it returns (P2 to P6).

    Example:
        >>> stages = [jnp.zeros((1, 64 // s, 96 // s, 8 * s)) for s in (4, 8, 16, 32)]
        >>> levels = [Level(s, 8 * s) for s in (4, 8, 16, 32)]
        >>> fpn = FPN(FPNConfig(channels=8), levels, rngs=nnx.Rngs(0))
        >>> [level.shape[1:3] for level in jax.eval_shape(fpn, stages)]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    """

    def __init__(
        self, config: FPNConfig, levels_in: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        c: dict[str, Any] = dict(norm=config.norm, epsilon=config.norm_epsilon, init=xavier_fill)
        c |= dict(dtype=dtype, rngs=rngs)
        features = config.channels
        self.inner_blocks = nnx.List([ConvNorm(level.channels, features, 1, **c) for level in levels_in])
        self.layer_blocks = nnx.List([ConvNorm(features, features, 3, **c) for _ in levels_in])
        self.levels = config.levels(tuple(levels_in))

    def __call__(self, stages: Sequence[Array], pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008
        """Compute the pyramid of a backbone's maps.

        Args:
            stages: C2 to C5, [B, h, w, C] each.
            pass_: See `Pass`.

        Returns:
            P2 to P6, [B, h, w, channels] each.

        Raises:
            ConfigError: There are more or fewer maps than this neck was made for, or one has other channels.
        """
        found, made_for = (
            [x.shape[3] for x in stages],
            [block.conv.kernel.shape[2] for block in self.inner_blocks],
        )
        if found != made_for:
            given, expected = (", ".join(map(str, channels)) for channels in (found, made_for))
            raise ConfigError(
                f"The FPN is given maps with {given} channels, but was made for maps with {expected}; make "
                "it anew from the levels of the backbone before it."
            )
        levels = self.levels[: len(stages)]
        masks = [pass_.inside(level.stride, x.shape[1:3]) for level, x in zip(levels, stages, strict=True)]
        merged: list[Array] = []
        for block, x, mask in reversed(list(zip(self.inner_blocks, stages, masks, strict=True))):
            above = upsample_nearest(merged[0], x.shape[1:3]) if merged else None
            merged.insert(0, block(x, mask, pass_.train, shortcut=above))
        maps = [
            block(zero_outside(x, mask), mask, pass_.train)
            for block, x, mask in zip(self.layer_blocks, merged, masks, strict=True)
        ]
        maps = self.outputs(maps, masks, pass_.train)
        # P6 is a max pool with kernel 1 and stride 2, on the output of P5.
        return (*maps, maps[-1][:, ::2, ::2])

    def outputs(self, maps: list[Array], masks: Sequence[Array | None], train: bool) -> list[Array]:
        """Return P2 to P5 for the results of the output layers: these themselves, in a plain pyramid.

        Args:
            maps: [B, h, w, channels] each.
            masks: bool [B, h, w, 1] each, the cells inside the images' extents; or None.
            train: Whether norms use the batch's statistics.

        Returns:
            P2 to P5, [B, h, w, channels] each.
        """
        return maps


def upsample_nearest(x: Array, size: Sequence[int]) -> Array:
    """Repeat every cell: [B, h, w, C] -> [B, 2h, 2w, C], cut to ``size``.

    With strides that round up, a level is twice as large as the next one or one cell smaller. Repeating
    every cell then equals torch's nearest interpolation by a factor of two.
    """
    return upsample(x)[:, : size[0], : size[1]]
