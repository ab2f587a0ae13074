"""Ids that are texts: two texts are two ids, even where they are the same number."""

import json

import pytest
from data.test_spellings import check_every_door, good, number_categories, rename_images, saved, truth

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.ids import Ids


def test_texts_of_one_number_are_several_ids():
    ids = Ids(["1", "0001", "7", "x", "01"])
    assert [ids.of(v) for v in ("1", 1, 1.0, "0001", "01", "7", 7, "007", "x")] == [
        1, 1, 1, 8, 9, 7, 7, 7, 10,
    ]  # fmt: skip
    assert ids.of("001") is None and ids.rewritten == 2 and list(ids.apart) == ["0001", "01"]
    # Neither of two texts with zeros is the number.
    ids = Ids(["001", "01"])
    assert [ids.of(v) for v in (1, "1", "001", "01")] == [None, None, 2, 3]


@pytest.mark.parametrize(
    "values", [[1, "1"], ["1", " 1 "], [1, 1.0], ["0001", "0001"], [1, "01"], [1.0, "01", "1"]]
)
def test_one_id_in_one_spelling_is_one(values):
    ids = Ids(values)
    assert {ids.of(value) for value in values} == {1} and not ids.apart


@pytest.mark.parametrize("names", [("1", "0001"), ("01", "001"), ("0001", "1")])
def test_every_door_keeps_images_apart(names, tmp_path, capsys):
    data = good()
    rename_images(lambda i: names[i - 1])(data)
    path, images = saved(tmp_path, data)
    written = [{**entry, "image_id": names[entry["image_id"] - 1]} for entry in truth()]
    detections = tmp_path / "written.json"
    detections.write_text(json.dumps(written))
    assert command(["inspect", str(path), f"--images={images}", "--count=0"]) == 0
    text = capsys.readouterr().out
    assert "images          2, 0 of them" in text and "another one's number in another spelling" in text
    assert ("written as text or floats: 1 (the first: '1')" in text) == ("1" in names)
    assert sorted(prepare(path, images, tmp_path / "cache").object_counts.tolist()) == [1, 2]
    arguments = [str(detections), str(path), f"--images={images}", f"--output={tmp_path / 'page'}"]
    assert command(["report", *arguments, "--pictures=0"]) == 0
    assert "mask AP 1.000" in capsys.readouterr().out


def test_an_id_that_may_be_two_images_is_unknown(tmp_path, capsys):
    data = good()
    rename_images(lambda i: ("01", "001")[i - 1])(data)
    data["annotations"][0]["image_id"] = 1
    path, images = saved(tmp_path, data)
    assert command(["inspect", str(path), "--count=0"]) == 2
    assert "refers to the image_id 1, which 'images' does not list" in capsys.readouterr().out


def test_every_door_keeps_categories_apart(tmp_path, capsys):
    data = good()
    number_categories(lambda i: ("1", "0001")[i - 1])(data)
    path, images = saved(tmp_path, data)
    said = "category ids that are another one's number in another spelling: 1 (the first: '0001' is 2)"
    check_every_door(tmp_path, path, images, capsys, said)
