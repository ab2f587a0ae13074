"""Where nothing remains that can be learned, the sentence says how much was left out and why."""

import json

import numpy as np
import pytest
from cli.test_import import refused
from cli.test_import_layouts import labelme, photograph, shape
from data_helpers import annotation, content, encode, write

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.errors import UserError

TRIANGLE = [[2, 3], [22, 3], [22, 20]]


def test_shapes_without_an_area_are_counted(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    reserved = [shape("__ignore__", TRIANGLE)] * 2
    labelme(tmp_path / "set", [shape("cat", [[2, 3]], "point")] * 3 + reserved)
    said = refused(tmp_path, capsys, tmp_path / "set", "labelme")
    assert "holds no objects that can be used: 3 of shape_type 'point', which has no area (first: " in said
    assert "; 2 shapes of labelme's reserved label '__ignore__' are left out (first: " in said
    assert said.index("3 of") < said.index("2 shapes") and said.count("\n") == 1


def test_problems_that_were_skipped_are_counted(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    labelme(tmp_path / "set", [shape("", TRIANGLE)] * 7 + [shape("cat", [[2, 3]], "point")] * 2)
    said = refused(tmp_path, capsys, tmp_path / "set", "labelme", "--on_error=skip").splitlines()[-1]
    assert "holds no objects that can be used: 7 left out (no class; first: " in said
    assert "; 2 of shape_type 'point', which has no area (first: " in said


def test_nothing_that_was_annotated_is_no_fault_of_the_import(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    labelme(tmp_path / "set", [])
    said = refused(tmp_path, capsys, tmp_path / "set", "labelme")
    assert "holds no objects that can be used: nothing is annotated in its 1 images" in said


def test_images_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    tasks = [{"id": i, "data": {"image": "a.png"}, "annotations": []} for i in range(4)]
    (tmp_path / "set" / "export.json").write_text(json.dumps(tasks))
    said = refused(tmp_path, capsys, tmp_path / "set", "label-studio")
    assert "holds no images that can be used: 4 tasks without an annotation (predictions are none)" in said


CROWD = {"iscrowd": 1, "segmentation": encode(np.ones((32, 40), bool))}


@pytest.mark.parametrize("crowds", [0, 1])
def test_annotations_that_were_left_out_are_no_lack_of_annotations(crowds, tmp_path, capsys):
    entries = [annotation(i, segmentation=[[1, 1, 2, 2]]) for i in (1, 2, 3)] + [annotation(4, category_id=9)]
    entries += [annotation(5, **CROWD)] * crowds
    path, images = write(tmp_path, content(entries))
    with pytest.raises(UserError) as caught:
        prepare(path, images, tmp_path / "cache", on_error="skip")
    words = "all 1 annotations that are not left out (3 for " if crowds else (
        "1 images and 1 classes of which all annotations are left out (3 for "
    )  # fmt: skip
    assert words in str(caught.value) and "1 for 'unknown category'" in str(caught.value)
    assert main(["inspect", str(path), f"--images={images}", "--count=0"]) == 2
    said = capsys.readouterr().out
    assert words in said and "without an annotation" not in said


def test_regions_that_are_dropped_are_left_out(tmp_path):
    path, images = write(tmp_path, content([annotation(1, **CROWD)]))
    with pytest.raises(UserError, match="left out .1 for .crowd regions that are dropped"):
        prepare(path, images, tmp_path / "cache", reading=Reading(crowd="drop"))


def test_images_that_cannot_be_read_are_the_reason(tmp_path):
    path, images = write(tmp_path, content([annotation(1)]), files=False)
    (images / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="leaves no usable image .1 for 'corrupt image'."):
        prepare(path, images, tmp_path / "cache", on_error="skip")


def test_a_json_without_annotations_has_none(tmp_path):
    path, images = write(tmp_path, content([]))
    with pytest.raises(UserError, match="1 images and 1 classes without an annotation; give the annotations"):
        prepare(path, images, tmp_path / "cache")
