"""Box head (Fast R-CNN): pooled regions to class logits and box deltas.

Shapes: R regions of all images, S the pooled side, K object classes.
"""

import jax
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.layers import conv_stack, linear

Array = jax.Array


def box_channels(config: ModelConfig) -> int:
    """Number of boxes the head predicts for a region.

    torchvision keeps an unused slot for the background, in front.
    """
    return 1 if config.class_agnostic_boxes else config.num_classes + config.foreground_offset


class BoxHead(nnx.Module):
    """Convolutions (none by default), fully connected layers, and two predictors.

    Source: torchvision ``TwoMLPHead`` and ``FastRCNNPredictor``; Detectron2 ``FastRCNNConvFCHead``.

    Args:
        config: ``box_*``, ``head_norm``, ``num_classes`` and what the regions have: ``fpn_channels``.
        rngs: For the initial weights.

    Attributes:
        convs: List of ConvNorm; four in the "4conv1fc" head.
        fcs: List of nnx.Linear; the first reads the region flattened in the order (y, x, channel).
        cls_score: K + 1 logits, the background first or last as the config says.
        bbox_pred: 4 deltas (dx, dy, dw, dh) for each class.

    Example:
        >>> logits, deltas = model.box_head(jnp.zeros((5, 7, 7, model.config.fpn_channels)))
        >>> logits.shape, deltas.shape  # three classes and the background
        ((5, 4), (5, 3, 4))
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        features = config.box_conv_dim if config.box_convs else config.fpn_channels
        self.convs = conv_stack(
            config.fpn_channels, config.box_conv_dim, config.box_convs,
            norm=config.head_norm, dtype=config.dtype, rngs=rngs,
        )  # fmt: skip
        features *= config.box_pool_size**2
        fcs = []
        for _ in range(config.box_fcs):
            fcs.append(linear(features, config.box_fc_dim, dtype=config.dtype, rngs=rngs))
            features = config.box_fc_dim
        self.fcs = nnx.List(fcs)
        normal = nnx.initializers.normal
        # Predictors stay in float32: a softmax over bfloat16 logits loses ranks.
        kind = "float64" if config.dtype == "float64" else "float32"
        self.cls_score = linear(features, config.num_classes + 1, init=normal(0.01), dtype=kind, rngs=rngs)
        self.bbox_pred = linear(features, 4 * box_channels(config), init=normal(0.001), dtype=kind, rngs=rngs)

    def __call__(self, regions: Array, mask: Array | None = None, train: bool = False) -> tuple[Array, Array]:
        """Classify and refine.

        Args:
            regions: [R, S, S, C] pooled features.
            mask: bool [R, 1, 1, 1], regions that count for batch norm.
            train: See `ResNet`.

        Returns:
            Class logits [R, K + 1] and deltas [R, box_channels, 4].
        """
        x = regions
        for layer in self.convs:
            x = layer(x, mask, train, relu=True)
        x = x.reshape(x.shape[0], -1)
        for layer in self.fcs:
            x = nnx.relu(layer(x))
        return self.cls_score(x), self.bbox_pred(x).reshape(x.shape[0], -1, 4)
