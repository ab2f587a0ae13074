"""Region proposal network (Ren et al., 2015) on any number of feature maps: head, anchors, proposals.

Shapes: B images, L levels (P2 to P6 of a pyramid), A anchors per cell, N anchors of an image over all
levels (level by level, then row, column, anchor of the cell), P proposal slots.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import AnchorConfig, Level, ModelConfig, RPNConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, ConvNorm
from jaxmaskrcnn.models.padding import feature_extent, zero_outside
from jaxmaskrcnn.ops.anchors import base_anchors, grid_anchors
from jaxmaskrcnn.ops.boxes import clip_boxes, decode_boxes
from jaxmaskrcnn.ops.nms import nms
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.top_k import top_k
from jaxmaskrcnn.structures import Anchors, Proposals

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


class Grid(NamedTuple):
    """The anchors of one level of one image.

    Attributes:
        base: float32 [A, 4], the anchors of the cell at the origin.
        size: Height and width of the level's map on the canvas.
        step: int [2], from a cell to the next one below and beside it, in pixels of the network's input.
        stride: Stride of the level.
        end: int [2], the pixels from which on cells have no anchors.
    """

    base: np.ndarray
    size: tuple[int, int]
    step: Array
    stride: int
    end: Array

    def valid(self, per_cell: int) -> Array:
        """Whether cells have anchors, each cell so many times in a row: bool [h * w * per_cell]."""
        return _cells_before(self.end, self.size, self.stride, per_cell)


def image_grids(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    extent: Array,
    config: AnchorConfig,
    whole: Sequence[bool] | None = None,
) -> list[Grid]:
    """Return the grids of one image; arguments as of `image_anchors`."""
    grids = []
    levels = zip(level_sizes, strides, whole or [False] * len(strides), config.per_level, strict=True)
    for size, stride, only_whole, (lengths, ratios) in levels:
        unit = stride if config.base == "stride" else None
        base = base_anchors(lengths, ratios, config.rounding, config.order, unit) + config.offset * stride
        own = extent // stride if only_whole else feature_extent(extent, stride)
        step = extent // own if config.stride == "derived" else jnp.full((2,), stride)
        end = extent - (stride - 1) if only_whole else extent
        grids.append(Grid(base, size, step, stride, end))
    return grids


def image_anchors(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    extent: Array,
    config: AnchorConfig,
    box_edges: str = "outer",
    whole: Sequence[bool] | None = None,
) -> Anchors:
    """Anchors of one image over all levels.

    Args:
        level_sizes: Height and width of each level's feature map on the canvas.
        strides: Strides of the levels, in pixels of the network's input.
        extent: int [2], the image's own height and width with padding. torchvision derives an
            anchor's stride from it as padded size // feature size, for example 61 instead of 64 for P6 of
            an image with a height of 800.
        config: Gives the sizes, ratios, rounding and the stride rule.
        box_edges: See ModelConfig; "last_pixel" makes them end one pixel earlier.
        whole: Of each level, whether cells that the image fills only in part have no anchors, see `Level`;
            None for no level.

    Returns:
        Anchors of N = sum of h * w * A.
    """
    grids = image_grids(level_sizes, strides, extent, config, whole)
    boxes = [grid_anchors(grid.base, grid.size, (grid.step[0], grid.step[1])) for grid in grids]
    valid = [grid.valid(len(grid.base)) for grid in grids]
    shorter = jnp.array([[0.0, 0, 1, 1]]) if box_edges == "last_pixel" else 0.0
    return Anchors(jnp.concatenate(boxes) - shorter, jnp.concatenate(valid))


def batch_anchors(extents: Array, level_sizes: Sequence[tuple[int, int]], config: ModelConfig) -> Anchors:
    """Anchors of the images of a batch, in the network's coordinates.

    Args:
        extents: int [B, 2], as of `image_anchors`.
        level_sizes: As of `image_anchors`, for each of ``config.levels``.
        config: The whole model's.

    Returns:
        Anchors with a leading B.
    """
    strides, whole = zip(*((level.stride, level.whole) for level in config.levels), strict=True)

    def place(extent):
        return image_anchors(level_sizes, strides, extent, config.rpn.anchors, config.box_edges, whole)

    return jax.vmap(place)(extents)


def _cells_before(end: Array, size: tuple[int, int], stride: int, per_cell: int) -> Array:
    """Whether the first pixel of an anchor's cell is before an end [2], as in `inside`; bool [h * w * A]."""
    # A column stands once for each of its anchors from the start: XLA:TPU takes two minutes to compile the
    # repetition of a long row of cells, and four seconds to compile this (docs/benchmarks.md).
    row, column = jnp.arange(size[0]), jnp.asarray(np.repeat(np.arange(size[1]), per_cell))
    return ((row * stride < end[0])[:, None] & (column * stride < end[1])[None, :]).reshape(-1)


def in_own_padding(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    image_size: Array,
    divisor: int,
    per_cell: int,
) -> Array:
    """Find the anchors of one image that it would have without the other images of its batch.

    A batch's images are padded to its largest height and width. MMDetection learns from anchors of cells that
    begin before an image's own size, rounded up to the divisor; in predictions all cells count.

    Source: MMDetection ``AnchorGenerator.valid_flags`` and ``DetDataPreprocessor``.

    Args:
        level_sizes: Height and width of each level's feature map on the canvas.
        strides: Strides of the levels, in pixels of the network's input.
        image_size: int [2], the image without padding.
        divisor: Of which the sides of a padded image are multiples.
        per_cell: Number of anchors of a cell, A.

    Returns:
        bool [N].

    Example:
        >>> in_own_padding([(2, 3), (1, 2)], (16, 32), jnp.array([20, 31]), 32, 1)
        Array([ True,  True, False,  True,  True, False,  True, False],      dtype=bool)
    """
    own = feature_extent(image_size, divisor) * divisor
    levels = zip(level_sizes, strides, strict=True)
    return jnp.concatenate([_cells_before(own, size, stride, per_cell) for size, stride in levels])


