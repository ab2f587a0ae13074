"""Kinds of masks, labels and shapes in which annotations of other tools arrive, each in several forms."""

import base64
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from other_formats import (
    SIZES,
    THINGS,
    labelme_file,
    labelme_mask,
    labelme_shape,
    masks_of,
    rasterise,
    write_images,
    write_yolo,
)
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.importers.shapes import ellipse
from jaxmaskrcnn.errors import UserError


def run(tmp_path, source, kind, *arguments) -> int:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    output = tmp_path / "out" / "set.json"
    return command(["import", str(source), f"--format={kind}", f"--output={output}", *arguments])


def content_of(tmp_path, name="set.json") -> dict:
    return json.loads((tmp_path / "out" / name).read_text())


def masks(content) -> dict[str, list]:
    """Class, mask and crowd flag of every object by file name, decoded by pycocotools."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {}
    for image in content["images"]:
        found[image["file_name"]] = objects = []
        for item in content["annotations"]:
            if item["image_id"] == image["id"]:
                data = item["segmentation"]
                if isinstance(data, list):
                    data = mask_utils.merge(mask_utils.frPyObjects(data, image["height"], image["width"]))
                with warnings.catch_warnings():  # about the copy of an array, on NumPy 2
                    warnings.simplefilter("ignore", DeprecationWarning)
                    mask = mask_utils.decode(data) > 0
                objects.append((names[item["category_id"]], mask, item["iscrowd"]))
    return found


def assert_things(found, prefix="", suffix=True):
    """The objects of `other_formats`, all of them."""
    for name, objects in found.items():
        assert name.startswith(prefix)
        wanted = [(t.name, rasterise(t.polygons, SIZES[t.image])) for t in THINGS if name.endswith(t.image)]
        assert len(objects) == len(wanted)
        for (label, mask, crowd), (wanted_label, wanted_mask) in zip(objects, wanted, strict=True):
            assert label == wanted_label and not crowd
            np.testing.assert_array_equal(mask, wanted_mask)


# -- masks


def write_numbered(folder: Path, ending="") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        values = np.zeros(size, np.uint8)
        for i, mask in enumerate(masks_of(name), 1):
            values[mask] = i
        Image.fromarray(values).save(folder / f"{Path(name).stem}{ending}.png")
    return folder


@pytest.mark.parametrize("beside", ["images", "img", "JPEGImages"])
def test_masks_are_not_their_own_images(beside, tmp_path, capsys):
    folder = write_numbered(tmp_path / "masks")
    assert run(tmp_path, folder, "masks", "--class_name=cell") == 2  # there are no images anywhere
    assert "names the image 'a', which is not in" in capsys.readouterr().err
    write_images(tmp_path / beside)
    assert run(tmp_path, folder, "masks", "--class_name=cell") == 0
    found = masks(content_of(tmp_path))
    assert sorted(found) == sorted(SIZES)
    for name, objects in found.items():
        for (_, mask, _), wanted in zip(objects, masks_of(name), strict=True):
            np.testing.assert_array_equal(mask, wanted)
    assert f"--images={tmp_path / beside}" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["_masks", "_cp_masks", "_mask"])
@pytest.mark.parametrize("kind", ["_img.png", "_img.jpg", ".tif"])
def test_images_and_masks_in_one_folder(ending, kind, tmp_path):
    """As Cellpose has them, also where another folder beside it has the name of images."""
    folder = write_numbered(tmp_path / "cells", ending)
    (tmp_path / "images").mkdir()
    for name, (height, width) in SIZES.items():
        Image.new("RGB", (width, height)).save(folder / f"{Path(name).stem}{kind}")
    assert run(tmp_path, folder, "masks", "--class_name=cell") == 0
    found = masks(content_of(tmp_path))
    assert {name: len(objects) for name, objects in found.items()} == {
        f"a{kind}": 2, f"b{kind}": 1, f"c{kind}": 0,
    }  # fmt: skip


def write_coded(folder: Path, ending: str, values: list[int]) -> Path:
    """One picture of 8 x 12 pixels with a rectangle of two columns for each value."""
    (folder / "images").mkdir(parents=True)
    (folder / "instances").mkdir()
    Image.new("RGB", (12, 8)).save(folder / "images" / "a.png")
    picture = np.zeros((8, 12), np.uint16)
    for i, value in enumerate(values):
        picture[1:5, 2 * i : 2 * i + 2] = value
    Image.fromarray(picture).save(folder / "instances" / f"a{ending}.png")
    return folder / "instances"


CODED = {
    # values, and the class and crowd flag of each that is an object
    "kitti": ([26 * 256 + 1, 24 * 256 + 2, 7 * 256, 26 * 256, 26 * 256 + 3],
              [(0, "car", 0), (1, "person", 0), (4, "car", 0)]),
    "mots": ([1005, 2000, 2003, 10000], [(0, "car", 0), (1, "pedestrian", 0), (2, "pedestrian", 0)]),
    "cityscapes": ([26, 26001, 33000, 7, 29001], [(0, "car", 1), (1, "car", 0), (2, "bicycle", 0)]),
    "mapillary": ([256, 257, 2, 513], [(0, "Person", 0), (1, "Person", 0)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CODED)
def test_values_that_hold_a_class(kind, tmp_path, capsys):
    values, wanted = CODED[kind]
    folder = write_coded(tmp_path / "set", "_gtFine_instanceIds"[7:] if kind == "cityscapes" else "", values)
    if kind == "mapillary":
        assert run(tmp_path, folder, "masks", "--ids=mapillary") == 2
        assert "has no config.json of Mapillary" in capsys.readouterr().err
        labels = [{"readable": "Bird", "instances": False}, {"readable": "Person", "instances": True}]
        labels += [{"readable": "Sky", "instances": False}]
        (tmp_path / "set" / "config.json").write_text(json.dumps({"labels": labels}))
    assert run(tmp_path, folder, "masks", f"--ids={kind}") == 0
    said = capsys.readouterr().out
    assert ("1 regions to be ignored are left out" in said) == (kind == "mots")
    assert ("1 regions of several objects become crowd regions" in said) == (kind == "cityscapes")
    found = masks(content_of(tmp_path))["a.png"]
    expected = []
    for i, name, crowd in wanted:
        mask = np.zeros((8, 12), bool)
        mask[1:5, 2 * i : 2 * i + 2] = True
        expected.append((values[i], name, crowd, mask))
    expected.sort(key=lambda item: item[0])
    assert [(name, crowd) for name, _, crowd in found] == [(name, crowd) for _, name, crowd, _ in expected]
    for (_, mask, _), (*_, wanted_mask) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, wanted_mask)


def test_values_that_look_like_classes_are_asked_about(tmp_path, capsys):
    folder = write_coded(tmp_path / "set", "", [26001, 26002])
    assert run(tmp_path, folder, "masks", "--class_name=car") == 2
    assert "2 values up to 26002" in (said := capsys.readouterr().err) and "--ids=plain" in said
    assert run(tmp_path, folder, "masks", "--class_name=car", "--ids=plain") == 0
    assert len(content_of(tmp_path)["annotations"]) == 2


# -- YOLO


def write_split_yolo(folder: Path, yaml: str | None) -> Path:
    """Roboflow's layout: an image and a label folder in the folder of each part."""
    source = write_yolo(folder.with_name("flat"))
    for part, names in {"train": ["a.png", "c.png"], "valid": ["b.jpg"]}.items():
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(source / "images" / "train" / name, folder / part / "images")
            label = source / "labels" / "train" / f"{Path(name).stem}.txt"
            if label.exists():
                shutil.copy(label, folder / part / "labels")
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder


