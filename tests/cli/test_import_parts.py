"""What is said about parts of a data set without objects, and options of masks that have no effect."""

import json

import pytest
from cli.test_import import refused, run
from cli.test_import_coco import entries, write
from cli.test_import_layouts import TWO, masks, photograph, save, values

from jaxmaskrcnn.cli.main import main as command


def write_parts(folder, change):
    """Jsons of two parts with the same objects; the second is changed."""
    for part in ("train", "val"):
        content = entries()
        if part == "val":
            change(content)
            for image in content["images"]:
                image["file_name"] = f"v{image['file_name']}"
        write(folder, content, f"instances_{part}.json")
    return folder


@pytest.mark.parametrize(("change", "classes", "note"), [
    (lambda c: None, "cat 2, dog 1; 1 without objects", False),
    (lambda c: c["annotations"].pop(1), "cat 2; 2 without objects", False),
    (lambda c: c["annotations"].clear(), "3 without objects", True),
])  # fmt: skip
def test_a_part_without_objects_is_said(change, classes, note, tmp_path, capsys):
    folder = write_parts(tmp_path / "set", change)
    output = tmp_path / "out.json"
    assert command(["import", str(folder), "--format=coco", f"--output={output}"]) == 0
    train, val = capsys.readouterr().out.split("out_val.json: ")
    assert "cat 2, dog 1; 1 without objects" in train and "this part has no objects" not in train
    lines = val.splitlines()
    assert lines[1].split("classes")[1].strip() == classes
    assert ("this part has no objects, so it cannot be trained on or evaluated with" in val) == note
    assert len(json.loads((tmp_path / "out_val.json").read_text())["categories"]) == 3


@pytest.mark.parametrize("options", [
    ["--ids=kitti"], ["--ids=plain"], ["--ids=mots", "--class_name=cell"], ["--ids=plain", "--class_name=c"],
])  # fmt: skip
def test_ids_have_no_effect_with_a_mask_an_object(options, tmp_path, capsys):
    for i in range(2):
        photograph(tmp_path / "set" / f"{i}" / "images" / f"{i}.png", seed=i)
        save(tmp_path / "set" / f"{i}" / "masks" / "cell_1.png", values((255, 2, 3, 12, 9)))
    said = refused(tmp_path, capsys, tmp_path / "set", "masks", *options)
    assert f"{options[0]} has no effect with a mask picture for each object" in said
    named = masks(run(tmp_path, tmp_path / "set", "masks", "--class_name=nucleus"))
    assert set(named) == {(f"{i}/images/{i}.png", "nucleus") for i in range(2)}
    assert set(masks(run(tmp_path, tmp_path / "set", "masks"))) == {
        (f"{i}/images/{i}.png", "cell") for i in range(2)
    }


def test_plain_ids_and_a_class_name_for_values(tmp_path, capsys):
    """Values alone are numbers of objects, so both can be given; values of KITTI hold the class."""
    photograph(tmp_path / "images" / "0.png")
    save(tmp_path / "masks" / "0.png", TWO)
    content = run(tmp_path, tmp_path / "masks", "masks", "--ids=plain", "--class_name=cell")
    assert len(content["annotations"]) == 2 and content["categories"] == [{"id": 1, "name": "cell"}]
    said = refused(tmp_path, capsys, tmp_path / "masks", "masks", "--ids=kitti", "--class_name=cell")
    assert "--class_name has no effect with --ids=kitti" in said
