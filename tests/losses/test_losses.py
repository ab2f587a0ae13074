"""Losses against NumPy oracles, and what padding and order must not change."""

import functools

import jax
import numpy as np
import pytest

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.ops.boxes import box_iou, encode_boxes
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.structures import Anchors, Proposals, Targets

SIDE = 64


def random_boxes(rng, n, side=SIDE):
    corner = rng.uniform(0, 0.7 * side, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 0.3 * side, (n, 2))], 1).astype(np.float32)


def make_targets(rng, n, slots=None, crowd=(), classes=3):
    slots = slots or n
    boxes, masks = np.zeros((slots, 4), np.float32), np.zeros((slots, SIDE, SIDE), bool)
    boxes[:n] = random_boxes(rng, n)
    for i in range(n):
        x1, y1, x2, y2 = boxes[i].astype(int)
        masks[i, y1 : y2 + 1, x1 : x2 + 1] = rng.random((y2 + 1 - y1, x2 + 1 - x1)) < 0.7
    labels = np.zeros(slots, np.int32)
    labels[:n] = rng.integers(0, classes, n)
    is_crowd = np.zeros(slots, bool)
    is_crowd[list(crowd)] = True
    return Targets(boxes, labels, pack_masks(masks), is_crowd, np.arange(slots) < n)


def pad_targets(targets, extra, garbage=False):
    rng = np.random.default_rng(5)

    def pad(x):
        tail = np.zeros((extra, *x.shape[1:]), x.dtype)
        if garbage and x.dtype != bool:
            tail = rng.integers(0, 3, tail.shape).astype(x.dtype)
        return np.concatenate([x, tail])

    return jax.tree.map(pad, targets)


def permute(targets, order):
    return jax.tree.map(lambda x: x[order], targets)


@functools.partial(jax.jit, static_argnums=0)
def terms_and_gradient(config, predictions, anchors, proposals, targets, rng):
    """The five losses of one image, and the gradient of their sum by the predictions."""

    def total(predictions):
        objectness, deltas, logits, box_deltas, masks = predictions
        keys = (None, None) if rng is None else jax.random.split(rng)
        terms = losses.rpn_losses(objectness, deltas, anchors, targets, config.rpn, keys[0])
        regions = losses.sample_regions(
            proposals, targets, config.regions, config.box.stages[0].foreground_iou, keys[1]
        )
        terms |= losses.box_losses(logits, box_deltas, regions, targets, config.classes, config.box)
        first = jax.tree.map(lambda x: x[: masks.shape[0]], regions)
        terms |= losses.mask_loss(masks, first, targets, SIDE, (SIDE, SIDE), config.mask)
        scalars = losses.reduce_terms(terms)
        return sum(scalars.values()), scalars

    (_, scalars), gradient = jax.value_and_grad(total, has_aux=True)(predictions)
    return scalars, gradient


