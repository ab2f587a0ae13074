"""Pascal VOC's xml files become a json of boxes, for data sets that have no masks."""

import json
import re

import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import parts_of, photograph
from other_formats import write_voc

from jaxmaskrcnn.cli.main import main

OBJECTS = [("cat", (3, 4, 12, 20)), ("dog", (1, 1, 40, 30))]
WANTED = [("cat", [2, 3, 10, 17]), ("dog", [0, 0, 40, 30])]  # pixels count from 1, the last one included


def xml(path, name="a.png", objects=OBJECTS, size=(30, 40)):
    """An xml as VOC has it, written from the development kit's description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in objects
    )
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{name}</filename>{sides}{rows}</annotation>")


def voc(root):
    """Three images, the last without objects, and a list of the first two."""
    for name, objects in (("a", OBJECTS), ("b", OBJECTS[:1]), ("c", [])):
        photograph(root / "JPEGImages" / f"{name}.png")
        xml(root / "Annotations" / f"{name}.xml", f"{name}.png", objects)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a  1\nb -1\n")
    return root


def found(content):
    return [(name, label, annotation["bbox"]) for name, label, annotation in flat(content)]


def test_boxes_alone(tmp_path, capsys):
    root = voc(tmp_path / "voc")
    said = refused(tmp_path, capsys, root, "voc")
    assert "has boxes alone (3 xml files and no folder SegmentationObject)" in said
    assert "--boxes_only" in said and said.count("\n") == 1
    content = run(tmp_path, root, "voc", "--boxes_only")
    wanted = [("a.png", *WANTED[0]), ("a.png", *WANTED[1]), ("b.png", *WANTED[0])]
    assert found(content) == wanted and len(content["images"]) == 3
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    assert not any("segmentation" in annotation for annotation in content["annotations"])
    assert "train a Faster R-CNN on them with --config.model.mask=none" in capsys.readouterr().out
    assert found(run(tmp_path, root / "Annotations", "voc", "--boxes_only")) == wanted


def test_lists_and_names(tmp_path, capsys):
    root = voc(tmp_path / "voc")
    for split in ("train", "cat_train"):
        content = run(tmp_path, root, "voc", "--boxes_only", f"--split={split}", "--names=dog,cat")
        assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
        assert [category["name"] for category in content["categories"]] == ["dog", "cat"]
    said = refused(tmp_path, capsys, root, "voc", "--boxes_only", "--split=val")
    assert (
        "has no list val.txt in ImageSets; --split is one of the lists there are (cat_train, train)" in said
    )
    (root / "ImageSets" / "Main" / "val.txt").write_text("c\nd\n")
    said = refused(tmp_path, capsys, root, "voc", "--boxes_only", "--split=val")
    assert "lists 'd', which has no xml" in said


def test_folders_of_parts_with_images_and_xml_files(tmp_path):
    for part, name in (("train", "a"), ("valid", "b")):
        photograph(tmp_path / "set" / part / f"{name}.jpg")
        xml(tmp_path / "set" / part / f"{name}.xml", f"{name}.jpg")
    output = tmp_path / "parts" / "x.json"
    words = ["import", str(tmp_path / "set"), "--format=voc", "--boxes_only", f"--output={output}"]
    output.parent.mkdir()
    assert main(words) == 0
    assert parts_of(output.parent) == {"x_train": ["train/a.jpg"], "x_val": ["valid/b.jpg"]}
    content = run(tmp_path, tmp_path / "set", "voc", "--boxes_only", "--split=val")
    assert [box for _, _, box in found(content)] == [box for _, box in WANTED]


def test_names_and_sizes_that_tools_write(tmp_path):
    root = tmp_path / "set"
    photograph(root / "pictures" / "a.png")
    xml(root / "a.xml", "an older name.png", size=(0, 0))
    content = run(tmp_path, root, "voc", "--boxes_only", f"--images={root / 'pictures'}")
    assert found(content) == [("a.png", *one) for one in WANTED]


def test_boxes_of_a_set_that_has_masks(tmp_path):
    folder, _ = write_voc(tmp_path / "voc")
    text = (folder / "Annotations" / "a.xml").read_text()
    corners = [[int(n) for n in re.findall(r">(\d+)</[xy]m", part)] for part in text.split("<object>")[1:]]
    boxes = [[x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1] for x0, y0, x1, y1 in corners]
    content = run(tmp_path, folder, "voc", "--boxes_only")
    assert [box for name, _, box in found(content) if name == "a.png"] == boxes
    assert "segmentation" not in json.dumps(content)


def test_boxes_that_count_from_0(tmp_path, capsys):
    """One box that begins at 0 tells how all boxes of the set are counted, also those of its other parts."""
    root = voc(tmp_path / "voc")
    from_0 = [("cat", [3, 4, 9, 16]), ("dog", [1, 1, 39, 29])]  # the corners as they are written
    assert found(run(tmp_path, root, "voc", "--boxes_only"))[:2] == [("a.png", *one) for one in WANTED]
    assert "--first_pixel" not in capsys.readouterr().out
    xml(root / "Annotations" / "c.xml", "c.png", [("cat", (5, 0, 40, 30)), ("cat", (0, 0.5, 9, 9))])
    content = run(tmp_path, root, "voc", "--boxes_only")
    assert found(content) == [
        ("a.png", *from_0[0]), ("a.png", *from_0[1]), ("b.png", *from_0[0]),
        ("c.png", "cat", [5, 0, 35, 30]), ("c.png", "cat", [0, 0.5, 9, 8.5]),
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert said.count("--first_pixel=1") == 1 and "as Pascal VOC's do: 2 of 5 (the first: " in said
    assert "c.xml: object 1" in said
    train = run(tmp_path, root, "voc", "--boxes_only", "--split=train")
    assert found(train) == [("a.png", *from_0[0]), ("a.png", *from_0[1]), ("b.png", *from_0[0])]


def test_a_user_decides_how_boxes_are_counted(tmp_path, capsys):
    root = voc(tmp_path / "voc")
    xml(root / "Annotations" / "c.xml", "c.png", [("cat", (0, 3, 9, 9))])
    content = run(tmp_path, root, "voc", "--boxes_only", "--first_pixel=1")
    assert found(content)[:2] == [("a.png", *one) for one in WANTED]
    assert found(content)[3] == ("c.png", "cat", [0, 2, 9, 7])  # cut off at the border
    assert "count from 0" not in capsys.readouterr().out
    (root / "Annotations" / "c.xml").unlink()
    content = run(tmp_path, root, "voc", "--boxes_only", "--first_pixel=0")
    assert found(content)[0] == ("a.png", "cat", [3, 4, 9, 16])


def test_a_box_that_reaches_out_of_its_image_tells_nothing_of_the_count(tmp_path):
    root = voc(tmp_path / "voc")
    xml(root / "Annotations" / "c.xml", "c.png", [("cat", (-3, 3, 9, 9))])
    assert found(run(tmp_path, root, "voc", "--boxes_only"))[0] == ("a.png", *WANTED[0])


def test_masks_with_boxes_that_count_from_0(tmp_path, capsys):
    folder, _ = write_voc(tmp_path / "voc")
    before = found(run(tmp_path, folder, "voc"))
    for path in (folder / "Annotations").glob("*.xml"):
        text = re.sub(r"(<[xy]min>)(\d+)", lambda m: f"{m[1]}{int(m[2]) - 1}", path.read_text())
        path.write_text(text.replace("</annotation>", "<object><name>cat</name><bndbox><xmin>0</xmin>"
        "<ymin>0</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>"))  # fmt: skip
    capsys.readouterr()
    assert found(run(tmp_path, folder, "voc")) == before
    assert "count from 0" in capsys.readouterr().out


BAD = {
    "size": ({"size": (31, 40)}, "40 x 31"),
    "no image": ({"name": "z.png"}, "names the image 'z.png', which is not in"),
    "outside": ({"objects": [("cat", (50, 4, 60, 20))]}, "outside of its 40 x 30 image"),
    "turned": ({"objects": [("cat", (20, 4, 10, 20))]}, "object 1 has a bbox of width"),
    "no class": ({"objects": [("", (3, 4, 12, 20))]}, "object 1 has the class ''"),
    "no number": ({"objects": [("cat", (3, "x", 12, 20))]}, "object 1 has the bndbox"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case, tmp_path, capsys):
    changes, words = BAD[case]
    root = voc(tmp_path / "voc")
    xml(root / "Annotations" / "bad.xml", **{"name": "bad.png", **changes})
    if "name" not in changes:
        photograph(root / "JPEGImages" / "bad.png")
    said = refused(tmp_path, capsys, root, "voc", "--boxes_only")
    assert words in said and "bad.xml" in said and said.count("\n") == 1, said
    assert len(found(run(tmp_path, root, "voc", "--boxes_only", "--on_error=skip"))) == 3


def test_a_folder_without_xml_files(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    said = refused(tmp_path, capsys, tmp_path / "set", "voc", "--boxes_only")
    assert "holds no xml files" in said
    assert "has no folder SegmentationObject" in refused(tmp_path, capsys, tmp_path / "set", "voc")
