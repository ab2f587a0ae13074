"""Box head (Fast R-CNN): pooled regions to class logits and box deltas.

Shapes: R regions of all images, S the pooled side, K object classes.
"""

from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.class_scores import SCORES
from jaxmaskrcnn.config.heads import BoxConfig, Classes
from jaxmaskrcnn.models.layers import conv_stack, linear, linear_of_maps
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.parts import class_at
from jaxmaskrcnn.models.predictors import linear_predictor

Array = jax.Array


def box_channels(config: BoxConfig, classes: Classes) -> int:
    """Number of boxes that the head predicts for a region.

    torchvision has an unused first slot for the background.
    """
    return 1 if config.class_agnostic else classes.count + classes.offset


class BoxHead(nnx.Module):
    """Convolutions (none by default), fully connected layers, and two predictors.

    Source: torchvision ``TwoMLPHead`` and ``FastRCNNPredictor``; Detectron2 ``FastRCNNConvFCHead``.

    Args:
        config: Gives the layers.
        channels: Channels of the pooled regions.
        side: Side S of the pooled regions.
        classes: Gives the number of classes and the position of the background.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        convs: List of ConvNorm; four in the "4conv1fc" head.
        fcs: List of nnx.Linear; the first reads the region flattened in the order (y, x, channel), or
            its mean.
        fc_norms: List of their norms; empty if there are none.
        cls_score: K + 1 logits; the configuration chooses whether the background is first or last. Some kinds
            of scores have more, see `ScoresKind`.
        bbox_pred: 4 deltas (dx, dy, dw, dh) for each class.
        seen: The state of the scores, such as `RegionCounts`, or None. It is called with the regions that the
            head is trained on.

    Example:
        >>> logits, deltas = model.box_head(jnp.zeros((5, 7, 7, model.config.neck.channels)))
        >>> logits.shape, deltas.shape  # three classes and the background
        ((5, 4), (5, 3, 4))
    """

    def __init__(
        self,
        config: BoxConfig,
        channels: int,
        side: int,
        classes: Classes,
        *,
        dtype="float32",
        rngs: nnx.Rngs,
    ):
        features = config.conv_dim if config.convs else channels
        c: dict[str, Any] = dict(epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.convs = conv_stack(channels, config.conv_dim, config.convs, norm=config.norm, **c)
        features *= 1 if config.average else side**2
        fcs, norms = [], []
        for _ in range(config.fcs):
            fcs.append(linear(features, config.fc_dim, dtype=dtype, rngs=rngs))
            features = config.fc_dim
            if config.fc_norm != "none":
                norms.append(make_norm(config.fc_norm, features, **c))
        self.fcs, self.fc_norms = nnx.List(fcs), nnx.List(norms)
        self.average = config.average
        normal, boxes = nnx.initializers.normal, box_channels(config, classes)
        # Predictors stay in float32: a softmax over bfloat16 logits loses ranks.
        dtype = "float64" if dtype == "float64" else "float32"
        options: dict[str, Any] = dict(init=normal(0.01), dtype=dtype, rngs=rngs)
        self.cls_score = linear_predictor(config, features, classes.logits, **options)
        self.bbox_pred = linear(features, 4 * boxes, init=normal(0.001), dtype=dtype, rngs=rngs)
        state = SCORES[config.scores].state
        self.seen: Any = class_at(config, "scores", state)(classes.count) if state else None

    def __call__(self, regions: Array, mask: Array | None = None, train: bool = False) -> tuple[Array, Array]:
        """Classify regions and refine their boxes.

        Args:
            regions: [R, S, S, C] pooled features.
            mask: bool [R, 1, 1, 1], regions that count for batch norm; None for all.
            train: See `Pass`.

        Returns:
            Class logits [R, K + 1] and deltas [R, box_channels, 4].
        """
        x = regions
        for layer in self.convs:
            x = layer(x, mask, train, relu=True)
        if self.average or not self.fcs:
            x = x.mean((1, 2)) if self.average else x.reshape(x.shape[0], -1)
        for i, layer in enumerate(self.fcs):
            x = layer(x) if x.ndim == 2 else linear_of_maps(layer, x)
            if self.fc_norms:  # which read maps, here of one cell
                x = self.fc_norms[i](x[:, None, None], mask, train)[:, 0, 0]
            x = nnx.relu(x)
        return self.cls_score(x), self.bbox_pred(x).reshape(x.shape[0], -1, 4)
