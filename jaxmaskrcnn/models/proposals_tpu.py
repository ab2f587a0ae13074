"""Proposals on a TPU: predictions with the cells of a level side by side.

A TPU keeps the last axis of an array in rows of 128 values. Anchor by anchor, as `RPNHead` returns them, its
predictions are rows of 3 and of 4: XLA:TPU takes minutes to compile the way there, and expects more
cycles of it than of the head's convolutions (docs/benchmarks.md). Here the predictors are one product whose
result has the cells last, the best of each level are selected where they are, and only their deltas are
looked up. The proposals are those of `select_proposals`, equal scores included.

Shapes: B images, A anchors per cell, n cells of a level, K anchors selected of a level.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig, RPNConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.rpn import Grid, RPNHead, image_grids, settle_proposals
from jaxmaskrcnn.ops.top_k import top_k
from jaxmaskrcnn.structures import Proposals

Array = jax.Array

_ROW = 128  # cells that are looked up together


def applies(head, config: RPNConfig, levels: Sequence[Array]) -> bool:
    """Whether proposals can be selected in this way: of a plain head, level by level, in 32 bits or less.

    Args:
        head: The module that predicts objectness and deltas.
        config: The rules of selection.
        levels: The maps that it reads.
    """
    plain = isinstance(head, RPNHead) and type(head).__call__ is RPNHead.__call__
    by_level = config.nms_scope == "level" or len(levels) == 1
    return plain and by_level and all(x.dtype.itemsize <= 4 for x in levels)


def propose(
    head: RPNHead, levels: Sequence[Array], pass_: Pass, extents: Array, limits: Array, config: ModelConfig
) -> Proposals:
    """Compute the proposals of a batch.

    Args:
        head: The head.
        levels: One map for each of ``config.levels``, [B, h, w, C].
        pass_: See `Pass`.
        extents: int [B, 2].
        limits: [B, 2], the height and width to which the boxes of an image are clipped.
        config: The whole model's.

    Returns:
        Proposals with a leading B.
    """
    sizes = tuple((x.shape[1], x.shape[2]) for x in levels)
    strides, whole = zip(*((level.stride, level.whole) for level in config.levels), strict=True)

    def one(found, extent, limits):
        grids = image_grids(sizes, strides, extent, config.rpn.anchors, whole)
        return select(found, grids, limits, config.rpn, config.box_edges)

    return jax.vmap(one)(predict(head, levels, pass_), extents, limits)


def predict(head: RPNHead, levels: Sequence[Array], pass_: Pass) -> list[tuple[Array, Array]]:
    """Compute the predictions of a `RPNHead` with the cells last.

    Args:
        head: The head.
        levels: [B, h, w, C] each.
        pass_: See `Pass`.

    Returns:
        For each level objectness logits [B, A, n] and deltas [B, A, 4, n], in the dtype of the activations.
        Cells are filled up to whole rows.
    """
    (scores, score_bias), (boxes, box_bias) = head.cls_logits.weights(), head.bbox_pred.weights()
    kernel = jnp.concatenate([scores, boxes], -1)[0, 0]
    assert score_bias is not None and box_bias is not None  # predictors have one
    bias = jnp.concatenate([score_bias, box_bias])
    found = []
    for x in head.hidden(levels, pass_):
        y = jnp.einsum("bhwc,co->bohw", x.astype(kernel.dtype), kernel)
        y = (y + bias[None, :, None, None]).reshape(*y.shape[:2], -1)
        y = jnp.pad(y, ((0, 0), (0, 0), (0, -y.shape[2] % _ROW)))
        logits, deltas = jnp.split(y, [scores.shape[-1]], axis=1)
        if head.two_logits:
            logits = logits[:, 1::2] - logits[:, ::2]
        found.append((logits, deltas.reshape(len(y), -1, 4, y.shape[-1])))
    return found


def select(
    predicted: Sequence[tuple[Array, Array]],
    grids: Sequence[Grid],
    image_size: Array,
    config: RPNConfig,
    box_edges: str = "outer",
) -> Proposals:
    """Select the proposals of one image in a prediction; the same as `select_proposals`.

    Args:
        predicted: For each level objectness logits [A, n] and deltas [A, 4, n]; what is beyond the level's
            cells is not read.
        grids: The anchors of each level.
        image_size: As of `select_proposals`.
        config: Likewise.
        box_edges: As of `image_anchors`.

    Returns:
        Proposals with ``post_nms_test`` slots, best first.
    """
    best = [
        _best_of_level(*level, grid, config, box_edges) for level, grid in zip(predicted, grids, strict=True)
    ]
    slots = max(len(scores) for scores, _, _ in best)

    def stacked(arrays, value):
        rows = [
            jnp.pad(x, ((0, slots - len(x)), *[(0, 0)] * (x.ndim - 1)), constant_values=value) for x in arrays
        ]
        return jnp.stack(rows)

    scores, deltas, anchors = zip(*best, strict=True)
    return settle_proposals(
        stacked(scores, -jnp.inf), stacked(deltas, 0), stacked(anchors, 0), image_size, config, train=False
    )


def _best_of_level(logits, deltas, grid, config, box_edges):
    """Scores [K], deltas [K, 4] and anchors [K, 4] of the best anchors of a level."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    scores = jax.nn.sigmoid(logits) if config.ranking == "probability" else logits
    valid = grid.valid(1)
    per_cell, count = len(scores), min(config.pre_nms_test, len(scores) * len(valid))
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
    rows = deltas.reshape(*deltas.shape[:2], -1, _ROW)[anchor, :, cell // _ROW]  # [K, 4, 128]
    own = jnp.arange(_ROW)[None] == cell[:, None] % _ROW
    return jnp.where(own[:, None], rows, 0).sum(-1, dtype=rows.dtype)
