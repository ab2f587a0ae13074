"""Keypoints in labelme's json: points that share the group of an object."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from other_formats import labelme_file, labelme_shape, write_images
from pycocotools import mask as rle_codec

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.inference.formats import labelme_content

BODY = [[2.0, 2.0], [20.0, 2.0], [20.0, 30.0], [2.0, 30.0]]
OTHER = [[25.0, 2.0], [38.0, 2.0], [38.0, 30.0]]


def point(name, x, y, group, **more):
    return labelme_shape(name, [[x, y]], "point", group, **more)


def shapes():
    """Two people and a bag; the second person's foot is hidden, and one foot has no place."""
    return [
        labelme_shape("person", BODY, group=7),
        point("head", 10.5, 4.0, 7),
        point("foot", 12.0, 28.0, 7, flags={"hidden": True}),
        point("hand", 5.0, 9.25, "b"),
        labelme_shape("person", OTHER, group="b"),
        labelme_shape("bag", BODY),
        labelme_shape("bag", OTHER, group=3),
    ]


def write(folder: Path, changed) -> Path:
    """A folder of one labelme json beside its image."""
    write_images(folder)
    content = labelme_file("a.png", changed)
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def imported(tmp_path, changed, *options):
    folder = write(tmp_path / "labelme", changed)
    output = tmp_path / "set.json"
    code = command(["import", str(folder), "--format=labelme", f"--output={output}", *options])
    return json.loads(output.read_text()) if code == 0 else code


def test_points_of_a_group_are_keypoints(tmp_path, capsys):
    content = imported(tmp_path, shapes())
    names = ["head", "foot", "hand"]
    assert content["categories"] == [
        {"id": 1, "name": "bag"}, {"id": 2, "name": "person", "keypoints": names, "skeleton": []},
    ]  # fmt: skip
    first, second, *bags = content["annotations"]
    assert first["keypoints"] == [10.5, 4, 2, 12, 28, 1, 0, 0, 0] and first["num_keypoints"] == 2
    assert second["keypoints"] == [0, 0, 0, 0, 0, 0, 5, 9.25, 2] and second["num_keypoints"] == 1
    assert not any("keypoints" in entry for entry in bags) and first["segmentation"] == [sum(BODY, [])]
    assert "shape_type" not in capsys.readouterr().out
    found = inspect_annotations(tmp_path / "set.json", tmp_path / "labelme")
    assert found.problems == [] and found.annotations.skeleton.points == tuple(names)


def test_the_order_of_keypoints_can_be_given(tmp_path, capsys):
    content = imported(tmp_path, shapes(), "--keypoints=tail,foot,hand,head")
    assert content["categories"][1]["keypoints"] == ["tail", "foot", "hand", "head"]
    assert content["annotations"][0]["keypoints"] == [0, 0, 0, 12, 28, 1, 0, 0, 0, 10.5, 4, 2]
    assert imported(tmp_path, shapes(), "--keypoints=head,foot") == 2
    assert "is the keypoint 'hand', which is not among those of --keypoints" in capsys.readouterr().err


def test_x_anylabeling_marks_hidden_points_as_difficult(tmp_path):
    changed = [labelme_shape("person", BODY, group=1), point("head", 3, 4, 1, difficult=True)]
    assert imported(tmp_path, changed)["annotations"][0]["keypoints"] == [3, 4, 1]


def test_points_without_an_object_are_counted(tmp_path, capsys):
    changed = [labelme_shape("person", BODY), point("head", 3, 4, None), point("head", 3, 4, 9)]
    content = imported(tmp_path, changed)
    assert "keypoints" not in content["annotations"][0] and "keypoints" not in content["categories"][0]
    said = capsys.readouterr().out
    assert "1 of shape_type 'point', which has no area" in said
    assert "1 of shape_type 'point' in a group without an outline, which has no area (first: " in said


PERSON, HEAD = labelme_shape("person", BODY, group=1), point("head", 3, 4, 1)


@pytest.mark.parametrize(
    "changed, said",
    [
        ([HEAD, point("head", 4, 4, 1)], r"shape 2 .'head'. is the second 'head' of the"),
        ([HEAD, labelme_shape("bag", OTHER, group=1)], "belongs to several objects of"),
        ([point("", 3, 4, 1)], "is a keypoint without a name; give its label"),
        ([point(None, 3, 4, 1)], "is a keypoint without a name; give its label"),
        ([point("head", "x", 4, 1)], "has the coordinate 'x'; give a finite number"),
        ([point("head", 1e12, 4, 1)], "has the coordinates .1000000000000.0, 4.; give x and y in its"),
        ([labelme_shape("head", [[1, 2], [3, 4]], "point", 1)], "is a point without one pair of x and y"),
        ([labelme_shape("head", [[1, 2, 3]], "point", 1)], "has the coordinates .1, 2, 3.; give x and y"),
        ([labelme_shape("head", "ab", "point", 1)], "is a point without one pair of x and y"),
    ],
)  # fmt: skip
def test_faults_are_one_sentence(changed, said, tmp_path, capsys):
    changed = [PERSON, *changed]
    assert imported(tmp_path, changed) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and re.search(said, lines[0]), lines
    assert imported(tmp_path, changed, "--on_error=skip")["annotations"]


def test_predictions_come_back_through_the_importer(tmp_path):
    """Points have COCO's coordinates in both directions; those that pictures leave out are not there."""
    folder = tmp_path / "labelme"
    image = write_images(folder) / "a.png"
    mask = np.zeros((32, 40), bool)
    mask[4:20, 6:30] = True
    rle = rle_codec.encode(np.asfortranarray(mask, np.uint8))
    config = KeypointConfig(points=("head", "hand", "foot"), offset=0.5)
    result = {
        "boxes": np.float32([[6, 4, 30, 20]]), "scores": np.float32([0.9]),
        "labels": np.array([3]), "masks": [rle],
        "keypoints": np.float32([[[10.5, 6.5, 0.8], [20, 8, 0.04], [12.25, 18.5, 0.3]]]),
    }  # fmt: skip
    content = labelme_content(result, {3: "person"}, image, folder, (32, 40), keypoints=config)
    assert [shape["shape_type"] for shape in content["shapes"]] == ["polygon", "point", "point"]
    assert [shape["group_id"] for shape in content["shapes"]] == [1, 1, 1]
    assert content["shapes"][1]["description"] == "score 0.800"
    (folder / "a.json").write_text(json.dumps(content))
    output = tmp_path / "set.json"
    assert command(["import", str(folder), "--format=labelme", f"--output={output}"]) == 0
    (entry,) = json.loads(output.read_text())["annotations"]
    assert entry["keypoints"] == [10, 6, 2, 11.75, 18, 2]
    without = labelme_content(result, {3: "person"}, image, folder, (32, 40))
    assert [shape["group_id"] for shape in without["shapes"]] == [None]
