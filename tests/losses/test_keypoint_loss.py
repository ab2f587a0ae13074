"""The keypoint loss against a NumPy loop, and what padding may not change."""

import jax
import numpy as np
import pytest

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.losses import Regions, keypoint_loss
from jaxmaskrcnn.structures import Targets

SIDE = 4
CONFIG = KeypointConfig(points=("a", "b", "c"))
loss = jax.jit(keypoint_loss, static_argnames="config")


def scene(slots=5, objects=3, seed=0):
    """Logits, regions and targets; two regions are positive, one is negative, the others are padding."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(slots, SIDE, SIDE, 3)).astype(np.float32)
    boxes = np.zeros((slots, 4), np.float32)
    boxes[:3] = [[0, 0, 8, 8], [2, 3, 12, 9], [1, 1, 5, 5]]
    number = np.arange(slots)
    matched = np.array([1, 0, 1, *[0] * (slots - 3)])
    regions = Regions(boxes, np.zeros(slots, int), matched, number < 2, number < 3)
    points = np.zeros((objects, 3, 3), np.float32)
    points[:2] = [[[3, 4, 2], [11, 8, 1], [40, 4, 2]], [[1, 7, 2], [2, 2, 0], [8, 8, 1]]]
    valid = np.arange(objects) < 2
    targets = Targets(
        boxes[:objects] * 0, np.zeros(objects, int), None, valid & False, valid, keypoints=points
    )
    return logits, regions, targets


def expected_total(logits, regions, targets):
    total, count = 0.0, 0
    for values, box, matched, positive in zip(
        logits, regions.boxes, regions.matched, regions.positive, strict=True
    ):
        for k, (x, y, visibility) in enumerate(targets.keypoints[matched]):
            x1, y1, x2, y2 = box
            if not positive or not visibility or not (x1 <= x <= x2 and y1 <= y <= y2):
                continue
            column = min(int((x - x1) / (x2 - x1) * SIDE), SIDE - 1)
            row = min(int((y - y1) / (y2 - y1) * SIDE), SIDE - 1)
            probability = np.exp(values[..., k]) / np.exp(values[..., k]).sum()
            total -= np.log(probability[row, column])
            count += 1
    return total, count


def test_loss_is_the_definition():
    logits, regions, targets = scene()
    term = loss(logits, regions, targets, config=CONFIG)["loss_keypoint"]
    total, count = expected_total(logits, regions, targets)
    assert count == 4
    np.testing.assert_allclose(term.total, total, rtol=1e-5)
    assert term.count == count


def test_constant_count_and_weight():
    logits, regions, targets = scene()
    config = CONFIG.__class__(points=CONFIG.points, loss_count="constant", loss_weight=4.0)
    term = loss(logits, regions, targets, config=config)["loss_keypoint"]
    np.testing.assert_allclose(term.total, 4 * expected_total(logits, regions, targets)[0], rtol=1e-5)
    assert term.count == 5 * 3  # slots times keypoints


def test_more_slots_and_objects_change_nothing():
    small, large = scene(), scene(slots=9, objects=7)
    large[0][:5] = small[0]
    terms = [loss(*arrays, config=CONFIG)["loss_keypoint"] for arrays in (small, large)]
    np.testing.assert_allclose(terms[0].total, terms[1].total, rtol=1e-6)
    assert terms[0].count == terms[1].count


def test_gradient_reaches_only_the_maps_of_learned_keypoints():
    logits, regions, targets = scene()
    gradient = jax.grad(lambda x: loss(x, regions, targets, config=CONFIG)["loss_keypoint"].total)(logits)
    assert np.isfinite(gradient).all()
    learned = np.abs(gradient).sum((1, 2)) > 0
    assert learned.tolist() == [[True, False, True], [True, True, False], *[[False] * 3] * 3]
    # A numeric derivative of one of them.
    step, total = 1e-3, expected_total(logits, regions, targets)[0]
    moved = logits.astype(np.float64)
    moved[0, 1, 2, 0] += step
    slope = (expected_total(moved, regions, targets)[0] - total) / step
    np.testing.assert_allclose(gradient[0, 1, 2, 0], slope, atol=1e-3)


def test_no_keypoint_and_no_object():
    logits, regions, targets = scene()
    hidden = targets._replace(keypoints=targets.keypoints * [1, 1, 0])
    term = loss(logits, regions, hidden, config=CONFIG)["loss_keypoint"]
    assert (term.total, term.count) == (0, 0)
    empty = Targets(*(a if a is None else a[:0] for a in targets[:5]), keypoints=targets.keypoints[:0])
    nothing = regions._replace(positive=np.zeros(5, bool))
    assert loss(logits, nothing, empty, config=CONFIG)["loss_keypoint"].total == 0


def test_wrong_shape_is_named():
    logits, regions, targets = scene()
    with pytest.raises(ValueError, match="keypoint_loss"):
        loss(logits[..., :2], regions, targets, config=CONFIG)
