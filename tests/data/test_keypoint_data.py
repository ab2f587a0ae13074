"""Keypoints of annotations: read, checked, stored, transformed with their image, and given to a model."""

import json

import numpy as np
import pytest
from data_helpers import annotation, content, write

from jaxmaskrcnn.config import DataConfig, KeypointConfig, ModelConfig
from jaxmaskrcnn.data import prepare, train_iterator
from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.problems import AllProblems
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Skeleton
from jaxmaskrcnn.training.run_config import model_section, to_model_config
from jaxmaskrcnn.zoo.lookup import model_config

POINTS = ["head", "left_hand", "right_hand"]
PERSON = {"id": 1, "name": "person", "keypoints": POINTS, "skeleton": [[1, 2], [1, 3]]}
KEYPOINTS = [10, 4, 2, 5, 12, 1, 0, 0, 0]
HEAD = KeypointConfig(points=tuple(POINTS))


def model(**changes):
    return model_config(
        "jaxmaskrcnn/shapes", num_classes=1, **{"keypoints": HEAD, "input.pad_divisor": 8, **changes}
    )


def prepared(folder, entries, categories=(PERSON,), sizes=((32, 40),), **options):
    return prepare(*write(folder, content(entries, sizes, categories)), folder / "cache", **options)


def test_records_have_keypoints_and_their_names(tmp_path):
    entries = [annotation(keypoints=KEYPOINTS, num_keypoints=2), annotation(2), annotation(3, iscrowd=1)]
    source = prepared(tmp_path, entries, keypoints=True)
    assert source.skeleton == Skeleton(tuple(POINTS), ((0, 1), (0, 2)))
    assert source.counts["keypoint_counts"].tolist() == [2] and source.notes == ()
    example = source[0]
    points = Keypoints.read(example.columns, example.size).points
    assert points.tolist()[0] == [[10, 4, 2], [5, 12, 1], [0, 0, 0]] and not points[1:].any()


def test_keypoints_are_read_only_where_they_are_asked_for(tmp_path):
    source = prepared(tmp_path, [annotation(keypoints=["nonsense"])])
    assert source.skeleton is None and source.counts["keypoint_counts"].tolist() == [0]


