"""Assigns targets to anchors and proposals: matching and sampling, by the libraries' conventions.

Shapes: N anchors or proposals, P proposal slots, G ground-truth slots, R sampled regions, K object
classes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import RegionConfig, RPNConfig
from jaxmaskrcnn.ops.boxes import box_iof, box_iou
from jaxmaskrcnn.ops.matching import match
from jaxmaskrcnn.ops.sampling import index_priority, random_priority, sample
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty
from jaxmaskrcnn.structures import Proposals, Targets

Array = jax.Array


class Regions(NamedTuple):
    """Sampled regions of one image; the positive ones come first.

    Attributes:
        boxes: float32 [R, 4].
        labels: int32 [R], 0 to K - 1; meaningless where not positive.
        matched: int32 [R], the ground-truth slot that a positive region is matched with.
        positive: bool [R].
        valid: bool [R], False in slots that sampling could not fill.
        ground_truth: bool [R], which of them are objects that were added to the proposals; None if unknown.

    Example:
        >>> slots = [jnp.zeros(4, dtype) for dtype in (int, int, bool, bool)]
        >>> Regions(jnp.zeros((4, 4)), *slots).positive.sum()
        Array(0, dtype=int32)
    """

    boxes: Array
    labels: Array
    matched: Array
    positive: Array
    valid: Array
    ground_truth: Array | None = None


def sort_targets(targets: Targets) -> tuple[Targets, Array]:
    """Sorts ground truth by its values, so that its order in a file has no effect.

    Otherwise the order would matter where ties in matching go to the first object and where sampling cuts
    the list. Padded slots go last. Masks are not sorted, because they are large.

    Args:
        targets: Ground truth of one image.

    Returns:
        Targets with ``masks=None``, and int [G]: the original slot of each sorted one.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 4, 3]])
        >>> valid = jnp.array([True, False, True])
        >>> sort_targets(Targets(boxes, jnp.zeros(3, int), None, ~valid, valid))[1].tolist()
        [2, 0, 1]
    """
    boxes = targets.boxes
    keys = (targets.labels, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], ~targets.valid)
    order = jnp.lexsort(keys)
    return (
        Targets(boxes[order], targets.labels[order], None, targets.crowd[order], targets.valid[order]),
        order,
    )


def match_boxes(
    boxes: Array, valid: Array, targets: Targets, config: RPNConfig | RegionConfig, **rules: Any
) -> tuple[Array, Array]:
    """Match anchors or proposals to the objects of one image; crowd regions are not objects.

    A box that would be background is neither positive nor negative if a crowd region contains at least
    ``crowd_overlap`` of its area, and more than 0. torchvision, Detectron2 and MMDetection drop crowd
    regions.

    Args:
        boxes: float [N, 4].
        valid: bool [N]; the others get the label -1.
        targets: Ground truth of one image.
        config: Gives the crowd rule and ``iou_epsilon``.
        **rules: Thresholds and low-quality rule of `jaxmaskrcnn.ops.matching.match`.

    Returns:
        int32 [N] matched slot, int32 [N] label (1 object, 0 background, -1 ignored).

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> crowd = jnp.array([False, True])
        >>> objects = jnp.array([[0.0, 0, 8, 8], [20, 0, 40, 8]])
        >>> targets = Targets(objects, jnp.zeros(2, int), None, crowd, ~crowd | crowd)
        >>> boxes = jnp.array([[0.0, 0, 8, 8], [22, 0, 30, 8], [50, 50, 60, 60]])
        >>> valid = jnp.ones(3, bool)
        >>> rules = {"foreground_iou": 0.5, "background_iou": 0.5}
        >>> match = jax.jit(lambda *arrays: match_boxes(*arrays, RegionConfig(), **rules))
        >>> match(boxes, valid, targets)[1].tolist()
        [1, -1, 0]
    """
    check_shapes("match_boxes", boxes=(boxes, "N 4"), valid=(valid, "N"))
    objects = targets.valid & ~targets.crowd
    iou = box_iou(targets.boxes, boxes, epsilon=config.iou_epsilon)
    # A padded box must not become any object's best match.
    iou = jnp.where(valid[None, :], iou, -1)
    matched, label = match(iou, objects, **rules)
    if config.crowd == "ignore":
        inside = box_iof(boxes, targets.boxes)  # [N, G]
        inside = jnp.where((targets.valid & targets.crowd)[None, :], inside, 0).max(-1, initial=0)
        ignored = (inside > 0) & (inside >= config.crowd_overlap)
        label = jnp.where((label == 0) & ignored, -1, label)
    return matched, jnp.where(valid, label, -1)


def sample_regions(
    proposals: Proposals,
    targets: Targets,
    config: RegionConfig,
    foreground_iou: float,
    rng: Array | None,
    priority: Array | None = None,
) -> Regions:
    """Add the ground truth to the proposals, match them, and sample the regions that the heads learn from.

    Source: Mask R-CNN, section 3.1 (training); torchvision ``select_training_samples``, Detectron2
    ``label_and_sample_proposals``.

    Args:
        proposals: Proposals of one image.
        targets: Ground truth of the same image.
        config: Gives the sample size and the conventions.
        foreground_iou: A region with at least this IoU is positive, every other one negative.
        rng: Key of the sampler, a scalar; None takes the lowest indices. The draw of a proposal does not
            depend on how many padded slots follow it.
        priority: float [P + G], finite; of objects and of background the `region_candidates` with the largest
            are taken. None draws them.

    Returns:
        Regions, R = ``config.batch_size``.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> proposals = Proposals(box + 20, jnp.zeros(1), one)
        >>> choose = jax.jit(sample_regions, static_argnames=("config", "foreground_iou"))
        >>> regions = choose(proposals, targets, RegionConfig(batch_size=4), 0.5, None)
        >>> regions.positive.tolist(), regions.valid.tolist(), regions.labels.tolist()[0]
        ([True, False, False, False], [True, True, False, False], 2)
    """
    check_shapes("sample_regions", boxes=(proposals.boxes, "P 4"), valid=(proposals.valid, "P"))
    targets, order = sort_targets(one_row_if_empty(targets))
    if priority is None and rng is None:
        priority = index_priority(proposals.valid.shape[0] + targets.valid.shape[0])
    elif priority is None:
        assert rng is not None
        keys = jax.random.split(rng)
        parts = (
            random_priority(keys[0], proposals.valid.shape[0]),
            random_priority(keys[1], targets.valid.shape[0]),
        )
        priority = jnp.concatenate(parts if config.ground_truth_proposals == "append" else parts[::-1])
    boxes, valid, added = _candidates(proposals, targets, config)
    matched, label = match_boxes(boxes, valid, targets, config, **_region_rules(config, foreground_iou))
    chosen = sample(label, priority, config.batch_size, config.positive_fraction)
    matched = matched[chosen.index]
    return Regions(
        boxes=jnp.where(chosen.valid[:, None], boxes[chosen.index], 0),
        labels=targets.labels[matched],
        matched=order[matched],
        positive=chosen.positive,
        valid=chosen.valid,
        ground_truth=added[chosen.index] & chosen.valid,
    )


def region_candidates(
    proposals: Proposals, targets: Targets, config: RegionConfig, foreground_iou: float
) -> Regions:
    """All that `sample_regions` chooses from, matched with the objects: proposals and the objects themselves.

    Source: Shrivastava et al., "Online Hard Example Mining", 2016, section 4, where all of them are read.

    Args:
        proposals: Proposals of one image.
        targets: Ground truth of the same image.
        config: Gives the conventions.
        foreground_iou: As in `sample_regions`.

    Returns:
        Regions, R = P + G; positive ones at any place.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> region_candidates(Proposals(box + 20, jnp.zeros(1), one), targets, RegionConfig(), 0.5).positive
        Array([False,  True], dtype=bool)
    """
    targets = one_row_if_empty(targets)
    boxes, valid, _ = _candidates(proposals, sort_targets(targets)[0], config)
    return match_regions(boxes, valid, targets, config, foreground_iou)


def _candidates(proposals: Proposals, targets: Targets, config: RegionConfig) -> tuple[Array, Array, Array]:
    """Boxes [P + G, 4], whether they count, and which are objects, from targets in their sorted order."""
    objects = targets.valid & ~targets.crowd
    boxes, valid = (proposals.boxes, targets.boxes), (proposals.valid, objects)
    added = (jnp.zeros_like(proposals.valid), objects)
    if config.ground_truth_proposals == "prepend":
        boxes, valid, added = boxes[::-1], valid[::-1], added[::-1]
    return jax.lax.stop_gradient(jnp.concatenate(boxes)), jnp.concatenate(valid), jnp.concatenate(added)


def match_regions(
    boxes: Array, valid: Array, targets: Targets, config: RegionConfig, foreground_iou: float
) -> Regions:
    """Match boxes with the objects of one image, and make a region of every one, without sampling.

    Source: Cascade R-CNN, section 4.1; Detectron2 ``CascadeROIHeads._match_and_label_boxes``.

    Args:
        boxes: float [R, 4].
        valid: bool [R].
        targets: Ground truth of the same image.
        config: Gives the conventions.
        foreground_iou: A box with at least this IoU is positive, every other one negative.

    Returns:
        Regions in the order of the boxes, so positive ones are at any place.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> box, one = jnp.array([[0.0, 0, 8, 8]]), jnp.ones(1, bool)
        >>> targets = Targets(box, jnp.array([2]), None, ~one, one)
        >>> match = jax.jit(match_regions, static_argnames=("config", "foreground_iou"))
        >>> boxes, valid = jnp.array([[20.0, 0, 28, 8], [0, 0, 8, 7]]), jnp.ones(2, bool)
        >>> match(boxes, valid, targets, RegionConfig(), 0.7).positive
        Array([False,  True], dtype=bool)
    """
    targets, order = sort_targets(one_row_if_empty(targets))
    matched, label = match_boxes(boxes, valid, targets, config, **_region_rules(config, foreground_iou))
    return Regions(
        boxes=boxes,
        labels=targets.labels[matched],
        matched=order[matched],
        positive=label == 1,
        valid=label >= 0,
        ground_truth=jnp.zeros_like(valid),
    )


def _region_rules(config: RegionConfig, foreground_iou: float) -> dict[str, Any]:
    return {
        "foreground_iou": foreground_iou,
        "background_iou": foreground_iou,
        "low_quality": None if config.low_quality == "none" else config.low_quality,
        "low_quality_min_iou": foreground_iou,
    }