ROBOFLOW = "names: ['dog', 'cat']\n"


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n" + ROBOFLOW,
        "train: \\train\\images\nval: \\valid\\images\n" + ROBOFLOW,
        "path: /home/me/set\ntrain: train/images\nval: [valid/images]\nnames: {'0': dog, '1': cat}\n",
        "train: C:\\me\\set\\train\\images\nval: /content/set/valid/images\nnames:\n  1: cat\n  0: dog\n",
        ROBOFLOW,
    ],
)
def test_parts_with_folders_of_their_own(yaml, tmp_path):
    folder = write_split_yolo(tmp_path / "set", yaml)
    assert run(tmp_path, folder, "yolo-seg") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["set_train.json", "set_val.json"]
    for part, names in {"train": ["train/images/a.png", "train/images/c.png"],
                        "val": ["valid/images/b.jpg"]}.items():  # fmt: skip
        content = content_of(tmp_path, f"set_{part}.json")
        assert [c["name"] for c in content["categories"]] == ["dog", "cat"]
        assert sorted(image["file_name"] for image in content["images"]) == names
    found = masks(content_of(tmp_path, "set_train.json"))
    assert_things(found)
    # One part, and all of them divided anew.
    assert run(tmp_path, folder, "yolo-seg", "--split=valid") == 0
    assert [i["file_name"] for i in content_of(tmp_path)["images"]] == ["valid/images/b.jpg"]


