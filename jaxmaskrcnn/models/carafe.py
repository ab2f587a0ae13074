"""CARAFE (Wang et al., 2019): upsampling with weights that are predicted from the map itself.

Shapes: N maps (images or regions), h and w, C channels.
"""

from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.carafe import CarafeConfig
from jaxmaskrcnn.models.layers import Conv, depth_to_space
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.ops.carafe import reassemble, window_weights

Array = jax.Array


class Carafe(nnx.Module):
    """Two convolutions predict the weights of each cell's window, whose means are four new cells.

    Source: Wang et al., 2019, section 3; mmcv's ``CARAFEPack``.

    Args:
        config: Gives the window and the layers.
        features: Number of channels C.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        compress: 1x1 convolution to fewer channels.
        encode: Convolution to a logit for each cell of a window and each of the four new cells.

    Example:
        >>> upsample = Carafe(CarafeConfig(channels=4), 8, rngs=nnx.Rngs(0))
        >>> jax.eval_shape(upsample, jnp.zeros((1, 5, 7, 8))).shape
        (1, 10, 14, 8)
    """

    def __init__(self, config: CarafeConfig, features: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        xavier, normal = nnx.initializers.xavier_uniform(), nnx.initializers.normal(0.001)
        self.compress = Conv(features, config.channels, 1, init=xavier, **c)
        logits = 4 * config.kernel**2
        self.encode = Conv(config.channels, logits, config.encoder_kernel, init=normal, **c)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Double a map: [N, h, w, C] -> [N, 2h, 2w, C]; ``mask`` as of `depths`."""
        return depth_to_space(self.depths(x, mask))

    def depths(self, x: Array, mask: Array | None = None) -> Array:
        """Make four cells of each one.

        Args:
            x: [N, h, w, C].
            mask: bool [N, h, w, 1], the cells inside the images' extents; None for all.

        Returns:
            [N, h, w, 4, C]; number 2a + b of the four belongs at (2y + a, 2x + b).
        """
        x = zero_outside(x, mask)
        weights = window_weights(self.encode(zero_outside(self.compress(x), mask)))
        return reassemble(x, weights)
