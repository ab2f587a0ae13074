"""Panoptic quality of hand-worked maps, and of random ones against the rules written as sets of pixels."""

import numpy as np
import pytest

from jaxmaskrcnn.evaluation.panoptic import PanopticCounts, count_segments, panoptic_metrics
from jaxmaskrcnn.structures import Category


def counted(predicted, found, annotated, truth, classes=2):
    counts = count_segments(np.asarray(predicted), found, np.asarray(annotated), truth, classes)
    return [values.tolist() for values in counts]


def row(*runs):
    """A map of one row from (number, pixels)."""
    return np.concatenate([np.full(count, number) for number, count in runs])[None]


def test_the_papers_figure():
    """As in figure 2 of Panoptic Segmentation: people who are matched, missed and wrong."""
    annotated = row((1, 10), (2, 10), (3, 10), (4, 30))
    predicted = row((1, 10), (2, 8), (4, 2), (5, 4), (4, 36))
    truth = {1: (0, False), 2: (0, False), 3: (0, False), 4: (1, False)}
    iou, matched, wrong, missed = counted(predicted, {1: 0, 2: 0, 5: 0, 4: 1}, annotated, truth)
    assert (matched, wrong, missed) == ([2, 1], [1, 0], [1, 0])
    # 10 / 10 and 8 / 10 of people; stuff has 30 of 38 + 30 - 30 pixels.
    np.testing.assert_allclose(iou, [1.8, 30 / 38])
    metrics = panoptic_metrics(PanopticCounts(*map(np.array, (iou, matched, wrong, missed))), [
        Category(1, "person"), Category(2, "grass"),
    ], 1)  # fmt: skip
    np.testing.assert_allclose(metrics["PQ_things"], 1.8 / 3)
    np.testing.assert_allclose(metrics["SQ_things"], 0.9)
    np.testing.assert_allclose(metrics["RQ_things"], 2 / 3)
    np.testing.assert_allclose(metrics["PQ"], (0.6 + 30 / 38) / 2)
    assert metrics["PQ_stuff"] == metrics["per_class"][1]["PQ"]


def test_half_is_no_match():
    """The IoU has to be larger than one half."""
    predicted, annotated = row((1, 10), (0, 5)), row((7, 5), (0, 10))
    # 5 of 10 pixels are shared, and the other 5 of the prediction are not annotated.
    assert counted(predicted, {1: 0}, annotated, {7: (0, False)})[0] == [1.0, 0.0]
    annotated = row((7, 5), (8, 10))
    truth = {7: (0, False), 8: (1, False)}
    assert counted(predicted, {1: 0}, annotated, truth) == [[0.0, 0.0], [0, 0], [1, 0], [1, 1]]


def test_another_class_is_no_match():
    both = row((1, 10))
    assert counted(both, {1: 1}, both, {1: (0, False)}) == [[0.0, 0.0], [0, 0], [0, 1], [1, 0]]


def test_unlabelled_pixels():
    """They do not count for the IoU, and a prediction that is mostly there is not wrong."""
    annotated = row((7, 6), (0, 14))
    predicted = row((1, 10), (2, 10))
    assert counted(predicted, {1: 0, 2: 0}, annotated, {7: (0, False)}) == [
        [1.0, 0.0],
        [1, 0],
        [0, 0],
        [0, 0],
    ]
    # Exactly half of it there: wrong.
    annotated, predicted = row((7, 5), (0, 5)), row((1, 10))
    assert counted(predicted, {1: 1}, annotated, {7: (0, False)})[2] == [0, 1]
    annotated = row((7, 4), (0, 6))
    assert counted(predicted, {1: 1}, annotated, {7: (0, False)})[2] == [0, 0]


def test_crowd_regions():
    """They are neither matched nor missed, and cover predictions of their class alone."""
    annotated, truth = row((7, 10), (8, 4)), {7: (0, True), 8: (1, False)}
    predicted = row((1, 5), (2, 5), (3, 4))
    found = {1: 0, 2: 1, 3: 1}
    assert counted(predicted, found, annotated, truth) == [[0.0, 1.0], [0, 1], [0, 1], [0, 0]]
    # Crowd and unlabelled pixels together.
    annotated = row((7, 3), (0, 3), (8, 4))
    assert counted(row((1, 10)), {1: 0}, annotated, truth)[2] == [0, 0]


