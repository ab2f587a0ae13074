"""NMS against the greedy algorithm in plain NumPy, and against torchvision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.boxes import exceeds

GOLDEN = np.load(GOLDENS / "torchvision_ops_boxes.npz")
THRESHOLDS = (0.3, 0.5, 0.7, 0.95)
BOX_IOU, NMS, BATCHED_NMS = jax.jit(ops.box_iou), jax.jit(ops.nms), jax.jit(ops.batched_nms)
LIMITED_NMS = jax.jit(ops.limited_nms, static_argnums=4)


def greedy(boxes, scores, ids, threshold, valid=None):
    """Indices kept, best first."""
    with np.errstate(invalid="ignore"):
        iou = np.asarray(BOX_IOU(boxes, boxes)) if len(boxes) else None
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if valid is not None and not valid[i]:
            continue
        if not any(ids[i] == ids[j] and iou[i, j] > np.float32(threshold) for j in kept):
            kept.append(i)
    return kept


def crowded(rng, n, image=40, side=25):
    """Boxes whose suppression chains are long, with many equal scores."""
    corner = rng.uniform(0, image, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(side / 2, side, (n, 2))], axis=1)
    return boxes.astype(np.float32), np.round(rng.random(n), 2).astype(np.float32), rng.integers(0, 3, n)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equals_torchvision(threshold):
    boxes, scores, ids = (GOLDEN[f"nms_{name}"] for name in ("boxes", "scores", "ids"))
    expected = GOLDEN[f"nms_{threshold}"]
    assert 0 < expected.sum() < 400
    np.testing.assert_array_equal(NMS(boxes, scores, threshold), expected)
    np.testing.assert_array_equal(
        BATCHED_NMS(boxes, scores, ids, threshold), GOLDEN[f"batched_nms_{threshold}"]
    )


@pytest.mark.slow_except("256-0.3", "1-0.3")
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("n", [1, 256, 700])
def test_equals_greedy(threshold, n):
    rng = np.random.default_rng(n)
    boxes, scores, ids = crowded(rng, n)
    valid = rng.random(n) < 0.8
    for mask in (np.ones(n, bool), valid):
        one_class = greedy(boxes, scores, np.zeros(n), threshold, mask)
        keep = np.asarray(NMS(boxes, scores, threshold, mask))
        assert sorted(one_class) == np.flatnonzero(keep).tolist()
        classwise = greedy(boxes, scores, ids, threshold, mask)
        keep = np.asarray(BATCHED_NMS(boxes, scores, ids, threshold, mask))
        assert sorted(classwise) == np.flatnonzero(keep).tolist()
        for limit in (10, n + 3):
            index, found = LIMITED_NMS(boxes, scores, ids, threshold, limit, mask)
            expected = classwise[:limit]
            np.testing.assert_array_equal(index, expected + [0] * (limit - len(expected)))
            np.testing.assert_array_equal(found, np.arange(limit) < len(expected))


def test_the_best_boxes_come_first_and_further_ones_follow():
    """More boxes than are settled at once, and images that need different turns."""
    rng = np.random.default_rng(9)
    groups = [crowded(rng, 2500, image) for image in (10, 40, 400)]
    boxes, scores, ids = (np.stack(x) for x in zip(*groups, strict=True))
    valid = rng.random((3, 2500)) < 0.9
    limited = jax.jit(jax.vmap(lambda *arrays: ops.limited_nms(*arrays[:3], 0.5, 60, arrays[3])))
    index, found = limited(boxes, scores, ids, valid)
    expected = [greedy(*x[:3], 0.5, x[3]) for x in zip(boxes, scores, ids, valid, strict=True)]
    assert len(expected[0]) < 60 < len(expected[1])
    for i in range(3):
        kept = expected[i][:60]
        np.testing.assert_array_equal(index[i], kept + [0] * (60 - len(kept)))
        assert found[i].sum() == len(kept)


def test_a_chain_alternates():
    # Each box overlaps only its neighbours: 0 drops 1, so 2 stays, and so on through the tiles.
    n = 600
    x = np.arange(n, dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 2, 0 * x + 1], axis=1)
    keep = np.asarray(NMS(boxes, -x, 0.3))
    np.testing.assert_array_equal(keep, np.arange(n) % 2 == 0)


def test_equality_keeps():
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # IoU exactly 0.5
    scores = jnp.array([0.9, 0.8])
    assert NMS(boxes, scores, 0.5).tolist() == [True, True]
    assert NMS(boxes, scores, 0.4999).tolist() == [True, False]
    ids = jnp.zeros(2, int)
    assert LIMITED_NMS(boxes, scores, ids, 0.5, 2)[1].tolist() == [True, True]
    assert LIMITED_NMS(boxes, scores, ids, 0.4999, 2)[1].tolist() == [True, False]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_whole_numbers_at_the_threshold_equal_torchvision(tenths):
    """Recorded with torchvision 0.29.1 on a CPU: a float32 IoU is compared with a float64 threshold."""
    boxes, scores = np.float32([[0, 0, 10, 1], [0, 0, tenths, 1]]), np.float32([0.9, 0.8])
    ids, threshold = np.zeros(2, int), tenths / 10
    kept = [True, tenths in (5, 7, 9)]
    assert ops.nms(boxes, scores, threshold).tolist() == kept
    assert ops.batched_nms(boxes, scores, ids, threshold).tolist() == kept
    assert ops.limited_nms(boxes, scores, ids, threshold, 2)[1].tolist() == kept
    assert jax.jit(lambda *arrays: ops.nms(*arrays, threshold))(boxes, scores).tolist() == kept
    # What is float32 before is compared as it is.
    for rounded in (np.float32(threshold), jnp.float32(threshold)):
        assert ops.nms(boxes, scores, rounded).tolist() == [True, True]


def test_exceeding_is_a_comparison_in_float64():
    rng = np.random.default_rng(0)
    assert exceeds(jnp.array([0.0, 1e-30]), 0).tolist() == [False, True]
    thresholds = [1, 1.0, -1.0, 2.0, *(np.arange(1, 20) / 20), *rng.random(20)]
    for threshold in thresholds:
        near = np.float32(threshold)
        iou = np.array([np.nextafter(near, np.float32(-9)), near, np.nextafter(near, np.float32(9)), np.nan])
        iou = iou.astype(np.float32)
        expected = iou.astype(np.float64) > float(threshold)
        np.testing.assert_array_equal(exceeds(jnp.asarray(iou), threshold), expected)


def test_lowest_index_first_among_equal_scores():
    boxes = jnp.tile(jnp.array([[0.0, 0, 4, 4]]), (5, 1))
    scores = jnp.array([0.1, 0.7, 0.7, -0.0, 0.0])
    assert NMS(boxes, scores, 0.5).tolist() == [False, True, False, False, False]
    assert LIMITED_NMS(boxes, scores, jnp.arange(5) % 1, 0.5, 1)[0].tolist() == [1]
    assert LIMITED_NMS(boxes, scores, jnp.arange(5), 0.5, 5)[0].tolist() == [1, 2, 0, 3, 4]


def test_strange_scores_and_boxes():
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 9, 9], [9, 9, 9, 9], [20, 20, 30, 30]])
    scores = jnp.array([jnp.nan, 0.5, 0.4, 0.3, -jnp.inf])
    # NaN counts as not valid; boxes without area overlap nothing; -inf is only the worst score.
    assert NMS(boxes, scores, 0.5).tolist() == [False, True, True, True, True]
    index, found = LIMITED_NMS(boxes, scores, jnp.zeros(5, int), 0.5, 6)
    assert index.tolist() == [1, 2, 3, 4, 0, 0]
    assert found.tolist() == [True] * 4 + [False] * 2


def test_padding_changes_nothing():
    rng = np.random.default_rng(0)
    boxes, scores, ids = crowded(rng, 100)
    where = np.sort(rng.permutation(400)[:100])
    padded_boxes = np.tile(boxes[:1], (400, 1))
    padded_scores = np.full(400, 2.0, np.float32)
    padded_ids = np.zeros(400, int)
    padded_boxes[where], padded_scores[where], padded_ids[where] = boxes, scores, ids
    valid = np.isin(np.arange(400), where)
    keep = np.asarray(BATCHED_NMS(padded_boxes, padded_scores, padded_ids, 0.5, valid))
    assert not keep[~valid].any()
    np.testing.assert_array_equal(keep[where], BATCHED_NMS(boxes, scores, ids, 0.5))
    index, found = LIMITED_NMS(padded_boxes, padded_scores, padded_ids, 0.5, 20, valid)
    plain, plain_found = LIMITED_NMS(boxes, scores, ids, 0.5, 20)
    assert found.all() and plain_found.all()
    np.testing.assert_array_equal(index, where[np.asarray(plain)])


def test_nothing_at_all():
    boxes, scores, ids = jnp.zeros((0, 4)), jnp.zeros(0), jnp.zeros(0, int)
    assert NMS(boxes, scores, 0.5).shape == (0,)
    assert not LIMITED_NMS(boxes, scores, ids, 0.5, 3)[1].any()
    nobody = jnp.zeros(3, bool)
    assert not NMS(jnp.zeros((3, 4)), jnp.zeros(3), 0.5, nobody).any()


def test_low_precision_scores_keep_exact_boxes():
    boxes, scores, ids = crowded(np.random.default_rng(5), 80, image=1000, side=300)
    low = jnp.asarray(scores, jnp.bfloat16)
    kept = greedy(boxes, np.asarray(low, np.float32), ids, 0.5)
    assert np.flatnonzero(BATCHED_NMS(boxes, low, ids, 0.5)).tolist() == sorted(kept)
    index, found = LIMITED_NMS(boxes, low, ids, 0.5, 80)
    assert index[found].tolist() == kept


def test_under_jit_and_vmap_with_traced_threshold():
    rng = np.random.default_rng(6)
    groups = [crowded(rng, 300) for _ in range(3)]
    boxes, scores, ids = (np.stack(x) for x in zip(*groups, strict=True))
    valid = rng.random((3, 300)) < 0.9
    batched = jax.jit(jax.vmap(ops.batched_nms, (0, 0, 0, None, 0)))(boxes, scores, ids, 0.5, valid)
    limited = jax.jit(jax.vmap(lambda b, s, i, v: LIMITED_NMS(b, s, i, 0.5, 15, v)))
    index, _ = limited(boxes, scores, ids, valid)
    for i in range(3):
        expected = greedy(boxes[i], scores[i], ids[i], 0.5, valid[i])
        assert np.flatnonzero(batched[i]).tolist() == sorted(expected)
        assert index[i].tolist() == expected[:15]


def test_nothing_is_differentiated():
    boxes, scores, ids = crowded(np.random.default_rng(7), 300)

    def total(boxes, scores):
        index, found = LIMITED_NMS(boxes, scores, ids, 0.5, 5)
        return (scores * NMS(boxes, scores, 0.5)).sum() + (scores[index] * found).sum()

    grads = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(boxes), jnp.asarray(scores))
    assert not grads[0].any()
    assert grads[1].sum() == NMS(boxes, scores, 0.5).sum() + 5


@pytest.mark.parametrize("implementation", ["tile_by_tile", "at_once"])
def test_implementations_equal_greedy(implementation):
    boxes, scores, ids = crowded(np.random.default_rng(7), 700)
    valid = np.random.default_rng(8).random(700) < 0.8
    nms, batched_nms = (
        jax.jit(functools.partial(f, implementation=implementation)) for f in (ops.nms, ops.batched_nms)
    )
    keep = nms(boxes, scores, 0.5, valid)
    assert np.flatnonzero(keep).tolist() == sorted(greedy(boxes, scores, np.zeros(700), 0.5, valid))
    keep = batched_nms(boxes, scores, ids, 0.5, valid)
    assert np.flatnonzero(keep).tolist() == sorted(greedy(boxes, scores, ids, 0.5, valid))


def test_boxes_in_the_order_of_their_scores_need_no_sort():
    boxes, scores, _ = crowded(np.random.default_rng(3), 300)
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    valid = np.random.default_rng(4).random(300) < 0.8  # those that are not may stand anywhere
    found = jax.jit(functools.partial(ops.nms, ordered=True))(boxes, scores, 0.5, valid)
    np.testing.assert_array_equal(found, NMS(boxes, scores, 0.5, valid))
    assert "sort" not in jax.jit(functools.partial(ops.nms, ordered=True)).lower(boxes, scores, 0.5).as_text()


def test_a_wrong_implementation_is_named():
    with pytest.raises(ValueError, match="implementation is 'fast'; choose \"tile_by_tile\""):
        ops.nms(jnp.zeros((2, 4)), jnp.zeros(2), 0.5, implementation="fast")
