"""Exact greedy non-maximum suppression with static shapes.

Shape legend: N boxes, T the number of boxes in a tile.

Greedy NMS visits the boxes by descending score and keeps a box unless a kept box overlaps it by more than
the threshold. Conventions of all functions here: a box whose IoU equals the threshold is kept
(`boxes.exceeds`); the lower index comes first among equal scores; boxes that are not valid, or whose score is
NaN, are not kept and do not suppress others. Nothing is differentiable.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.boxes import box_iou, exceeds
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_numbers, check_whole, float_if_whole
from jaxmaskrcnn.ops.top_k import top_k

# Boxes per tile: the overlap matrix in memory is [N, T].
_TILE = 256
# Boxes that `limited_nms` settles at once: of a trained detector mostly all above its score threshold.
_CANDIDATES = 1024


def nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float,
    valid: ArrayLike | None = None,
    *,
    ordered: bool = False,
    implementation: str | None = None,
) -> Array:
    """Greedy non-maximum suppression; keeps the same boxes as torchvision's ``nms``.

    Args:
        boxes: [N, 4], XYXY in pixels.
        scores: [N].
        iou_threshold: A box is dropped if its IoU with a kept box of a higher score is larger than this. A
            Python number is compared in float64, like torchvision on a CPU; an array is compared in its own
            dtype, like torchvision on a GPU and MMDetection, which use float32.
        valid: bool [N], None for all.
        ordered: Whether the valid boxes already come by descending score, as from `top_k`. They are then not
            sorted.
        implementation: How a tile is compared with the tiles of higher scores: "tile_by_tile" (as on CPUs),
            "at_once" (as on accelerators), or None for the faster on the platform that a program is compiled
            for.

    Returns:
        bool [N], the boxes that are kept, in input order.

    Raises:
        ValueError: An array has another shape, the threshold is negative, or ``implementation`` is unknown.

    Example:
        >>> nms(jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]]), jnp.array([0.5, 0.9, 0.1]), 0.5)
        Array([False,  True,  True], dtype=bool)
    """
    _check("nms", boxes, scores, None, valid, iou_threshold)
    return _greedy(boxes, scores, None, iou_threshold, valid, implementation, ordered)


def batched_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    ids: ArrayLike,
    iou_threshold: float,
    valid: ArrayLike | None = None,
    *,
    implementation: str | None = None,
) -> Array:
    """Greedy non-maximum suppression within groups (classes or pyramid levels).

    Ids are compared directly. torchvision and MMDetection instead move the groups apart by an offset,
    which rounds the coordinates; that rounding is not reproduced.

    Args:
        boxes: [N, 4], XYXY in pixels.
        scores: [N].
        ids: int [N]; only boxes of equal ids suppress each other.
        iou_threshold: As in :func:`nms`.
        valid: bool [N], None for all.
        implementation: As in :func:`nms`.

    Returns:
        bool [N], the boxes that are kept, in input order.

    Raises:
        ValueError: An array has another shape, the threshold is negative, or ``implementation`` is unknown.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5]])
        >>> batched_nms(boxes, jnp.array([0.5, 0.9]), jnp.array([0, 1]), 0.5).tolist()
        [True, True]
    """
    _check("batched_nms", boxes, scores, ids, valid, iou_threshold)
    return _greedy(boxes, scores, ids, iou_threshold, valid, implementation, ordered=False)


def limited_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    ids: ArrayLike,
    iou_threshold: float,
    limit: int,
    valid: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The first ``limit`` boxes that :func:`batched_nms` keeps, best first.

    The best 1024 boxes are settled first. Only if fewer than ``limit`` of them are kept, the next best ones
    follow. Memory grows with N instead of N squared. This suits many boxes and few detections, as in
    torchvision's and Detectron2's box heads, where every proposal has a box for every class.

    Args:
        boxes: [N, 4], XYXY in pixels.
        scores: [N].
        ids: int [N]; only boxes of equal ids suppress each other.
        iou_threshold: As in :func:`nms`.
        limit: Largest number of boxes to return, static.
        valid: bool [N], None for all.

    Returns:
        (index int32 [limit], valid bool [limit]); where fewer boxes are kept, the rest has
        index 0 and is not valid.

    Raises:
        ValueError: An array has another shape, the threshold is negative, or ``limit`` is no whole number of
            at least 0.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]])
        >>> index, valid = limited_nms(boxes, jnp.array([0.5, 0.9, 0.1]), jnp.zeros(3, int), 0.5, 3)
        >>> index.tolist(), valid.tolist()
        ([1, 2, 0], [True, True, False])
    """
    _check("limited_nms", boxes, scores, ids, valid, iou_threshold)
    check_whole("limited_nms", 0, limit=limit)
    boxes, scores, alive = _prepare(boxes, scores, valid)
    ids, n = jnp.asarray(ids), boxes.shape[0]
    if n == 0 or limit == 0:
        return jnp.zeros(limit, jnp.int32), jnp.zeros(limit, bool)
    # Zeros of either sign are equal, but `top_k` would put one before the other.
    scores = _remaining(jnp.where(scores == 0, 0, scores), alive)
    place, slot = jnp.arange(n, dtype=jnp.int32), jnp.arange(limit, dtype=jnp.int32)

    def settle_best(state):
        remaining, index, count = state
        best, candidate = top_k(remaining, min(_CANDIDATES, n))
        own = boxes[candidate], ids[candidate]
        over = _over(boxes[index], ids[index], *own, iou_threshold=iou_threshold)
        free = (best > -jnp.inf) & ~(over & (slot < count)[:, None]).any(0)
        keep = _greedy(own[0], best, own[1], iou_threshold, free, None, ordered=True)
        slots = count + jnp.cumsum(keep, dtype=jnp.int32) - 1
        new = keep[:, None] & (slots[:, None] == slot[None])
        index = index + jnp.where(new, candidate[:, None], 0).sum(0, dtype=jnp.int32)
        count = jnp.minimum(count + keep.sum(dtype=jnp.int32), limit)
        last, last_place = best[-1], candidate[-1]
        settled = (remaining > last) | ((remaining == last) & (place <= last_place))
        return jnp.where(settled, -jnp.inf, remaining), index, count

    def more(state):
        return (state[2] < limit) & (state[0] > -jnp.inf).any()

    start = scores, jnp.zeros(limit, jnp.int32), jnp.int32(0)
    _, index, count = jax.lax.while_loop(more, settle_best, start)
    return index, slot < count


