"""Proposals on a TPU: predictions with the cells of a level side by side.

A TPU keeps the last axis of an array in rows of 128 values. Anchor by anchor, as `RPNHead` returns them, its
predictions are rows of 3 and of 4: XLA:TPU takes minutes to compile the way there, and expects more
cycles of it than of the head's convolutions (docs/benchmarks.md). Here the predictors are one product whose
result has the cells last, the best of each level are selected where they are, and only their deltas are
looked up. The proposals are those of `select_proposals`, equal scores included. What the losses read is in
`rpn_windows.py`.

Shapes: B images, A anchors per cell, n cells of a level, O values predicted of a cell (its A logits, or 2 A,
and 4 A deltas), K anchors selected of a level.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.models.anchor_grids import Grid, image_grids
from jaxmaskrcnn.models.layers import is_predictor
from jaxmaskrcnn.models.proposals import settle_proposals
from jaxmaskrcnn.models.rpn import RPNHead
from jaxmaskrcnn.ops.top_k import top_k
from jaxmaskrcnn.structures import Proposals

Array = jax.Array

ROW = 128  # cells that are looked up together


def applies(head, config: RPNConfig, levels: Sequence[Array]) -> bool:
    """Whether proposals can be selected in this way: of a plain head, level by level, in 32 bits or less.

    Args:
        head: The module that predicts objectness and deltas.
        config: The rules of selection.
        levels: The maps that it reads.
    """
    if not isinstance(head, RPNHead) or type(head).__call__ is not RPNHead.__call__:
        return False
    anchors, two = config.anchors.per_cell, config.objectness == "softmax"
    plain = is_predictor(head.cls_logits, 2 * anchors if two else anchors)
    plain = plain and is_predictor(head.bbox_pred, 4 * anchors) and head.two_logits == two
    by_level = config.nms_scope == "level" or len(levels) == 1
    return plain and by_level and all(x.dtype.itemsize <= 4 for x in levels)


class Predictors(NamedTuple):
    """The two 1x1 convolutions of a `RPNHead`, in the dtype of the activations.

    Attributes:
        scores: [C, A], or [C, 2 A] with two logits.
        score_bias: [A] or [2 A].
        boxes: [C, 4 A].
        box_bias: [4 A].
    """

    scores: Array
    score_bias: Array
    boxes: Array
    box_bias: Array

    @classmethod
    def of(cls, head: RPNHead) -> "Predictors":
        """Those of a head."""
        (scores, score_bias), (boxes, box_bias) = head.cls_logits.weights(), head.bbox_pred.weights()
        assert score_bias is not None and box_bias is not None  # predictors have one
        return cls(scores[0, 0], score_bias, boxes[0, 0], box_bias)


def propose(
    predicted: Sequence[Array],
    sizes: Sequence[tuple[int, int]],
    extents: Array,
    limits: Array,
    config: ModelConfig,
    train: bool = False,
) -> Proposals:
    """Compute the proposals of a batch, which carry no gradient.

    Args:
        predicted: One array for each of ``config.levels``, from `predict`.
        sizes: Height and width of each level's map.
        extents: int [B, 2].
        limits: To what the boxes of an image are clipped: height and width, [B, 2], or windows, [B, 4] XYXY.
        config: The whole model's.
        train: Whether to use the counts for training or for testing.

    Returns:
        Proposals with a leading B.
    """
    rpn = config.rpn
    strides, whole = zip(*((level.stride, level.whole) for level in config.levels), strict=True)

    def one(predicted, extent, limits):
        grids = image_grids(sizes, strides, extent, rpn.anchors, whole)
        found = [by_kind(level, rpn) for level in predicted]
        return select(found, grids, limits, rpn, config.box_edges, train)

    return jax.vmap(one)(jax.lax.stop_gradient(tuple(predicted)), extents, limits)


def predict(maps: Sequence[Array], predictors: Predictors) -> list[Array]:
    """Compute the predictions of a `RPNHead` with the cells last.

    Args:
        maps: [B, h, w, C] each, what the predictors read.
        predictors: The predictors.

    Returns:
        [B, O, n] for each level, in the dtype of the activations. Cells are filled up to whole rows.
    """
    kernel = jnp.concatenate([predictors.scores, predictors.boxes], -1)
    bias = jnp.concatenate([predictors.score_bias, predictors.box_bias])
    found = []
    for x in maps:
        y = jnp.einsum("bhwc,co->bohw", x.astype(kernel.dtype), kernel) + bias[None, :, None, None]
        y = y.reshape(*y.shape[:2], -1)
        found.append(jnp.pad(y, ((0, 0), (0, 0), (0, -y.shape[2] % ROW))))
    return found


def by_kind(predicted: Array, config: RPNConfig) -> tuple[Array, Array]:
    """Split the values predicted of each cell.

    Args:
        predicted: [O, n].
        config: Gives A and the number of logits of an anchor.

    Returns:
        Objectness logits [A, n] and deltas [A, 4, n].
    """
    logits, deltas = jnp.split(predicted, [len(predicted) - 4 * config.anchors.per_cell])
    if config.objectness == "softmax":
        logits = logits[1::2] - logits[::2]
    return logits, deltas.reshape(-1, 4, predicted.shape[1])


def select(
    predicted: Sequence[tuple[Array, Array]],
    grids: Sequence[Grid],
    image_size: Array,
    config: RPNConfig,
    box_edges: str = "outer",
    train: bool = False,
) -> Proposals:
    """Select the proposals of one image; the same as `select_proposals`.

    Args:
        predicted: For each level objectness logits [A, n] and deltas [A, 4, n]; what is beyond the level's
            cells is not read.
        grids: The anchors of each level.
        image_size: As of `select_proposals`.
        config: Likewise.
        box_edges: As of `image_anchors`.
        train: As of `select_proposals`.

    Returns:
        Proposals with ``post_nms_*`` slots, best first.
    """
    count = config.pre_nms_train if train else config.pre_nms_test
    best = [
        _best_of_level(*level, grid, config, box_edges, count)
        for level, grid in zip(predicted, grids, strict=True)
    ]
    slots = max(len(scores) for scores, _, _ in best)

    def stacked(arrays, value):
        rows = [
            jnp.pad(x, ((0, slots - len(x)), *[(0, 0)] * (x.ndim - 1)), constant_values=value) for x in arrays
        ]
        return jnp.stack(rows)

    scores, deltas, anchors = zip(*best, strict=True)
    return settle_proposals(
        stacked(scores, -jnp.inf), stacked(deltas, 0), stacked(anchors, 0), image_size, config, train
    )


def _best_of_level(logits, deltas, grid, config, box_edges, most):
    """Scores [K], deltas [K, 4] and anchors [K, 4] of the best anchors of a level."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    scores = jax.nn.sigmoid(logits) if config.ranking == "probability" else logits
    valid = grid.valid(1)
    per_cell, count = len(scores), min(most, len(scores) * len(valid))
    valid = jnp.pad(valid, (0, scores.shape[1] - len(valid)))
    usable = valid[None] & jnp.isfinite(logits) & jnp.isfinite(deltas).all(1)
    scores = jnp.where(usable, scores, -jnp.inf)
    best, index = top_k(scores.reshape(-1), count, per_cell)
    cell, anchor = index // per_cell, index % per_cell
    row, column = cell // grid.size[1], cell % grid.size[1]
    y, x = ((place * step).astype(jnp.float32) for place, step in zip((row, column), grid.step, strict=True))
    boxes = jnp.stack([x, y, x, y], -1) + jnp.asarray(grid.base, jnp.float32)[anchor]
    if box_edges == "last_pixel":
        boxes = boxes - jnp.array([[0.0, 0, 1, 1]])
    return best, _looked_up(deltas, anchor, cell).astype(best.dtype), boxes


def _looked_up(deltas, anchor, cell):
    """``deltas[anchor, :, cell]``, [K, 4], from [A, 4, n], by whole rows of cells."""
    rows = deltas.reshape(*deltas.shape[:2], -1, ROW)[anchor, :, cell // ROW]  # [K, 4, 128]
    own = jnp.arange(ROW)[None] == cell[:, None] % ROW
    return jnp.where(own[:, None], rows, 0).sum(-1, dtype=rows.dtype)