def select_proposals(
    objectness: Array,
    deltas: Array,
    anchors: Anchors,
    level_sizes: Sequence[tuple[int, int]],
    image_size: Array,
    config: RPNConfig,
    train: bool,
) -> Proposals:
    """Selects the proposals of one image: the best of each level, then, after NMS, the best of all levels.

    With the ``nms_scope`` "image" the best anchors are those of all levels together, and one NMS follows.

    Proposals carry no gradient. Anchors whose logit or deltas are not finite are left out like anchors that
    are not valid, and so are boxes that are not finite.

    Source: torchvision ``RegionProposalNetwork.filter_proposals``, Detectron2 ``find_top_rpn_proposals``.

    Args:
        objectness: float [N] logits.
        deltas: float [N, 4].
        anchors: Anchors of this image.
        level_sizes: Height and width of each level's feature map.
        image_size: int [2], the image without padding; boxes are clipped to it. Or the window to which they
            are clipped, [4] XYXY.
        config: Gives the counts and thresholds.
        train: Whether to use the counts for training or for testing.

    Returns:
        Proposals with ``post_nms_*`` slots, best first.

    Raises:
        ValueError: An array has another shape.
    """
    pre_nms = config.pre_nms_train if train else config.pre_nms_test
    check_shapes(
        "select_proposals",
        objectness=(objectness, "N"),
        deltas=(deltas, "N 4"),
        boxes=(anchors.boxes, "N 4"),
        valid=(anchors.valid, "N"),
    )
    if objectness.shape[0] == 0:
        post_nms = config.post_nms_train if train else config.post_nms_test
        return Proposals(jnp.zeros((post_nms, 4)), jnp.zeros(post_nms), jnp.zeros(post_nms, bool))
    objectness, deltas = jax.lax.stop_gradient((objectness, deltas))
    scores = jax.nn.sigmoid(objectness) if config.ranking == "probability" else objectness
    finite = jnp.isfinite(objectness) & jnp.isfinite(deltas).all(-1)
    scores = jnp.where(anchors.valid & finite, scores, -jnp.inf)

    counts = [h * w * config.anchors.per_cell for h, w in level_sizes]
    counts = counts if config.nms_scope == "level" else [sum(counts)]
    slots = min(pre_nms, max(counts))  # every level padded to the same number, for one vmapped NMS
    start, top_scores, top_index = 0, [], []
    for count in counts:
        best, index = top_k(scores[start : start + count], min(pre_nms, count))
        pad = slots - best.shape[0]
        top_scores.append(jnp.pad(best, (0, pad), constant_values=-jnp.inf))
        top_index.append(jnp.pad(index + start, (0, pad)))
        start += count
    scores, index = jnp.stack(top_scores), jnp.stack(top_index)  # [L, slots]

    return settle_proposals(scores, deltas[index], anchors.boxes[index], image_size, config, train)


def settle_proposals(
    scores: Array, deltas: Array, anchors: Array, image_size: Array, config: RPNConfig, train: bool
) -> Proposals:
    """Decode the best of each level, apply NMS, and select the best of all levels.

    Args:
        scores: float [L, S], the S best of each level, best first; -inf where there are fewer.
        deltas: float [L, S, 4].
        anchors: float [L, S, 4].
        image_size: As of `select_proposals`.
        config: Likewise.
        train: Likewise.

    Returns:
        Proposals, as of `select_proposals`.
    """
    post_nms = config.post_nms_train if train else config.post_nms_test
    boxes = decode_boxes(
        deltas.reshape(-1, 4), anchors.reshape(-1, 4), config.box_weights, config.delta_clamp
    )
    finite = jnp.isfinite(boxes).all(-1)
    boxes = clip_boxes(jnp.where(finite[:, None], boxes, 0), image_size)
    sides = boxes[:, 2:] - boxes[:, :2]
    large = sides >= config.min_side if config.min_side > 0 else sides > 0
    large |= config.empty_boxes == "keep"
    valid = (finite & large.all(-1)).reshape(scores.shape) & (scores > -jnp.inf)
    boxes = boxes.reshape(*scores.shape, 4)

    suppress = functools.partial(nms, iou_threshold=config.nms_threshold, ordered=True)  # by `top_k`
    keep = jax.vmap(lambda boxes, scores, valid: suppress(boxes, scores, valid=valid))(boxes, scores, valid)
    scores = jnp.where(keep, scores, -jnp.inf).reshape(-1)
    # Levels may hold fewer candidates than there are slots (small canvases).
    missing = max(0, post_nms - scores.shape[0])
    scores = jnp.pad(scores, (0, missing), constant_values=-jnp.inf)
    boxes = jnp.pad(boxes.reshape(-1, 4), ((0, missing), (0, 0)))
    scores, index = top_k(scores, post_nms)
    found = scores > -jnp.inf
    return Proposals(
        boxes=jnp.where(found[:, None], boxes[index], 0),
        scores=jnp.where(found, scores, 0),
        # In training nothing is learnt from the zeros.
        valid=found | (config.empty_boxes == "keep" and not train),
    )
