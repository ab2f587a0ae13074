"""Attention with decomposed relative positions, a vector for each difference of rows and one of columns.

Shapes: N maps or windows, h and w of the queries, i and j of the keys, r of the h rows, A heads of d
channels each.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

QUERIES = 512  # that attend to a whole map at a time, which bounds the memory of global attention


def attend(q: Array, k: Array, v: Array, rows: Array, columns: Array, seen: Array | None) -> Array:
    """Attention with decomposed relative positions: ``softmax(q k / sqrt(d) + q R_rows + q R_columns) v``.

    Source: MViTv2 (Li et al., 2022, equation 4); Detectron2's ``add_decomposed_rel_pos``, where the queries
    that multiply the positions are not scaled.

    Args:
        q: [N, r, w, A, d], queries of some rows of a map.
        k: [N, i, j, A, d], the whole map's keys.
        v: [N, i, j, A, d], their values.
        rows: [N or 1, r, i, d], vectors of the differences of rows.
        columns: [N or 1, w, j, d], those of columns.
        seen: bool [N, i, j], keys that are attended to; None for all.

    Returns:
        [N, r, w, A, d].
    """
    precise = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("nyxad,nijad->nayxij", q * q.shape[-1] ** -0.5, k, preferred_element_type=precise)
    rows, columns = (jnp.broadcast_to(x, (len(q), *x.shape[1:])).astype(q.dtype) for x in (rows, columns))
    logits += jnp.einsum("nyxad,nyid->nayxi", q, rows, preferred_element_type=precise)[..., None]
    logits += jnp.einsum("nyxad,nxjd->nayxj", q, columns, preferred_element_type=precise)[..., None, :]
    if seen is not None:
        logits = jnp.where(seen[:, None, None, None], logits, jnp.finfo(precise).min)
    shape = logits.shape
    weights = jax.nn.softmax(logits.reshape(*shape[:4], -1), -1).astype(q.dtype).reshape(shape)
    return jnp.einsum("nayxij,nijad->nyxad", weights, v)


def attend_in_pieces(
    q: Array, k: Array, v: Array, rows: Array, columns: Array, seen: Array | None, queries: int = QUERIES
) -> Array:
    """The same for all rows of a map, some at a time.

    64 x 64 cells with 12 heads have logits of 805 MB; 512 of them at a time, of 101 MB. The gradient
    recomputes each piece.

    Args:
        q: [N, h, w, A, d]; the others as in `attend`, with r = h.
        k: [N, i, j, A, d].
        v: [N, i, j, A, d].
        rows: [N or 1, h, i, d].
        columns: [N or 1, w, j, d].
        seen: bool [N, i, j], or None.
        queries: About how many cells attend at a time.

    Returns:
        [N, h, w, A, d].
    """
    n, h, w, heads, d = q.shape
    size = max(1, queries // w)
    if size >= h:
        return attend(q, k, v, rows, columns, seen)
    count = -(-h // size)
    pad = ((0, 0), (0, count * size - h))
    q = jnp.pad(q, (*pad, (0, 0), (0, 0), (0, 0))).reshape(n, count, size, w, heads, d).swapaxes(0, 1)
    pieces = (
        jnp.pad(rows, (*pad, (0, 0), (0, 0))).reshape(len(rows), count, size, *rows.shape[2:]).swapaxes(0, 1)
    )

    @jax.checkpoint
    def one(piece):
        return attend(piece[0], k, v, piece[1], columns, seen)

    x = jax.lax.map(one, (q, pieces)).swapaxes(0, 1)
    return x.reshape(n, count * size, w, heads, d)[:, :h]
