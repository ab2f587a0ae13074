"""Selects the detections of one image from the box head's output.

Shapes: P proposal slots, D detection slots, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes, DetectionConfig
from jaxmaskrcnn.losses.class_scores import class_scores
from jaxmaskrcnn.models.suppression import SUPPRESSION
from jaxmaskrcnn.ops.boxes import clip_boxes, decode_boxes
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import Detections, Proposals

Array = jax.Array


def select_detections(
    logits: Array,
    deltas: Array,
    proposals: Proposals,
    image_size: Array,
    classes: Classes,
    box: BoxConfig,
    config: DetectionConfig,
) -> Detections:
    """Select the detections of one image: score threshold, NMS, the best of the rest.

    NMS is within each class, or with ``nms_scope`` "image" among all boxes. Of some kinds of it
    (`suppression.py`) the scores are those that are left of them.

    With the ``classes_per_region`` "best" a region is of its most probable class, and of none if that is the
    background; its score may equal the threshold.

    Boxes that are not finite or have deltas that are not finite are left out, and so are proposals whose
    probabilities are not finite.

    Source: torchvision ``RoIHeads.postprocess_detections``, Detectron2 ``fast_rcnn_inference``.

    Args:
        logits: float [P, K + 1], or [S, P, K + 1] of S stages.
        deltas: float [P, box channels, 4], of the last stage.
        proposals: P slots, with the boxes that the deltas refine.
        image_size: int [2], the image without padding, to which boxes are clipped; or a window, [4] XYXY.
        classes: Gives the number of classes and the position of the background.
        box: Gives the rules by which deltas are decoded and the stages' scores averaged.
        config: Gives the thresholds and limits.

    Returns:
        Detections with D slots and ``masks=None``.

    Raises:
        ValueError: An array has another shape.
    """
    k, offset = classes.count, classes.offset
    check_shapes(
        "select_detections",
        boxes=(proposals.boxes, "P 4"),
        valid=(proposals.valid, "P"),
        logits=(logits, f"{'S ' * (logits.ndim == 3)}P {classes.logits}"),
        deltas=(deltas, f"P {1 if box.class_agnostic else k + offset} 4"),
    )
    ranking, scores = _class_scores(logits, box)
    ranking, scores, deltas, proposals = one_row_if_empty((ranking, scores, deltas, proposals))
    scores = scores[:, offset : offset + k]  # [P, K]
    if not box.class_agnostic:
        deltas = deltas[:, offset : offset + k]
    slots, per_box = deltas.shape[:2]
    deltas = deltas.reshape(-1, 4)
    boxes = decode_boxes(
        deltas, jnp.repeat(proposals.boxes, per_box, 0), box.stages[-1].box_weights, box.delta_clamp
    )
    finite = (jnp.isfinite(boxes) & jnp.isfinite(deltas)).all(-1)
    boxes = clip_boxes(jnp.where(finite[:, None], boxes, 0), image_size)
    sides = boxes[:, 2:] - boxes[:, :2]
    usable = finite & (sides >= config.min_side).all(-1)
    boxes = jnp.broadcast_to(boxes.reshape(slots, per_box, 4), (slots, k, 4)).reshape(-1, 4)
    usable = jnp.broadcast_to(usable.reshape(slots, per_box), (slots, k)) & proposals.valid[:, None]
    labels = jnp.broadcast_to(jnp.arange(k), scores.shape)
    if config.classes_per_region == "best":
        best = jnp.argmax(ranking, axis=1)[:, None] - offset  # the first of equal ones
        usable = (scores >= config.score_threshold) & usable & (best == labels)
        # One row for each region; regions of the background take any, as it is not usable.
        own = jnp.clip(best, 0, k - 1)
        boxes = jnp.take_along_axis(boxes.reshape(slots, k, 4), own[..., None], 1).reshape(-1, 4)
        scores, labels, usable = (jnp.take_along_axis(x, own, 1) for x in (scores, labels, usable))
    else:
        usable &= scores > config.score_threshold
    scores, labels, usable = scores.reshape(-1), labels.reshape(-1), usable.reshape(-1)
    groups = labels if config.nms_scope == "class" else jnp.zeros_like(labels)
    index, scores, valid = SUPPRESSION[config.nms_method](boxes, scores, groups, usable, config)
    return Detections(
        boxes=jnp.where(valid[:, None], boxes[index], 0),
        scores=jnp.where(valid, scores, 0),
        labels=jnp.where(valid, labels[index], 0),
        masks=None,
        valid=valid,
    )


def _class_scores(logits: Array, box: BoxConfig) -> tuple[Array, Array]:
    """Class probabilities, of several stages their mean.

    Args:
        logits: [P, K + 1], or [S, P, K + 1].
        box: Says what makes probabilities of logits, and of what the mean is taken: "probability"
            (Detectron2) or "logit" (MMDetection).

    Returns:
        [P, K + 1] twice: numbers with the same order as the probabilities, but without their ties, if there
        are such; and the probabilities.
    """
    kind = class_scores(box.scores)
    if logits.ndim == 3 and box.stage_scores == "probability":
        stages = kind.probabilities(logits)
        mean = sum(stages[1:], stages[0]) * (1.0 / logits.shape[0])
        return mean, mean
    mean = logits if logits.ndim == 2 else sum(logits[1:], logits[0]) / logits.shape[0]
    scores = kind.probabilities(mean)
    return (mean if kind.same_order else scores), scores
