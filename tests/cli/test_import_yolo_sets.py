"""What a YOLO data set says about itself: its parts, lists and patterns, keypoints, and Darknet's files."""

import json

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, parts_of, photograph, yolo_set
from PIL import Image, ImageDraw

from jaxmaskrcnn.cli.main import main


def parts(tmp_path, source, kind="yolo-seg", *more):
    """The images of each json that is written."""
    (tmp_path / "parts").mkdir(exist_ok=True)
    output = tmp_path / "parts" / "x.json"
    assert main(["import", str(source), f"--format={kind}", f"--output={output}", *more]) == 0
    return parts_of(output.parent)


ABSENT = {
    "folder": ({"val": "batch9/images"}, "names the part val (batch9/images), and there is no such folder"),
    "first": ({"train": "gone", "val": "images/b"}, "part train (gone), and there is no such folder"),
    "list": ({"val": "lists/val.txt"}, "names the part val (lists/val.txt), and there is no such list"),
    "pattern": ({"val": "images/c*/*.png"}, "(images/c*/*.png), and no image fits that pattern"),
    "empty": ({"val": "images/none"}, "names the part val (images/none), and that folder has no image"),
    "listed": ({"val": "some.txt"}, "1 of the images that it lists are not there (the first: images/b"),
}


@pytest.mark.parametrize("case", ABSENT)
def test_a_part_that_is_not_there_is_refused_in_a_sentence(case, tmp_path, capsys):
    changes, words = ABSENT[case]
    root = yolo_set(
        tmp_path / "set", ["images/a/0.png", "images/b/1.png"], **{"train": "images/a", **changes}
    )
    (root / "images" / "none").mkdir()
    (root / "some.txt").write_text("images/b/1.png\nimages/b/2.png\n")
    more = (f"--images={root}",)
    said = refused(tmp_path, capsys, root, "yolo-seg", *more)
    assert words in said and "--on_error=skip" in said and said.count("\n") == 1, said
    there = "val" if case == "first" else "train"
    expected = "images/b/1.png" if case == "first" else "images/a/0.png"
    content = run(tmp_path, root, "yolo-seg", f"--split={there}", *more)
    assert [image["file_name"] for image in content["images"]] == [expected]
    found = parts(tmp_path, root, "yolo-seg", "--on_error=skip", *more)
    assert [expected] in found.values() and words in capsys.readouterr().err


def test_a_test_part_that_is_not_there_is_a_note(tmp_path, capsys):
    """Roboflow's exports name it whether they have it or not."""
    root = yolo_set(tmp_path / "set", ["images/a/0.png"], train="images/a", test="../test/images")
    assert list(parts(tmp_path, root, "yolo-seg").values()) == [["a/0.png"]]
    said = capsys.readouterr()
    assert "names the part test (../test/images), and there is no such folder" in said.out + said.err


@pytest.mark.parametrize("nothing", ["", "null", "~", "None", "# optional"])
def test_a_part_that_is_left_empty_is_none(nothing, tmp_path):
    root = yolo_set(tmp_path / "set", ["images/a/0.png", "images/b/1.png"])
    text = f"path: set\ntrain: images/a\nval: images/b\ntest: {nothing}\nnames: [cat]\n"
    (root / "data.yaml").write_text(text)
    found = parts(tmp_path, root, "yolo-seg", f"--images={root}")
    assert found == {"x_train": ["images/a/0.png"], "x_val": ["images/b/1.png"]}


def test_a_set_of_which_no_part_is_there(tmp_path, capsys):
    root = yolo_set(tmp_path / "none", ["images/a.png"], train="x/images", val="y/images")
    said = refused(tmp_path, capsys, root, "yolo-seg", f"--images={root}")
    assert "names the parts train (x/images), val (y/images), and no image is in any of them" in said


def test_the_folder_of_one_part_is_a_source(tmp_path):
    root = yolo_set(tmp_path / "set", ["a/images/0.png", "b/images/1.png"], train="a/images", val="b/images")
    content = run(tmp_path, root / "a" / "labels", "yolo-seg")
    assert [image["file_name"] for image in content["images"]] == ["0.png"]


def test_the_same_folder_for_two_parts_is_said(tmp_path, capsys):
    root = yolo_set(tmp_path / "set", ["images/a/0.png", "images/a/1.png"], train="images/a", val="images/a")
    assert list(parts(tmp_path, root)) == ["x"]
    assert "2 images of the part val (images/a) are of the part train too" in capsys.readouterr().out


