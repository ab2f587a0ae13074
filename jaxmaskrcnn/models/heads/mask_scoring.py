"""Mask Scoring R-CNN's mask head (Huang et al., 2019): it predicts the IoU of each of its masks.

The score of a detection becomes that of its class times that of its mask.

Shapes: B images, R regions of all images, Q positive slots and D detection slots of one, S the side of a
pooled region, M = 2 S that of its mask, C channels, K object classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import Classes, MaskScoringConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.layers import Conv, linear
from jaxmaskrcnn.structures import Detections, LossTerm

Array = jax.Array


class MaskIoUHead(nnx.Module):
    """From a region's features and its mask to the mask's IoU for each class.

    Source: Mask Scoring R-CNN, section 3.2 and figure 3; MMDetection ``MaskIoUHead``.

    Args:
        config: Gives the layers.
        channels: Channels of the pooled regions.
        classes: Number of object classes, K.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convs: List of Conv, 3x3; the last one has a stride of 2.
        fcs: List of nnx.Linear; the first reads the cells flattened in the order (y, x, channel).
        ious: nnx.Linear with an output for each class.
    """

    def __init__(self, config: MaskScoringConfig, channels: int, classes: int, *, dtype: str, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        features, convs, fcs = channels + 1, [], []  # the mask is one more channel
        for i in range(config.iou_convs):
            stride = 2 if i == config.iou_convs - 1 else 1
            convs.append(Conv(features, config.iou_dim, 3, stride=stride, **c))
            features = config.iou_dim
        features *= (config.pool.size // 2) ** 2
        for _ in range(config.iou_fcs):
            fcs.append(linear(features, config.iou_fc_dim, **c))
            features = config.iou_fc_dim
        self.convs, self.fcs = nnx.List(convs), nnx.List(fcs)
        self.ious = linear(features, classes, init=nnx.initializers.normal(0.01), **c)

    def __call__(self, pooled: Array, logits: Array, labels: Array) -> Array:
        """Predict the IoU of each region's mask with the whole object.

        Args:
            pooled: [R, S, S, C], the features that the masks were predicted from.
            logits: [R, M, M], the masks of the regions' own classes.
            labels: int [R], 0 to K - 1.

        Returns:
            float [R], at least float32; it can be below 0 or above 1.
        """
        regions, side = pooled.shape[:2]
        masks = jax.nn.sigmoid(logits).reshape(regions, side, 2, side, 2).max((2, 4))
        x = jnp.concatenate([pooled, masks[..., None].astype(pooled.dtype)], -1)
        for layer in self.convs:
            x = layer(x, relu=True)
        x = x.reshape(regions, -1)
        for layer in self.fcs:
            x = nnx.relu(layer(x))
        ious = self.ious(x)
        own = jnp.where(jnp.arange(ious.shape[-1])[None] == labels[:, None], ious, 0).sum(-1)
        return own.astype(jnp.promote_types(own.dtype, jnp.float32))


class MaskScoringHead(MaskHead):
    """A `MaskHead` whose masks have scores of their own.

    Source: MMDetection ``MaskScoringRoIHead``. Its arguments are those of `MaskHead`.

    Attributes:
        iou: MaskIoUHead.

    Example:
        >>> config = MaskScoringConfig(dim=8, iou_dim=8, iou_fc_dim=8)
        >>> make = lambda: MaskScoringHead(config, 8, Classes(3, "last"), rngs=nnx.Rngs(0))
        >>> arrays = jnp.zeros((5, 14, 14, 8)), jnp.zeros((5, 28, 28)), jnp.zeros(5, int)
        >>> jax.eval_shape(lambda head, *arrays: head.iou(*arrays), nnx.eval_shape(make), *arrays)
        ShapeDtypeStruct(shape=(5,), dtype=float32)
    """

    def __init__(
        self,
        config: MaskScoringConfig,
        channels: int,
        classes: Classes,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        super().__init__(config, channels, classes, dtype=dtype, rngs=rngs)
        self.iou = MaskIoUHead(config, channels, classes.count, dtype=dtype, rngs=rngs)

    def loss_terms(
        self, pooler: Pooler, regions: losses.Regions, pass_: Pass, features: Array | None = None
    ) -> dict[str, LossTerm]:
        """Compute the losses of the masks and of their IoUs, image by image.

        Args:
            pooler: Features of the batch, which has targets.
            regions: Regions with a leading B.
            pass_: See `Pass`.
            features: [B * Q, s, s, C], the features of these regions, if they are pooled already.

        Returns:
            ``loss_mask`` and ``loss_mask_iou``; totals and counts [B].
        """
        batch, config = pooler.batch, self.config
        assert isinstance(config, MaskScoringConfig)
        pooled = pooler(regions.boxes, config.pool) if features is None else features
        logits = self.of_regions(pooled, regions, pass_.train)
        side = logits.shape[-1]
        ious = self.iou(pooled, logits.reshape(-1, side, side), regions.labels.reshape(-1))
        if pooler.frame is not None:  # the objects' masks are those of the images
            regions = regions._replace(boxes=pooler.frame.to_image(regions.boxes))
        width = batch.images.shape[2]

        def loss(logits, ious, regions, targets, size):
            return losses.mask_scoring_losses(logits, ious, regions, targets, width, size, config)

        ious = ious.reshape(regions.valid.shape)
        return jax.vmap(loss)(logits, ious, regions, batch.targets, batch.image_sizes)

    def predict(self, pooler: Pooler, found: Detections, features: Array | None = None) -> dict[str, Any]:
        """Predict the masks of the final boxes, and score the detections anew.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.
            features: Of no effect; there is no trunk.

        Returns:
            ``masks``, [B, D, M, M]: probabilities inside of the boxes, zeros in slots without a box; and
            ``boxes``, ``scores``, ``labels`` and ``valid``, best first by the new scores.
        """
        pooled, labels = pooler(found.boxes, self.config.pool), found.labels.reshape(-1)
        logits = self.of_class(self(pooled), labels)
        ious = self.iou(pooled, logits, labels).reshape(found.valid.shape)
        scores = jnp.where(found.valid, found.scores * ious, 0)
        masks = jax.nn.sigmoid(logits).reshape(*found.valid.shape, *logits.shape[1:])
        masks = jnp.where(found.valid[..., None, None], masks, 0)
        best = jnp.argsort(jnp.where(found.valid, -scores, jnp.inf), axis=1, stable=True)

        def in_order(values: Array) -> Array:
            return jax.vmap(lambda rows, order: rows[order])(values, best)

        fields = {"boxes": found.boxes, "labels": found.labels, "valid": found.valid}
        return {name: in_order(x) for name, x in {**fields, "scores": scores, "masks": masks}.items()}
