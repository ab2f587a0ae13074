"""Distances of the cells of masks from the masks' edges.

Shape legend: M the side of a mask.
"""

import jax.numpy as jnp
from jax import Array


def squared_distances(inside: Array) -> Array:
    """The squared distance of every cell from the nearest cell that is True.

    Exact: along the rows first, then along the columns, each by comparing all pairs (Felzenszwalb and
    Huttenlocher, "Distance Transforms of Sampled Functions", 2012, in their plain form).

    Args:
        inside: bool [M, M].

    Returns:
        float32 [M, M], 0 in the cells that are True; at least ``2 * M ** 2`` everywhere if none is.

    Example:
        >>> squared_distances(jnp.array([[True, False, False], [False] * 3, [False] * 3]))[2].tolist()
        [4.0, 5.0, 8.0]
    """
    side = inside.shape[-1]
    apart = (jnp.arange(side)[:, None] - jnp.arange(side)) ** 2  # [M, M]
    far = 2 * side**2
    along_row = jnp.where(inside[:, None, :], apart, far).min(-1)  # [row, column]
    return (along_row.T[:, None, :] + apart).min(-1).T.astype(jnp.float32)


def signed_distances(inside: Array) -> Array:
    """The distance of every cell from the mask: negative inside, with 0 in the outermost cells of the mask.

    Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", 2019, whose code adds the
    distance of outer cells from the mask and of inner ones from its outside, less one cell.

    Args:
        inside: bool [M, M].

    Returns:
        float32 [M, M] in cells; zeros for a mask that is empty or full, which has no edge.

    Example:
        >>> signed_distances(jnp.array([[True, True, False]] * 3))[0].tolist()
        [-1.0, 0.0, 1.0]
    """
    outer, inner = jnp.sqrt(squared_distances(inside)), jnp.sqrt(squared_distances(~inside))
    edge = inside.any() & ~inside.all()
    return jnp.where(edge, jnp.where(inside, 1 - inner, outer), 0)
