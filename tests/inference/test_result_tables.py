"""Results that people use: tables, names, crops, COCO entries, and going on after an interruption."""

import csv
import json

import numpy as np
import pytest
from data_helpers import encode
from PIL import Image

from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.journal import JOURNAL, Journal
from jaxmaskrcnn.inference.result import Result
from jaxmaskrcnn.inference.tables import parse_pixel_size, written_tables
from jaxmaskrcnn.structures import Category

CATEGORIES = (Category(3, "cat"), Category(17, "Сова, «ночная»"), Category(90, "eel"))


def scene():
    masks = np.zeros((3, 40, 50), bool)
    masks[0, 5:15, 10:30], masks[1, 20:30, 0:5], masks[2, 30:40, 40:50] = True, True, True
    boxes = np.float32([[10, 5, 30, 15], [0, 20, 5, 30], [40, 30, 50, 40]])
    return {
        "boxes": boxes,
        "scores": np.float32([0.9, 0.8, 0.5]),
        "labels": np.array([3, 17, 3]),
        "masks": masks,
    }


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def entry(number, label, score, box, area, **more):
    names = dict(CATEGORIES)
    return {"id": number, "category_id": label, "category_name": names[label], "score": score, "bbox": box,
            "area": area, **more}  # fmt: skip


def test_tables_by_hand(tmp_path):
    image = {"file_name": "a.png", "height": 40, "width": 50}
    entries = [
        entry(1, 3, 0.9, [10.0, 5.0, 20.0, 10.0], 200),
        entry(2, 17, 0.8, [0.0, 20.0, 5.0, 10.0], 50),
        entry(3, 3, 0.5, [40.0, 30.0, 10.0, 10.0], 100),
    ]
    with written_tables(tmp_path, False, parse_pixel_size("0.5um")) as tables:
        tables.add(image, entries)
        tables.add({**image, "file_name": "empty.png"}, [])
    rows = read(tmp_path / "objects.csv")
    assert [row["class"] for row in rows] == ["cat", "Сова, «ночная»", "cat"]
    assert rows[0] == {
        "file": "a.png", "id": "1", "class_id": "3", "class": "cat", "score": "0.9", "x": "10", "y": "5",
        "width": "20", "height": "10", "area": "200", "width_um": "10", "height_um": "5", "area_um2": "50",
    }  # fmt: skip
    counts = read(tmp_path / "counts.csv")
    listed = [(row["file"], row["class"], row["count"]) for row in counts]
    assert listed[:2] == [("a.png", "all", "3"), ("a.png", "cat", "2")]
    assert listed[2:] == [("a.png", "Сова, «ночная»", "1"), ("empty.png", "all", "0")]
    cats = counts[1]
    assert (cats["mean_score"], cats["mean_area"], cats["area"]) == ("0.7", "150", "300")
    assert (cats["share_of_picture"], cats["mean_area_um2"], cats["area_um2"]) == ("0.15", "37.5", "75")
    assert counts[3]["mean_score"] == "" and counts[3]["area"] == "0"


def test_frames_have_times_and_identities(tmp_path):
    image = {"file_name": "a.mp4", "height": 40, "width": 50, "frame": 12, "seconds": 0.48}
    with written_tables(tmp_path, True, None) as tables:
        tables.add(
            image, [entry(1, 3, 0.9, [10, 5, 20, 10], 200, track_id=7), entry(2, 3, 0.9, [0, 0, 1, 1], 1)]
        )
    rows = read(tmp_path / "objects.csv")
    assert [(row["frame"], row["seconds"], row["track"]) for row in rows] == [
        ("12", "0.48", "7"),
        ("12", "0.48", ""),
    ]
    assert "area_um2" not in rows[0]


def test_no_table_appears_where_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), written_tables(tmp_path, False, None):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "um", "0um", "-1um", "0.5", "1..2um", "0.5 um m", "nanum"])
def test_sizes_of_pixels_that_make_no_sense(text):
    with pytest.raises(UserError, match="give the side of a pixel with its unit"):
        parse_pixel_size(text)
    assert parse_pixel_size(" 2.5e-1 µm") == (0.25, "µm")


def test_a_result_knows_its_names_and_counts():
    result = Result(scene(), CATEGORIES)
    assert result.names == ["cat", "Сова, «ночная»", "cat"]
    assert result.counts() == {"cat": 2, "Сова, «ночная»": 1}
    assert Result({**scene(), "labels": np.array([3, 4, 3])}, CATEGORIES).names[1] == "class 4"
    assert result == scene().keys() or set(result) == set(scene())  # a dictionary as before


def test_crops_are_the_pixels_of_the_object():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = Result(scene(), CATEGORIES)
    np.testing.assert_array_equal(result.crop(pixels, 0), pixels[5:15, 10:30])
    np.testing.assert_array_equal(result.crop(Image.fromarray(pixels), 1, margin=3), pixels[17:33, 0:8])
    with pytest.raises(UserError, match="The picture is 4 x 4 pixels .* a mask of the result is"):
        result.crop(pixels[:4, :4], 0)
    cut = result.crop(pixels, 1, masked=True, margin=2)
    np.testing.assert_array_equal(cut[..., :3], pixels[18:32, 0:7])
    np.testing.assert_array_equal(cut[..., 3] > 0, result["masks"][1][18:32, 0:7])
    with pytest.raises(ValueError, match="has no masks"):
        Result({k: v for k, v in scene().items() if k != "masks"}, CATEGORIES).crop(pixels, 0, masked=True)


@pytest.mark.parametrize("form", ["bool", "probs", "rle"])
def test_coco_entries_in_every_form_of_masks(form):
    values = scene()
    truth = values["masks"]
    if form == "probs":
        values["masks"] = truth * np.float32(0.7)
    if form == "rle":
        values["masks"] = [encode(mask) for mask in truth]
    entries = Result(values, CATEGORIES).to_coco(image_id=5, file_name="a.png", first_id=10)
    assert [e["id"] for e in entries] == [10, 11, 12] and {e["image_id"] for e in entries} == {5}
    assert [e["area"] for e in entries] == [200, 50, 100] and entries[1]["category_name"] == CATEGORIES[
        1
    ].name
    for found, mask in zip(json.loads(json.dumps(entries)), truth, strict=True):
        decoded = decode_mask(found["segmentation"]["counts"].encode(), *found["segmentation"]["size"]).T
        np.testing.assert_array_equal(decoded, mask)


def test_a_journal_is_read_up_to_its_last_whole_line(tmp_path):
    journal = Journal(tmp_path, {"threshold": 0.5}, False)
    journal.add("a.png", {"id": 1}, [{"id": 1}])
    journal.add("b.png", {"id": 2}, [])
    journal.close(False)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('["c.png", {"id"')  # the machine stopped here
    again = Journal(tmp_path, {"threshold": 0.5}, True)
    assert again.finished == [("a.png", {"id": 1}, [{"id": 1}]), ("b.png", {"id": 2}, [])]
    again.close(False)
    with pytest.raises(UserError, match="had another threshold .0.5 in the place of 0.7"):
        Journal(tmp_path, {"threshold": 0.7}, True)
    Journal(tmp_path, {"threshold": 0.5}, True).close(True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="holds no interrupted run"):
        Journal(tmp_path, {"threshold": 0.5}, True)
    (tmp_path / JOURNAL).write_text("nonsense\n")
    with pytest.raises(UserError, match="is damaged"):
        Journal(tmp_path, {}, True)
