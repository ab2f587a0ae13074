"""PointRend's mask head (Kirillov et al., 2019): a coarse mask of each region, refined where it is uncertain.

Unlike `MaskHead` it pools no regions, but reads the finest feature maps at points.

Shapes: B images, R regions (of all images, or [B, R] of each), P points of a region, G the side of the grid
of points, S the side of a coarse mask, M of a predicted one, L levels, C channels, K object classes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import Classes, PointRendConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.layers import Conv, Conv2x2, kaiming_normal, linear
from jaxmaskrcnn.models.padding import feature_extent
from jaxmaskrcnn.ops.points import grid_points, points_in_boxes, sample_map, sample_region_maps
from jaxmaskrcnn.ops.subdivision import subdivide, training_points
from jaxmaskrcnn.structures import Detections, LossTerm

Array = jax.Array

_POINTS = 0x706F696E  # folded into an image's random key, so that points do not depend on sampled regions
_SMALL = nnx.initializers.normal(0.001)


class CoarseHead(nnx.Module):
    """From the features at a grid of points to a coarse mask for each class.

    Source: Detectron2 ``ConvFCHead``; MMDetection ``CoarseMaskHead``.

    Args:
        config: Gives the layers.
        channels: Channels of a feature map.
        classes: Number of object classes, K.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        reduce: 1x1 convolution, or None.
        downsample: Convolution that halves the grid.
        fcs: List of nnx.Linear; the first reads the grid flattened in the order (y, x, channel).
        logits: nnx.Linear with an output for each class and cell, in the order (class, y, x).
    """

    def __init__(self, config: PointRendConfig, channels: int, classes: int, *, dtype: str, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        channels *= config.grid_levels
        reduces = config.channel_conv and channels > config.dim
        self.reduce = Conv(channels, config.dim, 1, **c) if reduces else None
        channels = config.dim if reduces else channels
        self.downsample = Conv2x2(channels, config.dim, **c)
        features, fcs = config.dim * (config.grid // 2) ** 2, []
        for _ in range(config.fcs):
            fcs.append(linear(features, config.fc_dim, **c))
            features = config.fc_dim
        self.fcs = nnx.List(fcs)
        self.logits = linear(features, classes * config.coarse_side**2, init=_SMALL, **c)
        self.side = config.coarse_side

    def __call__(self, grid: Array) -> Array:
        """[R, G, G, L * C] -> logits [R, S, S, K]."""
        x = grid if self.reduce is None else self.reduce(grid, relu=True)
        x = self.downsample(x, relu=True)
        x = x.reshape(x.shape[0], -1)
        for layer in self.fcs:
            x = nnx.relu(layer(x))
        return self.logits(x).reshape(x.shape[0], -1, self.side, self.side).transpose(0, 2, 3, 1)


class PointHead(nnx.Module):
    """Layers that are applied to each point: to its features, and to the coarse masks' values there.

    Source: Detectron2 ``StandardPointHead``; MMDetection ``MaskPointHead``.

    Args:
        config: Gives the layers.
        channels: Channels of a feature map.
        classes: Number of object classes, K.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        fcs: List of nnx.Linear.
        logits: nnx.Linear with an output for each class, or one for all.
    """

    def __init__(self, config: PointRendConfig, channels: int, classes: int, *, dtype: str, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        features, fcs = channels * config.point_levels + classes, []
        for _ in range(config.point_fcs):
            fcs.append(linear(features, config.point_dim, init=kaiming_normal, **c))
            features = config.point_dim + (classes if config.coarse_each_layer else 0)
        self.fcs = nnx.List(fcs)
        self.logits = linear(features, 1 if config.class_agnostic else classes, init=_SMALL, **c)
        self.coarse_each_layer = config.coarse_each_layer

    def __call__(self, features: Array, coarse: Array) -> Array:
        """Features [R, P, L * C] and values of the coarse masks [R, P, K] -> logits [R, P, K or 1]."""
        x = jnp.concatenate([features, coarse], -1)
        for layer in self.fcs:
            x = nnx.relu(layer(x))
            if self.coarse_each_layer:
                x = jnp.concatenate([x, coarse], -1)
        return self.logits(x)


class PointRendHead(nnx.Module):
    """A coarse head and a point head, which learns from and predicts at uncertain points.

    Source: Detectron2's project PointRend, ``PointRendMaskHead``; MMDetection ``PointRendRoIHead``.

    Args:
        config: Gives the layers and the numbers of points.
        channels: Channels of the feature maps.
        classes: Gives the number of classes.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        coarse: CoarseHead.
        points: PointHead.

    Example:
        >>> make = lambda: PointRendHead(PointRendConfig(), 8, Classes(3, "last"), rngs=nnx.Rngs(0))
        >>> head = nnx.eval_shape(make)
        >>> jax.eval_shape(lambda head, x: head.coarse(x), head, jnp.zeros((5, 14, 14, 8))).shape
        (5, 7, 7, 3)
    """

    def __init__(
        self,
        config: PointRendConfig,
        channels: int,
        classes: Classes,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.coarse = CoarseHead(config, channels, classes.count, **c)
        self.points = PointHead(config, channels, classes.count, **c)
        self.config = config

    def coarse_masks(self, pooler: Pooler, boxes: Array) -> Array:
        """Predict coarse masks for every class.

        Args:
            pooler: Features of the batch.
            boxes: [B, R, 4], XYXY in the network's coordinates.

        Returns:
            Logits [B * R, S, S, K].
        """
        side = self.config.grid
        points = jnp.broadcast_to(grid_points(side), (*boxes.shape[:2], side**2, 2))
        features = point_features(pooler, boxes, points, self.config.grid_levels)
        return self.coarse(features.reshape(-1, side, side, features.shape[-1]))

    def at_points(self, pooler: Pooler, boxes: Array, coarse: Array, labels: Array, points: Array) -> Array:
        """Predict the logits of each region's own class at its points.

        Args:
            pooler: Features of the batch.
            boxes: [B, R, 4], XYXY in the network's coordinates.
            coarse: [B * R, S, S, K], from `coarse_masks`.
            labels: int [B * R], 0 to K - 1.
            points: [B * R, P, 2], from 0 to 1.

        Returns:
            float [B * R, P], at least float32.
        """
        places = points.reshape(*boxes.shape[:2], -1, 2)
        features = point_features(pooler, boxes, places, self.config.point_levels)
        logits = self.points(features.reshape(*points.shape[:2], -1), sample_region_maps(coarse, points))
        return logits[..., 0].astype(_at_least_float32(logits)) if self.config.class_agnostic else (
            of_class(logits, labels)
        )  # fmt: skip

    def draw_points(self, coarse: Array, keys: Array | None) -> Array:
        """Draw the points that are learned from.

        Args:
            coarse: [B, R, S, S], coarse masks of the regions' own classes, logits.
            keys: One random key per image, [B]; None draws the same points in every image.

        Returns:
            float32 [B, R, P, 2], from 0 to 1.
        """
        config = self.config
        keys = jnp.broadcast_to(jax.random.key(0), coarse.shape[:1]) if keys is None else keys
        draw = functools.partial(
            training_points,
            count=config.train_points,
            oversampling=config.oversampling,
            importance=config.importance,
        )
        return jax.vmap(lambda key, logits: draw(jax.random.fold_in(key, _POINTS), logits))(keys, coarse)

    def loss_terms(
        self, pooler: Pooler, regions: losses.Regions, pass_: Pass, features: Array | None = None
    ) -> dict[str, LossTerm]:
        """Compute the losses of both heads, image by image.

        Args:
            pooler: Features of the batch, which has targets.
            regions: Regions with a leading B.
            pass_: See `Pass`; without keys, the points are the same in every image.
            features: Of no effect; there is no trunk.

        Returns:
            ``loss_mask`` of the coarse masks and ``loss_mask_point``; totals and counts [B].
        """
        batch, config, shape = pooler.batch, self.config, regions.valid.shape
        labels = regions.labels.reshape(-1)
        every = self.coarse_masks(pooler, regions.boxes)
        coarse = of_class(every, labels).reshape(*shape, *every.shape[1:3])
        points = self.draw_points(jax.lax.stop_gradient(coarse), pass_.keys)
        logits = self.at_points(pooler, regions.boxes, every, labels, points.reshape(-1, *points.shape[2:]))
        logits = logits.reshape(points.shape[:-1])
        if pooler.frame is not None:  # the objects' masks are those of the images
            regions = regions._replace(boxes=pooler.frame.to_image(regions.boxes))
        width = batch.images.shape[2]

        def loss(coarse, logits, points, regions, targets, size):
            terms = losses.mask_loss(coarse, regions, targets, width, size, config)
            return terms | losses.point_loss(logits, points, regions, targets, width, size)

        return jax.vmap(loss)(coarse, logits, points, regions, batch.targets, batch.image_sizes)

    def predict(self, pooler: Pooler, found: Detections) -> dict[str, Any]:
        """Predict the masks of the final boxes.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.

        Returns:
            ``masks``, [B, D, M, M]: probabilities inside of the boxes, zeros in slots without a box.
        """
        config, labels = self.config, found.labels.reshape(-1)
        coarse, sides = self.coarse_masks(pooler, found.boxes), config.map_sides

        def evaluate(points):
            return self.at_points(pooler, found.boxes, coarse, labels, points)

        from_coarse = config.first_map == "coarse" and sides[0] == config.coarse_side
        first = of_class(coarse, labels) if from_coarse else None
        logits = subdivide(evaluate, sides, config.subdivision_points, first, labels.shape[0])
        masks = jax.nn.sigmoid(logits).reshape(*found.valid.shape, *logits.shape[1:])
        return {"masks": jnp.where(found.valid[..., None, None], masks, 0)}


def point_features(pooler: Pooler, boxes: Array, points: Array, levels: int) -> Array:
    """The features of points of regions, those of several levels side by side.

    Args:
        pooler: Features of the batch.
        boxes: [B, R, 4], XYXY in the network's coordinates.
        points: [B, R, P, 2], from 0 to 1.
        levels: Number of the finest levels that are read.

    Returns:
        [B, R, P, levels * C]. No gradient flows through the boxes.

    Example:
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> levels = [jnp.zeros((1, 64 // s, 64 // s, 8)) for s in (4, 8, 16, 32)]
        >>> pooler = Pooler(batch, levels, (4, 8, 16, 32))
        >>> point_features(pooler, jnp.zeros((1, 5, 4)), jnp.zeros((1, 5, 9, 2)), 2).shape
        (1, 5, 9, 16)
    """
    boxes = jax.lax.stop_gradient(boxes)
    if (frame := pooler.frame) is not None:  # with the edges of pixels, as the maps have them
        boxes = frame.to_image(boxes) + jnp.tile(frame.offset[:, :2], 2)[:, None]
    places = jax.vmap(points_in_boxes)(points, boxes)
    read = []
    for features, stride in zip(pooler.levels[:levels], pooler.strides, strict=False):
        sizes = feature_extent(jnp.asarray(pooler.batch.extents), stride)
        read.append(jax.vmap(sample_map)(features, places / stride, sizes))
    return jnp.concatenate(read, -1)


def of_class(logits: Array, labels: Array) -> Array:
    """Select the logits of each region's own class.

    Args:
        logits: [R, ..., K].
        labels: int [R].

    Returns:
        float [R, ...], at least float32.
    """
    # The gradient of a sum is one pass; the gradient of a gather would be a scatter into zeros.
    channel = jnp.arange(logits.shape[-1]).reshape(*[1] * (logits.ndim - 1), -1)
    own = channel == labels.reshape(-1, *[1] * (logits.ndim - 1))
    return jnp.where(own, logits, 0).sum(-1).astype(_at_least_float32(logits))


def _at_least_float32(x: Array) -> Any:
    return jnp.promote_types(x.dtype, jnp.float32)
