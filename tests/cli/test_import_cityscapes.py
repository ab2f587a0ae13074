"""Cityscapes' polygons and pictures of ids become the same objects."""

import json
import re

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph
from PIL import Image, ImageDraw

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data.rle import decode_mask

SIZE = (60, 40)  # width, height
EIGHT = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
IDS = {"person": 24, "car": 26, "road": 7, "pole": 17, "bicycle": 33, "sky": 23}


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


STREET = [
    ("road", square(0, 20, 59, 39)),
    ("car", square(5, 10, 30, 30)),
    ("bicyclegroup", square(40, 20, 50, 35)),
    ("bicyclegroup", square(52, 20, 57, 35)),
    ("car", square(20, 15, 45, 28)),
    ("person", square(1, 1, 3, 3)),
    ("sky", square(0, 0, 10, 8)),  # hides the person
    ("pole", square(25, 0, 26, 39)),  # goes through both cars
    ("license plate", square(7, 12, 9, 14)),  # is not painted
    ("car", [[50, 1], [58, 1], [54, 9]]),
]


def instance_ids(objects, size=SIZE):
    """The picture of ids, as Cityscapes' scripts are said to make it: by hand for these labels."""
    picture, numbers = Image.new("I", size, 0), {}
    for label, points in objects:
        name = label.removesuffix("group")
        if name not in IDS:
            continue
        value = IDS[name]
        if name in EIGHT and name == label:
            numbers[name] = numbers.get(name, -1) + 1
            value = 1000 * value + numbers[name]
        ImageDraw.Draw(picture).polygon([tuple(point) for point in points], fill=value)
    return np.asarray(picture)


def document(objects, size=SIZE):
    entries = [{"label": label, "polygon": points} for label, points in objects]
    return {"imgWidth": size[0], "imgHeight": size[1], "objects": entries}


