"""Global context blocks (Cao et al., 2019): one vector for the whole map is added to each of its cells.

Shapes: B images, h and w of a map, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.models.layers import Conv
from jaxmaskrcnn.models.norm import LayerNorm

Array = jax.Array


class ContextBlock(nnx.Module):
    """Weights of all cells by a softmax, their weighted mean, two layers, and the sum.

    MMDetection weighs all cells of its canvas, those of padding too. Here they are those of the image's own
    extent, which is the canvas that it would have alone.

    Source: Cao et al., 2019, figure 4d; MMDetection's ``ContextBlock`` with attention pooling and addition.

    Args:
        features: Number of channels C.
        hidden: Channels between the two layers.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        weigh: 1x1 convolution to one logit for each cell.
        reduce, norm, expand: The two layers, and the layer norm between them, before a ReLU. ``expand``
            begins with zeros, so that the block is the identity at first.

    Example:
        >>> ContextBlock(8, 2, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 6, 8))).shape
        (1, 4, 6, 8)
    """

    def __init__(self, features: int, hidden: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.weigh = Conv(features, 1, 1, **c)
        self.reduce = Conv(features, hidden, 1, **c)
        self.norm = LayerNorm(hidden, **c)
        self.expand = Conv(hidden, features, 1, init=nnx.initializers.zeros, **c)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Add the context.

        Args:
            x: [B, h, w, C].
            mask: bool [B, h, w, 1], the cells inside the images' extents; None for all.

        Returns:
            [B, h, w, C].
        """
        values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        logits = self.weigh(x).astype(values.dtype)
        weights = jax.nn.softmax(logits, axis=(1, 2), where=mask)
        context = (values * weights).sum((1, 2), keepdims=True).astype(x.dtype)
        return x + self.expand(jax.nn.relu(self.norm(self.reduce(context))))
