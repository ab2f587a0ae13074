"""The predictions of sampled anchors on a TPU, and their gradients, with the cells of a level side by side.

The losses of the region proposal network read a few hundred anchors of the predictions of
`proposals_tpu.py`. They are looked up in whole rows of cells, and their gradients are put into such rows by a
product with zeros and ones, since XLA:TPU scatters single values slowly (docs/benchmarks.md).

Shapes: B images, A anchors per cell, n cells of a level, O values predicted of a cell, S sampled anchors.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.config import RPNConfig
from jaxmaskrcnn.models.proposals_tpu import ROW, Predictors, by_kind, products

Array = jax.Array


def sampled_predictions(
    predicted: Sequence[Array], sizes: Sequence[tuple[int, int]], index: Array, config: RPNConfig
) -> tuple[Array, Array]:
    """Look up the predictions of the sampled anchors of one image.

    Args:
        predicted: [O, n] for each level.
        sizes: Height and width of each level's map.
        index: int [S], into the anchors of all levels.
        config: As of `by_kind`.

    Returns:
        Objectness logits [S] and deltas [S, 4], at least float32.
    """
    cell, anchor = _places(sizes, index, config.anchors.per_cell)
    values = jnp.concatenate(predicted, -1)
    rows = values.reshape(len(values), -1, ROW)[:, cell // ROW]  # [O, S, 128]
    return _picked(rows, cell % ROW, anchor, config)


def gradients(
    maps: Sequence[Array],
    predictors: Predictors,
    index: Array,
    of_logits: Array,
    of_deltas: Array,
    config: RPNConfig,
) -> tuple[list[Array], Predictors]:
    """Gradients of the predictions of sampled anchors.

    Args:
        maps: As of `predict`.
        predictors: Likewise.
        index: int [B, S].
        of_logits: float [B, S], the gradient of a loss with respect to what `sampled_predictions` returns.
        of_deltas: float [B, S, 4], likewise.
        config: As of `by_kind`.

    Returns:
        The gradients with respect to ``maps`` and ``predictors``.
    """
    sizes = [(x.shape[1], x.shape[2]) for x in maps]
    outputs, dtype = predictors.scores.shape[1] + predictors.boxes.shape[1], predictors.scores.dtype
    ends = _row_ends(sizes)

    def of_rows(index, of_logits, of_deltas):
        cell, anchor = _places(sizes, index, config.anchors.per_cell)
        empty = jnp.zeros((outputs, len(index), ROW), dtype)
        pick = lambda rows: _picked(rows, cell % ROW, anchor, config)  # noqa: E731
        (rows,) = jax.vjp(pick, empty)[1]((of_logits, of_deltas))
        # Each row to its place by a product, in place of a scatter: every value is that of one anchor.
        own = (jnp.arange(ends[-1])[None] == (cell // ROW)[:, None]).astype(dtype)  # [S, rows of all levels]
        of_bias = rows.sum((1, 2), dtype=jnp.promote_types(dtype, jnp.float32))
        return jnp.einsum("sr,osl->orl", own, rows, precision="highest"), of_bias

    of_values, of_bias = jax.vmap(of_rows)(index, of_logits, of_deltas)  # [B, O, rows, 128]
    of_levels = []
    for (height, width), end in zip(sizes, ends, strict=True):
        first = end - -(-height * width // ROW)
        level = of_values[:, :, first:end].reshape(len(index), outputs, -1)[..., : height * width]
        of_levels.append(level.reshape(len(index), outputs, height, width))
    pull = jax.vjp(products, list(maps), predictors.scores, predictors.boxes)[1]
    of_maps, of_scores, of_boxes = pull(of_levels)
    of_score_bias, of_box_bias = jnp.split(of_bias.sum(0).astype(dtype), [of_scores.shape[1]])
    return of_maps, Predictors(of_scores, of_score_bias, of_boxes, of_box_bias)


def _row_ends(sizes):
    """The end of each level, in rows of cells, if the levels follow each other."""
    return np.cumsum([-(-height * width // ROW) for height, width in sizes])


def _places(sizes, index, per_cell):
    """The cells of anchors, counted with those that fill up each level, and their places in the cell; [S]."""
    cells = [height * width for height, width in sizes]
    filled = jnp.asarray(np.diff(_row_ends(sizes), prepend=0) * ROW - cells, index.dtype)  # of each level
    cell = index // per_cell
    passed = cell[:, None] >= jnp.asarray(np.cumsum(cells), index.dtype)[None]  # [S, L]
    return cell + jnp.where(passed, filled[None], 0).sum(1, dtype=index.dtype), index % per_cell


def _picked(rows, lane, anchor, config):
    """Logits [S] and deltas [S, 4] of one anchor each, out of rows of 128 cells, [O, S, 128]."""
    own = jnp.arange(ROW)[None] == lane[:, None]
    logits, deltas = by_kind(jnp.where(own[None], rows, 0).sum(-1, dtype=rows.dtype), config)
    mine = jnp.arange(config.anchors.per_cell)[:, None] == anchor[None]  # [A, S]
    dtype = jnp.promote_types(rows.dtype, jnp.float32)
    logits = jnp.where(mine, logits, 0).sum(0, dtype=dtype)
    return logits, jnp.where(mine[:, None], deltas, 0).sum(0, dtype=dtype).T