def test_parts_below_images_and_in_lists(tmp_path, capsys):
    folder = write_yolo(tmp_path / "set")
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        (folder / kind / "val").mkdir()
        shutil.move(folder / kind / "train" / f"b.{suffix}", folder / kind / "val")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [dog, cat]\n")
    assert run(tmp_path, folder, "yolo-seg") == 0
    assert [i["file_name"] for i in content_of(tmp_path, "set_val.json")["images"]] == ["val/b.jpg"]
    (folder / "train.txt").write_text("./images/train/a.png\n./images/val/b.jpg\n")
    (folder / "val.txt").write_text("/elsewhere/set/images/train/c.png\n")
    (folder / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [dog, cat]\n")
    assert run(tmp_path, folder, "yolo-seg") == 0
    assert [i["file_name"] for i in content_of(tmp_path, "set_val.json")["images"]] == ["train/c.png"]
    assert len(content_of(tmp_path, "set_train.json")["annotations"]) == 4
    assert run(tmp_path, folder, "yolo-seg", "--split=test") == 2
    assert "has no part 'test'" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["../", "/", "\\", "", "/home/me/set/"])
def test_parts_are_those_of_the_yaml(start, tmp_path):
    folder = write_split_yolo(tmp_path / "set", None)
    for old, new in (("train", "fold1"), ("valid", "fold2")):
        (folder / old).rename(folder / new)
    (folder / "data.yaml").write_text(f"train: {start}fold1/images\nval: {start}fold2/images\n" + ROBOFLOW)
    assert run(tmp_path, folder, "yolo-seg") == 0
    (image,) = content_of(tmp_path, "set_val.json")["images"]
    assert image["file_name"] == "fold2/images/b.jpg"
    assert len(content_of(tmp_path, "set_train.json")["images"]) == 2


def test_labels_of_boxes_alone_are_one_sentence(tmp_path, capsys):
    folder = write_yolo(tmp_path / "set")
    for path in (folder / "labels" / "train").glob("*.txt"):
        path.write_text("0 0.5 0.5 0.2 0.2\n1 0.4 0.4 0.1 0.1\n")
    assert run(tmp_path, folder, "yolo-seg", "--on_error=skip") == 2
    said = capsys.readouterr().err
    assert "has boxes alone (4 of 4 objects" in said and said.count("\n") == 1


def test_nothing_to_learn_is_refused_and_problems_are_counted(tmp_path, capsys):
    folder = write_yolo(tmp_path / "set")
    (folder / "labels" / "train" / "a.txt").write_text("0 20 20 30 30 20 30\n" * 9)
    (folder / "labels" / "train" / "b.txt").unlink()
    assert run(tmp_path, folder, "yolo-seg", "--on_error=skip") == 2
    said = capsys.readouterr().err
    assert "holds no objects that can be used" in said and "4 more (bad line)" in said
    assert said.count("not between 0 and 1") == 6 and not (tmp_path / "out").exists()
    assert "can be used: 9 left out (bad line; first: " in said.splitlines()[-1]


# -- labelme and its relatives


def write_one(folder: Path, shapes, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(labelme_file("a.png", shapes, **changes)))
    return folder


SQUARE = [[2, 3], [12, 3], [12, 9], [2, 9]]


def square() -> np.ndarray:
    mask = np.zeros((32, 40), bool)
    mask[3:9, 2:12] = True
    return mask


def test_reserved_labels_are_no_classes(tmp_path, capsys):
    shapes = [labelme_shape(label, SQUARE) for label in ("cat", "__ignore__", "_background_", "__ignore__")]
    folder = write_one(write_images(tmp_path / "set"), shapes)
    assert run(tmp_path, folder, "labelme") == 0
    assert [c["name"] for c in content_of(tmp_path)["categories"]] == ["cat"]
    said = capsys.readouterr().out
    assert "2 shapes of labelme's reserved label '__ignore__'" in said
    assert "1 shapes of labelme's reserved label '_background_'" in said


@pytest.mark.parametrize("kind", ["quadrilateral", "rotation", "rectangle", "polyline3d"])
def test_shapes_of_relatives(kind, tmp_path, capsys):
    folder = write_one(write_images(tmp_path / "set"), [labelme_shape("cat", SQUARE, kind, direction=0.3)])
    assert run(tmp_path, folder, "labelme") == 0
    ((name, mask, _),) = masks(content_of(tmp_path))["a.png"]
    assert name == "cat"
    np.testing.assert_array_equal(mask, square())
    told = "are read as polygons" in capsys.readouterr().out
    assert told == (kind == "polyline3d")


