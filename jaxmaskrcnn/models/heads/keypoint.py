"""Keypoint head (He et al., 2017, section 5): from pooled regions to a heat-map for each keypoint.

Shapes: R regions of all images, S the side of a heat-map (four times that of a pooled region), K keypoints,
B images, D detection slots.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config.heads import Classes
from jaxmaskrcnn.config.keypoints import KeypointConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.layers import Deconv4x4, conv_stack
from jaxmaskrcnn.ops.keypoints import double_bilinear
from jaxmaskrcnn.structures import Detections, LossTerm

Array = jax.Array


class KeypointHead(nnx.Module):
    """Convolutions, a deconvolution to one map for each keypoint, and a bilinear enlargement.

    The maps are the same for all classes. Source: torchvision ``KeypointRCNNHeads`` and
    ``KeypointRCNNPredictor``; Detectron2 ``KRCNNConvDeconvUpsampleHead``.

    Args:
        config: Gives the layers and the keypoints.
        channels: Channels of the pooled regions.
        classes: Of no effect; the same for all kinds of heads.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convs: List of ConvNorm (eight by default).
        logits: Deconv4x4 with a channel for each keypoint.

    Example:
        >>> config = KeypointConfig(convs=1, dim=8, points=("head", "foot"))
        >>> make = lambda: KeypointHead(config, 8, Classes(1, "first"), rngs=nnx.Rngs(0))
        >>> head = nnx.eval_shape(make)
        >>> jax.eval_shape(lambda head, x: head(x), head, jnp.zeros((5, 14, 14, 8))).shape
        (5, 56, 56, 2)
    """

    def __init__(
        self,
        config: KeypointConfig,
        channels: int,
        classes: Classes,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.convs = conv_stack(channels, config.dim, config.convs, dtype=dtype, rngs=rngs)
        self.logits = Deconv4x4(config.dim, len(config.points), dtype=dtype, rngs=rngs)
        self.config = config

    def __call__(self, regions: Array) -> Array:
        """Predict the heat-maps.

        Args:
            regions: [R, S / 4, S / 4, C] pooled features.

        Returns:
            Logits [R, S, S, K], at least float32.
        """
        x = regions
        for layer in self.convs:
            x = layer(x, relu=True)
        x = self.logits(x)
        return double_bilinear(x.astype(jnp.promote_types(x.dtype, jnp.float32)))

    def loss_terms(
        self, pooler: Pooler, regions: losses.Regions, pass_: Pass, features: Array | None = None
    ) -> dict[str, LossTerm]:
        """Compute the keypoint loss, image by image.

        Args:
            pooler: Features of the batch, which has targets.
            regions: Regions with a leading B.
            pass_: See `Pass`.
            features: [B * Q, s, s, C], the features of these regions, if they are pooled already.

        Returns:
            ``loss_keypoint``; total and count [B].
        """
        logits = self(pooler(regions.boxes, self.config.pool) if features is None else features)
        logits = logits.reshape(*regions.valid.shape, *logits.shape[1:])
        if pooler.frame is not None:  # the objects' keypoints are those of the images
            regions = regions._replace(boxes=pooler.frame.to_image(regions.boxes))

        def loss(logits, regions, targets):
            return losses.keypoint_loss(logits, regions, targets, self.config)

        return jax.vmap(loss)(logits, regions, pooler.batch.targets)

    def predict(self, pooler: Pooler, found: Detections) -> dict[str, Any]:
        """Predict the heat-maps of the final boxes.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.

        Returns:
            ``keypoint_logits``, [B, D, K, S, S], zeros in slots without a box. `ops/keypoints.py` finds the
            keypoints in them.
        """
        logits = self(pooler(found.boxes, self.config.pool)).transpose(0, 3, 1, 2)
        logits = logits.reshape(*found.valid.shape, *logits.shape[1:])
        return {"keypoint_logits": jnp.where(found.valid[..., None, None, None], logits, 0)}
