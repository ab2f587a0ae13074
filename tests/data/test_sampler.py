"""The order of the data: a pure function of seed and step."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.sampler import (
    TrainPlan,
    assign_canvases,
    check_processes,
    choose_canvases,
    eval_plans,
    given_canvases,
    resized_sizes,
)
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.resize import output_size

MODEL = ModelConfig().replace(
    {
        "input.test_min_size": 64,
        "input.test_max_size": 128,
        "input.pad_divisor": 16,
        "input.size_rule": "round_two_steps",
    }
)


def source(count=37, seed=0, empty=()):
    rng = np.random.default_rng(seed)
    sizes = np.where(rng.random((count, 1)) < 0.6, [[60, 90]], [[90, 60]]) + rng.integers(0, 8, (count, 2))
    counts = np.ones(count, np.int32)
    counts[list(empty)] = 0
    names = tuple(f"{i}.png" for i in range(count))
    return SourceStub(
        annotations="set.json", sizes=sizes.astype(np.int32), object_counts=counts, file_names=names
    )


class SourceStub(SimpleNamespace):
    def __len__(self):
        return len(self.sizes)


def config(**changes):
    return DataConfig(**({"batch_size": 4, "min_sizes": (32, 48, 64), "max_size": 96} | changes))


def epoch(plan, number=0):
    return [plan(number * plan.steps_per_epoch + i) for i in range(plan.steps_per_epoch)]


def test_each_epoch_visits_every_image_and_hardly_any_twice():
    data = source()
    plan = TrainPlan(data, MODEL, config(), seed=1)
    for number in range(3):
        index = np.concatenate([step.index for step in epoch(plan, number)])
        assert set(index) == set(range(len(data)))
        assert len(index) - len(data) < 4 * len(plan.canvases)
    first, second = ([tuple(s.index) for s in epoch(plan, n)] for n in (0, 1))
    assert first != second


def test_a_plan_is_a_function_of_seed_and_step():
    data = source()
    one, other = TrainPlan(data, MODEL, config(), 3), TrainPlan(data, MODEL, config(), 3)
    other = pickle.loads(pickle.dumps(other))
    far = [one(step) for step in (500, 3, 77, 3, 10**6)]
    for step, expected in zip((500, 3, 77, 3, 10**6), far, strict=True):
        got = other(step)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    different = TrainPlan(data, MODEL, config(), 4)
    assert any((different(i).index != one(i).index).any() for i in range(3))


def test_shares_of_the_processes_make_up_the_batch():
    plan = TrainPlan(source(), MODEL, config(batch_size=6), 0)
    for step in range(20):
        whole = plan(step)
        for count in (1, 2, 3, 6):
            parts = [whole.part(i, count) for i in range(count)]
            assert {p.canvas for p in parts} == {whole.canvas}
            for field in ("index", "sizes", "flip"):
                joined = np.concatenate([getattr(p, field) for p in parts])
                np.testing.assert_array_equal(joined, getattr(whole, field))
                assert {len(getattr(p, field)) for p in parts} == {6 // count}


def test_sizes_flips_and_canvases():
    data = source(200)
    plan = TrainPlan(data, MODEL, config(max_canvases=2), 0)
    assert 1 <= len(plan.canvases) <= 2
    seen, flips, tall = set(), [], []
    for step in range(100):
        now = plan(step)
        for index, size in zip(now.index, now.sizes, strict=True):
            options = [
                output_size(*map(int, data.sizes[index]), m, 96, "round_two_steps") for m in (32, 48, 64)
            ]
            assert tuple(size) in options
            seen.add(options.index(tuple(size)))
            assert (size <= now.canvas).all()
        flips += now.flip.tolist()
        shapes = data.sizes[now.index]
        tall.append((shapes[:, 0] > shapes[:, 1]).mean())
    assert seen == {0, 1, 2}
    assert 0.4 < np.mean(flips) < 0.6
    assert set(tall) == {0.0, 1.0}  # portrait and landscape never share a batch


def test_zero_means_the_sizes_of_the_test():
    plan = TrainPlan(source(), MODEL, config(min_sizes=(0,), max_size=0), 0)
    height, width = source().sizes[plan(0).index[0]]
    assert tuple(plan(0).sizes[0]) == output_size(int(height), int(width), 64, 128, "round_two_steps")


def test_flip_probability_is_kept_at_its_ends():
    assert not TrainPlan(source(), MODEL, config(flip=0.0), 0)(5).flip.any()
    assert TrainPlan(source(), MODEL, config(flip=1.0), 0)(5).flip.all()


def test_images_without_objects_can_be_left_out():
    data = source(empty=(0, 5, 6))
    kept = TrainPlan(data, MODEL, config(), 0)
    dropped = TrainPlan(data, MODEL, config(keep_empty=False), 0)
    assert {0, 5, 6} <= {i for s in epoch(kept) for i in s.index}
    assert {i for s in epoch(dropped) for i in s.index} == set(range(37)) - {0, 5, 6}
    with pytest.raises(UserError, match="set.json has no image to train on .of 37"):
        TrainPlan(source(empty=range(37)), MODEL, config(keep_empty=False), 0)


def test_a_group_smaller_than_the_batch_repeats_its_images():
    plan = TrainPlan(source(2), MODEL, config(batch_size=8, max_canvases=1), 0)
    assert plan.steps_per_epoch == 1
    assert np.bincount(plan(0).index).tolist() == [4, 4]


def test_canvases_hold_the_images_with_little_padding():
    rng = np.random.default_rng(0)
    extents = rng.integers(1, 12, (300, 2)) * 32
    waste = []
    for limit in (1, 2, 3, 6, 1000):
        canvases = choose_canvases(extents, limit)
        assert len(canvases) <= limit
        chosen = assign_canvases(extents, canvases)
        assert (chosen >= 0).all()
        areas = np.array(canvases).prod(axis=1)
        assert (np.diff(areas) >= 0).all()
        waste.append(areas[chosen].sum() - extents.prod(axis=1).sum())
    assert waste == sorted(waste, reverse=True) and waste[-1] == 0
    assert choose_canvases(extents, 1) == [tuple(extents.max(axis=0))]
    assert choose_canvases(np.array([[800, 1088], [1088, 800], [800, 1056]]), 2) == [(800, 1088), (1088, 800)]


def test_the_smallest_canvas_that_fits_is_taken():
    canvases = given_canvases((128, 64, 64, 64, 64, 128), 16)
    assert canvases == [(64, 64), (64, 128), (128, 64)]
    extents = np.array([[64, 64], [80, 16], [16, 80], [80, 80]])
    assert assign_canvases(extents, canvases).tolist() == [0, 2, 1, -1]


def test_given_canvases():
    plan = TrainPlan(source(), MODEL, config(canvases=(96, 96)), 0)
    assert {plan(i).canvas for i in range(10)} == {(96, 96)}
    with pytest.raises(UserError, match=r"image \d+.png needs a canvas of .* data.canvases has none"):
        TrainPlan(source(), MODEL, config(canvases=(64, 96)), 0)
    for wrong in ((64,), (64, 100), (0, 64), (-16, 64)):
        with pytest.raises(
            UserError, match="data.canvases is .* multiple of the model's input.pad_divisor 16"
        ):
            given_canvases(wrong, 16)


def test_evaluation_visits_every_image_once():
    data = source(29)
    plans = eval_plans(data, MODEL, config(eval_batch_size=4, max_canvases=2))
    index = np.concatenate([p.index for p in plans])
    assert sorted(index[index >= 0]) == list(range(29))
    sizes = resized_sizes(data.sizes, 64, 128, "round_two_steps")
    for plan in plans:
        assert len(plan.index) == 4 and not plan.flip.any()
        real = plan.index >= 0
        assert real[0] and (np.diff(real.astype(int)) <= 0).all()
        np.testing.assert_array_equal(plan.sizes[real], sizes[plan.index[real]])
        assert (plan.sizes <= plan.canvas).all()
    assert eval_plans(data, MODEL, config(canvases=(128, 128)))[0].canvas == (128, 128)
    # Canvases made for smaller training images do not stop an evaluation.
    assert (64, 64) not in {p.canvas for p in eval_plans(data, MODEL, config(canvases=(64, 64)))}
    assert eval_plans(source(0), MODEL, config()) == []


def test_settings_that_cannot_work():
    check_processes(8, 4, "batch_size")
    with pytest.raises(UserError, match="data.batch_size is 6, which 4 processes cannot share"):
        check_processes(6, 4, "batch_size")
    with pytest.raises(UserError, match="data.batch_size is 0"):
        TrainPlan(source(), MODEL, config(batch_size=0), 0)
    with pytest.raises(UserError, match=r"data.min_sizes is \(\); give one or more"):
        TrainPlan(source(), MODEL, config(min_sizes=()), 0)
    with pytest.raises(UserError, match="data.eval_batch_size is 0"):
        eval_plans(source(), MODEL, config(eval_batch_size=0))