@pytest.mark.parametrize(
    "keypoints, found",
    [
        ([1, 2], "has keypoints that are a list of 2 numbers; give a flat list x, y, visibility, x, ..."),
        ("1,2,2", "has keypoints that are str"),
        ([1, None, 2, 0, 0, 0, 0, 0, 0], "has keypoints with a value that is not a finite number"),
        ([1, 2, 3, 0, 0, 0, 0, 0, 0], r"has a keypoint with the visibility 3; give 0 \(not annotated\), 1"),
        ([1, 2, 2, 0, 0, 0], "has 2 keypoints, but objects here have 3"),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_bad_keypoints_are_named(tmp_path, keypoints, found, plain):
    entry = annotation(7, keypoints=keypoints, area=144 if plain else "144")
    with pytest.raises(UserError, match=f"set.json: annotation 7 of image 1 .* {found}"):
        prepared(tmp_path, [entry], keypoints=True)
    skipped = prepared(tmp_path, [entry, annotation(8)], keypoints=True, on_error="skip")
    assert skipped.skipped == {"bad keypoints": 1}


def test_inspect_reports_bad_keypoints_and_counts(tmp_path):
    entries = [
        annotation(1, keypoints=KEYPOINTS, num_keypoints=3),
        annotation(2, keypoints=[1, 2, 9] + [0] * 6),
    ]
    path, images = write(tmp_path, content(entries, categories=[PERSON]))
    found = inspect_annotations(path, images)
    assert [p.reason for p in found.problems] == ["bad keypoints"]
    assert any("num_keypoints" in note for note in found.annotations.notes)
    assert found.summary["keypoints"] == {
        "names": POINTS, "annotated": {"head": 1, "left_hand": 1, "right_hand": 0},
        "hidden": {"head": 0, "left_hand": 1, "right_hand": 0}, "images": 1,
    }  # fmt: skip


def notes_of(tmp_path, data):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    return parse_annotations(load_json(path), path, None, AllProblems(), keypoints=True)


def test_names_that_are_missing_or_differ(tmp_path):
    thing = {"id": 1, "name": "thing"}
    found = notes_of(tmp_path, content([annotation(keypoints=KEYPOINTS)], categories=[thing]))
    assert found.skeleton == Skeleton(("keypoint 0", "keypoint 1", "keypoint 2"), ())
    assert "without names" in found.notes[0]
    other = {"id": 2, "name": "dog", "keypoints": ["tail"]}
    found = notes_of(tmp_path, content([annotation(keypoints=KEYPOINTS)], categories=[PERSON, other]))
    assert found.skeleton is None and "'tail' and 'head'" in found.notes[0]
    assert found.images[0].objects[0].keypoints == ""
    found = notes_of(tmp_path, content([], categories=[{**PERSON, "skeleton": [[1, 4], [2, 3]]}]))
    assert found.skeleton.lines == ((1, 2),) and "[1, 4]" in found.notes[0]


# -- transforms


def moved(points, geometry, **changes):
    return Keypoints(np.float64([points])).transform(geometry, model(**changes)).points[0].tolist()


def test_a_mirrored_image_exchanges_left_and_right():
    geometry = Geometry.resize((32, 40), (64, 80), flip=True)
    points = [[10, 4, 2], [5, 12, 1], [0, 0, 0]]
    assert moved(points, geometry) == [[60, 8, 2], [0, 0, 0], [70, 24, 1]]
    again = moved(moved(points, geometry), Geometry.resize((64, 80), (32, 40), flip=True))
    assert again == points
    named = HEAD.__class__(points=HEAD.points, flips=((0, 1),))
    assert moved(points, geometry, keypoints=named) == [[70, 24, 1], [60, 8, 2], [0, 0, 0]]


def test_the_offset_is_added_before_everything_else():
    part = KeypointConfig(points=HEAD.points, offset=0.5)
    resized = moved([[10, 4, 2], [5, 12, 1], [0, 0, 0]], Geometry.resize((32, 40), (64, 80)), keypoints=part)
    assert resized == [[21, 9, 2], [11, 25, 1], [0, 0, 0]]


def test_what_is_cropped_away_is_not_annotated_and_what_is_covered_is_hidden():
    geometry = Geometry((0, 8, 32, 32), 0.0, (32, 32), False, (0, 0, 32, 32))
    objects = Keypoints(np.float64([[[10, 4, 2], [5, 12, 1], [40, 32, 2]]])).transform(geometry, model())
    kept = objects.clip((32, 32))
    assert kept.points[0].tolist() == [[2, 4, 2], [0, 0, 0], [32, 32, 2]]  # the border belongs to the image
    cover = np.zeros((32, 32), bool)
    cover[4, 2] = True
    assert kept.hide(cover).points[0].tolist() == [[2, 4, 1], [0, 0, 0], [32, 32, 2]]


def test_a_turned_image_turns_keypoints_about_its_middle():
    geometry = Geometry((0, 0, 20, 20), 90.0, (20, 20), False, (0, 0, 20, 20))
    turned = Keypoints(np.float64([[[10, 0, 2], [20, 10, 2], [0, 0, 0]]])).transform(geometry, model())
    np.testing.assert_allclose(turned.points[0], [[0, 10, 2], [10, 0, 2], [0, 0, 0]], atol=1e-9)


# -- targets


def test_training_batches_have_keypoints_and_leave_out_images_without(tmp_path):
    entries = [annotation(1, keypoints=KEYPOINTS), annotation(2, 2)]
    source = prepared(tmp_path, entries, sizes=((32, 40), (32, 40)), keypoints=True)
    data = DataConfig(batch_size=1, min_sizes=(64,), max_size=80, flip=0.0)
    batches = train_iterator(source, model(**{"input.test_min_size": 64}), data, seed=0)
    try:
        for _ in range(3):
            batch = next(batches)
            assert batch.index.tolist() == [0]
            assert batch.targets.keypoints.shape[2:] == (3, 3)
            assert batch.targets.keypoints[0, 0].tolist() == [[20, 8, 2], [10, 24, 1], [0, 0, 0]]
    finally:
        batches.close()
    with pytest.raises(UserError, match="no image with 3 annotated keypoints or more"):
        train_iterator(source, model(**{"keypoints.min_per_image": 3}), data, seed=0)


def test_augmented_batches_have_keypoints(tmp_path):
    source = prepared(tmp_path, [annotation(1, keypoints=KEYPOINTS)] * 1, keypoints=True)
    data = DataConfig(batch_size=1, min_sizes=(32,), max_size=40, flip=1.0, rotate=1.0, crop=0.9)
    batches = train_iterator(source, model(**{"input.test_min_size": 32}), data, seed=0)
    try:
        points = next(batches).targets.keypoints[0, 0]
        assert points[0, 2] == 2 and points[2, 2] == 1 and not points[1].any()
        assert abs(points[0, 0] - 30) < 6 and abs(points[2, 1] - 12) < 6
    finally:
        batches.close()


def test_data_and_model_have_to_agree(tmp_path):
    data = DataConfig(batch_size=1)
    without = prepared(tmp_path, [annotation()], categories=({"id": 1, "name": "thing"},), keypoints=True)
    with pytest.raises(UserError, match="has no keypoints, or was prepared without"):
        train_iterator(without, model(), data, seed=0)
    source = prepared(tmp_path, [annotation(keypoints=KEYPOINTS)], keypoints=True)
    with pytest.raises(UserError, match="have 3 keypoints and the model 17"):
        train_iterator(source, model(keypoints=KeypointConfig()), data, seed=0)


@pytest.mark.parametrize("points", ["head,hand", 3, {"head": 1}, [["head"]], [None]])
def test_keypoints_of_categories_that_are_no_names(points, tmp_path):
    category = {"id": 1, "name": "person", "keypoints": points}
    path, images = write(tmp_path, content([annotation(keypoints=KEYPOINTS)], ((32, 40),), [category]))
    (problem,) = inspect_annotations(path, images).problems
    assert problem.reason == "bad category" and "category 1 has the keypoints" in problem.message
    with pytest.raises(UserError, match="category 1 has the keypoints .*; give a list of their names"):
        prepare(path, images, tmp_path / "cache", keypoints=True)


@pytest.mark.parametrize("points", ["1,2,2", {"x": 1}, True])
def test_keypoints_that_are_no_list_are_found_without_names(points, tmp_path):
    category = {"id": 1, "name": "person"}
    entries = [annotation(1, keypoints=points), annotation(2, keypoints=KEYPOINTS)]
    for chosen in (entries, entries[:1]):
        path, images = write(tmp_path, content(chosen, ((32, 40),), [category]))
        found = inspect_annotations(path, images).problems
        assert [problem.reason for problem in found] == ["bad keypoints"]
        assert "annotation 1 " in found[0].message and "has keypoints that are" in found[0].message


def test_keypoints_outside_of_the_image_are_a_suspicion(tmp_path):
    far = annotation(keypoints=[1e9, 4, 2, 5, 12, 1, 0, 0, 0])
    path, images = write(tmp_path, content([far], ((32, 40),), [PERSON]))
    found = inspect_annotations(path, images)
    (suspicion,) = [entry for entry in found.suspicions if entry.reason == "keypoint outside"]
    assert not found.problems and "'head' at x 1e+09, y 4, outside of its 40 x 32 pixels" in suspicion.message


def test_a_run_takes_the_keypoints_of_its_annotations():
    section = model_section("torchvision/keypointrcnn_resnet50_fpn")
    skeleton = Skeleton(tuple(POINTS), ((0, 1),))
    config = to_model_config(section, (PERSON_CATEGORY,), skeleton)
    assert config.keypoints.points == tuple(POINTS) and config.keypoints.lines == ((0, 1),)
    assert config.keypoints.flip_order == (0, 2, 1) and config.keypoints.min_per_image == 10
    coco = Skeleton(KeypointConfig().points, ())
    assert to_model_config(section, (PERSON_CATEGORY,), coco).keypoints == section.architecture.keypoints


PERSON_CATEGORY = model_config("torchvision/keypointrcnn_resnet50_fpn").categories[0]


def test_targets_in_memory():
    image = np.zeros((32, 40, 3), np.uint8)
    target = {
        "boxes": [[4, 4, 30, 30]], "labels": [0], "masks": np.ones((1, 32, 40), bool),
        "keypoints": np.reshape(KEYPOINTS, (1, 3, 3)),
    }  # fmt: skip
    batch = make_batch(model(**{"input.test_min_size": 32, "input.test_max_size": 40}), [image], [target])
    assert batch.targets.keypoints[0, 0, 1].tolist() == [5, 12, 1]
    for wrong, match in (
        (np.zeros((1, 2, 3)), r"has float64 keypoints \[1, 2, 3\]; give \[1, 3, 3\]"),
        (np.full((1, 3, 3), np.nan), "not finite"),
        (np.full((1, 3, 3), 5), "a visibility other than"),
    ):
        with pytest.raises(UserError, match=match):
            make_batch(model(), [image], [{**target, "keypoints": wrong}])
    with pytest.raises(UserError, match="no 'keypoints'"):
        make_batch(model(), [image], [{key: target[key] for key in ("boxes", "labels", "masks")}])
    plain = make_batch(ModelConfig(), [image], [target])
    assert plain.targets.keypoints is None
