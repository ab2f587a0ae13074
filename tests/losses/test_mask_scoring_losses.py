"""The loss of masks' IoUs: objects in boxes, IoUs, what is counted, and slots without an object."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.config import MaskScoringConfig
from jaxmaskrcnn.losses import Regions, mask_loss, mask_scoring_losses
from jaxmaskrcnn.losses.mask_scoring import mask_ious, share_in_boxes
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.structures import Targets

SIDE = 28


def random_masks(rng, count, height, width):
    """Rectangles, the first one empty."""
    masks = np.zeros((count, height, width), bool)
    for mask in masks[1:]:
        x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
        mask[y : y + rng.integers(2, height), x : x + rng.integers(2, width)] = True
    return masks


@pytest.mark.parametrize("width", [16, 21])
def test_shares_in_boxes(width):
    """By MMDetection's rule: whole coordinates, inside of the mask, and at least one pixel."""
    rng, height = np.random.default_rng(width), 13
    masks = random_masks(rng, 40, height, width)
    corners = rng.uniform(-6, [width + 6, height + 6], (40, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[7, 2:] = boxes[7, :2]  # without a size
    expected = []
    for mask, box in zip(masks, boxes, strict=True):
        x1, y1, x2, y2 = np.clip(box.astype(int), 0, [width, height] * 2)
        inside = mask[y1 : y1 + max(y2 - y1, 1), x1 : x1 + max(x2 - x1, 1)]
        expected.append(inside.sum() / (mask.sum() + 1e-7))
    shares = jax.jit(share_in_boxes, static_argnames="width")(pack_masks(masks), width, boxes)
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert 0 < np.mean(expected) < 1 and expected[0] == 0


def test_ious():
    rng = np.random.default_rng(0)
    masks, targets = rng.random((2, 9, 4, 4)) > 0.5
    masks[0] = targets[0] = masks[1] = targets[2] = False
    shares = rng.uniform(0.2, 1, 9).astype(np.float32)
    ious = np.asarray(jax.jit(mask_ious)(masks, targets.astype(np.float32), shares))
    shared = (masks & targets).sum((1, 2))
    union = masks.sum((1, 2)) + targets.sum((1, 2)) / shares - shared
    np.testing.assert_allclose(ious[1:], (shared / np.maximum(union, 1e-9))[1:], rtol=1e-5)
    assert ious[0] == ious[1] == ious[2] == 0 and (ious[3:] > 0).all()


MASKS = np.zeros((2, 24, 32), bool)
MASKS[0, 4:18, 6:22] = True
MASKS[1, 10:24, 16:32] = True
BOXES = np.float32([[6, 4, 22, 18], [16, 10, 24, 24], [0, 0, 5, 4]])  # the last one is beside its object
MATCHED = np.array([0, 1, 1])


@functools.cache
def run(config):
    return jax.jit(functools.partial(mask_scoring_losses, width=32, config=config))


def terms(logits, ious, positive, slots=0, objects=0, config=MaskScoringConfig()):  # noqa: B008 (frozen)
    pad = lambda x, n: np.pad(x, [(0, n)] + [(0, 0)] * (np.ndim(x) - 1))  # noqa: E731
    there = pad(np.ones(2, bool), objects)
    boxes = pad(np.float32([[6, 4, 22, 18], [16, 10, 32, 24]]), objects)
    targets = Targets(boxes, there * 0, pack_masks(pad(MASKS, objects)), there & False, there)
    flags = pad(np.asarray(positive), slots)
    regions = Regions(pad(BOXES, slots), flags * 0, pad(MATCHED, slots), flags, flags)
    more = lambda x: jnp.pad(x, [(0, slots)] + [(0, 0)] * (x.ndim - 1))  # noqa: E731
    arrays = (
        more(jnp.asarray(logits)),
        more(jnp.asarray(ious)),
        *jax.tree.map(jnp.asarray, (regions, targets)),
    )
    return run(config)(*arrays, image_size=jnp.array([24, 32]))


FULL = np.full((3, SIDE, SIDE), 4.0, np.float32)
IOUS = np.float32([0.5, 0.9, 0.7])


def test_value():
    """A mask that fills its box: all of the first object, half of the second, and nothing of it."""
    found = terms(FULL, IOUS, [True, True, True])["loss_mask_iou"]
    # The second object's target lacks the cell in its corner, whose value is 0.64 * 0.64.
    half = 783 / (784 + 783 / 0.5 - 783)
    np.testing.assert_allclose(found.total, 0.5 * ((0.5 - 1) ** 2 + (0.9 - half) ** 2), rtol=1e-5)
    assert found.count == 2


@pytest.mark.slow  # another compilation
def test_threshold_is_one_of_logits_and_weight():
    low = MaskScoringConfig(iou_threshold=0.25, iou_loss_weight=2.0)
    logits = np.where(np.arange(SIDE) < SIDE // 2, 4.0, 0.4) * np.ones((3, SIDE, SIDE), np.float32)
    halves, whole = (
        float(terms(logits, IOUS * 0, [True, False, False], config=config)["loss_mask_iou"].total)
        for config in (MaskScoringConfig(), low)
    )
    np.testing.assert_allclose([halves, whole], [0.5 * 0.5**2, 2.0], rtol=1e-5)


@pytest.mark.slow  # another compilation
def test_masks_are_learned_as_by_any_mask_head():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=FULL.shape).astype(np.float32)
    positive = np.array([True, True, False])
    regions = Regions(BOXES, positive * 0, MATCHED, positive, positive)
    boxes = np.float32([[6, 4, 22, 18], [16, 10, 32, 24]])
    there = np.ones(2, bool)
    targets = Targets(boxes, there * 0, pack_masks(MASKS), ~there, there)
    arrays = jax.tree.map(jnp.asarray, (logits, regions, targets))
    plain = mask_loss(*arrays, 32, jnp.array([24, 32]), MaskScoringConfig())
    found = terms(logits, IOUS, positive)
    np.testing.assert_allclose(found["loss_mask"], plain["loss_mask"], rtol=1e-6)
    assert found.keys() == {"loss_mask", "loss_mask_iou"}


def test_slots_change_nothing():
    plain = terms(FULL, IOUS, [True, False, True])
    more = terms(FULL, IOUS, [True, False, True], slots=2, objects=3)
    for name, term in plain.items():
        np.testing.assert_allclose(more[name], term, rtol=1e-6)
    nothing = terms(FULL, IOUS, [False] * 3)["loss_mask_iou"]
    assert nothing.total == nothing.count == 0


def test_gradient_is_that_of_the_errors():
    """2 * 0.5 * (predicted - true) where it counts, and none through the masks."""

    def total(ious, logits):
        return terms(logits, ious, [True, True, True])["loss_mask_iou"].total

    of_ious, of_masks = jax.grad(total, (0, 1))(IOUS, FULL)
    np.testing.assert_allclose(of_ious, [0.5 - 1, 0.9 - 783 / 1567, 0], atol=1e-5)
    assert not np.asarray(of_masks).any()