PATTERNS = {
    "images/*.png": ["images/0.png"],
    "images/*/*.png": ["images/day/1.png", "images/night/2.png"],
    "images/d*": ["images/day/1.png", "images/day/late/3.png"],
    "images/**/*.png": ["images/0.png", "images/day/1.png", "images/day/late/3.png", "images/night/2.png"],
    "images/day/**": ["images/day/1.png", "images/day/late/3.png"],
    "images/day/?.png": ["images/day/1.png"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_star_does_not_cross_folders(pattern, tmp_path):
    root = yolo_set(tmp_path / "set", PATTERNS["images/**/*.png"], train=pattern)
    content = run(tmp_path, root, "yolo-seg", f"--images={root}", "--split=train")
    assert sorted(image["file_name"] for image in content["images"]) == PATTERNS[pattern]
    # "images/d*" names folders, and only then counts what is in them, as a folder's name does.
    if pattern != "images/d*":
        glob = (path for path in root.glob(pattern) if path.suffix == ".png")
        if pattern.endswith("**"):  # of pathlib, folders only
            glob = root.glob(f"{pattern}/*.png")
        assert sorted(path.relative_to(root).as_posix() for path in glob) == PATTERNS[pattern]


def darknet(root, lines, *, classes="classes = 2\n", images=True):
    """'YOLO 1.1' as CVAT exports it: two subsets, and the names in a file of their own."""
    for subset, names in (("train", ("0", "day/1")), ("valid", ("0",))):
        for name in names:
            file = root / f"obj_{subset}_data" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")
            if images:
                photograph(file.with_suffix(".jpg"))
        (root / f"{subset}.txt").write_text("".join(f"data/obj_{subset}_data/{name}.jpg\n" for name in names))
    (root / "obj.names").write_text("cat\nbig dog\n")
    (root / "obj.data").write_text(
        f"{classes}train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    return root


def test_darknet_as_cvat_exports_it(tmp_path):
    root = darknet(tmp_path / "set", ["1 0.5 0.5 0.5 0.4", "0 0.25 0.5 0.1 0.2"])
    assert parts(tmp_path, root, "yolo") == {
        "x_train": ["obj_train_data/0.jpg", "obj_train_data/day/1.jpg"],
        "x_val": ["obj_valid_data/0.jpg"],
    }
    content = json.loads((tmp_path / "parts" / "x_val.json").read_text())
    assert [(name, a["bbox"]) for _, name, a in flat(content)] == [
        ("big dog", [10, 9, 20, 12]), ("cat", [8, 12, 4, 6]),
    ]  # fmt: skip
    assert [category["name"] for category in content["categories"]] == ["cat", "big dog"]


def test_darknet_without_its_images(tmp_path):
    root = darknet(tmp_path / "set", ["1 0.5 0.5 0.5 0.4"], images=False)
    (root / "obj_valid_data" / "0.txt").rename(root / "obj_valid_data" / "2.txt")
    (root / "valid.txt").write_text("data/obj_valid_data/2.jpg\n")
    for name in ("0", "day/1", "2"):
        photograph(tmp_path / "pictures" / f"{name}.jpg")
    found = parts(tmp_path, root, "yolo", f"--images={tmp_path / 'pictures'}")
    assert found == {"x_train": ["0.jpg", "day/1.jpg"], "x_val": ["2.jpg"]}


def test_darknet_that_is_not_whole(tmp_path, capsys):
    root = darknet(tmp_path / "set", ["1 0.5 0.5 0.5 0.4"], classes="classes = 3\n")
    said = refused(tmp_path, capsys, root, "yolo")
    assert "has 'classes = 3', and" in said and "obj.names lists 2 names" in said
    darknet(root, ["1 0.5 0.5 0.5 0.4"])
    (root / "valid.txt").unlink()
    assert "the part val (data/valid.txt), and there is no such list" in refused(
        tmp_path, capsys, root, "yolo"
    )
    (root / "obj.names").unlink()
    said = refused(tmp_path, capsys, root, "yolo")
    assert "names 'data/obj.names' as the file of the classes, and it is not there" in said
    assert "obj_train_data/0.jpg" in str(parts(tmp_path, root, "yolo", "--names=a,b", "--on_error=skip"))


def test_a_list_of_classes_beside_the_labels(tmp_path):
    root = yolo_set(tmp_path / "set", ["images/a.png"])
    (root / "data.yaml").rename(root / "classes.txt")
    (root / "classes.txt").write_text("no\ncar\n")
    content = run(tmp_path, root, "yolo-seg")
    assert [category["name"] for category in content["categories"]] == ["no", "car"]


def pose(count, numbers):
    """A line of a box with some keypoints."""
    values = [[0.1 + 0.05 * i, 0.2 + 0.05 * i, 2][:numbers] for i in range(count)]
    return "0 0.5 0.5 0.5 0.4 " + " ".join(str(value) for point in values for value in point)


@pytest.mark.parametrize("shape", [(17, 2), (4, 3), (3, 3)])
def test_poses_are_boxes_and_no_polygons(shape, tmp_path, capsys):
    root = yolo_set(tmp_path / "set", ["images/a.png", "images/b.png"], kpt_shape=shape)
    for name in "ab":
        lines = [pose(*shape), "0 0.25 0.5 0.1 0.2"]
        (root / "labels" / f"{name}.txt").write_text("\n".join(lines))
    said = refused(tmp_path, capsys, root, "yolo-seg")
    assert "has boxes with keypoints" in said and "--format=yolo" in said and said.count("\n") == 1
    content = run(tmp_path, root, "yolo")
    assert [a["bbox"] for _, _, a in flat(content)] == [[10, 9, 20, 12], [8, 12, 4, 6]] * 2
    assert capsys.readouterr().out.count("2 boxes have keypoints, which are left out") == 1
    (root / "labels" / "a.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
    said = refused(tmp_path, capsys, root, "yolo")
    asked = 5 + shape[0] * shape[1]
    assert f"a.txt: line 1 has 7 numbers, and the kpt_shape of the yaml asks for {asked}" in said


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, x]", "[0, 3]", "{a: 1}"])
def test_keypoints_of_an_unknown_number(shape, tmp_path, capsys):
    root = yolo_set(tmp_path / "set", ["images/a.png"])
    (root / "data.yaml").write_text(f"names: [cat]\nkpt_shape: {shape}\n")
    assert "give two numbers, such as [17, 3]" in refused(tmp_path, capsys, root, "yolo")


def test_turned_boxes_stay_polygons(tmp_path):
    root = yolo_set(tmp_path / "set", ["images/a.png"])
    (root / "labels" / "a.txt").write_text("0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n")
    (found,) = masks(run(tmp_path, root, "yolo-seg"))["a.png", "cat"]
    picture = Image.new("L", (40, 30))
    ImageDraw.Draw(picture).polygon([(10, 15), (20, 7.5), (30, 15), (20, 22.5)], fill=1)
    # Both draw the border in their own way, which is about 52 pixels long.
    assert abs(int(found.sum()) - int(np.asarray(picture, np.int64).sum())) < 30


def test_a_part_inside_of_the_folder_of_all_images(tmp_path):
    root = yolo_set(tmp_path / "set", ["images/a.png", "images/v/b.png"], train="images", val="images/v")
    found = parts(tmp_path, root, "yolo-seg", f"--images={root}")
    assert found == {"x_train": ["images/a.png"], "x_val": ["images/v/b.png"]}


def test_fractions_that_mix_the_parts_are_said(tmp_path, capsys):
    names = [f"images/{part}/{i}.png" for part in ("train", "val") for i in range(2)]
    root = yolo_set(tmp_path / "set", names, train="images/train", val="images/val")
    parts(tmp_path, root, "yolo-seg", "--split=0.5,0.5")
    said = "the images of the source's own parts (train, val) are mixed by the fractions of --split"
    assert said in capsys.readouterr().out
    parts(tmp_path, root)
    (root / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    parts(tmp_path, root, "yolo-seg", "--split=0.5,0.5")
    assert "mixed" not in capsys.readouterr().out


def test_labels_of_no_part_are_counted(tmp_path, capsys):
    root = yolo_set(
        tmp_path / "set", [f"images/{part}/0.png" for part in "abc"], train="images/a", val="images/b"
    )
    more = (f"--images={root}",)
    assert parts(tmp_path, root, "yolo-seg", *more) == {
        "x_train": ["images/a/0.png"],
        "x_val": ["images/b/0.png"],
    }
    assert "1 label files are of no part of the data set and are left out" in capsys.readouterr().out
    run(tmp_path, root, "yolo-seg", "--split=val", *more)
    assert "of no part" not in capsys.readouterr().out


def test_the_nearest_description_counts(tmp_path):
    root = darknet(tmp_path / "set", ["1 0.5 0.5 0.5 0.4"])
    (tmp_path / "data.yaml").write_text("names: [other, set]\n")
    parts(tmp_path, root, "yolo")
    content = json.loads((tmp_path / "parts" / "x_val.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["cat", "big dog"]
