"""Several jsons in one run, images held out of one, and data sets that an iterable gives."""

import collections
import json
import pickle

import numpy as np
import pytest
from data_helpers import annotation, content, random_set, same, write
from PIL import Image

from jaxmaskrcnn.config import Config, ConfigError, DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare, write_iterable
from jaxmaskrcnn.data.holding_out import hold_out
from jaxmaskrcnn.data.records.joined import JoinedSource
from jaxmaskrcnn.data.sampler import TrainPlan
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.setup import prepare_sources

MODEL = ModelConfig().replace(
    {
        "num_classes": 3,
        "input.pad_divisor": 16,
        "input.normalise_before_resize": False,
        "input.resize_kernel": "pil",
    }
)


def config(**changes):
    return DataConfig(**({"batch_size": 2, "min_sizes": (32,), "max_size": 64} | changes))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    sources = []
    for seed, sizes in ((0, [(24, 36)] * 4), (1, [(30, 30), (32, 32), (24, 40), (32, 32)])):
        directory = tmp_path_factory.mktemp(f"set{seed}")
        sources.append(prepare(*random_set(directory, sizes, seed=seed), directory / "cache"))
    return sources


def test_joined_sources_have_all_images(pair):
    joined = pickle.loads(pickle.dumps(JoinedSource(pair, [1.0, 2.0])))
    assert len(joined) == 8 and joined.weights.tolist() == [1] * 4 + [2] * 4
    assert joined.object_counts.tolist() == [*pair[0].object_counts, *pair[1].object_counts]
    for number in (0, 3, 4, 7):
        source, index = pair[number // 4], number % 4
        mine, theirs = joined[number], source[index]
        assert (mine.index, mine.file_name) == (number, theirs.file_name)
        same(mine.labels, theirs.labels)
        same(mine.pixels(), theirs.pixels())
        pairs = joined.image_labels[joined.image_labels[:, 0] == number, 1]
        same(pairs, source.image_labels[source.image_labels[:, 0] == index, 1])
    for wrong in (-1, 8):
        with pytest.raises(IndexError):
            joined[wrong]
    assert joined.largest_counts() == {
        name: max(source.largest_counts()[name] for source in pair) for name in joined.counts
    }


def test_weights_are_how_often_images_come(pair):
    plan = TrainPlan(JoinedSource(pair, [0.5, 2.0]), MODEL, config(batch_size=1), 0)
    assert plan.steps_per_epoch == 10
    seen = collections.Counter(int(plan(step).index[0]) for step in range(10 * plan.steps_per_epoch))
    assert sum(seen[i] for i in range(4)) == 20 and [seen[i] for i in range(4, 8)] == [20] * 4
    plain = TrainPlan(JoinedSource(pair, [1.0, 1.0]), MODEL, config(batch_size=1), 0)
    assert sorted(int(plain(step).index[0]) for step in range(8)) == list(range(8))


def test_batches_of_joined_sources(pair, batches):
    joined = JoinedSource(pair, [1.0, 1.0])
    iterator = batches(joined, MODEL, config(batch_size=4, copy_paste=0.5))
    indices = np.concatenate([next(iterator).index for _ in range(4)])
    assert indices.max() > 3 > indices.min()


def test_jsons_with_other_categories_are_refused(pair, tmp_path):
    other = prepare(*write(tmp_path, content([annotation()])), tmp_path / "cache")
    with pytest.raises(UserError, match="has other categories than .*set.json"):
        JoinedSource([pair[0], other], [1, 1])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"more_annotations": ("a.json",)}, "more_annotations has 1 paths and data.more_images 0"),
        ({"weights": (1.0, 2.0)}, "data.weights has 2 numbers for 1 jsons"),
        ({"eval_fraction": 0.2, "eval_images": "x"}, "data.eval_fraction holds images out"),
    ],
)
def test_settings_that_do_not_go_together(changes, said):
    with pytest.raises(ConfigError, match=said):
        config(**changes).check()


# -- images held out


