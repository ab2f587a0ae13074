"""How many images are found in another place than their annotations name is said, once."""

import base64
import json
import re

import pytest
from cli.test_import import run
from cli.test_import_layouts import labelme, photograph, save, shape, values

TRIANGLE = [[2, 3], [22, 3], [22, 20]]


def counted(capsys):
    """The number of such images, and the first of them."""
    said = capsys.readouterr().out
    found = re.findall(r"(\d+) image names are no path to the file, .* \(first: (.*)\)", said)
    assert len(found) <= 1
    return (int(found[0][0]), found[0][1]) if found else None


NAMES = {
    "a.png": None,
    "deep/a.png": (3, "deep/a.png is a.png"),
    "C:\\data\\a.png": (3, "C:\\data\\a.png is a.png"),
    "/home/me/a.png": (3, "/home/me/a.png is a.png"),
    "A.PNG": (3, "A.PNG is a.png"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_paths(name, tmp_path, capsys):
    for letter in "abc":
        photograph(tmp_path / "set" / f"{letter}.png")
        own = name.replace("a.png", f"{letter}.png").replace("A.PNG", f"{letter.upper()}.PNG")
        labelme(tmp_path / "set", [shape("cat", TRIANGLE)], imagePath=own)
        (tmp_path / "set" / "a.json").rename(tmp_path / "set" / f"{letter}_.json")
    assert len(run(tmp_path, tmp_path / "set", "labelme")["images"]) == 3
    assert counted(capsys) == NAMES[name]


def test_a_file_that_is_not_used_is_not_counted(tmp_path, capsys):
    """The picture inside of a json is taken before a file that is only found elsewhere."""
    photograph(tmp_path / "set" / "deep" / "a.png")
    data = base64.b64encode((tmp_path / "set" / "deep" / "a.png").read_bytes()).decode()
    labelme(tmp_path / "set", [shape("cat", TRIANGLE)], imagePath="other/deep/a.png", imageData=data)
    run(tmp_path, tmp_path / "set", "labelme")
    assert counted(capsys) is None


def test_stems_name_no_place(tmp_path, capsys):
    """Masks and their images have a name in common, and that is all that is said."""
    for name in ("a", "b"):
        photograph(tmp_path / "images" / "deep" / f"{name}.jpg")
        save(tmp_path / "masks" / f"{name}.png", values((1, 2, 3, 12, 9)))
    content = run(tmp_path, tmp_path / "masks", "masks", "--class_name=cat")
    assert [image["file_name"] for image in content["images"]] == ["deep/a.jpg", "deep/b.jpg"]
    assert counted(capsys) is None


def cvat(folder, name, subset=""):
    box = '<box label="cat" xtl="2" ytl="3" xbr="12" ybr="9"/>'
    folder.mkdir(parents=True, exist_ok=True)
    part = f' subset="{subset}"' if subset else ""
    text = f'<annotations><image id="0" name="{name}"{part}>{box}</image></annotations>'
    (folder / "annotations.xml").write_text(text)


@pytest.mark.parametrize("place", ["Train/a.png", "a.png"])
def test_folders_of_parts_are_where_images_should_be(place, tmp_path, capsys):
    photograph(tmp_path / "set" / "images" / place)
    cvat(tmp_path / "set", "a.png", "Train")
    run(tmp_path, tmp_path / "set", "cvat")
    assert counted(capsys) is None


def test_other_formats(tmp_path, capsys):
    photograph(tmp_path / "cvat" / "images" / "a.png")
    cvat(tmp_path / "cvat", "day/a.png")
    run(tmp_path, tmp_path / "cvat", "cvat")
    assert counted(capsys) == (1, "day/a.png is a.png")
    photograph(tmp_path / "sam" / "deep" / "a.png")
    mask = {"size": [30, 40], "counts": [10, 20, 1170]}
    content = {"image": {"file_name": "a.png"}, "annotations": [{"id": 1, "segmentation": mask}]}
    (tmp_path / "sam" / "a.json").write_text(json.dumps(content))
    run(tmp_path, tmp_path / "sam", "sam")
    assert counted(capsys) == (1, "a.png is deep/a.png")
