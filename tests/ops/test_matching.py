"""Matching against torchvision, a transcription of MMDetection's rule, and by properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS

from jaxmaskrcnn import ops

GOLDEN = np.load(GOLDENS / "torchvision_ops_boxes.npz")
THRESHOLDS = {"foreground_iou": 0.7, "background_iou": 0.3}
NEARLY_ONE = {"foreground_iou": 0.95, "background_iou": 0.95}
MATCH = jax.jit(
    ops.match, static_argnames=("foreground_iou", "background_iou", "low_quality", "low_quality_min_iou")
)
MODES = [(None, 0.0), ("label", 0.0), ("reassign", 0.3), ("reassign", 0.0)]


def tied_iou(rng, objects, columns):
    """Coarse values, so that ties are everywhere."""
    return (rng.integers(0, 11, (objects, columns)) / 10).astype(np.float32)


def match_loop(iou, foreground, background, low_quality, least):
    """The rules column by column and object by object."""
    best, index = iou.max(0), iou.argmax(0)
    label = np.full(iou.shape[1], -1)
    label[best < background] = 0
    label[best >= foreground] = 1
    for g in range(iou.shape[0]):
        if low_quality is None or iou[g].max() < least:
            continue
        for n in range(iou.shape[1]):
            if iou[g, n] == iou[g].max():
                label[n] = 1
                if low_quality == "reassign":
                    index[n] = g
    return index, label


@pytest.mark.parametrize("name", ["all", "touching", "plain"])
def test_equals_torchvision(name):
    iou = GOLDEN["match_iou"]
    rows = GOLDEN["match_touching_rows"] if name == "touching" else np.arange(len(iou))
    low_quality = None if name == "plain" else "label"
    index, label = MATCH(iou[rows], np.ones(len(rows), bool), low_quality=low_quality, **THRESHOLDS)
    recorded = GOLDEN[f"match_{name}"]
    np.testing.assert_array_equal(label, np.where(recorded >= 0, 1, np.where(recorded == -1, 0, -1)))
    np.testing.assert_array_equal(np.where(label == 1, index, -1), np.maximum(recorded, -1))
    if name == "touching":
        assert set(np.asarray(label)) == {-1, 0, 1}


def test_an_object_that_overlaps_nothing_makes_all_columns_foreground():
    # Surprising, but it is what torchvision and Detectron2 do; see GOLDEN["match_all"].
    iou = jnp.array([[0.9, 0.2, 0.0], [0.0, 0.0, 0.0]])
    valid = jnp.ones(2, bool)
    assert MATCH(iou, valid, low_quality="label", **THRESHOLDS).label.tolist() == [1, 1, 1]
    limited = MATCH(iou, valid, low_quality="label", low_quality_min_iou=1e-6, **THRESHOLDS)
    assert limited.label.tolist() == [1, 0, 0]
    padded = MATCH(iou, jnp.array([True, False]), low_quality="label", **THRESHOLDS)
    assert padded.label.tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_equals_a_loop(mode):
    low_quality, least = mode
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        iou = tied_iou(rng, rng.choice([1, 5]), 12) * np.float32(rng.choice([0.5, 1.0]))
        matches = MATCH(
            iou, np.ones(len(iou), bool), low_quality=low_quality, low_quality_min_iou=least, **THRESHOLDS
        )
        index, label = match_loop(iou, 0.7, 0.3, low_quality, np.float32(least))
        np.testing.assert_array_equal(matches.index, index)
        np.testing.assert_array_equal(matches.label, label)
        seen |= set(label)
    assert seen == {-1, 0, 1}


def test_the_two_low_quality_rules_differ_in_whom_a_column_goes_to():
    # Object 1 has its best column 0, which overlaps object 0 more.
    iou = jnp.array([[0.6, 0.5], [0.4, 0.1]])
    for low_quality, index in (("label", 0), ("reassign", 1)):
        matches = MATCH(iou, jnp.ones(2, bool), low_quality=low_quality, **THRESHOLDS)
        assert matches.label.tolist() == [1, -1]
        assert matches.index[0] == index


def test_thresholds_are_inclusive_above_and_exclusive_below():
    iou = jnp.array([[0.7, 0.3, 0.69999, 0.29999]])
    assert MATCH(iou, jnp.ones(1, bool), **THRESHOLDS).label.tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_whole_numbers_at_the_threshold_equal_torchvision(tenths):
    """Recorded with torchvision 0.29.1 and torch 2.14.1: the threshold is rounded to float32.

    Other than NMS, a matcher compares a tensor with a Python number, which takes the tensor's type.
    """
    iou = ops.box_iou(jnp.array([[0.0, 0, 10, 1]]), jnp.array([[0.0, 0, tenths, 1]]))
    one, threshold = jnp.ones(1, bool), tenths / 10
    for transform in (lambda f: f, jax.jit):
        at_once = transform(lambda i: ops.match(i, one, foreground_iou=threshold, background_iou=threshold))
        assert at_once(iou).label.tolist() == [1]
        between = transform(lambda i: ops.match(i, one, foreground_iou=0.95, background_iou=threshold))
        assert between(iou).label.tolist() == [-1]
    best = MATCH(iou, one, low_quality="reassign", low_quality_min_iou=threshold, **NEARLY_ONE)
    assert best.label.tolist() == [1]


@pytest.mark.parametrize("mode", MODES)
def test_padding_matches_nothing(mode):
    low_quality, least = mode
    rng = np.random.default_rng(1)
    iou = tied_iou(rng, 4, 20)
    plain = MATCH(iou, np.ones(4, bool), low_quality=low_quality, low_quality_min_iou=least, **THRESHOLDS)
    padded_iou = np.concatenate([iou, np.ones((3, 20), np.float32)])
    valid = np.arange(7) < 4
    padded = jax.jit(
        lambda i, v: ops.match(i, v, low_quality=low_quality, low_quality_min_iou=least, **THRESHOLDS)
    )(padded_iou, valid)
    np.testing.assert_array_equal(padded.index, plain.index)
    np.testing.assert_array_equal(padded.label, plain.label)


@pytest.mark.parametrize("mode", MODES)
def test_columns_that_do_not_exist_change_nothing(mode):
    low_quality, least = mode
    iou = np.array([[0.0, 0.0, 0.0], [0.2, 0.5, 0.8], [0.4, 0.1, 0.0]], np.float32)
    arguments = dict(low_quality=low_quality, low_quality_min_iou=least, **THRESHOLDS)
    plain = MATCH(iou, np.ones(3, bool), **arguments)
    wider = MATCH(np.pad(iou, ((0, 0), (0, 5)), constant_values=-1), np.ones(3, bool), **arguments)
    np.testing.assert_array_equal(wider.label, [*plain.label, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(wider.index[:3], plain.index)


def test_no_object_is_all_background():
    for low_quality, _ in MODES:
        for iou, valid in ((jnp.zeros((0, 5)), jnp.zeros(0, bool)), (jnp.ones((2, 5)), jnp.zeros(2, bool))):
            matches = MATCH(iou, valid, low_quality=low_quality, **THRESHOLDS)
            assert matches.label.tolist() == [0] * 5
            assert matches.index.tolist() == [0] * 5
            assert matches.label.dtype == matches.index.dtype == jnp.int32


def test_the_order_of_objects_does_not_matter_without_ties():
    rng = np.random.default_rng(2)
    iou = rng.permutation(60).reshape(5, 12).astype(np.float32) / 60
    order = rng.permutation(5)
    for low_quality in (None, "label"):
        a = MATCH(iou, np.ones(5, bool), low_quality=low_quality, **THRESHOLDS)
        b = MATCH(iou[order], np.ones(5, bool), low_quality=low_quality, **THRESHOLDS)
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.index, order[np.asarray(b.index)])


def test_under_vmap():
    rng = np.random.default_rng(3)
    iou = np.stack([tied_iou(rng, 4, 9) for _ in range(3)])
    valid = rng.random((3, 4)) < 0.6
    batch = jax.vmap(lambda i, v: ops.match(i, v, low_quality="reassign", **THRESHOLDS))(iou, valid)
    for i in range(3):
        one = MATCH(iou[i], valid[i], low_quality="reassign", **THRESHOLDS)
        np.testing.assert_array_equal(batch.index[i], one.index)
        np.testing.assert_array_equal(batch.label[i], one.label)


def test_wrong_rule_is_named():
    with pytest.raises(ValueError, match="'best'"):
        ops.match(jnp.ones((1, 1)), jnp.ones(1, bool), low_quality="best", **THRESHOLDS)
