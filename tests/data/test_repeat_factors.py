"""Repeat-factor sampling against the paper's formula, and as a part of the training plan."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from data_helpers import annotation, content, write

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.repeat_factors import epoch_length, repeat_factors, repeated
from jaxmaskrcnn.data.sampler import TrainPlan
from jaxmaskrcnn.errors import UserError

MODEL = ModelConfig().replace(
    {
        "input.test_min_size": 64,
        "input.test_max_size": 128,
        "input.pad_divisor": 16,
        "input.size_rule": "round_two_steps",
    }
)


def by_the_formula(classes, threshold):
    """Gupta et al. 2019, one image and one class at a time."""
    count = len(classes)
    share = {c: sum(c in found for found in classes) / count for found in classes for c in found}
    of_class = {c: max(1.0, (threshold / f) ** 0.5) for c, f in share.items()}
    return [max((of_class[c] for c in found), default=1.0) for found in classes]


def random_classes(seed, images=60):
    """Classes of each image; class c becomes rarer with c, and some images have none."""
    rng = np.random.default_rng(seed)
    return [{c for c in range(12) if rng.random() < 0.8 * 0.6**c} for _ in range(images)]


def pairs(classes):
    return np.array([(i, c) for i, found in enumerate(classes) for c in sorted(found)]).reshape(-1, 2)


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.5, 1.0])
def test_factors_follow_the_formula(threshold):
    classes = random_classes(0)
    found = repeat_factors(pairs(classes), len(classes), threshold)
    np.testing.assert_allclose(found, by_the_formula(classes, threshold), rtol=1e-12)
    assert (found > 1).any() == (threshold > 0.01)
    np.testing.assert_array_equal(repeat_factors(np.zeros((0, 2)), 3, threshold), np.ones(3))


def test_an_epoch_repeats_every_image_as_often_as_its_factor_says():
    members = np.arange(100, 140)
    factors = np.concatenate([np.ones(10), np.linspace(1, 4.3, 30)])
    counts = []
    for epoch in range(3000):
        images = repeated(members, factors, np.random.default_rng([5, epoch]))
        assert len(images) in (epoch_length(factors), epoch_length(factors) - 1)
        counts.append(np.bincount(images - 100, minlength=40))
    counts = np.array(counts)
    assert (counts.min(axis=0) >= np.floor(factors)).all() and (counts.max(axis=0) <= np.ceil(factors)).all()
    # Standard error of a mean of 3000 draws is below 0.01.
    np.testing.assert_allclose(counts.mean(axis=0), factors, atol=0.045)
    alone = [len(repeated(members[:1], np.array([1.3]), np.random.default_rng(i))) for i in range(1000)]
    assert np.mean(alone) == pytest.approx(1.3, abs=0.05)
    whole = np.full(7, 2.0)
    assert epoch_length(whole) == 14 == len(repeated(np.arange(7), whole, np.random.default_rng(0)))
    halves = np.full(4, 1.5)
    assert {len(repeated(np.arange(4), halves, np.random.default_rng(i))) for i in range(50)} == {6}


class SourceStub(SimpleNamespace):
    def __len__(self):
        return len(self.sizes)


def source(classes):
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random((len(classes), 1)) < 0.6, [[60, 90]], [[90, 60]])
    return SourceStub(
        annotations="set.json", sizes=sizes.astype(np.int32), image_labels=pairs(classes),
        object_counts=np.array([len(found) for found in classes]),
        file_names=tuple(f"{i}.png" for i in range(len(classes))),
    )  # fmt: skip


def make_plan(classes, seed=0, **changes):
    data = DataConfig(**{"batch_size": 4, "min_sizes": (64,), "max_size": 96} | changes)
    return TrainPlan(source(classes), MODEL, data, seed)


def test_plans_repeat_rare_images_and_stay_a_function_of_seed_and_step():
    classes = random_classes(1)
    factors = np.array(by_the_formula(classes, 0.3))
    plan = make_plan(classes, repeat_threshold=0.3)
    assert plan.steps_per_epoch > make_plan(classes).steps_per_epoch
    seen = np.zeros(len(classes))
    for epoch in range(200):
        index = np.concatenate(
            [plan(epoch * plan.steps_per_epoch + i).index for i in range(plan.steps_per_epoch)]
        )
        assert set(index) == set(range(len(classes)))
        seen += np.bincount(index, minlength=len(classes))
    # Batches are filled up, which adds less than one batch a canvas to an epoch.
    assert (seen / 200 > factors - 0.15).all()
    assert (seen / 200 - factors).sum() < 4 * len(plan.canvases) + 1
    other = pickle.loads(pickle.dumps(make_plan(classes, repeat_threshold=0.3)))
    for step in (777, 3, 10**5, 3):
        for a, b in zip(plan(step), other(step), strict=True):
            np.testing.assert_array_equal(a, b)
    different = make_plan(classes, seed=1, repeat_threshold=0.3)
    assert any((different(i).index != plan(i).index).any() for i in range(3))


def test_factors_that_are_rounded_up_are_the_same_in_every_epoch():
    classes = random_classes(1)
    expected = np.ceil(by_the_formula(classes, 0.3))
    assert set(expected) >= {1, 2, 3}
    plan = make_plan(classes, batch_size=1, repeat_threshold=0.3, repeat_rule="ceil")
    assert plan.steps_per_epoch == expected.sum()
    for epoch in range(3):
        index = [int(plan(epoch * plan.steps_per_epoch + i).index[0]) for i in range(plan.steps_per_epoch)]
        np.testing.assert_array_equal(np.bincount(index, minlength=len(classes)), expected)


def test_off_is_the_order_without():
    classes = random_classes(2)
    plain, off = make_plan(classes), make_plan(classes, repeat_threshold=0.0)
    common = make_plan([{0}] * len(classes), repeat_threshold=0.5)
    assert common.steps_per_epoch == plain.steps_per_epoch
    for step in range(40):
        np.testing.assert_array_equal(plain(step).index, off(step).index)


def test_classes_are_counted_over_the_images_in_use():
    """Two thirds of the images are empty and left out; class 1 is then in half of the rest."""
    classes = [{0}, {0, 1}] * 5 + [set()] * 20
    counts = [
        make_plan(classes, batch_size=1, keep_empty=keep, repeat_threshold=threshold).steps_per_epoch
        for keep in (False, True)
        for threshold in (0.0, 0.5)
    ]
    assert counts[:3] == [10, 10, 30]
    assert counts[3] >= 30 + 5 * (3**0.5 - 1) + 5 * (1.5**0.5 - 1)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(UserError, match=f"data.repeat_threshold is {threshold}"):
        make_plan([{0}] * 5, repeat_threshold=threshold)


def test_prepared_data_know_the_classes_of_their_images(tmp_path):
    categories = [{"id": k, "name": f"class {k}"} for k in (3, 5, 9)]
    entries = [
        annotation(1, 1, category_id=9), annotation(2, 1, category_id=9), annotation(3, 1, category_id=3),
        annotation(4, 3, category_id=5, iscrowd=1),
    ]  # fmt: skip
    data = content(entries, ((32, 40),) * 3, categories)
    prepared = prepare(*write(tmp_path, data), tmp_path / "cache")
    assert prepared.image_labels.tolist() == [[0, 0], [0, 2], [2, 1]]
