"""Region proposal network (Ren et al., 2015) on any number of feature maps: its head.

Its anchors are in `anchor_grids.py`, and its proposals in `proposals.py`.

Shapes: B images, L levels (P2 to P6 of a pyramid), A anchors per cell, N anchors of an image over all
levels (level by level, then row, column, anchor of the cell).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import Level, RPNConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, ConvNorm
from jaxmaskrcnn.models.padding import zero_outside

Array = jax.Array


class RPNHead(nnx.Module):
    """3x3 convolutions and two 1x1 predictors, shared by all levels (Ren et al., 2015, section 3.1).

    Args:
        config: Gives the layers and the number of anchors per cell.
        levels: Stride and channels of the maps that it reads; all have the same number of channels.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convs: List of ConvNorm (one, or two in newer recipes), each followed by a ReLU.
        cls_logits: A objectness logits per cell; with the objectness "softmax" 2 A, anchor by anchor
            (background, object).
        bbox_pred: 4 A deltas per cell, anchor by anchor (dx, dy, dw, dh).

    Example:
        >>> levels = [jnp.zeros((2, n, n, 8)) for n in (16, 8, 4, 2, 1)]
        >>> objectness, deltas = jax.eval_shape(model.rpn, levels)
        >>> objectness.shape, deltas.shape  # three anchors in each of 341 cells
        ((2, 1023), (2, 1023, 4))
    """

    def __init__(self, config: RPNConfig, levels: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs):
        features, anchors = levels[0].channels, config.anchors.per_cell
        c: dict[str, Any] = dict(init=nnx.initializers.normal(0.01), dtype=dtype, rngs=rngs)
        convs = []
        for _ in range(config.convs):
            width = config.conv_dim or features
            convs.append(ConvNorm(features, width, 3, norm=config.norm, **c))
            features = width
        self.convs = nnx.List(convs)
        self.two_logits = config.objectness == "softmax"
        self.cls_logits = Conv(features, 2 * anchors if self.two_logits else anchors, 1, **c)
        self.bbox_pred = Conv(features, 4 * anchors, 1, **c)
        self.strides = tuple(level.stride for level in levels)
        self.whole = tuple(level.whole for level in levels)

    def __call__(self, levels: Sequence[Array], pass_: Pass = Pass()) -> tuple[Array, Array]:  # noqa: B008
        """Predicts objectness and deltas for every anchor.

        Args:
            levels: [B, h, w, C] each.
            pass_: See `Pass`.

        Returns:
            Objectness logits [B, N] and deltas [B, N, 4], at least float32. Of two logits it is the
            difference, whose sigmoid is the softmax of the two.
        """
        return by_anchor(self.hidden(levels, pass_), self.cls_logits, self.bbox_pred, self.two_logits)

    def hidden(self, levels: Sequence[Array], pass_: Pass = Pass()) -> list[Array]:  # noqa: B008
        """Compute what the two predictors read.

        Args:
            levels: [B, h, w, C] each.
            pass_: See `Pass`.

        Returns:
            One map for each level, [B, h, w, C].
        """
        maps = []
        for stride, whole, x in zip(self.strides, self.whole, levels, strict=True):
            mask = pass_.inside(stride, x.shape[1:3], whole)
            for layer in self.convs:
                x = layer(zero_outside(x, mask), mask, pass_.train, relu=True)
            maps.append(x)
        return maps


def by_anchor(
    maps: Sequence[Array],
    cls_logits: Callable[[Array], Array],
    bbox_pred: Callable[[Array], Array],
    two_logits: bool,
) -> tuple[Array, Array]:
    """Bring the results of the two predictors into the order of the anchors.

    Args:
        maps: [B, h, w, C] each, what the predictors read.
        cls_logits: Predicts A logits per cell, or 2 A.
        bbox_pred: Predicts 4 A deltas per cell.
        two_logits: Whether there are 2 A logits.

    Returns:
        Objectness [B, N] and deltas [B, N, 4], as a `RPNHead` returns them.
    """
    objectness, deltas = [], []
    for x in maps:
        logits = cls_logits(x)
        if two_logits:
            logits = logits[..., 1::2] - logits[..., ::2]
        objectness.append(logits.reshape(x.shape[0], -1))
        deltas.append(bbox_pred(x).reshape(x.shape[0], -1, 4))
    objectness, deltas = jnp.concatenate(objectness, 1), jnp.concatenate(deltas, 1)
    dtype = jnp.promote_types(objectness.dtype, jnp.float32)
    return objectness.astype(dtype), deltas.astype(dtype)
