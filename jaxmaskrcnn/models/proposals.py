"""Proposals (Ren et al., 2015, section 3.3): decode, clip, best of each level, NMS, best of all levels.

Shapes: L levels, N anchors of an image over all levels, S selected of each level, P proposal slots.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import RPNConfig
from jaxmaskrcnn.ops.boxes import clip_boxes, decode_boxes
from jaxmaskrcnn.ops.nms import nms
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.top_k import top_k
from jaxmaskrcnn.structures import Anchors, Proposals

Array = jax.Array


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