def write(root, stem, objects, part="train", kind="gtFine", city="ulm", form="json"):
    photograph(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", SIZE)
    folder = root / kind / part / city
    folder.mkdir(parents=True, exist_ok=True)
    if form == "json":
        (folder / f"{stem}_{kind}_polygons.json").write_text(json.dumps(document(objects)))
    else:
        values = instance_ids(objects).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{stem}_{kind}_instanceIds.png")
    Image.new("L", SIZE).save(folder / f"{stem}_{kind}_labelIds.png")
    return root


def test_void_of_polygons_and_of_pictures_of_ids(tmp_path):
    """What nothing is painted on, what is not evaluated, and groups of what is not: caravans are none."""
    objects = [
        ("road", square(0, 0, 30, 39)),
        ("static", square(2, 2, 5, 5)),
        ("caravan", square(32, 0, 40, 10)),
        ("caravangroup", square(10, 10, 20, 20)),
        ("car", square(15, 15, 25, 25)),
        ("license plate", square(16, 16, 18, 18)),
    ]
    expected = np.ones(SIZE[::-1], bool)
    for x0, y0, x1, y1 in ((0, 0, 30, 39), (32, 0, 40, 10)):
        expected[y0 : y1 + 1, x0 : x1 + 1] = False
    for x0, y0, x1, y1 in ((2, 2, 5, 5), (10, 10, 20, 20)):
        expected[y0 : y1 + 1, x0 : x1 + 1] = True
    expected[15:26, 15:26] = False
    content = run(tmp_path, write(tmp_path / "set", "ulm_000001_000019", objects), "cityscapes")
    counts = content["images"][0]["void"]["counts"].encode()
    np.testing.assert_array_equal(decode_mask(counts, *SIZE[::-1]).T, expected)

    ids = np.where(expected, 4, 7).astype(np.uint16)
    ids[0:11, 32:41], ids[15:26, 15:26] = 29000, 26000
    folder = tmp_path / "set" / "gtFine" / "train" / "ulm"
    (folder / "ulm_000001_000019_gtFine_polygons.json").unlink()
    Image.fromarray(ids).save(folder / "ulm_000001_000019_gtFine_instanceIds.png")
    again = run(tmp_path, tmp_path / "set", "cityscapes")
    assert again["images"] == content["images"]


@pytest.mark.parametrize("form", ["json", "ids"])
def test_what_is_seen_of_each_object(form, tmp_path, capsys):
    root = write(tmp_path / "set", "ulm_000001_000019", STREET, form=form)
    content = run(tmp_path, root, "cityscapes")
    assert [c["name"] for c in content["categories"]] == EIGHT
    (image,) = content["images"]
    assert image["file_name"] == "train/ulm/ulm_000001_000019_leftImg8bit.png"
    values, name = instance_ids(STREET), image["file_name"]
    assert set(np.unique(values)) == {0, 7, 17, 23, 33, 26000, 26001, 26002}  # the person is hidden
    found = masks(content)
    assert sorted(found) == [(name, "bicycle"), (name, "car")]
    np.testing.assert_array_equal(found[name, "car"], [values == 26000 + i for i in range(3)])
    np.testing.assert_array_equal(found[name, "bicycle"], [values == 33])
    assert [a["iscrowd"] for _, label, a in flat(content)] == (
        [0, 0, 0, 1] if form == "json" else [1, 0, 0, 0]
    )
    said = capsys.readouterr().out
    assert "become crowd regions" in said
    assert ("1 objects that others cover completely are left out" in said) == (form == "json")
    assert "not annotated" not in said  # pictures of labels are no images


def test_classes_of_a_users_choice(tmp_path):
    root = write(tmp_path / "set", "a", STREET)
    content = run(tmp_path, root, "cityscapes", "--names=pole,person,sky")
    values = instance_ids(STREET)
    found = {label: shapes for (_, label), shapes in masks(content).items()}
    assert sorted(found) == ["pole", "sky"]
    np.testing.assert_array_equal(found["pole"], [values == 17])


def test_parts_become_jsons(tmp_path, capsys):
    root = tmp_path / "set"
    write(root, "a", STREET, "train")
    write(root, "b", STREET[:2], "val", city="bonn")
    write(root, "c", [("ego vehicle", square(0, 0, 9, 9)), ("out of roi", square(0, 0, 5, 5))], "test")
    write(root, "a", STREET[:2], "train", kind="gtCoarse")
    assert main(["import", str(root), "--format=cityscapes", f"--output={tmp_path / 'x.json'}"]) == 0
    said = capsys.readouterr().out
    assert "1 images of the test set, whose annotations are not public, are left out" in said
    assert "1 files of gtCoarse are left out" in said
    for part, names, count in (("train", ["train/ulm/a"], 4), ("val", ["val/bonn/b"], 1)):
        content = json.loads((tmp_path / f"x_{part}.json").read_text())
        assert [i["file_name"] for i in content["images"]] == [f"{n}_leftImg8bit.png" for n in names]
        assert len(content["annotations"]) == count
    assert not (tmp_path / "x_test.json").exists()
    content = run(tmp_path, root, "cityscapes", "--split=val")
    assert len(content["images"]) == 1
    assert "has no part 'vall'; --split is one of" in refused(
        tmp_path, capsys, root, "cityscapes", "--split=vall"
    )
    coarse = run(tmp_path, root / "gtCoarse", "cityscapes")
    assert len(coarse["annotations"]) == 1


def test_one_json_and_a_folder_of_them(tmp_path):
    photograph(tmp_path / "set" / "street.png", SIZE)
    path = tmp_path / "set" / "street.json"
    path.write_text(json.dumps(document(STREET)))
    assert len(run(tmp_path, path, "cityscapes")["annotations"]) == 4
    path.rename(tmp_path / "set" / "street_gtFine_polygons.json")
    assert len(run(tmp_path, tmp_path / "set", "cityscapes")["annotations"]) == 4


def test_many_images_divided_by_fraction(tmp_path):
    for i in range(5):
        write(tmp_path / "set", f"{i}", STREET)
    arguments = ["import", str(tmp_path / "set"), "--format=cityscapes", f"--output={tmp_path / 'x.json'}"]
    assert main([*arguments, "--split=0.6,0.2,0.2"]) == 0
    sizes = [len(json.loads(p.read_text())["images"]) for p in sorted(tmp_path.glob("x_*.json"))]
    assert sorted(sizes) == [1, 1, 3]


def changed(**changes):
    return {**document(STREET), **changes}


def entry(**changes):
    return changed(objects=[{"label": "car", "polygon": square(1, 1, 9, 9), **changes}])


BAD = {
    "cut off": ('{"imgWidth": 60, "imgHei', "not valid json"),
    "a list": ([], "holds a list"),
    "no objects": (changed(objects=None), "has no list 'objects'"),
    "objects of text": (changed(objects=["car"]), "has no list 'objects'"),
    "size 0": (changed(imgWidth=0), "an image of 0 x 40 pixels"),
    "size as text": (changed(imgHeight="x"), "an image of 60 x 'x' pixels"),
    "no size": (changed(imgHeight=None, imgWidth=None), "has no imgHeight and imgWidth"),
    "another size": (changed(imgWidth=61), "61 x 40"),
    "far": (entry(polygon=square(0, 0, 1e9, 9)), r"object 0 \('car'\) has the x coordinate 1e\+09, far from"),
    "infinite": (entry(polygon=square(0, 0, float("inf"), 9)), "the coordinate inf"),
    "two points": (entry(polygon=[[1, 1], [5, 5]]), "a polygon of 2 points"),
    "flat": (entry(polygon=[1, 1, 5, 5, 1, 5]), "no list of points"),
    "no polygon": (entry(polygon=None), "no list of points"),
    "label as number": (entry(label=26), "a label that is no text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    content, words = BAD[case]
    root = write(tmp_path / "set", "a", STREET)
    (path,) = root.rglob("*.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    said = refused(tmp_path, capsys, root, "cityscapes")
    assert re.search(words, said) and str(path) in said and said.count("\n") == 1, said


def test_missing_files(tmp_path, capsys):
    root = write(tmp_path / "set", "a", STREET)
    (image,) = (root / "leftImg8bit").rglob("*.png")
    image.unlink()
    assert "names the image 'train/ulm/a_leftImg8bit.png', which is not in" in refused(
        tmp_path, capsys, root, "cityscapes"
    )
    for path in root.rglob("*.json"):
        path.unlink()
    assert "holds no files *_polygons.json" in refused(tmp_path, capsys, root, "cityscapes")
    write(root, "a", STREET, form="ids")
    (path,) = root.rglob("*_instanceIds.png")
    path.write_bytes(path.read_bytes()[:60])
    assert "cannot be decoded" in refused(tmp_path, capsys, root, "cityscapes", "--on_error=stop")