def best_first(
    boxes: ArrayLike,
    scores: ArrayLike,
    ids: ArrayLike,
    limit: int,
    valid: ArrayLike | None,
    settle: Callable[[Array, Array, Array], Array],
) -> tuple[Array, Array, Array]:
    """Take the best remaining box again and again, and change the scores of the others.

    Args:
        boxes: [N, 4], XYXY in pixels.
        scores: [N].
        ids: int [N], the boxes' groups.
        limit: Number of rounds, static.
        valid: bool [N], None for all.
        settle: Returns the remaining scores [N], -inf for boxes that are removed, from those before, the IoUs
            of all boxes with the one that was taken, and whether they are of its group.

    Returns:
        (index int32 [limit], score [limit] when it was taken, valid bool [limit]); where no box is left, the
        index is 0 and not valid.
    """
    boxes, scores, alive = _prepare(boxes, scores, valid)
    ids = jnp.asarray(ids)
    if boxes.shape[0] == 0:
        return jnp.zeros(limit, jnp.int32), jnp.zeros(limit, scores.dtype), jnp.zeros(limit, bool)
    scores = _remaining(scores, alive)

    place = jnp.arange(len(scores))

    def looked_up(best):
        return boxes[best], ids[best]

    def summed(best):
        # Without a look-up, for which XLA:TPU would copy all boxes into another order in every round.
        own = place == best
        return jnp.where(own[:, None], boxes, 0).sum(0, dtype=boxes.dtype), jnp.where(own, ids, 0).sum(
            dtype=ids.dtype
        )

    def take_best(remaining, _):
        best = jnp.argmax(remaining)
        score = remaining[best]
        found = score > -jnp.inf
        box, own_id = jax.lax.platform_dependent(best, tpu=summed, default=looked_up)
        settled = settle(remaining, box_iou(box[None], boxes)[0], ids == own_id)
        # A box without area has no overlap with itself, but must not be taken twice.
        remaining = settled.at[best].set(-jnp.inf)
        return remaining, (jnp.where(found, best, 0).astype(jnp.int32), score, found)

    _, (index, score, found) = jax.lax.scan(take_best, scores, length=limit)
    return index, score, found


