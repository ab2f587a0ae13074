"""Soft-NMS (Bodla et al., 2017): boxes that overlap a better one lose a part of their score.

Shapes: N boxes, D boxes that are wanted.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.nms import best_first
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_numbers, check_whole

DECAYS = ("linear", "gaussian", "naive")


def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    ids: ArrayLike,
    iou_threshold: float,
    limit: int,
    valid: ArrayLike | None = None,
    *,
    decay: str = "linear",
    sigma: float = 0.5,
    min_score: float = 1e-3,
) -> tuple[Array, Array, Array]:
    """The first ``limit`` boxes that Soft-NMS takes within groups (classes), best first.

    The best remaining box is taken, and the scores of all others of its group are multiplied by a number that
    depends on their IoU with it. Boxes whose score then is below ``min_score`` are dropped. Only the
    ``limit`` rounds whose boxes are wanted are computed, as in :func:`limited_nms`.

    Source: Bodla et al., 2017, section 3; mmcv's ``soft_nms``, which keeps boxes of other groups apart by an
    offset that rounds their coordinates.

    Args:
        boxes: [N, 4], XYXY in pixels.
        scores: [N].
        ids: int [N]; only boxes of equal ids change each other's scores.
        iou_threshold: The IoU from which "linear" and "naive" change a score, compared in float32.
        limit: Largest number of boxes to return, static.
        valid: bool [N], None for all.
        decay: The factor: "linear" 1 - IoU from the threshold on, "gaussian" exp(-IoU^2 / sigma) always,
            "naive" 0 from the threshold on.
        sigma: See ``decay``.
        min_score: See above.

    Returns:
        (index int32 [limit], score [limit], valid bool [limit]); where fewer boxes are left, the rest has
        index 0, and is not valid.

    Raises:
        ValueError: An array has another shape, a number is negative, ``limit`` is no whole number of at least
            0, or ``decay`` is unknown.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]])
        >>> index, score, valid = soft_nms(boxes, jnp.array([0.5, 0.9, 0.3]), jnp.zeros(3, int), 0.5, 3)
        >>> index.tolist(), score.round(2).tolist()
        ([1, 2, 0], [0.8999999761581421, 0.30000001192092896, 0.10000000149011612])
    """
    check_shapes("soft_nms", boxes=(boxes, "N 4"), scores=(scores, "N"), ids=(ids, "N"), valid=(valid, "N"))
    check_numbers("soft_nms", 0, iou_threshold=iou_threshold, sigma=sigma, min_score=min_score)
    check_whole("soft_nms", 0, limit=limit)
    if decay not in DECAYS:
        known = ", ".join(map(repr, DECAYS))
        raise ValueError(f"soft_nms: decay is {decay!r}; choose one of {known}.")

    def reduce(remaining, iou, same):
        if decay == "gaussian":
            factor = jnp.exp(-(iou * iou) / sigma)
        else:
            over = iou >= jnp.asarray(iou_threshold, iou.dtype)
            factor = jnp.where(over, 1 - iou if decay == "linear" else 0, 1)
        # What is removed stays so: 0 times -inf is no number.
        changed = jnp.where(same & (remaining > -jnp.inf), remaining * factor, remaining)
        return jnp.where(changed < min_score, -jnp.inf, changed)

    return best_first(boxes, scores, ids, limit, valid, reduce)