def test_images_are_held_out(tmp_path):
    annotations, images = random_set(tmp_path, [(24, 36)] * 10)
    train, val = hold_out(annotations, tmp_path / "data", 0.3)
    parts = [json.loads(path.read_text()) for path in (train, val)]
    names = [{image["file_name"] for image in part["images"]} for part in parts]
    assert list(map(len, names)) == [7, 3] and not names[0] & names[1]
    whole = json.loads(annotations.read_text())
    assert sum(len(part["annotations"]) for part in parts) == len(whole["annotations"])
    assert parts[0]["categories"] == whole["categories"]
    before = train.stat().st_mtime_ns
    assert hold_out(annotations, tmp_path / "data", 0.3) == (train, val)
    assert train.stat().st_mtime_ns == before
    annotations.write_text(annotations.read_text() + " ")
    assert hold_out(annotations, tmp_path / "data", 0.3)[0] != train
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(UserError, match="data.eval_fraction divides a COCO json"):
        hold_out(tmp_path / "bad.json", tmp_path / "data", 0.3)


def test_a_run_of_several_jsons_with_images_held_out(tmp_path):
    first, folder = random_set(tmp_path, [(24, 36)] * 5)
    (tmp_path / "other").mkdir()
    second, more = random_set(tmp_path / "other", [(30, 30)] * 3, seed=1)
    settings = Config()
    settings.data = DataConfig(
        train_annotations=str(first), train_images=str(folder), eval_fraction=0.4, weights=(1.0, 3.0),
        more_annotations=(str(second),), more_images=(str(more),),
    )  # fmt: skip
    settings.check()
    train, evaluation = prepare_sources(settings, tmp_path / "run")
    assert len(train) == 6 and len(evaluation) == 2 and train.weights.tolist() == [1] * 3 + [3] * 3
    assert not set(train.file_names[:3]) & set(evaluation.file_names)


# -- iterables


def test_an_iterable_becomes_a_data_set(tmp_path):
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:8, 3:9], masks[1, 10:15, 20:30] = True, True
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    colour = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    examples = [
        (grey, {"labels": np.array([1, 0]), "masks": masks, "crowd": [False, True]}),
        (Image.fromarray(colour), {"labels": [0], "masks": masks[:1], "boxes": [[2.5, 1.5, 9.5, 8.0]]}),
        (colour, {"labels": [], "masks": np.zeros((0, 20, 30), bool)}),
    ]
    annotations, images = write_iterable(tmp_path / "made", iter(examples), ["cell", "nucleus"])
    source = prepare(annotations, images, tmp_path / "cache")
    assert [category.name for category in source.categories] == ["cell", "nucleus"]
    assert source.object_counts.tolist() == [1, 1, 0] and source.crowd_counts.tolist() == [1, 0, 0]
    same(source[0].masks(), masks)
    assert source[0].labels.tolist() == [1, 0]
    same(source[1].boxes, np.float32([[2.5, 1.5, 9.5, 8.0]]))
    same(source[1].pixels(), colour)
    same(np.asarray(Image.open(images / "00000001.png")), grey)


@pytest.mark.parametrize(
    "image, target, said",
    [
        (np.zeros((4, 4)), {"labels": [0], "boxes": [[0, 0, 2, 2]]}, "image 1 of the iterable is float64"),
        (np.zeros((4, 4), np.uint8), {"labels": [0]}, "has neither masks nor boxes"),
        (np.zeros((4, 4), np.uint8), {"labels": [3], "boxes": [[0, 0, 2, 2]]}, "has the label 3"),
        (np.zeros((4, 4), np.uint8), {"labels": [0], "boxes": [0, 0, 2, 2]}, "boxes .4. for 1 labels"),
        (np.zeros((4, 4), np.uint8), {"labels": [0], "masks": np.zeros((1, 4, 4))}, "mask 0 .* is empty"),
    ],
)
def test_examples_of_another_form_are_refused(image, target, said, tmp_path):
    with pytest.raises(UserError, match=said):
        write_iterable(tmp_path / "made", [(image, target)], ["cell"])
    with pytest.raises(UserError, match="gives no image"):
        write_iterable(tmp_path / "none", [], ["cell"])
