"""Kaggle's csv files of runs become the same objects here."""

import json
import re

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph

from jaxmaskrcnn.cli.main import main

WIDTH, HEIGHT = 12, 8


def runs(mask):
    """Kaggle's own description: pixels from 1, from top to bottom and then from left to right."""
    on = [i + 1 for i, value in enumerate(mask.T.reshape(-1).tolist()) if value]
    words, i = [], 0
    while i < len(on):
        j = i
        while j + 1 < len(on) and on[j + 1] == on[j] + 1:
            j += 1
        words += [on[i], j - i + 1]
        i = j + 1
    return " ".join(map(str, words))


def shape(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


ONE, TWO = shape(1, 2, 5, 6), shape(6, 0, 12, 8)
TWO[3, 7:9] = False
ALL = shape(0, 0, 12, 8)
SIZED = "ImageId,EncodedPixels,Height,Width"


def write(folder, text, names=("a.jpg", "b.jpg")):
    for name in names:
        photograph(folder / name, (WIDTH, HEIGHT))
    (folder / "train.csv").write_text(text)
    return folder / "train.csv"


def test_airbus(tmp_path, capsys):
    rows = f"ImageId,EncodedPixels\na.jpg,{runs(ONE)}\na.jpg,{runs(TWO)}\nb.jpg,\n"
    path = write(tmp_path / "set", rows)
    assert "has no column ClassId; name the class of all objects with --class_name" in refused(
        tmp_path, capsys, path, "rle-csv"
    )
    content = run(tmp_path, path, "rle-csv", "--class_name=ship")
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(masks(content)["a.jpg", "ship"], [ONE, TWO])
    assert content["annotations"][1]["area"] == int(TWO.sum())


def test_the_documented_example(tmp_path):
    """``1 3 10 5`` are the pixels 1, 2, 3 and 10 to 14, as Kaggle's page says."""
    path = write(tmp_path / "set", "ImageId,EncodedPixels\na.jpg,1 3 10 5\n")
    (found,) = masks(run(tmp_path, path, "rle-csv", "--class_name=x"))["a.jpg", "x"]
    wanted = np.zeros(WIDTH * HEIGHT, bool)
    wanted[[0, 1, 2, 9, 10, 11, 12, 13]] = True
    np.testing.assert_array_equal(found, wanted.reshape(WIDTH, HEIGHT).T)


def test_nuclei_with_sizes_and_usage(tmp_path, capsys):
    """The names lack their suffixes; each image lies in a folder of its own beside its masks."""
    for name in ("a", "b", "c"):
        photograph(tmp_path / "set" / name / "images" / f"{name}.png", (WIDTH, HEIGHT))
        photograph(tmp_path / "set" / name / "masks" / f"{name}1.png", (WIDTH, HEIGHT))
    rows = [
        f"{SIZED},Usage", f"a,{runs(ONE)},8,12,Public", f"a,{runs(TWO)},8,12,Public",
        f"b,{runs(ALL)},8,12,Private", "c,1 1,8,12,Ignored", "",
    ]  # fmt: skip
    path = write(tmp_path / "set", "\r\n".join(rows), ())
    content = run(tmp_path, path, "rle-csv", "--class_name=nucleus")
    found = masks(content)
    np.testing.assert_array_equal(found["a/images/a.png", "nucleus"], [ONE, TWO])
    np.testing.assert_array_equal(found["b/images/b.png", "nucleus"], [ALL])
    said = capsys.readouterr().out
    assert "1 rows of which the column Usage says Ignored" in said and "1 images of" in said


@pytest.mark.parametrize(
    "header, first, second",
    [
        ("ImageId,ClassId,EncodedPixels", "a.jpg,1", "a.jpg,4"),
        ("ImageId_ClassId,EncodedPixels", "a.jpg_1", "a.jpg_4"),
        ("Image_Label, EncodedPixels", "a.jpg_1", "a.jpg_4"),
        ("\ufeffImageId,Class,EncodedPixels", "a,1", "A.JPG,4"),
    ],
)
def test_columns_of_classes(header, first, second, tmp_path):
    rows = f"{header}\n{first},{runs(ONE)}\n{second},{runs(TWO)}\n{first.replace('a', 'b', 1)},-1\n"
    content = run(tmp_path, write(tmp_path / "set", rows), "rle-csv")
    assert [n for _, n, _ in flat(content)] == ["1", "4"] and len(content["images"]) == 2
    np.testing.assert_array_equal(masks(content)["a.jpg", "4"], [TWO])


def test_names_with_the_sign_between_image_and_class(tmp_path):
    path = write(tmp_path / "set", f"ImageId_ClassId,EncodedPixels\na_1.jpg_4,{runs(ONE)}\n", ["a_1.jpg"])
    assert [(f, n) for f, n, _ in flat(run(tmp_path, path, "rle-csv"))] == [("a_1.jpg", "4")]


def test_attributes_of_imaterialist(tmp_path, capsys):
    rows = f"{SIZED},ClassId\na.jpg,{runs(ONE)},8,12,6\na.jpg,{runs(TWO)},8,12,6_1_3\n"
    content = run(tmp_path, write(tmp_path / "set", rows), "rle-csv")
    assert [n for _, n, _ in flat(content)] == ["6", "6"]
    assert "1 classes are read without the attributes" in capsys.readouterr().out


def test_long_cells_and_parts(tmp_path):
    """A mask of many runs is longer than what Python's csv module takes by itself."""
    photograph(tmp_path / "set" / "a.png", (300, 300))
    mask = np.zeros((300, 300), bool)
    mask[::2] = True
    photograph(tmp_path / "set" / "b.png", (300, 300))
    text = f"ImageId,EncodedPixels\na.png,{runs(mask)}\nb.png,{runs(mask)}\n"
    assert len(text) > 2 * 131072
    path = write(tmp_path / "set", text, ())
    (found,) = masks(run(tmp_path, path, "rle-csv", "--class_name=x"))["a.png", "x"]
    np.testing.assert_array_equal(found, mask)
    arguments = ["import", str(path), "--format=rle-csv", "--class_name=x", f"--output={tmp_path / 'x.json'}"]
    assert main([*arguments, "--split=0.5,0.5"]) == 0
    assert len(json.loads((tmp_path / "x_val.json").read_text())["images"]) == 1


H = "ImageId,EncodedPixels\n"
BAD = {
    "odd": (H + "a.jpg,1 2 5\n", "row 2 has 3 numbers and no pairs"),
    "overlap": (H + "a.jpg,1 4 3 2\n", "row 2 has the run 3 2, which overlaps"),
    "unsorted": (H + "a.jpg,20 4 3 2\n", "row 2 has the run 3 2, which lies before"),
    "over the end": (H + "a.jpg,95 3\n", "row 2 has a run up to pixel 97 in an image of 12 x 8"),
    "far": (H + "b.jpg,1 1\na.jpg,1000000000 3\n", "row 3 has a run up to pixel 1000000002"),
    "endless number": (H + "a.jpg," + "9" * 5000 + " 3\n", "no whole numbers"),
    "from 0": (H + "a.jpg,0 3\n", "a start or a length of 0"),
    "length 0": (H + "a.jpg,3 0\n", "a start or a length of 0"),
    "negative": (H + "a.jpg,-3 2\n", "no whole numbers"),
    "text": (H + "a.jpg,many\n", "no whole numbers"),
    "floats": (H + "a.jpg,1.5 2\n", "no whole numbers"),
    "lost image": (H + "gone.jpg,1 2\n", "row 2 names the image 'gone.jpg'"),
    "no name": (H + ",1 2\n", "row 2 names no image"),
    "missing cell": (H + "a.jpg\n", "row 2 has 1 cells and the header 2"),
    "other size": (f"{SIZED}\na.jpg,1 2,9,12\n", "12 x 9"),
    "two sizes": (
        f"{SIZED}\na.jpg,1 2,8,12\na.jpg,1 2,9,12\n", "row 3 gives its image another",
    ),
    "size 0": (f"{SIZED}\na.jpg,1 2,0,12\n", "the Height '0' and the Width '12'"),
    "other columns": ("id,annotation,width,height\na,1 2,12,8\n", "no column EncodedPixels .found: id, a"),
    "no image column": ("EncodedPixels\n1 2\n", "no column ImageId"),
    "empty": ("", "no column EncodedPixels .found: nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    text, words = BAD[case]
    path = write(tmp_path / "set", text)
    said = refused(tmp_path, capsys, path, "rle-csv", "--class_name=x")
    assert re.search(words, said) and str(path) in said and said.count("\n") == 1, said


def test_many_rows_of_a_lost_image_are_one_problem(tmp_path, capsys):
    path = write(tmp_path / "set", H + "a.jpg,1 2\n" + "gone.jpg,1 2\n" * 9)
    assert refused(tmp_path, capsys, path, "rle-csv", "--class_name=x").count("\n") == 1
    content = run(tmp_path, path, "rle-csv", "--class_name=x", "--on_error=skip")
    assert len(content["annotations"]) == 1
    assert "8 rows of images with a problem are left out" in capsys.readouterr().out
