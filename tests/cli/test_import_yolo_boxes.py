"""YOLO's boxes become a json that a Faster R-CNN trains on."""

import json
import re

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import photograph

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.errors import UserError

WIDTH, HEIGHT = 40, 30


def write(root, lines, part="train", name="a", yaml="names: [cat, dog]\n"):
    photograph(root / "images" / part / f"{name}.jpg", (WIDTH, HEIGHT))
    (root / "labels" / part).mkdir(parents=True, exist_ok=True)
    (root / "labels" / part / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text(yaml)
    return root


def line(label, x0, y0, x1, y1):
    values = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
    return f"{label} " + " ".join(f"{value:.6f}" for value in values)


def test_boxes(tmp_path, capsys):
    root = write(
        tmp_path / "set", [line(1, 2, 3, 12, 20), line(0, 0, 0, 40, 30), "", line(0, 5.5, 7.25, 8, 9)]
    )
    photograph(root / "images" / "train" / "b.jpg", (WIDTH, HEIGHT))
    content = run(tmp_path, root, "yolo")
    assert [(f, n) for f, n, _ in flat(content)] == [
        ("train/a.jpg", "dog"), ("train/a.jpg", "cat"), ("train/a.jpg", "cat"),
    ]  # fmt: skip
    boxes = [[2, 3, 10, 17], [0, 0, 40, 30], [5.5, 7.25, 2.5, 1.75]]
    np.testing.assert_allclose([a["bbox"] for _, _, a in flat(content)], boxes, atol=1e-3)
    np.testing.assert_allclose([a["area"] for _, _, a in flat(content)], [170, 1200, 4.375], rtol=1e-3)
    assert not any("segmentation" in a for a in content["annotations"]) and len(content["images"]) == 2
    said = capsys.readouterr().out
    assert "train a Faster R-CNN on them with --config.model.mask=none" in said
    look = said.splitlines()[-1].partition("python -m jaxmaskrcnn ")[2].split()
    assert look[-1] == "--boxes_only" and main([*look, "--count=0"]) == 0
    assert "No problems" in capsys.readouterr().out
    source = prepare(tmp_path / "out" / "set.json", root / "images", tmp_path / "cache", masks=False)
    np.testing.assert_allclose(source[0].boxes[0], [2, 3, 12, 20], atol=1e-3)
    with pytest.raises(UserError, match="mask=none"):
        prepare(tmp_path / "out" / "set.json", root / "images", tmp_path / "cache")


def test_polygons_and_corners_are_boxes_too(tmp_path, capsys):
    polygon = "1 0.1 0.1 0.5 0.2 0.3 0.6 0.2 0.5 0.1 0.4"
    corners = "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75"  # a turned box
    root = write(tmp_path / "set", [polygon, corners, line(1, 2, 3, 12, 20)])
    found = [a["bbox"] for _, _, a in flat(run(tmp_path, root, "yolo"))]
    np.testing.assert_allclose(found, [[4, 3, 16, 15], [10, 7.5, 20, 15], [2, 3, 10, 17]], atol=1e-3)
    assert "2 polygons are read as the boxes around them" in capsys.readouterr().out


def test_boxes_a_little_over_the_border_are_cut(tmp_path):
    root = write(tmp_path / "set", [line(1, -0.2, -0.1, 12, 20), line(1, 30, 20, 40.2, 30.1)])
    found = [a["bbox"] for _, _, a in flat(run(tmp_path, root, "yolo"))]
    np.testing.assert_allclose(found, [[0, 0, 12, 20], [30, 20, 10, 10]], atol=1e-3)


@pytest.mark.parametrize("form", ["[{}]", "{{0: {}}}", "{{'0': {}}}", "\n- {}"])
@pytest.mark.parametrize("name", ["no", "Yes", "null", "1.50", "0x10", "2026-02-30", "1_000", "12:30"])
def test_names_are_what_is_written(name, form, tmp_path):
    """yaml takes some words for something else than a text."""
    root = write(tmp_path / "set", [line(0, 2, 3, 12, 20)], yaml=f"names: {form.format(name)}\n")
    assert [c["name"] for c in run(tmp_path, root, "yolo")["categories"]] == [name]


def test_brackets_without_end_are_one_sentence(tmp_path, capsys):
    root = write(tmp_path / "set", [line(0, 2, 3, 12, 20)], yaml="names: " + "[" * 20000)
    assert re.search("nested too deeply|not valid yaml", refused(tmp_path, capsys, root, "yolo"))


def test_parts(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("val", "c")):
        root = write(tmp_path / "set", [line(0, 2, 3, 12, 20)], part, name)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n")
    output = tmp_path / "out" / "set.json"
    assert main(["import", str(root), "--format=yolo", f"--output={output}"]) == 0
    sizes = [len(json.loads(p.read_text())["images"]) for p in sorted(output.parent.glob("*.json"))]
    assert sizes == [2, 1]
    assert len(run(tmp_path, root, "yolo", "--split=val")["images"]) == 1


def test_masks_cannot_be_made_of_boxes(tmp_path, capsys):
    root = write(tmp_path / "set", [line(1, 2, 3, 12, 20)] * 2)
    assert "import the boxes for a Faster R-CNN with --format=yolo" in refused(
        tmp_path, capsys, root, "yolo-seg"
    )


BAD = {
    "pixels": ("0 20 15 10 8", "line 2 is a box from .15, 11. to .25, 19., and 0 to 1 is the image"),
    "far": ("0 0.5 0.5 1e9 0.5", "line 2 is a box from"),
    "infinite": ("0 0.5 0.5 inf 0.5", "line 2 is a box from"),
    "NaN": ("0 nan 0.5 0.1 0.5", "line 2 is a box from"),
    "size 0": ("0 0.5 0.5 0 0.5", "line 2 has a bbox of width 0"),
    "negative": ("0 0.5 0.5 -0.2 0.5", "line 2 has a bbox of width -"),
    "score": ("0 0.5 0.5 0.2 0.2 0.9", "line 2 has 5 numbers after the class, as predictions"),
    "three": ("0 0.5 0.5 0.2", "line 2 has 3 coordinates"),
    "word": ("cat 0.5 0.5 0.2 0.2", "line 2 holds text that is not a number"),
    "class": ("2 0.5 0.5 0.2 0.2", "the class 2, and there are 2 names"),
    "class 1.5": ("1.5 0.5 0.5 0.2 0.2", "the class 1.5; give a whole number"),
    "polygon outside": ("1 0.5 0.5 9 0.2 0.3 0.3", "not between 0 and 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    bad, words = BAD[case]
    root = write(tmp_path / "set", [line(1, 2, 3, 12, 20), bad])
    said = refused(tmp_path, capsys, root, "yolo")
    assert re.search(words, said) and "a.txt" in said and said.count("\n") == 1, said
    assert len(run(tmp_path, root, "yolo", "--on_error=skip")["annotations"]) == 1
    assert main(["import", str(tmp_path / "none"), "--format=yolo", f"--output={tmp_path / 'x.json'}"]) == 2
