"""Mask head (He et al., 2017, figure 4, right): from pooled regions to a mask for each class.

Shapes: R regions of all images, S the pooled side, M = 2 S the mask's side, K object classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config.heads import Classes, MaskConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.layers import Deconv2x2, conv_stack, depth_to_space, is_predictor
from jaxmaskrcnn.models.parts import build
from jaxmaskrcnn.models.predictors import mask_predictor
from jaxmaskrcnn.ops.masks import own_class_maps, select_channel
from jaxmaskrcnn.structures import Detections, LossTerm

Array = jax.Array


class MaskHead(nnx.Module):
    """Convolutions, a deconvolution or another layer that doubles maps, and a 1x1 predictor.

    Source: torchvision ``MaskRCNNHeads`` and ``MaskRCNNPredictor``; Detectron2
    ``MaskRCNNConvUpsampleHead``. Any other `RegionHead` can replace it in a `MaskRCNN`.

    Args:
        config: Gives the layers.
        channels: Channels of the pooled regions.
        classes: Gives the number of classes and the position of the background.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convs: List of ConvNorm (four by default).
        deconv: Deconv2x2, or None.
        upsample: The layer in its place (``config.upsample``), or None.
        logits: 1x1 convolution to one map per class (a single map if class-agnostic). torchvision has
            an unused first map for the background.

    Example:
        >>> logits = model.mask_head(jnp.zeros((5, 14, 14, model.config.neck.channels)))
        >>> model.mask_head.of_class(logits, jnp.array([0, 1, 2, 1, 0])).shape
        (5, 28, 28)
    """

    def __init__(
        self, config: MaskConfig, channels: int, classes: Classes, *, dtype: str = "float32", rngs: nnx.Rngs
    ):
        features = config.dim if config.convs else channels
        self.convs = conv_stack(
            channels, config.dim, config.convs, norm=config.norm, epsilon=config.norm_epsilon,
            bias=config.conv_bias, dtype=dtype, rngs=rngs,
        )  # fmt: skip
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.upsample: Any = config.upsample and build(config.upsample, features, **c)
        self.deconv: Any = None if config.upsample else Deconv2x2(features, config.dim, **c)
        features = features if config.upsample else config.dim
        maps = 1 if config.class_agnostic else classes.count + classes.offset
        self.logits = mask_predictor(config, features, maps, init=nnx.initializers.normal(0.001), **c)
        self.offset = 0 if config.class_agnostic else classes.offset
        self.config = config

    def __call__(self, regions: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Predict a mask for every class.

        Args:
            regions: [R, S, S, C] pooled features.
            mask: bool [R, 1, 1, 1], regions that count for batch norm; None for all.
            train: See `Pass`.

        Returns:
            Logits [R, M, M, channels].
        """
        return self._of_every_class(self._cells(regions, mask, train))

    def _cells(self, regions: Array, mask: Array | None = None, train: bool = False) -> Array:
        """The features of the masks' cells, of which four come from one of a region's: [R, S, S, 4, C]."""
        x = regions
        for layer in self.convs:
            x = layer(x, mask, train, relu=True)
        return self.deconv.depths(x, relu=True) if self.deconv else self.upsample.depths(x)

    def _of_every_class(self, x: Array) -> Array:
        # The 1x1 predictor treats each cell separately, so its few output channels are rearranged into
        # space instead of its many inputs.
        logits = self.logits(x.reshape(*x.shape[:2], -1, x.shape[-1]))
        return depth_to_space(logits.reshape(*x.shape[:-1], -1))

    def own_class(
        self, regions: Array, labels: Array, mask: Array | None = None, train: bool = False
    ) -> Array:
        """Predict the mask of each region's own class.

        Args:
            regions: [R, S, S, C] pooled features.
            labels: int [R], 0 to K - 1.
            mask: bool [R, 1, 1, 1], as of a call.
            train: See `Pass`.

        Returns:
            Logits [R, M, M], at least float32.
        """
        plain = type(self).__call__ is MaskHead.__call__ and is_predictor(self.logits)
        if self.config.class_agnostic or not plain:
            return self.of_class(self(regions, mask, train), labels)
        cells = self._cells(regions, mask, train)
        kernel, bias = self.logits.weights()
        assert bias is not None  # as `is_predictor` says
        maps = own_class_maps(cells.astype(kernel.dtype), kernel[0, 0], bias, labels + self.offset)
        return depth_to_space(maps[..., None])[..., 0]

    def of_class(self, logits: Array, labels: Array) -> Array:
        """Select the map of each region's own class.

        Args:
            logits: [R, M, M, channels].
            labels: int [R], 0 to K - 1.

        Returns:
            float [R, M, M], at least float32.
        """
        channel = jnp.zeros_like(labels) if self.config.class_agnostic else labels + self.offset
        return select_channel(logits, channel)

    def of_regions(self, pooled: Array, regions: losses.Regions, train: bool = False) -> Array:
        """Predict the mask of each sampled region's own class.

        Args:
            pooled: [B * Q, S, S, C].
            regions: Regions with a leading B.
            train: See `Pass`.

        Returns:
            Logits [B, Q, M, M], at least float32.
        """
        mask = regions.positive.reshape(-1, 1, 1, 1)
        logits = self.own_class(pooled, regions.labels.reshape(-1), mask, train)
        return logits.reshape(*regions.valid.shape, *logits.shape[1:])

    def loss_terms(
        self, pooler: Pooler, regions: losses.Regions, pass_: Pass, features: Array | None = None
    ) -> dict[str, LossTerm]:
        """Compute the mask loss, image by image.

        Args:
            pooler: Features of the batch, which has targets.
            regions: Regions with a leading B.
            pass_: See `Pass`.
            features: [B * Q, s, s, C], the features of these regions, if they are pooled already.

        Returns:
            ``loss_mask``; total and count [B].
        """
        batch = pooler.batch
        pooled = pooler(regions.boxes, self.config.pool) if features is None else features
        logits = self.of_regions(pooled, regions, pass_.train)
        if pooler.frame is not None:  # the objects' masks are those of the images
            regions = regions._replace(boxes=pooler.frame.to_image(regions.boxes))
        width = batch.images.shape[2]

        def loss(logits, regions, targets, image_size):
            return losses.mask_loss(logits, regions, targets, width, image_size, self.config)

        return jax.vmap(loss)(logits, regions, batch.targets, batch.image_sizes)

    def predict(self, pooler: Pooler, found: Detections, features: Array | None = None) -> dict[str, Any]:
        """Predict the masks of the final boxes.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.
            features: [B * D, s, s, C], the features of their boxes, if they are pooled already.

        Returns:
            ``masks``, [B, D, M, M]: probabilities inside of the boxes, zeros in slots without a box.
        """
        features = pooler(found.boxes, self.config.pool) if features is None else features
        logits = self.own_class(features, found.labels.reshape(-1))
        masks = jax.nn.sigmoid(logits).reshape(*found.valid.shape, *logits.shape[1:])
        return {"masks": jnp.where(found.valid[..., None, None], masks, 0)}
