"""Soft-NMS against the algorithm in plain NumPy, and against mmcv (`goldens/record_mmdet_backbones.py`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from golden_helpers import check
from goldens.seeded_weights import seeded_crowd

from jaxmaskrcnn import ops

DECAYS = ("linear", "gaussian", "naive")
SOFT_NMS = functools.partial(jax.jit, static_argnames=("limit", "decay"))(ops.soft_nms)


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = np.prod(np.maximum(sides, 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner
    return inner / union if union > 0 else 0.0


def soft_nms_oracle(boxes, scores, ids, threshold, decay, sigma=0.5, min_score=1e-3):
    """Indices in the order in which they are taken, and their scores then, in float64."""
    boxes, left = boxes.astype(np.float64), dict(enumerate(scores.astype(np.float64)))
    taken = []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        taken.append((best, left.pop(best)))
        for i in list(left):
            iou = overlap(boxes[best], boxes[i]) if ids[i] == ids[best] else None
            if iou is not None and decay == "gaussian":
                left[i] *= np.exp(-(iou**2) / sigma)
            elif iou is not None and iou >= threshold:
                left[i] *= 1 - iou if decay == "linear" else 0
            if left[i] < min_score:
                del left[i]
    return [i for i, _ in taken], np.array([score for _, score in taken])


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_algorithm(decay, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 30, (80, 2))], 1).astype(np.float32)
    scores, ids = rng.permutation(np.linspace(0.02, 0.98, 80, dtype=np.float32)), rng.integers(0, 3, 80)
    valid = rng.random(80) < 0.8
    own = np.flatnonzero(valid)
    index, left = soft_nms_oracle(boxes[own], scores[own], ids[own], 0.3, decay, sigma=0.4, min_score=0.05)
    index = own[index]
    assert 20 < len(index) < len(own)  # some are dropped
    options = {"decay": decay, "sigma": 0.4, "min_score": 0.05}
    ours = SOFT_NMS(boxes, scores, ids, 0.3, limit=90, valid=valid, **options)
    ours_index, ours_scores, found = map(np.asarray, ours)
    n = len(index)
    assert found[:n].all() and not found[n:].any() and not ours_index[n:].any()
    np.testing.assert_array_equal(ours_index[:n], index)
    check(f"{decay}, scores", np.abs(ours_scores[:n] - left), 1e-6)
    # Fewer rounds find the same first boxes, and the order of the boxes does not matter.
    order = rng.permutation(80)
    again = SOFT_NMS(boxes[order], scores[order], ids[order], 0.3, limit=10, valid=valid[order], **options)
    np.testing.assert_array_equal(order[np.asarray(again[0])], index[:10])


@pytest.mark.parametrize("decay", DECAYS)
def test_equals_mmcv(decay):
    boxes, scores, ids = seeded_crowd(300)
    with np.load(GOLDENS / "mmdet_soft_nms.npz") as golden:
        theirs = {name: golden[f"crowd/{decay}/{name}"] for name in ("index", "scores")}
    n = len(theirs["index"])
    assert 30 < n < 300
    index, left, valid = SOFT_NMS(boxes, scores, ids, 0.4, limit=300, decay=decay, min_score=0.05)
    assert valid.sum() == n
    np.testing.assert_array_equal(index[:n], theirs["index"])
    check(f"{decay}, scores", np.abs(left[:n] - theirs["scores"]), 1e-5)


def test_naive_drops_what_nms_drops():
    """Up to boxes whose IoU is the threshold, which NMS keeps."""
    boxes, scores, ids = seeded_crowd(100)
    kept, valid = ops.limited_nms(boxes, scores, ids, 0.4, 100)
    index, left, found = SOFT_NMS(boxes, scores, ids, 0.4, limit=100, decay="naive")
    np.testing.assert_array_equal(valid, found)
    np.testing.assert_array_equal(kept, index)
    np.testing.assert_array_equal(left[found], scores[index[found]])
    # An IoU of a half.
    pair = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 2]]), jnp.array([0.9, 0.8]), jnp.zeros(2, int)
    assert ops.limited_nms(*pair, 0.5, 2)[1].tolist() == [True, True]
    assert SOFT_NMS(*pair, 0.5, limit=2, decay="naive")[2].tolist() == [True, False]


def test_nothing_to_do():
    index, left, valid = ops.soft_nms(jnp.zeros((0, 4)), jnp.zeros(0), jnp.zeros(0, int), 0.5, 3)
    assert index.shape == left.shape == (3,) and not valid.any()
    pair = jnp.ones((2, 4)), jnp.array([jnp.nan, 0.5]), jnp.zeros(2, int)
    assert not ops.soft_nms(*pair, 0.5, 3, jnp.array([True, False]))[2].any()


def test_unknown_decays_are_refused():
    with pytest.raises(ValueError, match="decay is 'quick'; choose one of 'linear', 'gaussian', 'naive'"):
        ops.soft_nms(jnp.zeros((1, 4)), jnp.zeros(1), jnp.zeros(1, int), 0.5, 3, decay="quick")
