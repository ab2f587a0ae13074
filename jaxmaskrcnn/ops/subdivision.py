"""Which points of a region PointRend's point head predicts, in training and in a prediction.

Kirillov et al., 2019, section 3.1. A point is uncertain if the logit of its region's class is near 0. All
counts are static.

Shape legend: R regions, P points of a region, S the side of a region's map.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxmaskrcnn.ops.keypoints import double_bilinear
from jaxmaskrcnn.ops.points import grid_points, points_of_cells, sample_region_maps
from jaxmaskrcnn.ops.top_k import top_k


def training_points(key: Array, logits: Array, count: int, oversampling: float, importance: float) -> Array:
    """Draw the points that are learned from: most of them uncertain, the others anywhere.

    Args:
        key: Random key, a scalar. A region's points do not depend on how many regions follow.
        logits: float [R, S, S], coarse masks of the regions' own classes.
        count: P, points of a region.
        oversampling: ``count`` times this many points are drawn, of which the most uncertain ones are taken.
        importance: Share of the points that are taken from these, rounded down.

    Returns:
        float32 [R, P, 2], from 0 to 1, the uncertain ones first.

    Example:
        >>> logits = jnp.broadcast_to(jnp.array([-3.0, 3.0]), (1, 2, 2))  # the edge is in the middle
        >>> points = training_points(jax.random.key(0), logits, 8, 3.0, 0.75)
        >>> points.shape, bool((abs(points[0, :6, 0] - 0.5) < 0.25).all())
        ((1, 8, 2), True)
    """
    drawn, uncertain = int(count * oversampling), int(importance * count)

    def draw(region):
        first, second = jax.random.split(jax.random.fold_in(key, region))
        return jax.random.uniform(first, (drawn, 2)), jax.random.uniform(second, (count - uncertain, 2))

    candidates, others = jax.vmap(draw)(jnp.arange(logits.shape[0]))
    chosen = uncertain_points(logits, candidates, uncertain)
    return jax.lax.stop_gradient(jnp.concatenate([chosen, others], 1))


def uncertain_points(logits: Array, candidates: Array, count: int) -> Array:
    """Choose the points at which masks are nearest to their edge, interpolated there.

    Args:
        logits: float [R, S, S], coarse masks of the regions' own classes.
        candidates: float [R, N, 2], points from 0 to 1.
        count: P, number of points to choose.

    Returns:
        float [R, P, 2], the most uncertain ones first.

    Example:
        >>> logits = jnp.broadcast_to(jnp.array([-3.0, 3.0]), (1, 2, 2))
        >>> uncertain_points(logits, jnp.array([[[0.1, 0.5], [0.5, 0.5], [0.9, 0.5]]]), 1).tolist()
        [[[0.5, 0.5]]]
    """
    values = sample_region_maps(logits[..., None], candidates)[..., 0]
    _, index = jax.lax.top_k(-jnp.abs(values), count)
    return jnp.take_along_axis(candidates, index[..., None], 1)


def subdivide(
    evaluate: Callable[[Array], Array], sides: Sequence[int], count: int, first: Array | None = None,
    regions: int = 0,
) -> Array:  # fmt: skip
    """Predict masks from coarse to fine: double their sides, and predict the most uncertain cells anew.

    Args:
        evaluate: Returns the logits [R, P] at points [R, P, 2], which are from 0 to 1.
        sides: Sides of the maps, each twice the one before.
        count: Cells that are predicted anew after each subdivision.
        first: float [R, S, S], the first map; None predicts all of its cells.
        regions: R; not needed with ``first``.

    Returns:
        Logits [R, S, S] of the last map.

    Example:
        >>> disk = lambda points: 0.4 - jnp.linalg.norm(points - 0.5, axis=-1)
        >>> subdivide(disk, (4, 8, 16), 48, regions=2).shape
        (2, 16, 16)
    """
    if first is None:
        points = jnp.broadcast_to(grid_points(sides[0]), (regions, sides[0] ** 2, 2))
        first = evaluate(points).reshape(regions, sides[0], sides[0])
    logits = first
    for side in sides[1:]:
        flat = double_bilinear(logits[..., None])[..., 0].reshape(len(logits), -1)
        _, index = jax.vmap(lambda values: top_k(values, min(count, values.shape[0])))(-jnp.abs(flat))
        values = evaluate(points_of_cells(index, side)).astype(flat.dtype)
        flat = jax.vmap(lambda x, i, v: x.at[i].set(v, unique_indices=True))(flat, index, values)
        logits = flat.reshape(-1, side, side)
    return logits
