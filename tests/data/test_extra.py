"""Extra ground truth: from a json through the records and all transforms to the targets."""

import json

import numpy as np
import pytest

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import ConfigError, DataConfig, ExtraConfig
from jaxmaskrcnn.data import prepare, train_iterator, write_shapes
from jaxmaskrcnn.data.fields.extra import Extra
from jaxmaskrcnn.data.load_batch import LoadBatch
from jaxmaskrcnn.errors import UserError

DECLARED = (
    ExtraConfig(name="depth"),
    ExtraConfig(name="pose", shape=(2, 3), default=-1.0),
    ExtraConfig(name="sun", of="image", shape=(2,)),
)


def model_of(declared=DECLARED):
    small = {"input.test_min_size": 64, "input.test_max_size": 64}
    return jmr.model_config("jaxmaskrcnn/shapes", num_classes=3, **small).replace(extra=declared)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A json with extra numbers, and its images; every second object has a pose."""
    folder = tmp_path_factory.mktemp("extra")
    annotations, images = write_shapes(folder, 6, 64, seed=0)
    content = json.loads(annotations.read_text())
    for entry in content["annotations"]:
        entry["depth"] = entry["id"] / 4
        if entry["id"] % 2:
            entry["pose"] = [[entry["id"], 0, 0], [1, 2, 3]]
    for image in content["images"]:
        image["sun"] = [image["id"], 0.5]
    path = folder / "extra.json"
    path.write_text(json.dumps(content))
    return path, images, content


def poses(ids):
    return [[[i, 0, 0], [1, 2, 3]] if i % 2 else [[-1] * 3] * 2 for i in ids]


def test_records_have_the_numbers_of_the_json(data, tmp_path):
    path, images, _ = data
    source = prepare(path, images, tmp_path, extra=DECLARED)
    assert source.extra == (("depth", "object", ()), ("pose", "object", (2, 3)), ("sun", "image", (2,)))
    for i, number in enumerate(source.image_ids):
        example = source[i]
        found = Extra.decode(example.extra)
        np.testing.assert_array_equal(found.objects["depth"], example.annotation_ids / 4)
        np.testing.assert_array_equal(found.objects["pose"], poses(example.annotation_ids))
        np.testing.assert_array_equal(found.image["sun"], [number, 0.5])


def test_records_without_extra_numbers_are_those_of_before(data, tmp_path):
    path, images, _ = data
    source = prepare(path, images, tmp_path)
    assert source.extra == () and source[0].extra == b""
    assert prepare(path, images, tmp_path, extra=DECLARED).directory != source.directory
    with pytest.raises(UserError, match="was prepared without the extra ground truth 'depth', which the"):
        LoadBatch(source, model_of(), 4)


@pytest.mark.parametrize("settings", [{}, {"copy_paste": 1.0}, {"rotate": 30.0, "crop": 0.5}], ids=str)
def test_numbers_stay_with_their_objects(data, tmp_path, settings):
    """By the labels and areas: an object's depth tells its annotation."""
    path, images, content = data
    source = prepare(path, images, tmp_path, extra=DECLARED)
    options = DataConfig(batch_size=2, min_sizes=(64,), max_size=64, **settings)
    batches = train_iterator(source, model_of(), options, seed=3)
    of = {entry["id"]: entry for entry in content["annotations"]}
    seen = 0
    for _ in range(4):
        batch = next(batches)
        targets = batch.targets
        assert targets.extra["depth"].dtype == np.float32
        assert targets.extra["pose"].shape == (*targets.valid.shape, 2, 3)
        np.testing.assert_array_equal(targets.extra["sun"][:, 0], source.image_ids[batch.index])
        assert not targets.extra["depth"][~targets.valid].any()
        for row, valid in enumerate(targets.valid):
            ids = (targets.extra["depth"][row, valid] * 4).astype(int)
            labels = [of[i]["category_id"] - 1 for i in ids]
            np.testing.assert_array_equal(targets.labels[row, valid], labels)
            np.testing.assert_array_equal(targets.extra["pose"][row, valid], poses(ids))
            own = [of[i]["image_id"] == source.image_ids[batch.index[row]] for i in ids]
            assert all(own) or "copy_paste" in settings
            seen += len(ids)
    batches.close()
    assert seen > 10


