"""Pyramid of an HRNet (Sun et al., 2019): all maps become one, of whose averages the levels are made.

Shapes: B images, h and w of a map, C channels, P2 to P6 the levels at strides 4 to 64.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import HRFPNConfig, Level
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm, xavier_fill
from jaxmaskrcnn.models.padding import feature_extent, zero_outside
from jaxmaskrcnn.ops.semantic import enlarge_bilinear
from jaxmaskrcnn.ops.window_pooling import average_pool

Array = jax.Array


class HRFPN(nnx.Module):
    """A 1x1 convolution of all maps at the size of the finest one, averages of it, and 3x3 convolutions.

    The averages are over squares of 1, 2, 4, 8 and 16 cells. Images have sides that are multiples of 32
    pixels, so that only squares of 16 may be incomplete; these are left out (`WholeLevel`).

    Source: Sun et al., 2019, figure 4; MMDetection's ``HRFPN``.

    Args:
        config: Gives the channels.
        levels_in: Stride and channels of the input maps.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        reduction: 1x1 convolution.
        layer_blocks: 3x3 convolutions, one for each level.
        levels: Stride and channels of the maps that it returns (P2 to P6).

    Example:
        >>> stages = [jnp.zeros((1, 64 // s, 96 // s, 2 * s)) for s in (4, 8, 16, 32)]
        >>> levels = [Level(s, 2 * s) for s in (4, 8, 16, 32)]
        >>> neck = HRFPN(HRFPNConfig(channels=8), levels, rngs=nnx.Rngs(0))
        >>> [level.shape[1:3] for level in jax.eval_shape(neck, stages)]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 1)]
    """

    def __init__(
        self, config: HRFPNConfig, levels_in: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        features = config.channels
        self.levels = config.levels(tuple(levels_in))
        self.reduction = ConvNorm(
            sum(level.channels for level in levels_in), features, 1, init=xavier_fill, dtype=dtype, rngs=rngs
        )
        self.layer_blocks = nnx.List(
            [ConvNorm(features, features, 3, init=xavier_fill, dtype=dtype, rngs=rngs) for _ in self.levels]
        )

    def __call__(self, stages: Sequence[Array], pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008
        """Compute the levels of a backbone's maps.

        Args:
            stages: One map for each of the levels that it was made for, [B, h, w, C].
            pass_: See `Pass`.

        Returns:
            P2 to P6, [B, h, w, channels] each.
        """
        enlarged = [stages[0]]
        for i, (level, x) in enumerate(zip(self.levels[1:-1], stages[1:], strict=True), 1):
            sizes = None if pass_.extents is None else feature_extent(pass_.extents, level.stride)
            enlarged.append(enlarge_bilinear(x, 2**i, sizes))
        merged = self.reduction(jnp.concatenate(enlarged, -1))
        maps = []
        for i, (level, block) in enumerate(zip(self.levels, self.layer_blocks, strict=True)):
            side = 2**i
            x = average_pool(merged, side, side) if i else merged
            mask = pass_.inside(level.stride, x.shape[1:3], level.whole)
            maps.append(block(zero_outside(x, mask), mask, pass_.train))
        return tuple(maps)
