"""Datumaro's json becomes the objects that its own COCO export has."""

import json
import shutil

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_coco import corners
from cli.test_import_cvat import IN_BOX, drawn, nearly
from cli.test_import_layouts import masks, photograph, values
from data_helpers import encode

from jaxmaskrcnn.cli.main import main as command

FAR = values((1, 20, 5, 33, 28)) > 0


def polygon(*box, label=0, **more):
    return {
        "type": "polygon",
        "label_id": label,
        "points": list(map(float, corners(*box))),
        "group": 0,
    } | more


def bbox(x0, y0, x1, y1, label=0, **more):
    return {"type": "bbox", "label_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "group": 0} | more


def mask(array, label=0, **more):
    return {"type": "mask", "label_id": label, "rle": encode(array), "group": 0} | more


CAT = polygon(2, 3, 12, 9)


def item(name, *annotations, **picture):
    entries = [{"id": 0, "attributes": {}, "z_order": 0} | entry for entry in annotations]
    return {
        "id": name.rsplit(".", 1)[0], "annotations": entries,
        "attr": {"frame": 0}, "image": {"path": name, "size": [30, 40]} | picture,
    }  # fmt: skip


def write(folder, subset="default", items=(), labels=("cat", "dog"), photographs=("default/a.png",)):
    for i, name in enumerate(photographs):
        photograph(folder / "images" / name, seed=i)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    named = [{"name": name, "parent": "", "attributes": []} for name in labels]
    content = {
        "dm_format_version": "1.0", "media_type": 2, "infos": {},
        "categories": {
            "label": {"labels": named, "attributes": []}, "mask": {"colormap": []},
        },
        "items": list(items),
    }  # fmt: skip
    (folder / "annotations" / f"{subset}.json").write_text(json.dumps(content))
    return folder


def one(tmp_path, *annotations):
    content = run(tmp_path, write(tmp_path / "set", items=[item("a.png", *annotations)]), "datumaro")
    (found,) = masks(content).values()
    assert len(found) == 1
    return found[0]


def test_each_kind_of_shape(tmp_path):
    np.testing.assert_array_equal(one(tmp_path, CAT), IN_BOX)
    np.testing.assert_array_equal(one(tmp_path, bbox(2, 3, 12, 9)), IN_BOX)
    holed = FAR & ~(values((1, 23, 9, 28, 15)) > 0)
    np.testing.assert_array_equal(one(tmp_path, mask(holed)), holed)
    content = json.loads((tmp_path / "out" / "set.json").read_text())
    assert content["annotations"][0]["iscrowd"] == 0
    runs = {"size": [30, 40], "counts": [0, 1200]}
    np.testing.assert_array_equal(one(tmp_path, mask(FAR, rle=runs)), np.ones((30, 40)))
    round_ = one(tmp_path, {"type": "ellipse", "label_id": 0, "points": [6.0, 4.0, 30.0, 20.0]})
    assert nearly(round_, drawn(lambda d, s: d.ellipse([6 * s, 4 * s, 30 * s, 20 * s], fill=1)))
    turned = one(tmp_path, bbox(10, 11, 26, 19, attributes={"rotation": 90.0, "occluded": False}))
    np.testing.assert_array_equal(turned, values((1, 14, 7, 22, 23)) > 0)


def test_groups(tmp_path, capsys):
    np.testing.assert_array_equal(one(tmp_path, CAT | {"group": 3}, mask(FAR, group=3)), IN_BOX | FAR)
    np.testing.assert_array_equal(one(tmp_path, bbox(0, 0, 40, 30, group=3), mask(FAR, group=3)), FAR)
    capsys.readouterr()
    shapes = CAT | {"group": 3}, mask(FAR, label=1, group=3), CAT, CAT
    content = run(tmp_path, write(tmp_path / "set", items=[item("a.png", *shapes)]), "datumaro")
    assert sorted(label for _, label, _ in flat(content)) == ["cat", "cat", "cat", "dog"]
    assert "1 groups hold several classes" in capsys.readouterr().out


@pytest.mark.parametrize(("crowd", "flags"), [("ignore", [0, 1]), ("objects", [0, 0]), ("drop", [0])])
def test_crowd_regions(crowd, flags, tmp_path):
    shapes = CAT, mask(FAR, attributes={"is_crowd": True}), CAT | {"attributes": {"is_crowd": False}}
    source = write(tmp_path / "set", items=[item("a.png", *shapes[:2])])
    content = run(tmp_path, source, "datumaro", f"--crowd={crowd}")
    assert [a["iscrowd"] for a in content["annotations"]] == flags
    source = write(tmp_path / "set", items=[item("a.png", shapes[2])])
    assert [a["iscrowd"] for a in run(tmp_path, source, "datumaro")["annotations"]] == [0]


def test_subsets_are_parts(tmp_path, capsys):
    root = tmp_path / "set"
    write(root, "Train", [item("a.png", CAT)], photographs=("Train/a.png",))
    write(
        root,
        "val",
        [item("a.png", mask(FAR, 1)), item("sub/b.png")],
        photographs=("val/a.png", "val/sub/b.png"),
    )
    output = tmp_path / "out" / "set.json"
    names = {"set_train.json": ["Train/a.png"], "set_val.json": ["val/a.png", "val/sub/b.png"]}
    for source in (root, root / "annotations"):
        assert command(["import", str(source), "--format=datumaro", f"--output={output}"]) == 0
        found = {path.name: json.loads(path.read_text()) for path in output.parent.iterdir()}
        assert {n: [i["file_name"] for i in c["images"]] for n, c in found.items()} == names
        assert all([c["name"] for c in one["categories"]] == ["cat", "dog"] for one in found.values())
        shutil.rmtree(output.parent)
    content = run(tmp_path, root, "datumaro", "--split=val")
    np.testing.assert_array_equal(masks(content)["val/a.png", "dog"], [FAR])
    content = run(tmp_path, root / "annotations" / "Train.json", "datumaro")
    np.testing.assert_array_equal(masks(content)["Train/a.png", "cat"], [IN_BOX])
    assert "has no part 'x'" in refused(tmp_path, capsys, root, "datumaro", "--split=x")


def test_classes_and_images(tmp_path, capsys):
    items = [item("a.png", CAT, mask(FAR, 1))]
    source = write(tmp_path / "set", items=items, photographs=("a.png",))  # as older versions store them
    content = run(tmp_path, source, "datumaro", "--names=dog,cat")
    assert [c["name"] for c in content["categories"]] == ["dog", "cat"]
    content = run(tmp_path, source, "datumaro", "--class_name=thing")
    assert [label for _, label, _ in flat(content)] == ["thing", "thing"]
    for change in ({"path": "/home/me/a.png"}, {"path": "C:\\me\\a.png"}, {"path": ""}, {"size": None}):
        items[0]["image"] = {"path": "a.png", "size": [30, 40]} | change
        content = run(tmp_path, write(tmp_path / "set", items=items, photographs=()), "datumaro")
        assert [i["file_name"] for i in content["images"]] == ["a.png"]
    items[0] |= {"image": None, "media": {"path": "a.png"}}
    run(tmp_path, write(tmp_path / "set", items=items, photographs=()), "datumaro")
    (source / "annotations" / "other.json").write_text("{}")
    run(tmp_path, source, "datumaro")
    assert "1 json files that are not of Datumaro are passed over" in capsys.readouterr().out


def test_what_has_no_area_is_counted(tmp_path, capsys):
    kinds = ("label", "points", "polyline", "caption", "cuboid_3d", "skeleton")
    others = [{"type": kind, "label_id": 0, "points": [1, 1]} for kind in kinds]
    one(tmp_path, CAT, *others, {"type": "hologram"}, {"type": ["polygon"]})
    said = capsys.readouterr().out
    assert all(f"1 of type '{kind}', which has no area" in said for kind in kinds)
    assert "2 annotations of types that are not known are passed over" in said


BAD = {
    "far": (CAT | {"points": [0, 0, 1e9, 0, 1e9, 1e9]}, "coordinate 1e+09, which lies far outside"),
    "far ellipse": ({"type": "ellipse", "label_id": 0, "points": [0, 0, 1e300, 9]}, "has a radius of 5e+299"),
    "far box": (bbox(-1e9, 0, 1e9, 9), "coordinate -1e+09"),
    "flat ellipse": ({"type": "ellipse", "label_id": 0, "points": [3, 3, 3, 9]}, "without a width"),
    "flat box": (bbox(2, 2, 2, 9), "width 0"),
    "two points": (CAT | {"points": [1, 1, 2, 2]}, "polygon of 2 points"),
    "odd points": (CAT | {"points": [1, 1, 9, 2, 2, 9, 4]}, "polygon of 7 numbers"),
    "no points": (CAT | {"points": None}, "no list 'points' of numbers"),
    "pairs": (CAT | {"points": [[1, 1], [2, 2], [3, 1]]}, "the coordinate [1, 1]"),
    "NaN": (CAT | {"points": [float("nan"), 0, 9, 9, 0, 9]}, "the coordinate nan"),
    "texts": (bbox(2, 2, 9, 9, bbox=["2", "2", "7", "7"]), "the coordinate '2'"),
    "three numbers": (bbox(2, 2, 9, 9, bbox=[2, 2, 7]), "no list 'bbox' of 4 numbers"),
    "outside": (polygon(50, 50, 60, 60), "outside of its 40 x 30 image"),
    "no RLE": (mask(FAR, rle=None), "no object with 'size' and 'counts'"),
    "polygons as RLE": (mask(FAR, rle=[[0, 0, 1e9, 0, 1e9, 1e9]]), "no object with 'size' and 'counts'"),
    "RLE size": (mask(FAR, rle={"size": [3, 4], "counts": [12]}), "RLE of size [3, 4]"),
    "cut RLE": (mask(FAR, rle={"size": [30, 40], "counts": encode(FAR)["counts"][:-2]}), "malformed RLE"),
    "empty RLE": (mask(FAR, rle={"size": [30, 40], "counts": [1200]}), "annotation 0"),
    "label": (CAT | {"label_id": 7}, "the label_id 7, and there are 2 labels"),
    "no label": (CAT | {"label_id": None}, "the label_id None"),
    "text label": (CAT | {"label_id": "0"}, "the label_id '0'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_sentence(case, tmp_path, capsys):
    entry, words = BAD[case]
    source = write(tmp_path / "set", items=[item("a.png", entry, CAT)])
    said = refused(tmp_path, capsys, source, "datumaro")
    assert words in said and "default.json: item 0 (a.png): annotation 0" in said
    content = run(tmp_path, source, "datumaro", "--on_error=skip")
    np.testing.assert_array_equal(masks(content)["default/a.png", "cat"], [IN_BOX])


BAD_ITEMS = {
    "list": ([], "item 0 has no list 'annotations'"),
    "no annotations": ({"id": "a"}, "item 0 has no list 'annotations'"),
    "text": ({"id": "a", "annotations": ["x"]}, "annotation 0 is not an object"),
    "no name": ({"annotations": []}, "names no image"),
    "odd image": ({"id": "a", "annotations": [], "image": "a.png"}, "an 'image' that is not an object"),
    "gone": (item("gone.png"), "names the image 'gone.png'"),
    "other size": (item("a.png", CAT, size=[40, 30]), "30 x 40"),
    "zero size": (item("a.png", CAT, size=[0, 0]), "an image of 0 x 0 pixels"),
    "text size": (item("a.png", CAT, size="30x40"), "the size '30x40'"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_items_that_cannot_be_read(case, tmp_path, capsys):
    entry, words = BAD_ITEMS[case]
    source = write(tmp_path / "set", items=[entry])
    assert words in refused(tmp_path, capsys, source, "datumaro")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"items": [', "is not valid json"),
        ("[]", "holds a list and not an object"),
        ('{"items": {}, "categories": {}}', "has no list 'items'"),
        ('{"items": [], "categories": {"label": {"labels": 3}}}', "has no list of labels"),
        ('{"items": [], "categories": {"label": {"labels": [{"name": 3}]}}}', "has the label 3"),
        ('{"items": [], "categories": {}}', "holds no images"),
    ],
)
def test_files_that_cannot_be_read(text, words, tmp_path, capsys):
    source = write(tmp_path / "set")
    (source / "annotations" / "default.json").write_text(text)
    assert words in refused(tmp_path, capsys, source / "annotations" / "default.json", "datumaro")
    assert "Traceback" not in refused(tmp_path, capsys, source, "datumaro")