def test_numbers_that_mean_nothing():
    """Unknown numbers are no segments: predicted ones are left out, annotated ones are not labelled."""
    assert counted(row((9, 5)), {}, row((7, 5)), {7: (0, False)}) == [[0.0, 0.0], [0, 0], [0, 0], [1, 0]]
    assert counted(row((1, 5)), {1: 0}, row((9, 5)), {}) == [[0.0, 0.0], [0, 0], [0, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"predicted has the shape \[1, 2\]"):
        count_segments(np.zeros((1, 2), int), {}, np.zeros((2, 2), int), {}, 1)


def test_classes_that_do_not_occur_are_left_out():
    counts = PanopticCounts(np.array([0.9, 0, 0]), np.array([1, 0, 0]), np.array([0, 0, 2]), np.zeros(3, int))
    kinds = [Category(i, str(i)) for i in range(3)]
    metrics = panoptic_metrics(counts + PanopticCounts.none(3), kinds, 2)
    assert metrics["PQ"] == 0.45 and metrics["PQ_things"] == 0.9 and metrics["PQ_stuff"] == 0
    assert metrics["per_class"][1] == {"PQ": None, "SQ": None, "RQ": None}
    assert panoptic_metrics(PanopticCounts.none(3), kinds, 2)["PQ"] is None


def plain(predicted, found, annotated, truth, classes):
    """The rules as sets of pixels."""

    def pixels(values, number):
        return set(np.flatnonzero(np.ravel(values) == number))

    ours = {n: pixels(predicted, n) for n in found}
    theirs = {n: pixels(annotated, n) for n in truth}
    labelled = set().union(*theirs.values())
    iou, tp, fp, fn = (np.zeros(classes) for _ in range(4))
    matched = set()
    for t, (label, crowd) in truth.items():
        partner = None
        for p in found:
            shared = ours[p] & theirs[t]
            union = (ours[p] & labelled) | theirs[t]
            if not crowd and found[p] == label and len(shared) > 0.5 * len(union):
                partner, value = p, len(shared) / len(union)
        if partner is not None:
            iou[label] += value
            tp[label] += 1
            matched.add(partner)
        elif not crowd:
            fn[label] += 1
    for p, label in found.items():
        free = ours[p] - labelled
        for t, entry in truth.items():
            if entry == (label, True):
                free |= ours[p] & theirs[t]
        if p not in matched and len(free) <= 0.5 * len(ours[p]):
            fp[label] += 1
    return [iou, tp, fp, fn]


@pytest.mark.parametrize("seed", range(6))
def test_random_maps(seed):
    rng = np.random.RandomState(seed)
    annotated = np.kron(rng.randint(0, 8, (4, 5)), np.ones((3, 3), int))
    predicted = np.where(
        rng.rand(12, 15) < 0.85, annotated, np.kron(rng.randint(0, 8, (4, 5)), np.ones((3, 3), int))
    )
    truth = {int(n): (int(n) % 3, bool(n == 6)) for n in np.unique(annotated) if n}
    found = {int(n): int(n) % 3 if rng.rand() < 0.8 else 1 for n in np.unique(predicted) if n}
    ours = count_segments(predicted, found, annotated, truth, 3)
    theirs = plain(predicted, found, annotated, truth, 3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b)
    # Other numbers of the segments, and another order, change nothing.
    new = np.append(0, rng.permutation(np.arange(11, 18)))
    again = count_segments(
        new[predicted], {int(new[n]): c for n, c in found.items()}, new[annotated],
        {int(new[n]): c for n, c in truth.items()}, 3,
    )  # fmt: skip
    for a, b in zip(ours, again, strict=True):
        np.testing.assert_allclose(a, b)


def test_the_example_of_mmdetection():
    """What panopticapi computes of MMDetection's test of its metric (test_coco_panoptic_metric.py)."""

    def filled(boxes, background):
        values = np.full((60, 80), background)
        for number, (x, y, w, h) in enumerate(boxes, 1):
            values[y : y + h, x : x + w] = number
        return values

    annotated = filled([(10, 10, 10, 40), (30, 10, 10, 40), (50, 10, 10, 5)], 4)
    predicted = filled([(11, 11, 10, 40), (38, 10, 10, 40), (51, 10, 10, 5)], 4)
    truth = {1: (0, False), 2: (0, False), 3: (2, False), 4: (3, False)}
    counts = count_segments(predicted, {1: 0, 2: 0, 3: 2, 4: 3}, annotated, truth, 4)
    names = ("person", "cat", "dog", "wall")
    metrics = panoptic_metrics(counts, [Category(i, name) for i, name in enumerate(names)], 3)
    published = {
        "PQ": 67.86874803219071, "SQ": 80.89770126158936, "RQ": 83.33333333333334,
        "PQ_things": 60.45252075318891, "SQ_things": 79.9959505972869, "RQ_things": 75.0,
        "PQ_stuff": 82.70120259019427, "SQ_stuff": 82.70120259019427, "RQ_stuff": 100.0,
    }  # fmt: skip
    for name, value in published.items():
        assert abs(100 * metrics[name] - value) < 1e-10