def test_the_largest_objects_keep_theirs(data, tmp_path):
    path, images, _ = data
    source = prepare(path, images, tmp_path, extra=DECLARED)
    i = int(source.object_counts.argmax())
    load = LoadBatch(source, model_of(), 2)
    example = source[i]
    objects = load.objects(example, (64, 64), False).largest(2)
    kept = np.sort(np.argsort(-example.areas, kind="stable")[:2])
    np.testing.assert_array_equal(objects.extra.objects["depth"], example.annotation_ids[kept] / 4)


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda c: c["annotations"][1].pop("depth"),
            "annotation 2 has no 'depth', which the recipe declares",
        ),
        (
            lambda c: c["annotations"][1].update(depth="far"),
            "annotation 2 has the extra depth 'far'; give one",
        ),
        (
            lambda c: c["annotations"][1].update(depth=True),
            "annotation 2 has the extra depth True; give one fin",
        ),
        (
            lambda c: c["annotations"][1].update(depth=[1]),
            r"annotation 2 has the extra depth \[1\]; give one fin",
        ),
        (lambda c: c["annotations"][0].update(pose=[[1, 2], [3]]), r"finite numbers of the shape \[2, 3\]"),
        (
            lambda c: c["images"][2].update(sun=[1]),
            r"image 3 has the extra sun \[1\]; give finite numbers of",
        ),
        (
            lambda c: c["annotations"][1].update(id=1),
            "has no 'depth', .* or its id is used twice; add it there",
        ),
    ],
)
def test_wrong_numbers_are_refused(data, tmp_path, change, said):
    _, images, content = data
    content = json.loads(json.dumps(content))
    change(content)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        prepare(path, images, tmp_path, extra=DECLARED)


def test_a_crowd_region_needs_none(data, tmp_path):
    _, images, content = data
    content = json.loads(json.dumps(content))
    content["annotations"][0].update(iscrowd=1)
    del content["annotations"][0]["depth"]
    path = tmp_path / "crowd.json"
    path.write_text(json.dumps(content))
    example = prepare(path, images, tmp_path, extra=DECLARED)[0]
    assert Extra.decode(example.extra).objects["depth"][example.crowd].tolist() == [0]


def test_targets_of_make_batch():
    masks = np.zeros((2, 64, 64), bool)
    masks[:, 8:20, 8:20] = True
    target = {"boxes": [[8, 8, 20, 20]] * 2, "labels": [0, 1], "masks": masks}
    image, model = np.zeros((64, 64, 3), np.uint8), model_of()
    good = {"depth": [1.5, 2], "sun": [3, 4]}
    batch = jmr.make_batch(model, [image], [{**target, "extra": good}], max_objects=3)
    assert batch.targets.extra["depth"].tolist() == [[1.5, 2, 0]]
    assert batch.targets.extra["pose"][0, :, 0, 0].tolist() == [-1, -1, 0]
    assert batch.targets.extra["sun"].tolist() == [[3, 4]]
    for extra, said in (
        ({"sun": [3, 4]}, r"image 0 has no extra 'depth'; give numbers of the shape \[2\]"),
        (
            {**good, "depth": [1.5]},
            r"image 0 has the extra depth \[1.5\]; give finite numbers of the shape \[2\]",
        ),
        ({**good, "sun": [np.nan, 1]}, "image 0 has the extra sun .*; give finite numbers"),
        ({**good, "size": [1, 2]}, "has the extra .*; the model declares depth, pose, sun"),
    ):
        with pytest.raises(UserError, match=said):
            jmr.make_batch(model, [image], [{**target, "extra": extra}])
    with pytest.raises(UserError, match="the model declares nothing; declare it as extra"):
        jmr.make_batch(model_of(()), [image], [{**target, "extra": good}])


def test_declarations_that_do_not_go():
    with pytest.raises(ConfigError, match="ModelConfig.extra has 'depth' twice"):
        model_of((ExtraConfig(name="depth"), ExtraConfig(name="depth", of="image")))
    with pytest.raises(ConfigError, match="ExtraConfig.name is 'a b'; give a name of letters"):
        ExtraConfig(name="a b")
