"""Semantic head of Panoptic FPN (Kirillov et al., 2019, section 3): the class of each pixel.

Shapes: B images, h and w of the finest level, C its channels plus one for all things.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config.backbones import Level
from jaxmaskrcnn.config.semantic import SemanticConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, conv_stack
from jaxmaskrcnn.models.padding import feature_extent, zero_outside
from jaxmaskrcnn.ops.semantic import enlarge_bilinear, repeat_border
from jaxmaskrcnn.structures import Batch, LossTerm

Array = jax.Array


class SemanticHead(nnx.Module):
    """Brings all levels to the size of the finest one, adds them up, and predicts the classes of its cells.

    Each level has a branch of convolutions; behind each of them the map is enlarged to twice its size, until
    it has the finest one's.

    Source: Detectron2 ``SemSegFPNHead``, MMDetection ``PanopticFPNHead``.

    Args:
        config: Gives the layers and the classes.
        levels: Stride and channels of the levels that it reads, finest first.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        branches: A list of ConvNorm for each level.
        logits: 1x1 convolution.
        strides: Those of the levels.

    Example:
        >>> config = SemanticConfig(dim=32, stuff=("sky", "grass"))
        >>> levels = (Level(4, 8), Level(8, 8))
        >>> head = nnx.eval_shape(lambda: SemanticHead(config, levels, rngs=nnx.Rngs(0)))
        >>> maps = [jnp.zeros((1, 16, 24, 8)), jnp.zeros((1, 8, 12, 8))]
        >>> jax.eval_shape(lambda head, maps: head(maps, Pass()), head, maps).shape
        (1, 16, 24, 3)
    """

    def __init__(
        self, config: SemanticConfig, levels: Sequence[Level], *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        c: dict[str, Any] = dict(norm=config.norm, dtype=dtype, rngs=rngs)
        self.branches = nnx.List(
            [conv_stack(level.channels, config.dim, max(i, 1), **c) for i, level in enumerate(levels)]
        )
        normal = nnx.initializers.normal(0.01)  # as MMDetection; Detectron2's are large for few classes
        self.logits = Conv(config.dim, config.channels, 1, init=normal, dtype=dtype, rngs=rngs)
        self.config, self.strides = config, tuple(level.stride for level in levels)

    def __call__(self, levels: Sequence[Array], pass_: Pass = Pass()) -> Array:  # noqa: B008 (Pass is frozen)
        """Predict the class of each cell of the finest level.

        Args:
            levels: The levels, [B, h, w, C] each.
            pass_: See `Pass`.

        Returns:
            Logits [B, h, w, C].
        """
        total: Any = 0
        for branch, level, stride in zip(self.branches, levels, self.strides, strict=True):
            total += self._at_finest(branch, level, stride, pass_)
        return self.logits(total)

    def _at_finest(self, branch: nnx.List, x: Array, stride: int, pass_: Pass) -> Array:
        for layer in branch:
            mask = pass_.inside(stride, x.shape[1:3])
            x = layer(zero_outside(x, mask), mask, pass_.train, relu=True)
            if stride > self.strides[0]:
                x = enlarge_bilinear(x, 2, self.sizes(pass_.extents, stride))
                stride //= 2
        return x

    def sizes(self, extents: Array | None, stride: int | None = None) -> Array | None:
        """Return the height and width of the part of a map that belongs to its image, int [B, 2].

        Args:
            extents: See `Pass`.
            stride: The map's stride; None for that of the logits.
        """
        return None if extents is None else feature_extent(extents, stride or self.strides[0])

    def loss_terms(self, batch: Batch, levels: Sequence[Array], pass_: Pass) -> dict[str, LossTerm]:
        """Compute the semantic loss, image by image.

        Args:
            batch: A batch with targets.
            levels: The levels, [B, h, w, C] each.
            pass_: See `Pass`.

        Returns:
            ``loss_semantic``; total and count [B].
        """
        assert batch.targets is not None

        def loss(logits, labels, size):
            return losses.semantic_loss(logits, labels, size, self.strides[0], self.config)

        sizes = feature_extent(batch.extents, self.strides[0])
        return jax.vmap(loss)(self(levels, pass_), batch.targets.semantic, sizes)

    def predict(self, batch: Batch, levels: Sequence[Array]) -> Array:
        """Predict the classes of the cells.

        Args:
            batch: Gives the extents.
            levels: The levels, [B, h, w, C] each.

        Returns:
            Logits [B, h, w, C], at least float32. Outside of an image's extent those at its border are
            repeated.
        """
        logits = self(levels, Pass(batch.extents))
        logits = repeat_border(logits, feature_extent(jnp.asarray(batch.extents), self.strides[0]))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
