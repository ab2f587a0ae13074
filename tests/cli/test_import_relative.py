"""``import --format=coco --relative``: polygons that are shares of the image's width and height."""

import json

import pytest
from cli.test_import_coco import assert_things, entries, write

from jaxmaskrcnn.cli.main import main as command


def relative(content, boxes=True):
    """The json with polygons, and boxes, in shares of the images of 30 x 40 pixels."""
    for entry in content["annotations"]:
        (ring,) = entry["segmentation"]
        entry["segmentation"] = [[v / (30 if i % 2 else 40) for i, v in enumerate(ring)]]
        if boxes:
            entry["bbox"] = [v / (30 if i % 2 else 40) for i, v in enumerate(entry["bbox"])]
            entry["area"] /= 30 * 40
    return content


def arguments(tmp_path, *more):
    return ["import", str(tmp_path / "set.json"), "--format=coco", f"--output={tmp_path / 'o.json'}", *more]


@pytest.mark.parametrize("change", [
    lambda c: None,
    lambda c: [entry.pop("bbox") for entry in c["annotations"]],
    lambda c: [entry.update(segmentation=entry["segmentation"][0]) for entry in c["annotations"]],
    lambda c: [image.update(height="30", width=40.0) for image in c["images"]],
])  # fmt: skip
def test_shares_become_pixels(change, tmp_path, capsys):
    content = relative(entries())
    change(content)
    write(tmp_path, content)
    assert command(arguments(tmp_path)) == 2  # and the sentence has the flag
    assert "import --format=coco --relative multiplies x by its width" in capsys.readouterr().err
    assert command(arguments(tmp_path, "--relative")) == 0
    assert "polygons that are multiplied by the sizes of their images: 3" in capsys.readouterr().out
    assert_things(json.loads((tmp_path / "o.json").read_text()))


@pytest.mark.parametrize(("change", "said"), [
    (lambda c: c["annotations"][2]["segmentation"][0].__setitem__(3, 1.25),
     "annotation 7 has a polygon with the value 1.25, and with --relative all coordinates"),
    (lambda c: c["annotations"][0]["segmentation"][0].__setitem__(0, -0.5), "annotation 5 has a polygon"),
    (lambda c: c["annotations"][1].update(bbox=[0, 0, 20, 20]), "annotation 6 has a bbox with the value 20"),
    (lambda c: [entry.update(segmentation=None) for entry in c["annotations"]], "has no polygons"),
    (lambda c: [image.pop("height") for image in c["images"]], "has the height None and width 40, by which"),
])  # fmt: skip
def test_what_is_not_relative_is_refused(change, said, tmp_path, capsys):
    content = relative(entries())
    change(content)
    write(tmp_path, content)
    assert command(arguments(tmp_path, "--relative")) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "o.json").exists()


def test_pixels_are_not_relative(tmp_path, capsys):
    write(tmp_path, entries())
    assert command(arguments(tmp_path, "--relative")) == 2
    assert "leave out --relative" in capsys.readouterr().err
    assert command(["import", str(tmp_path), "--format=labelme", "--output=o.json", "--relative"]) == 2
    assert "--relative has no effect with the format labelme" in capsys.readouterr().err
