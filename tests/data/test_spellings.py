"""Annotations as people have them: read as they are meant, the same at every door, and counted."""

import copy
import json
import unicodedata

import numpy as np
import pytest
from data_helpers import write
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.segmentation import plain_segmentation
from jaxmaskrcnn.data.coco.values import flag, number, whole_number
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth

HEIGHT, WIDTH = 60, 80
BOXES = [[5, 6, 20, 30], [40, 8, 30, 12], [10, 20, 40, 35]]  # x, y, width, height


def ring(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def good():
    """Two images with three objects of two classes."""
    annotations = [
        {
            "id": i + 1, "image_id": (1, 1, 2)[i], "category_id": (1, 2, 1)[i], "bbox": list(box),
            "area": box[2] * box[3], "iscrowd": 0, "segmentation": [ring(box)],
        }
        for i, box in enumerate(BOXES)
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def truth():
    """The objects as a perfect detector finds them, made by pycocotools alone."""
    found = []
    for entry in good()["annotations"]:
        rle = mask_utils.merge(mask_utils.frPyObjects(entry["segmentation"], HEIGHT, WIDTH))
        found.append(
            {
                "image_id": entry["image_id"], "category_id": entry["category_id"], "score": 0.9,
                "bbox": entry["bbox"],
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
            }
        )  # fmt: skip
    return found


def saved(tmp_path, data):
    path, images = write(tmp_path, good())
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path, images


def check_every_door(tmp_path, path, images, capsys, said="", *, more=(), reading=None):
    """Training, evaluation, inspect and report find the three objects, and the sentence is told."""
    source = prepare(path, images, tmp_path / "cache", reading=reading)
    examples = [source[i] for i in range(len(source))]
    assert source.object_counts.tolist() == [2, 1] and source.crowd_counts.sum() == 0
    masks = np.concatenate([example.masks() for example in examples])
    boxes = np.concatenate([example.boxes for example in examples])
    for mask, own, box, area in zip(
        masks, boxes, BOXES, np.concatenate([e.areas for e in examples]), strict=True
    ):
        x, y, w, h = box
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[y : y + h, x : x + w] = True
        np.testing.assert_array_equal(mask, expected)
        assert own.tolist() == [x, y, x + w, y + h] and area == w * h
    metrics = GroundTruth.of_source(source).score(truth())
    assert metrics["box_AP"] == metrics["mask_AP"] == 1.0
    detections = tmp_path / "detections.json"
    detections.write_text(json.dumps(truth()))
    capsys.readouterr()
    arguments = [str(path), f"--images={images}", *more]
    assert command(["inspect", *arguments, "--count=0"]) == 0
    text = capsys.readouterr().out
    assert "objects         3 of" in text and said in text
    page = tmp_path / "page"
    assert command(["report", str(detections), *arguments, f"--output={page}", "--pictures=1"]) == 0
    assert "mask AP 1.000" in capsys.readouterr().out
    assert any(said in sentence for sentence in (*source.notes, *source.statements(), ""))
    return source


def every(field, make):
    def change(data):
        for entry in data["annotations"]:
            entry[field] = make(entry)

    return change


def pairs(entry):
    flat = entry["segmentation"][0]
    return [[flat[i], flat[i + 1]] for i in range(0, len(flat), 2)]


def rename_images(make):
    def change(data):
        names = {1: make(1), 2: make(2)}
        for image in data["images"]:
            image["id"] = names[image["id"]]
        for entry in data["annotations"]:
            entry["image_id"] = names[entry["image_id"]]

    return change


def all_of(*changes):
    return lambda data: [change(data) for change in changes]


def number_categories(make, *, image=False):
    def change(data):
        for entry in data["categories"]:
            entry["id"] = make(entry["id"])
        for entry in data["annotations"]:
            entry["category_id"] = make(entry["category_id"])

    return change


# What is written, and words of the sentence that is told.
SPELLINGS = {
    "iscrowd '0'": (every("iscrowd", lambda e: "0"), "values of 'iscrowd' that are text"),
    "iscrowd 'false'": (every("iscrowd", lambda e: "false"), "'iscrowd'"),
    "iscrowd 'False '": (every("iscrowd", lambda e: "False "), "'iscrowd'"),
    "iscrowd [0]": (every("iscrowd", lambda e: [0]), "'iscrowd'"),
    "iscrowd null": (every("iscrowd", lambda e: None), "'iscrowd'"),
    "iscrowd 0.0": (every("iscrowd", lambda e: 0.0), "'iscrowd'"),
    "iscrowd false": (every("iscrowd", lambda e: False), ""),
    "ignore 1": (every("ignore", lambda e: 1), "'ignore': 1"),
    "area text": (every("area", lambda e: str(e["area"])), "areas written as text or in a list: 3"),
    "area list": (every("area", lambda e: [e["area"]]), "areas written as text or in a list: 3"),
    "area 0": (every("area", lambda e: 0), "areas that are no numbers or do not fit"),
    "area -1": (every("area", lambda e: -1), "areas that are no numbers or do not fit"),
    "area NaN": (every("area", lambda e: float("nan")), "areas that are no numbers or do not fit"),
    "area of the image": (every("area", lambda e: HEIGHT * WIDTH), "do not fit the objects' masks"),
    "area in words": (every("area", lambda e: "large"), "areas that are no numbers"),
    "no area": (lambda data: [e.pop("area") for e in data["annotations"]], ""),
    "box of texts": (every("bbox", lambda e: [str(v) for v in e["bbox"]]), "boxes of texts: 3"),
    "box as corners": (
        every("bbox", lambda e: [*e["bbox"][:2], e["bbox"][0] + e["bbox"][2], e["bbox"][1] + e["bbox"][3]]),
        "boxes that are corners x1, y1, x2, y2, read as that: 3",
    ),
    "relative box": (
        every("bbox", lambda e: [v / (WIDTH, HEIGHT)[i % 2] for i, v in enumerate(e["bbox"])]),
        "boxes that are x, y, width, height as shares of the image, read as that: 3",
    ),
    "box over the border": (
        lambda data: data["annotations"][0].update(bbox=[-20, -20, 40, 40]),
        "boxes that do not fit the objects' masks, whose own boxes are taken: 1",
    ),
    "zero-width box": (
        lambda data: data["annotations"][1].update(bbox=[40, 8, 0, 12]),
        "whose own boxes are taken: 1 (the first: annotation 2)",
    ),
    "NaN box": (lambda data: data["annotations"][1].update(bbox=[40, 8, float("nan"), 12]), "own boxes"),
    "flat polygon": (every("segmentation", lambda e: e["segmentation"][0]), "polygons that are no lists"),
    "pairs": (every("segmentation", lambda e: [pairs(e)]), "polygons that are no lists x, y, x, y, ...: 3"
              .replace(", ...: 3", ", ... of numbers: 3")),
    "one list of pairs": (every("segmentation", pairs), "polygons that are no lists"),
    "one list too many": (every("segmentation", lambda e: [e["segmentation"]]), "polygons that are no lists"),
    "points as dictionaries": (
        every("segmentation", lambda e: [[{"x": x, "y": y} for x, y in pairs(e)]]), "polygons that are no"
    ),
    "x and y": (
        every("segmentation", lambda e: {"x": e["segmentation"][0][::2], "y": e["segmentation"][0][1::2]}),
        "polygons that are no",
    ),
    "texts in polygons": (
        every("segmentation", lambda e: [[str(v) for v in e["segmentation"][0]]]), "polygons that are no"
    ),
    "polygons as text": (every("segmentation", lambda e: json.dumps(e["segmentation"])), ""),
    "a ring of two points": (
        every("segmentation", lambda e: [*e["segmentation"], [1, 1, 2, 2]]), "polygons without an area"
    ),
    "a ring of seven numbers first": (
        every("segmentation", lambda e: [[1, 1, 2, 2, 3, 3, 4], *e["segmentation"]]), "left out of objects"
    ),
    "a ring with NaN": (
        every("segmentation", lambda e: [*e["segmentation"], [1, 1, float("nan"), 2, 3, 3]]), ": 3 (the first"
    ),
    "an empty ring": (every("segmentation", lambda e: [[], *e["segmentation"]]), "polygons without an area"),
    "annotation ids as text": (every("id", lambda e: str(e["id"])), "annotation ids written as text"),
    "UUIDs": (every("id", lambda e: f"a3f-{e['id']}"), "annotations without an id that is a number"),
    "no ids": (lambda data: [e.pop("id") for e in data["annotations"]], "which got new ones: 3"),
    "one id for all": (every("id", lambda e: 7), "annotations with the id of another one"),
    "the id 0": (lambda data: data["annotations"][0].update(id=0), ""),
    "an annotation twice": (
        lambda data: data["annotations"].append(copy.deepcopy(data["annotations"][0])), "taken once: 1"
    ),
    "an image twice": (lambda data: data["images"].append(dict(data["images"][0])), "images listed twice"),
    "image ids as floats": (rename_images(float), "image ids written as text or floats: 2"),
    "image ids as text": (rename_images(str), "image ids written as text or floats: 2"),
    "image ids as words": (rename_images(lambda i: f"img_{i}"), "'img_1' is 1"),
    "image ids of 30 digits": (rename_images(lambda i: 10**30 + i), "numbered in their order: 2"),
    "category ids as text": (number_categories(str), "category ids written as text or floats"),
    "category ids as names": (
        lambda data: [e.update(category_id=("a", "b", "a")[i]) for i, e in enumerate(data["annotations"])],
        "or as names: 3",
    ),
    "sizes as text": (
        lambda data: [i.update(height=str(HEIGHT), width=f"{WIDTH}.0") for i in data["images"]],
        "image sizes written as text or floats: 2",
    ),
    "no height": (lambda data: [i.pop("height") for i in data["images"]], "read from the files: 2"),
    "no size": (lambda data: [i.update(height=None, width=None) for i in data["images"]], "read from the"),
    "no categories": (lambda data: data.pop("categories"), "categories taken from the annotations"),
    "no names": (lambda data: [c.pop("name") for c in data["categories"]], "without a name"),
    "numbers as names": (lambda data: [c.update(name=c["id"]) for c in data["categories"]], ""),
    "Roboflow's placeholder": (
        lambda data: data["categories"].insert(0, {"id": 0, "name": "set", "supercategory": "none"}),
        "placeholder categories of Roboflow that no annotation has, left out: 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS)
def test_what_can_be_told_is_read_and_counted_at_every_door(case, tmp_path, capsys):
    change, said = SPELLINGS[case]
    data = good()
    change(data)
    path, images = saved(tmp_path, data)
    check_every_door(tmp_path, path, images, capsys, said)


def test_what_is_written_as_coco_writes_it_is_not_talked_about(tmp_path, capsys):
    source = check_every_door(tmp_path, *saved(tmp_path, good()), capsys)
    assert source.statements() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_unicode_in_every_encoding(encoding, tmp_path, capsys):
    data = good()
    data["categories"][0]["name"] = "chat égaré"
    path, images = saved(tmp_path, data)
    path.write_bytes(json.dumps(data, ensure_ascii=False).encode(encoding))
    source = check_every_door(tmp_path, path, images, capsys)
    assert source.categories[0].name == "chat égaré"


def test_an_encoding_that_is_not_known_is_refused_with_the_way_out(tmp_path):
    data = good()
    data["categories"][0]["name"] = "égaré"
    path, images = saved(tmp_path, data)
    path.write_bytes(json.dumps(data, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match=r"not in UTF-8 \(byte \d+ is 0xe9\).*iconv -f ENCODING"):
        prepare(path, images, tmp_path / "cache")


# The name in the json, and the file in the image folder.
NAMES = {
    "a folder before it": ("images/{}.png", "{}.png"),
    "backslashes": ("images\\{}.png", "{}.png"),
    "another computer's path": ("C:\\Users\\me\\data\\{}.png", "{}.png"),
    "an absolute path": ("/home/me/data/{}.png", "{}.png"),
    "a URL": ("https://host/data/train/{}.png?sig=a%2Fb", "train/{}.png"),
    "percent codes": ("my%20image%20{}.png", "my image {}.png"),
    "another case": ("{}.PNG", "{}.png"),
    "no suffix": ("{}", "{}.png"),
    "a subfolder that is not written": ("{}.png", "sub/folder/{}.png"),
    "NFD": (unicodedata.normalize("NFD", "é{}.png"), unicodedata.normalize("NFC", "é{}.png")),
    "NFC": (unicodedata.normalize("NFC", "é{}.png"), unicodedata.normalize("NFD", "é{}.png")),
    "a folder above": ("../images/{}.png", "{}.png"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_found_by_their_last_parts(case, tmp_path, capsys):
    written, file = NAMES[case]
    data = good()
    folder = tmp_path / "pictures"
    for i, image in enumerate(data["images"], 1):
        image["file_name"] = written.format(i)
        place = folder / file.format(i)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (i, 0, 0)).save(place)
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    source = check_every_door(tmp_path, path, folder, capsys, "found by the last parts of their paths: 2")
    for i in (0, 1):
        assert source.file_names[i] == file.format(i + 1)
        assert source[i].image == (folder / file.format(i + 1)).read_bytes()
    # An image that is replaced is noticed, though its name had to be looked for.
    Image.new("RGB", (WIDTH, HEIGHT), (99, 0, 0)).save(folder / file.format(1))
    assert prepare(path, folder, tmp_path / "cache").directory != source.directory


def test_lvis_gives_addresses_alone(tmp_path, capsys):
    data = good()
    folder = tmp_path / "coco"
    for part in ("train2017", "val2017"):
        (folder / part).mkdir(parents=True)
        for i in (1, 2):
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / part / f"{i}.png")
    for image in data["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image['id']}.png"
        image.pop("file_name")
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    source = check_every_door(tmp_path, path, folder, capsys, "found by the last parts")
    assert source.file_names == ("val2017/1.png", "val2017/2.png")


def test_names_that_fit_several_files_or_none_are_refused(tmp_path):
    data = good()
    folder = tmp_path / "pictures"
    for part in ("a", "b"):
        (folder / part).mkdir(parents=True)
        for i in (1, 2):
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / part / f"{i}.png")
    path = tmp_path / "set.json"

    def refused(name):
        for image in data["images"]:
            image["file_name"] = name.format(image["id"])
        path.write_text(json.dumps(data))
        with pytest.raises(UserError) as caught:
            prepare(path, folder, tmp_path / "cache")
        return str(caught.value)

    assert "2 other paths end with that name (a/1.png, b/1.png); give the folder" in refused("{}.png")
    # The folders contradict each other, so the name alone is not enough.
    (folder / "b" / "1.png").unlink()
    assert "1 other path ends with that name (a/1.png)" in refused("c/{}.png")
    # Never outside of the folder.
    (tmp_path / "3.png").write_bytes((folder / "a" / "1.png").read_bytes())
    assert "is not in" in refused("elsewhere/3.png")
    # One file for two images.
    data["images"][1]["id"] = 2
    data["images"][0]["file_name"], data["images"][1]["file_name"] = "x/2.png", "y/2.png"
    (folder / "2.png").write_bytes((folder / "a" / "2.png").read_bytes())
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="2.png would be 2 different images"):
        prepare(path, folder, tmp_path / "cache")


def test_one_class_for_all(tmp_path, capsys):
    data = good()
    data["categories"] = []
    for entry in data["annotations"]:
        del entry["category_id"]
    path, images = saved(tmp_path, data)
    with pytest.raises(UserError, match=r"lists no categories .*data.class_name=NAME"):
        prepare(path, images, tmp_path / "cache")
    assert command(["inspect", str(path), "--count=0"]) == 2
    text = capsys.readouterr().out
    assert "--class_name=NAME" in text and text.count(str(path)) <= 3  # not one for each object
    reading = Reading(class_name="follicle")
    source = prepare(path, images, tmp_path / "cache", reading=reading)
    assert source.categories == ((1, "follicle"),) and source.object_counts.tolist() == [2, 1]
    detections = [d | {"category_id": 1} for d in truth()]
    assert GroundTruth.of_source(source).score(detections)["mask_AP"] == 1.0
    assert command(["inspect", str(path), "--count=0", "--class_name=follicle"]) == 0


def test_relative_boxes_without_masks_are_refused_if_they_can_be_read_in_two_ways(tmp_path):
    data = good()
    for entry in data["annotations"]:
        del entry["segmentation"]
        entry["bbox"] = [0.4, 0.4, 0.2, 0.2]
    path, images = saved(tmp_path, data)
    with pytest.raises(UserError, match="boxes of numbers from 0 to 1 only, .*in pixels"):
        prepare(path, images, tmp_path / "cache", masks=False)
    for entry in data["annotations"]:
        entry["bbox"] = [0.05, 0.05, 0.5, 0.5]  # cannot have its centre there, nor is it a box of corners
        entry["bbox"] = [0.0, 0.0, 0.5, 0.25]
    data["annotations"][0]["bbox"] = [0.5, 0.0, 0.25, 0.5]
    path.write_text(json.dumps(data))
    source = prepare(path, images, tmp_path / "cache", masks=False)
    assert source[0].boxes[0].tolist() == [0.5 * WIDTH, 0, 0.75 * WIDTH, 0.5 * HEIGHT]
    for entry, box in zip(data["annotations"], BOXES, strict=True):
        entry["bbox"] = [50 + box[0] // 3, 40, 60 + box[0] // 3, 55]
    path.write_text(json.dumps(data))
    source = prepare(path, images, tmp_path / "cache", masks=False)
    assert source[1].boxes[0].tolist() == [53, 40, 63, 55] and "corners" in source.notes[0]


def test_boxes_only_is_one_sentence(tmp_path, capsys):
    data = good()
    for entry in data["annotations"]:
        entry["segmentation"] = []
    path, images = saved(tmp_path, data)
    for mode in ("stop", "skip"):
        with pytest.raises(UserError, match="all 3 objects are boxes .*--config.model.mask=none"):
            prepare(path, images, tmp_path / "cache", mode)
    assert command(["inspect", str(path), "--count=0"]) == 2
    assert "1 problem (boxes only: 1)" in capsys.readouterr().out
    assert command(["inspect", str(path), "--count=0", "--boxes_only"]) == 0
    assert prepare(path, images, tmp_path / "cache", masks=False).object_counts.tolist() == [2, 1]


def test_what_training_leaves_out_is_not_scored(tmp_path, capsys):
    data = good()
    data["annotations"][1]["segmentation"] = [[1, 2]]
    path, images = saved(tmp_path, data)
    source = prepare(path, images, tmp_path / "cache", "skip")
    kept = [d for i, d in enumerate(truth()) if i != 1]
    assert GroundTruth.of_source(source).score(kept)["box_AP"] == pytest.approx(1)
    for damage in (lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:60])):
        path, images = saved(tmp_path, good())
        damage(images / "2.png")
        source = prepare(path, images, tmp_path / "cache", "skip")
        assert len(source) == 1
        assert GroundTruth.of_source(source).score(truth()[:2])["mask_AP"] == pytest.approx(1)
        (tmp_path / "found.json").write_text(json.dumps(truth()[:2]))
        arguments = [str(tmp_path / "found.json"), str(path), f"--images={images}"]
        assert command(["report", *arguments, f"--output={tmp_path}", "--pictures=0"]) == 0
        assert "mask AP 1.000" in capsys.readouterr().out


def test_values_in_all_spellings():
    assert [whole_number(v) for v in (3, 3.0, "3", " 3.0 ", "03")] == [3] * 5
    assert [whole_number(v) for v in (3.5, "a", None, True, [3], "", 10**19, "1e3", float("nan"))] == [
        None
    ] * 9
    assert [number(v) for v in (2, "2", [2], " 2.0", "2e0")] == [2] * 5
    assert [number(v) for v in (True, "x", [], [1, 2], [[2]], float("inf"), 10**400, "nan")] == [None] * 8
    assert [flag(v) for v in (1, "1", [1], "TRUE", True, 1.0, "1.0", "yes")] == [True] * 8
    assert [flag(v) for v in (2, "2", {}, [], [0, 1], -1)] == [None] * 6


@pytest.mark.parametrize("value", [[[1, 1, 5, 5]], [[1, 2]], "mask.png", [], None, 7, {"a": 1}, [[[[1, 2]]]]])
def test_what_is_no_polygon_is_left_to_the_checks(value):
    notes = Notes()
    assert plain_segmentation(value, notes, "annotation 1") in (value, [value])
    assert not list(notes.sentences("set.json"))


@pytest.mark.parametrize("relative_boxes", [False, True])
def test_polygons_that_are_shares_of_the_image_are_refused(relative_boxes, tmp_path, capsys):
    """They are less than a pixel, so that all masks would be empty."""
    data = good()
    for entry in data["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [ring([x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT])]
        if relative_boxes:
            entry["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
    path, images = saved(tmp_path, data)
    for on_error in ("stop", "skip"):
        with pytest.raises(UserError, match="--relative multiplies x by its width and y by its height"):
            prepare(path, images, tmp_path / "cache", on_error)
    assert command(["inspect", str(path), f"--images={images}", f"--output={tmp_path / 's.png'}"]) == 2
    assert "polygons of numbers from 0 to 1 only" in capsys.readouterr().out


def test_names_that_no_terminal_can_show_are_printed(tmp_path, capsys):
    data = good()
    data["categories"][0]["name"] = "a" + chr(0xD800)
    path, images = saved(tmp_path, data)
    assert command(["inspect", str(path), f"--images={images}", f"--output={tmp_path / 's.png'}"]) in (0, 2)
    assert r"a\ud800" in capsys.readouterr().out