def _greedy(boxes, scores, ids, iou_threshold, valid, implementation, ordered):
    """Greedy NMS tile by tile over the boxes sorted by score, which `ordered` says they are."""
    if implementation not in (None, "tile_by_tile", "at_once"):
        raise ValueError(
            f'nms: implementation is {implementation!r}; choose "tile_by_tile", "at_once" or None.'
        )
    boxes, scores, valid = _prepare(boxes, scores, valid)
    n = boxes.shape[0]
    if n == 0:
        return jnp.zeros(0, bool)
    if not ordered:
        order = jnp.argsort(jnp.where(valid, -scores, jnp.inf), stable=True)
        ids = None if ids is None else jnp.asarray(ids)[order]
        keep = _greedy(boxes[order], scores[order], ids, iou_threshold, valid[order], implementation, True)
        return jnp.zeros(n, bool).at[order].set(keep)

    tile = min(_TILE, n)
    padding = -n % tile
    boxes = jnp.pad(boxes, ((0, padding), (0, 0)))
    valid = jnp.pad(valid, (0, padding))
    ids = None if ids is None else jnp.pad(ids, (0, padding))
    earlier = jnp.triu(jnp.ones((tile, tile), bool), 1)  # [i, j]: i comes before j

    def over(number, others):
        """bool [T, T]: whether each box of the tile ``others`` overlaps each of the tile ``number``."""
        first, second = (
            jax.tree.map(lambda x, k=k: jax.lax.dynamic_slice_in_dim(x, k * tile, tile), (boxes, ids))
            for k in (others, number)
        )
        return _over(*first, *second, iou_threshold=iou_threshold)

    def suppressed_tile_by_tile(number, keep):
        def look(others, found):
            kept = jax.lax.dynamic_slice_in_dim(keep, others * tile, tile)
            return found | (over(number, others) & kept[:, None]).any(axis=0)

        return jax.lax.fori_loop(0, number, look, jnp.zeros(tile, bool))

    def suppressed_at_once(number, keep):
        own = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, number * tile, tile), (boxes, ids))
        # `keep` is still False from this tile on, so only boxes of earlier tiles suppress.
        return (_over(boxes, ids, *own, iou_threshold=iou_threshold) & keep[:, None]).any(axis=0)

    def settle_tile(number, keep):
        # Half of the overlaps are not needed. On accelerators it takes longer to leave them out. On a CPU NMS
        # of five times 2000 boxes then takes 46 to 50 ms of processor time instead of 185 ms
        # (docs/benchmarks.md).
        if implementation is None:
            suppressed = jax.lax.platform_dependent(
                number, keep, cpu=suppressed_tile_by_tile, default=suppressed_at_once
            )
        else:
            chosen = suppressed_tile_by_tile if implementation == "tile_by_tile" else suppressed_at_once
            suppressed = chosen(number, keep)
        candidates = jax.lax.dynamic_slice_in_dim(valid, number * tile, tile) & ~suppressed
        own = _settle(candidates, over(number, number) & earlier)
        return jax.lax.dynamic_update_slice_in_dim(keep, own, number * tile, 0)

    if n <= tile:
        # Nothing comes before the only tile; a loop of one round would be slow to compile.
        keep = _settle(valid, _over(boxes, ids, boxes, ids, iou_threshold) & earlier)
    else:
        keep = jnp.zeros(n + padding, bool)
        keep = jax.lax.fori_loop(0, (n + padding) // tile, settle_tile, keep)
    return keep[:n]


def _over(boxes, ids, others, other_ids, iou_threshold):
    """bool [N, K]: whether each box would suppress each other one if it was kept and had a higher score."""
    over = exceeds(box_iou(boxes, others), iou_threshold)
    return over if ids is None else over & (ids[:, None] == other_ids[None])


def _settle(candidates, over):
    """Greedy NMS inside of a tile, as the fixed point of "keep what no kept box suppresses".

    After k rounds the first k boxes are final, because they only depend on earlier ones. So
    the fixed point exists and is the greedy result. It takes as many rounds as the longest
    chain of suppressions, usually a handful.
    """

    def changed(state):
        return (state[0] != state[1]).any()

    def update(state):
        keep = state[0]
        return candidates & ~(over & keep[:, None]).any(axis=0), keep

    return jax.lax.while_loop(changed, update, update((candidates, candidates)))[0]


def _check(function, boxes, scores, ids, valid, iou_threshold):
    check_shapes(function, boxes=(boxes, "N 4"), scores=(scores, "N"), ids=(ids, "N"), valid=(valid, "N"))
    check_numbers(function, 0, iou_threshold=iou_threshold)


def _remaining(scores, alive):
    # -inf marks boxes that are removed, so a score of -inf has to become finite.
    return jnp.where(alive, jnp.maximum(scores, jnp.finfo(scores.dtype).min), -jnp.inf)


def _prepare(boxes, scores, valid):
    # Scores are negated to be sorted, which unsigned ones cannot be.
    boxes, scores = jax.lax.stop_gradient((jnp.asarray(boxes), float_if_whole(scores)))
    scored = ~jnp.isnan(scores)
    return boxes, scores, scored if valid is None else scored & valid