@pytest.mark.parametrize("path", ["a.json", "gone.png", "C:\\x\\gone.jpg"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_picture_inside_of_the_json(path, kind, tmp_path, capsys):
    file = io.BytesIO()
    Image.new("RGB", (40, 32), (9, 99, 200)).save(file, kind)
    data = base64.b64encode(file.getvalue()).decode()
    folder = write_one(tmp_path / "set", [labelme_shape("cat", SQUARE)], imagePath=path, imageData=data)
    for _ in range(2):  # the second time, the picture is there
        assert run(tmp_path, folder, "labelme") == 0
        (name,) = masks(content_of(tmp_path))
        assert (folder / name).read_bytes() == file.getvalue()
    assert name == {"PNG": "a.png", "JPEG": "a.jpg"}[kind]
    np.testing.assert_array_equal(masks(content_of(tmp_path))[name][0][1], square())


def test_pictures_inside_that_cannot_be_taken(tmp_path, capsys):
    file = io.BytesIO()
    Image.new("RGB", (20, 32)).save(file, "PNG")
    wrong = base64.b64encode(file.getvalue()).decode()
    for data, words in (
        ("%%", "not base64"),
        ("AAAA", "a picture that is no image"),
        (wrong, "holds a picture of 20 x 32"),
    ):
        folder = write_one(
            tmp_path / "set", [labelme_shape("cat", SQUARE)], imagePath="a.json", imageData=data
        )
        assert run(tmp_path, folder, "labelme") == 2
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said
        assert sorted(path.name for path in folder.iterdir()) == ["a.json"]


@pytest.mark.parametrize("deep", ["json", "deep/er/json"])
def test_image_paths_count_from_the_json(deep, tmp_path):
    """As `predict --format=labelme` writes them, with the images in another folder."""
    write_images(tmp_path / "data" / "photos")
    folder = tmp_path / "data" / deep
    up = "../" * len(Path(deep).parts)
    write_one(folder, [labelme_shape("cat", SQUARE)], imagePath=f"{up}photos/a.png")
    assert run(tmp_path, folder, "labelme") == 0
    np.testing.assert_array_equal(masks(content_of(tmp_path))["a.png"][0][1], square())


@pytest.mark.parametrize("radius", [5e3, 1e5, 9e6])
def test_huge_circles(radius, tmp_path, capsys):
    """What of the image lies in a circle with its centre far to the left and its border at x = 20."""
    points = [[20 - radius, 16], [20, 16]]
    folder = write_one(write_images(tmp_path / "set"), [labelme_shape("cat", points, "circle")])
    assert run(tmp_path, folder, "labelme") == 0
    ((_, mask, _),) = masks(content_of(tmp_path))["a.png"]
    assert len(content_of(tmp_path)["annotations"][0]["segmentation"][0]) < 200  # not the whole circle
    wanted = np.zeros((32, 40), bool)
    wanted[:, :20] = True
    np.testing.assert_array_equal(mask, wanted)
    with pytest.raises(UserError, match="radius of"):
        ellipse(0, 0, 1e12, 1e12, size=(32, 40))


def test_polygons_far_outside_are_not_drawn(tmp_path, capsys):
    """Alone, and in a group with a mask, which are drawn together."""
    far = labelme_shape("cat", [[0, 0], [1e9, 0], [1e9, 1e9]], group=1)
    mask = labelme_mask(np.ones((4, 5), bool), 3, 2, "cat") | {"group_id": 1}
    for shapes in ([far], [mask, far]):
        folder = write_one(write_images(tmp_path / "set"), shapes)
        assert run(tmp_path, folder, "labelme") == 2
        assert "has a polygon with the coordinate 1e+09, which lies far outside" in capsys.readouterr().err


# -- VIA 3


def test_via_3(tmp_path, capsys):
    folder = write_images(tmp_path / "set")
    names = list(SIZES)
    ids = {name: str(i + 1) for i, name in enumerate(names)}
    regions = {
        f"{ids[t.image]}_{i}{j}": {
            "vid": ids[t.image],
            "xy": [7, *polygon],
            "av": {"1": "01"[t.name == "dog"]},
        }
        for i, t in enumerate(THINGS)
        for j, polygon in enumerate(t.polygons)
    }
    regions["box"] = {"vid": "3", "xy": [2, 2, 3, 10, 6], "av": {"1": "0"}}
    regions["dot"] = {"vid": "3", "xy": [1, 2, 3], "av": {"1": "0"}}
    project = {
        "project": {"pname": "x"}, "config": {},
        "attribute": {"1": {"aname": "class", "type": 4, "options": {"0": "cat", "1": "dog"}}},
        "file": {ids[n]: {"fid": ids[n], "fname": n, "type": 2} for n in names},
        "view": {ids[n]: {"fid_list": [ids[n]]} for n in names},
        "metadata": regions,
    }  # fmt: skip
    (folder / "via.json").write_text(json.dumps(project))
    assert run(tmp_path, folder / "via.json", "via") == 0
    found = masks(content_of(tmp_path))
    np.testing.assert_array_equal(found["c.png"][0][1], square()[:24, :24])
    polygons = [(t.name, rasterise([p], SIZES[t.image])) for t in THINGS for p in t.polygons]
    for (label, mask, _), (name, wanted) in zip(found["a.png"] + found["b.jpg"], polygons, strict=True):
        assert label == name
        np.testing.assert_array_equal(mask, wanted)
    assert "1 of shape 'point'" in capsys.readouterr().out
    assert run(tmp_path, folder / "via.json", "via", "--class_attribute=kind") == 2
    assert "region attributes 'class'" in capsys.readouterr().err


# -- parts by fraction


def test_every_image_is_in_one_part(tmp_path, capsys):
    folder = tmp_path / "set"
    for i in range(10):
        write_one(folder, [labelme_shape("cat", SQUARE)], imagePath=f"{i}.png")
        shutil.move(folder / "a.json", folder / f"{i}.json")
        Image.new("RGB", (40, 32)).save(folder / f"{i}.png")

    def parts(*arguments):
        assert run(tmp_path, folder, "labelme", *arguments) == 0
        return {
            path.name: [image["file_name"] for image in json.loads(path.read_text())["images"]]
            for path in (tmp_path / "out").iterdir()
        }

    two = parts("--split=0.8,0.2")
    assert {name: len(files) for name, files in two.items()} == {"set_train.json": 8, "set_val.json": 2}
    assert sorted(sum(two.values(), [])) == [f"{i}.png" for i in range(10)]
    assert parts("--split=0.8,0.2") == two
    assert parts("--split=0.8,0.2", "--split_seed=1") != two
    three = parts("--split=0.5,0.3,0.2")
    assert {name: len(files) for name, files in three.items()} == {
        "set_train.json": 5, "set_val.json": 3, "set_test.json": 2,
    }  # fmt: skip
    for wrong in ("0.8", "0.8,0.3", "80,20", "0.5,0.2,0.2,0.1", "1,0"):
        assert run(tmp_path, folder, "labelme", f"--split={wrong}") == 2
        assert "add up to 1" in capsys.readouterr().err
    assert run(tmp_path, folder, "labelme", "--split=0.99,0.01") == 2
    assert "leaves no image for 'val'" in capsys.readouterr().err


def test_parts_of_a_source_can_be_divided_anew(tmp_path):
    folder = write_split_yolo(tmp_path / "set", "train: train/images\nval: valid/images\n" + ROBOFLOW)
    assert run(tmp_path, folder, "yolo-seg", "--split=0.67,0.33") == 0
    sizes = {path.name: len(json.loads(path.read_text())["images"]) for path in (tmp_path / "out").iterdir()}
    assert sizes == {"set_train.json": 2, "set_val.json": 1}


def test_names_of_images_in_other_spellings(tmp_path):
    """Accents of macOS, percent signs of a URL, and the end of a path where a name is there twice."""
    for name in ("one/caf\u00e9.png", "two/a b.png", "one/x.png", "two/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    folder = ImageFolder(tmp_path)
    for written, name in (
        ("cafe\u0301.png", "one/caf\u00e9.png"),
        ("https://host/two/a%20b.png", "two/a b.png"),
        ("D:\\data\\two\\x.png", "two/x.png"),
        ("https://host/set/one/x.png", "one/x.png"),
    ):
        assert folder.relative(folder.find(written, "x.json")) == name
    with pytest.raises(UserError, match="has 2 such files"):
        folder.find("x.png", "x.json")
    with pytest.raises(UserError, match="one/x.png is another path"):
        folder.find("three/x.png", "x.json")
