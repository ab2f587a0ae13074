"""The pyramid of ViTDet (Li et al., 2022, section 3): every level from the one map of a plain backbone.

Shapes: B images, h and w of a map, C channels, P2 to P6 the levels at strides 4, 8, 16, 32 and 64.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config import Level
from jaxmaskrcnn.config.vit import SimplePyramidConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm, Deconv2x2, kaiming_normal
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class SimplePyramid(nnx.Module):
    """Transposed convolutions for P2 and P3, a max pool for P5; then a 1x1 and a 3x3 convolution for each.

    Args:
        config: Gives the channels and the norm.
        levels_in: Stride and channels of the input map.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        p2_first, p2_norm, p2_second: Two transposed convolutions and what is between them, before a GELU.
        p3: A transposed convolution.
        inner_blocks, layer_blocks: The 1x1 and 3x3 convolutions of P2 to P5.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> pyramid = SimplePyramid(SimplePyramidConfig(channels=8), [Level(16, 16)], rngs=nnx.Rngs(0))
        >>> [level.shape[1:3] for level in jax.eval_shape(pyramid, [jnp.zeros((1, 4, 6, 16))])]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    """

    def __init__(
        self,
        config: SimplePyramidConfig,
        levels_in: Sequence[Level],
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        features = levels_in[0].channels
        self.p2_first = Deconv2x2(features, features // 2, **c)
        self.p2_norm = make_norm(config.norm, features // 2, epsilon=config.norm_epsilon, **c)
        self.p2_second = Deconv2x2(features // 2, features // 4, **c)
        self.p3 = Deconv2x2(features, features // 2, **c)
        c |= dict(norm=config.norm, epsilon=config.norm_epsilon, init=kaiming_normal)
        widths = (features // 4, features // 2, features, features)
        self.inner_blocks = nnx.List([ConvNorm(width, config.channels, 1, **c) for width in widths])
        self.layer_blocks = nnx.List([ConvNorm(config.channels, config.channels, 3, **c) for _ in widths])
        self.levels = config.levels(tuple(levels_in))

    def __call__(self, stages: Sequence[Array], pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008
        """Compute the pyramid of a backbone's map.

        Args:
            stages: One map, [B, h, w, C].
            pass_: See `Pass`.

        Returns:
            P2 to P6, [B, h, w, channels] each.
        """
        (x,) = stages
        half = self.p2_first(x)
        if self.p2_norm is not None:
            half = self.p2_norm(half, pass_.inside(8, half.shape[1:3]), pass_.train)
        maps = (
            self.p2_second(jax.nn.gelu(half, approximate=False)),
            self.p3(x),
            x,
            # A cell beside the image never shares one of these with a cell of the image: extents are even.
            nnx.max_pool(x, (2, 2), strides=(2, 2)),
        )
        levels = []
        for inner, layer, level, y in zip(
            self.inner_blocks, self.layer_blocks, self.levels, maps, strict=False
        ):
            mask = pass_.inside(level.stride, y.shape[1:3])
            y = inner(y, mask, pass_.train)
            levels.append(layer(zero_outside(y, mask), mask, pass_.train))
        return (*levels, levels[-1][:, ::2, ::2])