def all_terms(config, targets, rng=None, extra_proposals=0, near=None):
    """`terms_and_gradient` with random predictions, anchors and proposals, some on objects of ``near``."""
    r = np.random.default_rng(0)
    near = np.asarray((targets if near is None else near).boxes)[:3]
    anchors = Anchors(np.concatenate([random_boxes(r, 297), near]), r.random(300) < 0.9)
    boxes = np.concatenate([random_boxes(r, 40), near + 1])
    proposals = Proposals(boxes, np.linspace(3, 0, 43, dtype=np.float32), np.ones(43, bool))
    proposals = Proposals(
        np.pad(proposals.boxes, ((0, extra_proposals), (0, 0))),
        np.pad(proposals.scores, (0, extra_proposals)),
        np.pad(proposals.valid, (0, extra_proposals)),
    )
    count = config.regions.batch_size
    shapes = ((300,), (300, 4), (count, 4), (count, 3, 4), (count // 2, 8, 8))
    predictions = tuple(r.normal(size=shape).astype(np.float32) for shape in shapes)
    return terms_and_gradient(config, predictions, anchors, proposals, targets, rng)


def config(**overrides):
    values = {
        "num_classes": 3,
        "background": "last",
        "rpn.batch_size": 32,
        "regions.batch_size": 16,
        "regions.positive_fraction": 0.5,
    }
    return ModelConfig().replace(values | overrides)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1(beta):
    x = np.linspace(-2, 2, 41, dtype=np.float32)
    expected = [abs(v) if beta == 0 or abs(v) >= beta else 0.5 * v * v / beta + 0.5 * beta for v in x]
    shift = 0.5 * beta
    np.testing.assert_allclose(losses.smooth_l1(x, beta), np.asarray(expected) - shift, atol=1e-6)


def test_binary_cross_entropy_does_not_overflow():
    logits = np.array([-200.0, -1.0, 0.0, 2.0, 200.0], np.float32)
    targets = np.array([0.0, 1.0, 0.5, 0.25, 0.0], np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    q = 1 / (1 + np.exp(logits.astype(np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -(targets * np.log(p) + (1 - targets) * np.log(q))
    expected[0], expected[4] = 0.0, 200.0
    entropy = jax.jit(losses.binary_cross_entropy)
    np.testing.assert_allclose(entropy(logits, targets), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: entropy(x, targets).sum()))(logits)).all()


@pytest.mark.parametrize("count_rule", ["sampled", "constant"])
def test_rpn_losses_against_an_oracle(count_rule):
    rng = np.random.default_rng(1)
    cfg = config(**{"rpn.loss_count": count_rule, "rpn.loss.beta": 0.0, "box.loss.beta": 0.0})
    targets = make_targets(rng, 3)
    anchors = random_boxes(rng, 60)
    anchors[:3] = targets.boxes + 0.5  # certain positives
    objectness, deltas = rng.normal(size=60), rng.normal(size=(60, 4))
    terms = jax.jit(lambda *arrays: losses.rpn_losses(*arrays, cfg.rpn, None))(
        objectness.astype("f"), deltas.astype("f"), Anchors(anchors, np.ones(60, bool)), targets
    )
    iou = np.asarray(box_iou(targets.boxes, anchors))
    label = np.where(iou.max(0) >= 0.7, 1, np.where(iou.max(0) < 0.3, 0, -1))
    label[(iou == iou.max(1, keepdims=True)).any(0)] = 1
    positive = np.flatnonzero(label == 1)[:16]
    negative = np.flatnonzero(label == 0)[: 32 - len(positive)]
    chosen = np.concatenate([positive, negative])
    bce = np.logaddexp(0, objectness) - objectness * (label == 1)
    goal = np.asarray(encode_boxes(anchors, targets.boxes[iou.argmax(0)], (1.0, 1.0, 1.0, 1.0)))
    count = 32 if count_rule == "constant" else len(chosen)
    assert count_rule == "sampled" or len(positive) >= 3
    np.testing.assert_allclose(terms["loss_objectness"].total, bce[chosen].sum(), rtol=1e-5)
    np.testing.assert_allclose(
        terms["loss_rpn_box_reg"].total, np.abs(deltas - goal)[positive].sum(), rtol=1e-5
    )
    assert terms["loss_objectness"].count == terms["loss_rpn_box_reg"].count == count


@pytest.mark.parametrize("background", ["first", "last"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_box_losses_against_an_oracle(background, agnostic):
    rng = np.random.default_rng(2)
    cfg = config(
        background=background,
        **{"box.class_agnostic": agnostic, "rpn.loss.beta": 1 / 9, "box.loss.beta": 1 / 9},
    )
    offset = 1 if background == "first" else 0
    targets = make_targets(rng, 4)
    regions = losses.Regions(
        boxes=random_boxes(rng, 6),
        labels=np.array([0, 2, 1, 0, 0, 0], np.int32),
        matched=np.array([1, 3, 0, 0, 0, 0], np.int32),
        positive=np.arange(6) < 3,
        valid=np.arange(6) < 5,
    )
    logits = rng.normal(size=(6, 4))
    deltas = rng.normal(size=(6, 1 if agnostic else 3 + offset, 4))
    terms = losses.box_losses(logits.astype("f"), deltas.astype("f"), regions, targets, cfg.classes, cfg.box)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    goal = [0 + offset, 2 + offset, 1 + offset, *([0 if background == "first" else 3] * 2)]
    entropy = -sum(np.log(probability[i, g]) for i, g in enumerate(goal))
    wanted = np.asarray(
        encode_boxes(regions.boxes, targets.boxes[regions.matched], cfg.box.stages[0].box_weights)
    )
    error = 0.0
    for i in range(3):
        e = np.abs(deltas[i, 0 if agnostic else goal[i]] - wanted[i])
        error += np.where(e < 1 / 9, 4.5 * e * e, e - 1 / 18).sum()
    np.testing.assert_allclose(terms["loss_classifier"].total, entropy, rtol=1e-5)
    np.testing.assert_allclose(terms["loss_box_reg"].total, error, rtol=1e-5)
    assert terms["loss_classifier"].count == terms["loss_box_reg"].count == 5


@pytest.mark.slow
def test_mask_loss_of_a_mask_that_fills_its_box():
    boxes = np.array([[8, 8, 40, 40]], np.float32)
    masks = np.zeros((1, SIDE, SIDE), bool)
    masks[0, 8:40, 8:40] = True
    targets = Targets(boxes, np.zeros(1, np.int32), pack_masks(masks), np.zeros(1, bool), np.ones(1, bool))
    regions = losses.Regions(
        boxes=np.repeat(boxes, 2, 0),
        labels=np.zeros(2, np.int32),
        matched=np.zeros(2, np.int32),
        positive=np.array([True, False]),
        valid=np.ones(2, bool),
    )
    logits = np.full((2, 8, 8), 1.5, np.float32)
    # Without alignment the last of a bin's four samples lies halfway out of the mask.
    edge = np.array([1.0] * 7 + [0.875])
    for rule, covered in (("soft", np.outer(edge, edge)), ("threshold", np.ones((8, 8)))):
        cfg = config(**{"mask.targets": rule})
        term = losses.mask_loss(logits, regions, targets, SIDE, (SIDE, SIDE), cfg.mask)["loss_mask"]
        assert term.count == 64
        np.testing.assert_allclose(term.total, (np.log1p(np.exp(1.5)) - 1.5 * covered).sum(), rtol=1e-5)


@pytest.mark.parametrize("seeded", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    "library",
    ["torchvision", *(pytest.param(name, marks=pytest.mark.slow) for name in ("detectron2", "mmdet"))],
)
def test_padding_and_order_of_the_ground_truth(seeded, library):
    rules = {
        "torchvision": {},
        "detectron2": {
            "rpn.loss_count": "constant",
            "mask.targets": "threshold",
            "rpn.loss.beta": 0.0,
            "box.loss.beta": 0.0,
        },
        "mmdet": {
            "rpn.low_quality": "reassign",
            "regions.ground_truth_proposals": "prepend",
            "regions.low_quality": "reassign",
        },
    }
    cfg = config(**rules[library])
    key = jax.random.key(3) if seeded else None
    targets = make_targets(np.random.default_rng(4), 5, crowd=[2])
    expected, gradient = all_terms(cfg, targets, rng=key)
    assert all(v > 0 for v in expected.values())
    for other in (pad_targets(targets, 1), pad_targets(targets, 19, garbage=True)):
        scalars, other_gradient = all_terms(cfg, other, rng=key)
        for name in expected:
            np.testing.assert_allclose(scalars[name], expected[name], atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, other_gradient)
    scalars, other_gradient = all_terms(cfg, targets, rng=key, extra_proposals=33)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, other_gradient)
    np.testing.assert_allclose(sum(scalars.values()), sum(expected.values()), atol=1e-5)


def test_order_of_the_ground_truth_even_where_it_ties():
    targets = make_targets(np.random.default_rng(4), 6, crowd=[2])
    targets.boxes[4] = targets.boxes[0]  # a tie that the order in the file would decide
    targets.labels[4] = targets.labels[0] + 1
    for key in (None, jax.random.key(0)):
        expected, _ = all_terms(config(), targets, rng=key, near=targets)
        for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
            scalars, _ = all_terms(config(), permute(targets, order), rng=key, near=targets)
            np.testing.assert_allclose(sum(scalars.values()), sum(expected.values()), atol=1e-4)


def test_image_without_objects_has_finite_losses_and_gradients():
    targets = make_targets(np.random.default_rng(0), 0, slots=4)
    scalars, gradient = all_terms(config(), targets)
    assert scalars["loss_mask"] == 0 and scalars["loss_box_reg"] == 0 and scalars["loss_rpn_box_reg"] == 0
    assert scalars["loss_objectness"] > 0 and scalars["loss_classifier"] > 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_a_box_beside_a_crowd_region_is_background_whatever_the_share():
    crowd = np.array([False, True])
    objects = np.array([[0, 0, 8, 8], [20, 20, 40, 40]], np.float32)
    targets = Targets(objects, np.zeros(2, np.int32), None, crowd, np.ones(2, bool))
    boxes = np.array([[0, 0, 8, 8], [0, 20, 20, 40], [0, 20, 20.5, 40], [24, 24, 30, 30]], np.float32)
    rules = dict(foreground_iou=0.5, background_iou=0.5)
    for share, label in ((0.0, [1, 0, -1, -1]), (0.5, [1, 0, 0, -1])):
        rpn = config(**{"rpn.crowd_overlap": share, "regions.crowd_overlap": share}).rpn
        match = jax.jit(lambda *arrays: losses.match_boxes(*arrays, rpn, **rules))  # noqa: B023
        assert match(boxes, np.ones(4, bool), targets)[1].tolist() == label


@pytest.mark.slow
def test_crowd_regions_are_neither_positive_nor_negative():
    boxes = np.array([[4, 4, 24, 24], [30, 30, 60, 60]], np.float32)
    masks = np.ones((2, SIDE, SIDE), bool)
    targets = Targets(
        boxes, np.zeros(2, np.int32), pack_masks(masks), np.array([False, True]), np.ones(2, bool)
    )
    anchors = np.array(
        [
            [4, 4, 24, 25],  # the object
            [31, 31, 59, 59],  # the crowd region itself
            [35, 35, 45, 45],  # a part of it
            [50, 50, 90, 90],  # a sixteenth of it lies in there: background
            [0, 40, 10, 50],  # background
        ],
        np.float32,
    )
    rules = dict(foreground_iou=0.7, background_iou=0.3, low_quality="label")
    _, label = losses.match_boxes(anchors, np.ones(5, bool), targets, config().rpn, **rules)
    assert label.tolist() == [1, -1, -1, 0, 0]
    _, label = losses.match_boxes(
        anchors,
        np.ones(5, bool),
        targets,
        config(**{"rpn.crowd": "drop", "regions.crowd": "drop"}).rpn,
        **rules,
    )
    assert label.tolist() == [1, 0, 0, 0, 0]
    proposals = Proposals(anchors, np.zeros(5, np.float32), np.ones(5, bool))
    regions = losses.sample_regions(
        proposals, targets, config().regions, config().box.stages[0].foreground_iou, None
    )
    used = np.asarray(regions.boxes)[np.asarray(regions.valid)]
    assert not any((used == anchors[i]).all(-1).any() for i in (1, 2))
    assert not (used == boxes[1]).all(-1).any()
    assert np.asarray(regions.positive).sum() == 2  # the proposal on the object and the object's own box


@pytest.mark.slow
def test_an_anchor_that_does_not_exist_is_no_objects_best_one():
    boxes = np.array([[10, 10, 30, 30]], np.float32)
    targets = Targets(boxes, np.zeros(1, np.int32), None, np.zeros(1, bool), np.ones(1, bool))
    anchors = np.array([[10, 10, 30, 31], [10, 10, 40, 40], [40, 40, 60, 60]], np.float32)
    rules = dict(foreground_iou=0.7, background_iou=0.3, low_quality="label")
    _, label = losses.match_boxes(anchors, np.array([False, True, True]), targets, config().rpn, **rules)
    assert label.tolist() == [-1, 1, 0]  # the second overlaps by less than 0.7, but nothing better is there
