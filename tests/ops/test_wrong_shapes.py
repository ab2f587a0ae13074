"""Wrong shapes are refused in one sentence, and empty arrays give empty results."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import losses, ops
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops.masks import paste_mask_windows
from jaxmaskrcnn.ops.shapes import check_shapes, one_row_if_empty, shape_of
from jaxmaskrcnn.ops.top_k import top_k
from jaxmaskrcnn.structures import Anchors, Proposals, Targets

N, SIZE = 3, (8, 8)
BOXES, SCORES, IDS = jnp.zeros((N, 4)), jnp.zeros(N), jnp.zeros(N, int)
MAP = jnp.zeros((*SIZE, 2))
PACKED = jnp.zeros((2, 8, 1), jnp.uint8)
CONFIG = ModelConfig(num_classes=2, background="last").replace(
    {
        "rpn.pre_nms_test": 4,
        "rpn.post_nms_test": 4,
        "rpn.batch_size": 8,
        "regions.batch_size": 4,
        "detections.per_image": 5,
        "input.test_min_size": 64,
        "input.test_max_size": 64,
    }
)


def zeros(*shape):
    return jnp.zeros(shape)


def target_slots(count, masks=True, polygons=False):
    return Targets(
        zeros(count, 4),
        jnp.zeros(count, int),
        jnp.zeros((count, 8, 1), jnp.uint8) if masks else None,
        jnp.zeros(count, bool),
        jnp.zeros(count, bool),
        zeros(count, 6, 4) if polygons else None,
        jnp.full((count, 6), -1) if polygons else None,
    )


def regions(boxes=BOXES):
    none = jnp.zeros(N, bool)
    return losses.Regions(boxes, IDS, IDS, none, none)


def proposals(boxes=BOXES, valid=IDS > 0):
    return Proposals(boxes, SCORES, valid)


def select(objectness=SCORES, deltas=BOXES, anchors=BOXES):
    return select_proposals(
        objectness, deltas, Anchors(anchors, IDS > 0), ((1, 1),), jnp.array(SIZE), CONFIG.rpn, False
    )


def detect(logits, deltas, boxes=BOXES):
    size, parts = jnp.array(SIZE), (CONFIG.classes, CONFIG.box, CONFIG.detections)
    return select_detections(logits, deltas, proposals(boxes), size, *parts)


pool = functools.partial(ops.multilevel_roi_align, sampling_ratio=2, aligned=True, spatial_scales=jnp.ones(2))
match = functools.partial(ops.match, foreground_iou=0.7, background_iou=0.3)

# The call, and what the message says beside the name of the function.
WRONG = {
    "box_area": (lambda: ops.box_area(zeros(3, 3)), r"boxes has the shape \[3, 3\].*\[\.\.\., 4\]"),
    "box_iou": (lambda: ops.box_iou(zeros(4), BOXES), r"a has the shape \[4\].*\[N, 4\]"),
    "box_iou ": (lambda: ops.box_iou(BOXES, zeros(2, 3, 4)), r"b has the shape \[2, 3, 4\].*\[M, 4\]"),
    "box_iof": (lambda: ops.box_iof(zeros(3, 5), BOXES), "a has"),
    "encode_boxes": (lambda: ops.encode_boxes(BOXES, zeros(3, 8), (1, 1, 1, 1)), "targets has"),
    "encode_boxes ": (lambda: ops.encode_boxes(BOXES, BOXES, (1, 1)), r"weights has the shape \[2\]"),
    "decode_boxes": (lambda: ops.decode_boxes(zeros(3, 8), BOXES, (1, 1, 1, 1)), r"deltas has .*\[3, 8\]"),
    "clip_boxes": (lambda: ops.clip_boxes(zeros(3, 2), SIZE), "boxes has"),
    "clip_boxes ": (lambda: ops.clip_boxes(BOXES, (1, 8, 8)), "image_size has"),
    "nms": (lambda: ops.nms(zeros(3, 5), SCORES, 0.5), r"boxes has the shape \[3, 5\]"),
    "nms ": (lambda: ops.nms(BOXES, zeros(3, 1), 0.5), r"scores has the shape \[3, 1\].*\[N\] with N = 3"),
    "nms  ": (lambda: ops.nms(BOXES, SCORES, 0.5, jnp.ones(2, bool)), r"valid has .* with N = 3"),
    "batched_nms": (lambda: ops.batched_nms(zeros(1, 3, 4), SCORES, IDS, 0.5), r"boxes has"),
    "batched_nms ": (lambda: ops.batched_nms(BOXES, SCORES, IDS[:1], 0.5), r"ids has"),
    "limited_nms": (lambda: ops.limited_nms(BOXES, SCORES, IDS[None], 0.5, 2), r"ids has"),
    "match": (lambda: match(zeros(2, 3), jnp.ones(3, bool)), r"valid has the shape \[3\].* with G = 2"),
    "match ": (lambda: match(zeros(1, 2, 3), jnp.ones(2, bool)), "iou has"),
    "sample": (lambda: ops.sample(IDS, SCORES[:2], 2, 0.5), "priority has"),
    "top_k": (lambda: top_k(zeros(2, 3), 1), "values has"),
    "grid_anchors": (lambda: ops.grid_anchors(zeros(3, 2), SIZE, (4, 4)), "base has"),
    "grid_anchors ": (lambda: ops.grid_anchors(BOXES, SIZE, jnp.ones(1)), "stride has"),
    "roi_align": (lambda: ops.roi_align(MAP, zeros(3, 5), 2), r"boxes has the shape \[3, 5\].*\[R, 4\]"),
    "roi_align ": (lambda: ops.roi_align(MAP, zeros(3, 3), 2), r"boxes has the shape \[3, 3\]"),
    "roi_align  ": (lambda: ops.roi_align(MAP[None], BOXES, 2), r"features has .*\[H, W, C\]"),
    "multilevel_roi_align": (lambda: pool((MAP, MAP), BOXES, IDS[:2], 2), "levels has"),
    "multilevel_roi_align ": (lambda: pool((MAP, MAP[..., :1]), BOXES, IDS, 2), "features has"),
    "multilevel_roi_align  ": (lambda: pool((MAP,), BOXES, IDS, 2), "spatial_scales has"),
    "assign_levels": (lambda: ops.assign_levels(zeros(3, 5), rule="finest_epsilon"), "boxes has"),
    "mask_targets": (
        lambda: ops.mask_targets(PACKED, 9, IDS, BOXES, 4, rule="soft"),
        r"packed has the shape \[2, 8, 1\].*\[G, H, 2\]",
    ),
    "mask_targets ": (lambda: ops.mask_targets(PACKED, 8, IDS[:1], BOXES, 4, rule="soft"), "boxes has"),
    "polygon_targets": (lambda: ops.polygon_targets(zeros(2, 5, 3), zeros(2, 5), IDS, BOXES, 4), "vertices"),
    "polygon_targets ": (lambda: ops.polygon_targets(zeros(2, 5, 2), zeros(2, 4), IDS, BOXES, 4), "parts"),
    "paste_masks": (lambda: ops.paste_masks(zeros(3, 1, 4, 4), BOXES, SIZE), r"probs has .*\[N, M, M\]"),
    "paste_masks ": (lambda: ops.paste_masks(zeros(3, 4, 4), zeros(1, 4), SIZE), r"boxes .* with N = 3"),
    "paste_mask_window": (lambda: ops.paste_mask_window(zeros(4, 4), zeros(1, 4), SIZE), "box has"),
    "paste_mask_windows": (lambda: paste_mask_windows(zeros(3, 4, 5), BOXES, SIZE), "probs has"),
    "rpn_losses": (
        lambda: losses.rpn_losses(
            SCORES, zeros(N, 8), Anchors(BOXES, IDS > 0), target_slots(1), CONFIG.rpn, None
        ),
        "deltas has",
    ),
    "sample_regions": (
        lambda: losses.sample_regions(proposals(zeros(N, 5)), target_slots(1), CONFIG.regions, 0.5, None),
        "boxes has",
    ),
    "match_boxes": (
        lambda: losses.match_boxes(
            BOXES, IDS[:1] > 0, target_slots(1), CONFIG.rpn, foreground_iou=0.5, background_iou=0.5
        ),
        "valid has",
    ),
    "box_losses": (
        lambda: losses.box_losses(
            zeros(N, 5), zeros(N, 2, 4), regions(), target_slots(1), CONFIG.classes, CONFIG.box
        ),
        r"logits has the shape \[3, 5\].*\[R, 3\]",
    ),
    "box_losses ": (
        lambda: losses.box_losses(
            zeros(N, 3), zeros(N, 8), regions(), target_slots(1), CONFIG.classes, CONFIG.box
        ),
        r"deltas has the shape \[3, 8\].*\[R, 2, 4\]",
    ),
    "mask_loss": (
        lambda: losses.mask_loss(zeros(N, 2, 4, 4), regions(), target_slots(1), 8, SIZE, CONFIG.mask),
        "logits has",
    ),
    "select_proposals": (lambda: select(deltas=zeros(12)), "deltas has"),
    "select_proposals ": (lambda: select(anchors=zeros(2, 4)), "boxes has"),
    "select_detections": (lambda: detect(zeros(N, 3), zeros(N, 8)), "deltas has"),
    "select_detections ": (lambda: detect(zeros(N, 4), zeros(N, 2, 4)), "logits has"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_shapes_are_refused(case):
    call, said = WRONG[case]
    with pytest.raises(ValueError, match=f"^{case.strip()}: {said}") as error:
        call()
    assert str(error.value).count(".") - str(error.value).count("...") * 3 == 1  # one sentence


def test_shapes_are_those_of_one_element_under_vmap_and_cost_nothing():
    boxes = jnp.zeros((2, N, 4))
    assert jax.eval_shape(jax.vmap(ops.box_iou), boxes, boxes).shape == (2, N, N)
    with pytest.raises(ValueError, match=r"a has the shape \[4\]"):
        jax.eval_shape(jax.vmap(ops.box_iou), BOXES, BOXES)
    jaxpr = jax.make_jaxpr(lambda x: check_shapes("f", x=(x, "... N 4"), none=(None, "N"), y=([x], "1 N 4")))
    assert not jaxpr(BOXES).eqns
    assert shape_of(((1, 2), [BOXES[0, 0], 3])) == (2, 2) and shape_of(()) == (0,) and shape_of(1.5) == ()


def test_arrays_without_rows_get_one():
    empty, full = target_slots(0), target_slots(2)
    assert one_row_if_empty(full) is not None
    filled = one_row_if_empty(empty)
    assert filled.masks.shape == (1, 8, 1) and filled.masks.dtype == jnp.uint8 and filled.polygons is None
    assert not filled.valid.any()
    assert all(
        a is b for a, b in zip(jax.tree.leaves(one_row_if_empty(full)), jax.tree.leaves(full), strict=True)
    )


@pytest.mark.slow
def test_operators_of_no_boxes():
    none, no_scores, no_ids = zeros(0, 4), zeros(0), jnp.zeros(0, int)
    assert ops.box_area(none).shape == (0,)
    assert ops.box_iou(none, BOXES).shape == ops.box_iof(none, BOXES).shape == (0, N)
    assert ops.box_iou(BOXES, none).shape == ops.box_iof(BOXES, none).shape == (N, 0)
    assert ops.encode_boxes(none, none, (1, 1, 1, 1)).shape == (0, 4)
    assert ops.clip_boxes(ops.decode_boxes(none, none, (1, 1, 1, 1)), SIZE).shape == (0, 4)
    assert ops.nms(none, no_scores, 0.5).shape == ops.batched_nms(none, no_scores, no_ids, 0.5).shape == (0,)
    assert not ops.limited_nms(none, no_scores, no_ids, 0.5, 2)[1].any()
    assert [x.shape for x in top_k(no_scores, 0)] == [(0,), (0,)]
    assert not ops.sample(no_ids, no_scores, 4, 0.5).valid.any()
    assert ops.grid_anchors(BOXES, (0, 0), (4, 4)).shape == (0, 4)
    for convention in ("torchvision", "detectron2"):
        assert ops.paste_masks(zeros(0, 4, 4), none, SIZE, convention=convention).shape == (0, *SIZE)
        assert not list(paste_mask_windows(zeros(0, 4, 4), none, SIZE, convention=convention))


@pytest.mark.parametrize("low_quality", [None, "label", "reassign"])
def test_matching_without_columns_or_objects(low_quality):
    for objects, columns in ((2, 0), (0, 0), (0, 3)):
        found = match(zeros(objects, columns), jnp.ones(objects, bool), low_quality=low_quality)
        assert found.index.tolist() == found.label.tolist() == [0] * columns
        assert found.index.dtype == found.label.dtype == jnp.int32


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_pooling_of_no_regions_has_a_gradient(sampling_ratio):
    def total(features):
        return ops.roi_align(features, zeros(0, 4), 3, sampling_ratio=sampling_ratio).sum()

    value, gradient = jax.value_and_grad(total)(jnp.ones((*SIZE, 2)))
    assert value == 0 and gradient.shape == (*SIZE, 2) and not gradient.any()


@pytest.mark.slow
def test_gradients_of_box_functions_without_boxes():
    def total(a, b):
        coded = ops.decode_boxes(ops.encode_boxes(a, a, (1, 1, 1, 1)), a, (1, 1, 1, 1))
        return ops.box_iou(a, b).sum() + ops.box_iof(b, a).sum() + ops.clip_boxes(coded, SIZE).sum()

    for gradient in jax.grad(total, argnums=(0, 1))(zeros(0, 4), BOXES + jnp.array([0.0, 0, 2, 2])):
        assert not gradient.any()


def test_mask_targets_without_objects_or_regions():
    for objects, count in ((0, N), (2, 0), (0, 0)):
        index, boxes = jnp.zeros(count, int), zeros(count, 4)
        packed, polygons = jnp.zeros((objects, 8, 1), jnp.uint8), zeros(objects, 5, 4)
        for rule in ("soft", "threshold"):
            found = ops.mask_targets(packed, 8, index, boxes, 4, rule=rule)
            assert found.shape == (count, 4, 4) and not found.any()
        found = ops.polygon_targets(polygons, jnp.full((objects, 5), -1), index, boxes, 4)
        assert found.shape == (count, 4, 4) and not found.any()


@functools.partial(jax.jit, static_argnums=0)
def terms_and_gradient(config, predictions, anchors, proposals, targets, rng):
    def total(predictions):
        objectness, deltas, logits, box_deltas, masks = predictions
        terms = losses.rpn_losses(objectness, deltas, anchors, targets, config.rpn, rng)
        regions = losses.sample_regions(
            proposals, targets, config.regions, config.box.stages[0].foreground_iou, rng
        )
        terms |= losses.box_losses(logits, box_deltas, regions, targets, config.classes, config.box)
        first = jax.tree.map(lambda x: x[: masks.shape[0]], regions)
        terms |= losses.mask_loss(masks, first, targets, 8, (8, 8), config.mask)
        return sum(losses.reduce_terms(terms).values()), (terms, regions)

    (_, (terms, regions)), gradient = jax.value_and_grad(total, has_aux=True)(predictions)
    return terms, regions, gradient


@pytest.mark.slow
@pytest.mark.parametrize(
    "anchors, boxes, rule, seed",
    [
        (6, 5, "soft", None),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(0, 5, "polygon", 0), (6, 0, "soft", 0), (0, 0, "polygon", 0)]
        ),
    ],
)
def test_losses_without_ground_truth_slots_equal_those_of_an_empty_slot(anchors, boxes, rule, seed):
    config = ModelConfig(num_classes=2, background="last").replace(
        {"rpn.batch_size": 8, "regions.batch_size": 4, "regions.positive_fraction": 0.5, "mask.targets": rule}
    )
    rng = np.random.default_rng(0)
    shapes = ((anchors,), (anchors, 4), (4, 3), (4, 2, 4), (2, 4, 4))
    predictions = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
    corners = rng.uniform(0, 4, (anchors + boxes, 2))
    places = np.concatenate([corners, corners + 3], 1).astype(np.float32)
    inputs = (
        Anchors(places[:anchors], np.ones(anchors, bool)),
        Proposals(places[anchors:], np.zeros(boxes, np.float32), np.ones(boxes, bool)),
    )
    key = None if seed is None else jax.random.key(seed)
    ours, one = (
        terms_and_gradient(config, predictions, *inputs, target_slots(count, polygons=rule == "polygon"), key)
        for count in (0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, one)
    terms, chosen, gradient = ours
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((terms, gradient)))
    assert terms["loss_objectness"].count == anchors and terms["loss_classifier"].count == min(boxes, 4)
    assert not chosen.positive.any() and terms["loss_mask"].total == terms["loss_box_reg"].total == 0
    # What is background learns that it is.
    assert (np.abs(gradient[0]).sum() > 0) == (anchors > 0)
    assert (np.abs(gradient[2]).sum() > 0) == (boxes > 0)


def test_boxes_match_nothing_where_there_is_no_slot():
    for crowd_regions in ("ignore", "drop"):
        config = ModelConfig().replace({"rpn.crowd": crowd_regions, "regions.crowd": crowd_regions})
        rules = dict(foreground_iou=0.7, background_iou=0.3, low_quality="label")
        for count in (0, 3):
            index, label = losses.match_boxes(
                zeros(count, 4), jnp.ones(count, bool), target_slots(0), config.rpn, **rules
            )
            assert index.tolist() == label.tolist() == [0] * count


def test_proposals_of_no_anchor_and_detections_of_no_proposal():
    none = Anchors(zeros(0, 4), jnp.zeros(0, bool))
    for sizes in ((), ((0, 0), (0, 3))):
        found = jax.jit(
            lambda *x, sizes=sizes: select_proposals(*x, sizes, jnp.array(SIZE), CONFIG.rpn, False)
        )(zeros(0), zeros(0, 4), none)
        assert found.boxes.shape == (4, 4) and found.scores.shape == (4,) and not found.valid.any()
    for agnostic in (False, True):
        config = ModelConfig(num_classes=2, background="last").replace(
            {"detections.per_image": 5, "box.class_agnostic": agnostic}
        )
        found = jax.jit(
            lambda *x, c=config: select_detections(*x, jnp.array(SIZE), c.classes, c.box, c.detections)
        )(
            zeros(0, 3),
            zeros(0, 1 if agnostic else 2, 4),
            Proposals(zeros(0, 4), zeros(0), jnp.zeros(0, bool)),
        )
        assert not found.valid.any()
        for array, like in ((found.boxes, zeros(5, 4)), (found.scores, zeros(5)), (found.labels, zeros(5))):
            assert array.shape == like.shape and not array.any()
