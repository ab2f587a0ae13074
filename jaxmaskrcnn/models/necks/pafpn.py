"""Path aggregation network (Liu et al., 2018): a pyramid with a second path, from fine to coarse levels.

Shapes: B images, P2 to P6 the levels at strides 4, 8, 16, 32 and 64.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config import Level
from jaxmaskrcnn.config.necks import PAFPNConfig
from jaxmaskrcnn.models.layers import ConvNorm, xavier_fill
from jaxmaskrcnn.models.necks.fpn import FPN
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class PAFPN(FPN):
    """A feature pyramid whose levels are added up once more, from P2 to P5.

    Source: Liu et al., 2018, section 3.1; MMDetection's ``PAFPN``, which has no ReLUs.

    Args:
        config: Gives the channels and the norm.
        levels_in: Stride and channels of the input maps.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        down_blocks: 3x3 convolutions with a stride of 2, from each of P2 to P4 to the next level.
        path_blocks: 3x3 convolutions of the sums, P3 to P5.
        inner_blocks, layer_blocks, levels: As of `FPN`.

    Example:
        >>> levels = [Level(s, 8 * s) for s in (4, 8, 16, 32)]
        >>> neck = PAFPN(PAFPNConfig(channels=8), levels, rngs=nnx.Rngs(0))
        >>> len(neck.down_blocks), len(neck.path_blocks), len(neck.levels)
        (3, 3, 5)
    """

    def __init__(
        self, config: PAFPNConfig, levels_in: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        super().__init__(config, levels_in, dtype=dtype, rngs=rngs)
        features, count = config.channels, len(levels_in) - 1
        c: dict[str, Any] = dict(norm=config.norm, epsilon=config.norm_epsilon, init=xavier_fill)
        c |= dict(dtype=dtype, rngs=rngs)
        self.down_blocks = nnx.List([ConvNorm(features, features, 3, stride=2, **c) for _ in range(count)])
        self.path_blocks = nnx.List([ConvNorm(features, features, 3, **c) for _ in range(count)])

    def outputs(self, maps: list[Array], masks: Sequence[Array | None], train: bool) -> list[Array]:
        """Add the second path; see `FPN.outputs`."""
        maps = [zero_outside(x, mask) for x, mask in zip(maps, masks, strict=True)]
        outputs = [maps[0]]
        for i, (down, block) in enumerate(zip(self.down_blocks, self.path_blocks, strict=True), 1):
            maps[i] = zero_outside(down(maps[i - 1], masks[i], train, shortcut=maps[i]), masks[i])
            outputs.append(block(maps[i], masks[i], train))
        return outputs
