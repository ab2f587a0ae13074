"""Attention whose weights depend on the query and on where a key is from it, but not on the key.

It is one of the four terms of Zhu et al., "An Empirical Study of Spatial Attention Mechanisms in Deep
Networks", 2019, table 1: query content and relative position.

Shapes: N maps, h and w of the queries, i and j of the keys (i of the rows), A heads of d channels each.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_LONGEST = 1000.0  # the slowest wave's length, over two pi


def attend_to_positions(q: Array, v: Array, rows: Array, columns: Array) -> Array:
    """Return ``softmax(q rows + q columns) v``, over all keys of a square map.

    The vectors of rows are multiplied by the query of the cell with rows and columns exchanged, which the
    paper does not say: mmcv exchanges them for the columns and does not change them back, and the published
    weights were trained with that.

    Source: mmcv's ``GeneralizedAttention`` with the type "0100".

    Args:
        q: [N, h, w, A, d], h equal to w.
        v: [N, i, j, A, d].
        rows: [h, i, A, d], vectors of the differences of rows.
        columns: [w, j, A, d], those of columns.

    Returns:
        [N, h, w, A, d].

    Example:
        >>> q, v = jnp.zeros((1, 4, 4, 2, 3)), jnp.ones((1, 2, 2, 2, 3))
        >>> attend_to_positions(q, v, *[jnp.zeros((4, 2, 2, 3))] * 2).shape
        (1, 4, 4, 2, 3)
    """
    precise = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("nxyad,yiad->nayxi", q, rows, preferred_element_type=precise)[..., None]
    logits += jnp.einsum("nyxad,xjad->nayxj", q, columns, preferred_element_type=precise)[..., None, :]
    weights = jax.nn.softmax(logits, (-2, -1)).astype(q.dtype)
    return jnp.einsum("nayxij,nijad->nyxad", weights, v, preferred_element_type=precise).astype(q.dtype)


def difference_waves(count: int, stride: int, channels: int) -> np.ndarray:
    """Sines and cosines of the differences between the cells of an axis and every ``stride``-th of them.

    Args:
        count: Number of cells.
        stride: See above.
        channels: Their number, even; the first half are sines.

    Returns:
        float32 [count, count / stride rounded up, channels].

    Example:
        >>> difference_waves(3, 2, 2)[:, :, 0].round(2).tolist()
        [[0.0, -0.9100000262260437], [0.8399999737739563, -0.8399999737739563], [0.9100000262260437, 0.0]]
    """
    places = np.arange(count, dtype=np.float64)
    differences = places[:, None] - places[None, ::stride]
    lengths = _LONGEST ** (np.arange(channels // 2) / (channels // 2))
    angles = differences[..., None] / lengths
    return np.concatenate([np.sin(angles), np.cos(angles)], -1).astype(np.float32)
