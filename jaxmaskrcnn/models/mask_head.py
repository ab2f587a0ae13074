"""Mask head (He et al., 2017, figure 4, right): pooled regions to a mask for each class.

Shapes: R regions of all images, S the pooled side, M = 2 S the mask's side, K object classes.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.layers import Conv, Deconv2x2, conv_stack, depth_to_space

Array = jax.Array


class MaskHead(nnx.Module):
    """Convolutions, a deconvolution, and a 1x1 predictor.

    Source: torchvision ``MaskRCNNHeads`` and ``MaskRCNNPredictor``; Detectron2
    ``MaskRCNNConvUpsampleHead``. Anything with the same two methods can take its place in a `MaskRCNN`.

    Args:
        config: ``mask_*``, ``head_norm``, ``num_classes`` and what the regions have: ``fpn_channels``.
        rngs: For the initial weights.

    Attributes:
        convs: List of ConvNorm (four by default).
        deconv: Deconv2x2.
        logits: 1x1 convolution to one map a class (one in all if class-agnostic). torchvision
            keeps an unused map for the background, in front.

    Example:
        >>> logits = model.mask_head(jnp.zeros((5, 14, 14, model.config.fpn_channels)))
        >>> model.mask_head.of_class(logits, jnp.array([0, 1, 2, 1, 0])).shape
        (5, 28, 28)
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        features = config.mask_dim if config.mask_convs else config.fpn_channels
        self.convs = conv_stack(
            config.fpn_channels, config.mask_dim, config.mask_convs,
            norm=config.head_norm, dtype=config.dtype, rngs=rngs,
        )  # fmt: skip
        self.deconv = Deconv2x2(features, config.mask_dim, dtype=config.dtype, rngs=rngs)
        channels = 1 if config.class_agnostic_masks else config.num_classes + config.foreground_offset
        self.logits = Conv(
            config.mask_dim, channels, 1, init=nnx.initializers.normal(0.001), dtype=config.dtype, rngs=rngs
        )
        self.offset = 0 if config.class_agnostic_masks else config.foreground_offset
        self.class_agnostic = config.class_agnostic_masks

    def __call__(self, regions: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Masks for every class.

        Args:
            regions: [R, S, S, C] pooled features.
            mask: bool [R, 1, 1, 1], regions that count for batch norm.
            train: See `ResNet`.

        Returns:
            Logits [R, M, M, channels].
        """
        x = regions
        for layer in self.convs:
            x = layer(x, mask, train, relu=True)
        # The predictor sees each cell alone: its few channels are put in their places, not its many inputs.
        x = self.deconv.depths(x, relu=True)  # [R, S, S, 4, C]
        logits = self.logits(x.reshape(*x.shape[:2], -1, x.shape[-1]))
        return depth_to_space(logits.reshape(*x.shape[:-1], -1))

    def of_class(self, logits: Array, labels: Array) -> Array:
        """The maps of the regions' own classes.

        Args:
            logits: [R, M, M, channels].
            labels: int [R], 0 to K - 1.

        Returns:
            float [R, M, M], at least float32.
        """
        channel = jnp.zeros_like(labels) if self.class_agnostic else labels + self.offset
        # As a sum its gradient is one pass; that of a gather would be a scatter into zeros.
        own = jnp.arange(logits.shape[-1]) == channel[:, None, None, None]
        maps = jnp.where(own, logits, 0).sum(-1)
        return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
