"""Feature pyramid with CARAFE (Wang et al., 2019, section 4.1) in place of nearest neighbours.

Shapes: B images, C2 to C5 the backbone's maps, P2 to P6 the pyramid's levels at strides 4 to 64.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config import CarafeFPNConfig, Level
from jaxmaskrcnn.models.carafe import Carafe
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm, xavier_fill
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class CarafeFPN(nnx.Module):
    """A pyramid that begins with P6, a convolution of C5, and is doubled by CARAFE from level to level.

    Source: MMDetection's ``FPN_CARAFE``.

    Args:
        config: Gives the channels and the upsampling.
        levels_in: Stride and channels of the input maps.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        inner_blocks: Lateral layers, 1x1 convolutions of C2 to C5 and, for P6, one of 3x3 with a stride of 2
            of C5.
        layer_blocks: Output layers, 3x3 (P2 to P6).
        upsamples: Carafe, from each of P3 to P6 to the level below.
        levels: Stride and channels of the maps that it returns (P2 to P6).

    Example:
        >>> stages = [jnp.zeros((1, 64 // s, 96 // s, 8 * s)) for s in (4, 8, 16, 32)]
        >>> levels = [Level(s, 8 * s) for s in (4, 8, 16, 32)]
        >>> neck = CarafeFPN(CarafeFPNConfig(channels=8), levels, rngs=nnx.Rngs(0))
        >>> [level.shape[1:3] for level in jax.eval_shape(neck, stages)]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    """

    def __init__(
        self, config: CarafeFPNConfig, levels_in: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        self.levels = config.levels(tuple(levels_in))
        features, last = config.channels, levels_in[-1].channels
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.upsamples = nnx.List([Carafe(config.upsample, features, **c) for _ in levels_in])
        c |= dict(norm=config.norm, epsilon=config.norm_epsilon, init=xavier_fill)
        lateral = [ConvNorm(level.channels, features, 1, **c) for level in levels_in]
        self.inner_blocks = nnx.List([*lateral, ConvNorm(last, features, 3, stride=2, **c)])
        self.layer_blocks = nnx.List([ConvNorm(features, features, 3, **c) for _ in self.levels])

    def __call__(self, stages: Sequence[Array], pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008
        """Compute the levels of a backbone's maps.

        Args:
            stages: One map for each of the levels that it was made for, [B, h, w, C].
            pass_: See `Pass`.

        Returns:
            P2 to P6, [B, h, w, channels] each.
        """
        last = stages[-1]
        sizes = [*(x.shape[1:3] for x in stages), (-(-last.shape[1] // 2), -(-last.shape[2] // 2))]
        masks = [pass_.inside(level.stride, size) for level, size in zip(self.levels, sizes, strict=True)]
        merged = [self.inner_blocks[-1](zero_outside(last, masks[-2]), masks[-1], pass_.train)]  # P6
        for i in reversed(range(len(stages))):
            (h, w), lateral = sizes[i], self.inner_blocks[i]
            above = self.upsamples[i](merged[0], masks[i + 1])[:, :h, :w]
            merged.insert(0, lateral(stages[i], masks[i], pass_.train, shortcut=above))
        return tuple(
            block(zero_outside(x, mask), mask, pass_.train)
            for block, x, mask in zip(self.layer_blocks, merged, masks, strict=True)
        )
