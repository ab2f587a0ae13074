"""A project of Supervisely becomes the objects that Supervisely shows."""

import base64
import io
import json
import shutil
import tracemalloc
import zlib

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_cvat import drawn, nearly
from cli.test_import_layouts import masks, photograph, values
from PIL import Image

from jaxmaskrcnn.cli.main import main as command


def figure(kind, title="cat", exterior=(), interior=(), **more):
    points = {"exterior": list(map(list, exterior)), "interior": list(interior)}
    return {"id": 1, "classTitle": title, "geometryType": kind, "tags": [], "points": points} | more


def png(array, mode="P"):
    """A PNG of a mask, as the SDK writes it (in a palette, 0 is transparent) or as others do."""
    file = io.BytesIO()
    if mode == "P":
        image = Image.fromarray(array.astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(file, "PNG", transparency=0)
    elif mode == "RGBA":
        Image.fromarray(np.stack([array * 0 + 255] * 3 + [array * 255], -1).astype(np.uint8)).save(
            file, "PNG"
        )
    else:
        Image.fromarray(array if mode == "1" else array.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


def bitmap(array, x, y, title="cat", mode="P", packed=True):
    data = png(np.asarray(array), mode)
    text = base64.b64encode(zlib.compress(data) if packed else data).decode()
    return figure("bitmap", title, points=None, bitmap={"data": text, "origin": [x, y]})


RECTANGLE = figure("rectangle", exterior=[[2, 3], [11, 8]])  # the last pixels belong to it
IN_RECTANGLE = values((1, 2, 3, 12, 9)) > 0


def write(folder, *objects, dataset="ds0", name="a.png", meta=("dog", "cat"), **changes):
    photograph(folder / dataset / "img" / name)
    if meta is not None:
        classes = [{"title": title, "shape": "any", "color": "#ff0000"} for title in meta]
        (folder / "meta.json").write_text(
            json.dumps({"classes": classes, "tags": [], "projectType": "images"})
        )
    path = folder / dataset / "ann" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"description": "", "tags": [], "size": {"height": 30, "width": 40}, "objects": list(objects)}
    path.write_text(json.dumps(content | changes))
    return folder


def one(tmp_path, *objects):
    (found,) = masks(run(tmp_path, write(tmp_path / "set", *objects), "supervisely")).values()
    assert len(found) == 1
    return found[0]


def test_rectangles(tmp_path):
    np.testing.assert_array_equal(one(tmp_path, RECTANGLE), IN_RECTANGLE)
    corners = [[11, 8], [2, 3]]
    np.testing.assert_array_equal(one(tmp_path, figure("rectangle", exterior=corners)), IN_RECTANGLE)
    corners = [[2.0, 3.0], [12.0, 9.4]]  # with a fraction, they are places in the image
    np.testing.assert_array_equal(one(tmp_path, figure("rectangle", exterior=corners)), IN_RECTANGLE)
    whole = one(tmp_path, figure("rectangle", exterior=[[0, 0], [39, 29]]))
    np.testing.assert_array_equal(whole, np.ones((30, 40)))


OUTER, HOLE = [[4, 3], [33, 5], [30, 26], [6, 24]], [[12, 9], [25, 10], [20, 18]]


@pytest.mark.parametrize("shift", [0, 0.25])
@pytest.mark.parametrize("holes", [0, 1, 2])
def test_polygons_and_their_holes(holes, shift, tmp_path):
    rings = [OUTER, HOLE, [[26, 19], [29, 19], [29, 23], [26, 23]]][: holes + 1]
    rings = [[[x + shift, y + shift] for x, y in ring] for ring in rings]
    found = one(tmp_path, figure("polygon", exterior=rings[0], interior=rings[1:]))
    middle = 0 if shift else 0.5  # whole numbers are pixels

    def draw(d, scale):
        for i, ring in enumerate(rings):
            d.polygon([(scale * (x + middle), scale * (y + middle)) for x, y in ring], fill=int(i == 0))

    wanted = drawn(draw)
    assert nearly(found, wanted)
    assert found[15, 18] == (holes < 1) and found[21, 27] == (holes < 2)
    content = json.loads((tmp_path / "out" / "set.json").read_text())
    assert isinstance(content["annotations"][0]["segmentation"], dict if holes else list)
    assert content["annotations"][0]["area"] == found.sum()


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "1"])
@pytest.mark.parametrize("packed", [True, False])
def test_bitmaps(mode, packed, tmp_path):
    inside = np.random.default_rng(3).random((9, 13)) > 0.4
    wanted = np.zeros((30, 40), bool)
    wanted[5:14, 20:33] = inside
    np.testing.assert_array_equal(one(tmp_path, bitmap(inside, 20, 5, mode=mode, packed=packed)), wanted)
    corner = one(tmp_path, bitmap(np.ones((2, 3), bool), 37, 28, mode=mode, packed=packed))
    np.testing.assert_array_equal(corner, values((1, 37, 28, 40, 30)) > 0)


def test_what_has_no_area_is_counted(tmp_path, capsys):
    kinds = ("point", "line", "graph", "cuboid")
    one(tmp_path, RECTANGLE, *(figure(kind, exterior=[[1, 1]]) for kind in kinds), figure("oriented_bbox"))
    said = capsys.readouterr().out
    assert all(f"1 of geometryType '{kind}', which has no area" in said for kind in kinds)
    assert "1 figures of geometryTypes that are not known are passed over" in said


def test_files_of_older_versions(tmp_path):
    """No geometryType, but a shape for each class; annotations named without the image's suffix."""
    source = write(tmp_path / "set", RECTANGLE | {"geometryType": None}, bitmap([[True]], 20, 5, "dog"))
    meta = {
        "classes": [{"title": "cat", "shape": "rectangle"}, {"title": "dog", "shape": "bitmap"}],
        "tags": [],
    }
    (source / "meta.json").write_text(json.dumps(meta))
    annotations = source / "ds0" / "ann"
    (annotations / "a.png.json").rename(annotations / "a.json")
    content = run(tmp_path, source, "supervisely")
    np.testing.assert_array_equal(masks(content)["ds0/img/a.png", "cat"], [IN_RECTANGLE])
    assert masks(content)["ds0/img/a.png", "dog"][0].sum() == 1


def test_classes(tmp_path, capsys):
    source = write(tmp_path / "set", RECTANGLE, bitmap([[True]], 20, 5, "dog"), meta=("dog", "owl", "cat"))
    content = run(tmp_path, source, "supervisely")
    assert [c["name"] for c in content["categories"]] == ["dog", "owl", "cat"]
    content = run(tmp_path, source, "supervisely", "--names=cat,dog")
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    content = run(tmp_path, source, "supervisely", "--class_name=thing")
    assert [label for _, label, _ in flat(content)] == ["thing", "thing"]
    content = run(tmp_path, source / "ds0", "supervisely")  # the meta.json is above it
    assert [c["name"] for c in content["categories"]] == ["dog", "owl", "cat"]
    assert [i["file_name"] for i in content["images"]] == ["img/a.png"]
    (source / "meta.json").unlink()
    content = run(tmp_path, source, "supervisely")
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    write(tmp_path / "set", RECTANGLE, meta=("dog",))
    assert "'cat', which is not among the names" in refused(tmp_path, capsys, source, "supervisely")


def test_datasets(tmp_path, capsys):
    """Images of one name in each; parts only if all are called so."""
    root = tmp_path / "set"
    for i, dataset in enumerate(("train", "val")):
        write(root, figure("rectangle", exterior=[[i, 0], [9, 9]]), dataset=dataset)
    output = tmp_path / "out" / "set.json"
    assert command(["import", str(root), "--format=supervisely", f"--output={output}"]) == 0
    for i, (part, folder) in enumerate((("train", "train"), ("val", "val"))):
        found = masks(json.loads((output.parent / f"set_{part}.json").read_text()))
        np.testing.assert_array_equal(found[f"{folder}/img/a.png", "cat"], [values((1, i, 0, 10, 10)) > 0])
    shutil.rmtree(output.parent)
    content = run(tmp_path, root, "supervisely", "--split=val")
    assert [i["file_name"] for i in content["images"]] == ["val/img/a.png"]
    write(root, dataset="night")
    content = run(tmp_path, root, "supervisely")
    assert len(content["images"]) == 3
    assert "has no part 'val'" in refused(tmp_path, capsys, root, "supervisely", "--split=val")
    write(root, RECTANGLE, dataset="night/datasets/rain", name="b.jpg")  # a dataset in a dataset
    content = run(tmp_path, root, "supervisely")
    assert len(content["images"]) == 4


def broken(text, origin=(0, 0)):
    return figure("bitmap", bitmap={"data": text, "origin": list(origin)})


def bomb():
    """A few kB that become 64 MB."""
    packing = zlib.compressobj(9)
    data = b"".join(packing.compress(bytes(1 << 20)) for _ in range(64)) + packing.flush()
    return base64.b64encode(data).decode()


def test_bitmaps_are_not_unpacked_beyond_their_image(tmp_path, capsys):
    source = write(tmp_path / "set", broken(bomb()))
    tracemalloc.start()
    refused(tmp_path, capsys, source, "supervisely")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


BAD = {
    "far": (figure("polygon", exterior=[[0, 0], [1e9, 0], [1e9, 1e9]]), "coordinate 1e+09, which lies far"),
    "far hole": (figure("polygon", exterior=OUTER, interior=[[[0, 0], [1e9, 0], [5, 5]]]), "1e+09, which"),
    "hole of two": (figure("polygon", exterior=OUTER, interior=[[[0, 0], [5, 5]]]), "polygon of 2 points"),
    "odd holes": (figure("polygon", points={"exterior": OUTER, "interior": 5}), "'interior' that is no list"),
    "odd hole": (figure("polygon", exterior=OUTER, interior=[5]), "no list of points, each x and y"),
    "two points": (figure("polygon", exterior=[[0, 0], [5, 5]]), "polygon of 2 points"),
    "no points": (figure("polygon", points=None), "has no 'points'"),
    "NaN": (figure("polygon", exterior=[[float("nan"), 0], [5, 5], [0, 5]]), "the coordinate nan"),
    "text": (figure("polygon", exterior=[["1", 0], [5, 5], [0, 5]]), "the coordinate '1'"),
    "one corner": (figure("rectangle", exterior=[[1, 1]]), "a rectangle of 1 points and not of 2"),
    "outside": (figure("rectangle", exterior=[[50, 50], [60, 60]]), "outside of its 40 x 30 image"),
    "no bitmap": (figure("bitmap", bitmap=None), "the origin None"),
    "no origin": (broken("", "ab"), "the origin ['a', 'b']"),
    "no base64": (broken("%%%"), "is no PNG in zlib and base64"),
    "no zlib": (broken(base64.b64encode(b"abc").decode()), "is no PNG in zlib"),
    "no PNG": (broken(base64.b64encode(zlib.compress(b"abc")).decode()), "is no PNG in zlib"),
    "cut PNG": (broken(base64.b64encode(zlib.compress(png(np.eye(9) > 0)[:-30])).decode()), "is no PNG"),
    "number": (broken(5), "is no PNG in zlib"),
    "bomb": (broken(bomb()), "is no PNG in zlib"),
    "beyond": (bitmap(np.ones((4, 4), bool), 38, 2), "reaches beyond its image of 40 x 30"),
    "before": (bitmap(np.ones((4, 4), bool), -1, 2), "reaches beyond its image"),
    "far away": (bitmap(np.ones((4, 4), bool), 10**9, 2), "reaches beyond its image"),
    "empty": (bitmap(np.zeros((4, 4), bool), 1, 2), "width 0"),
    "no title": (RECTANGLE | {"classTitle": None}, "has the class None"),
    "list": ([1], "is not an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_sentence(case, tmp_path, capsys):
    item, words = BAD[case]
    source = write(tmp_path / "set", item, RECTANGLE)
    said = refused(tmp_path, capsys, source, "supervisely")
    assert words in said and "a.png.json: object 0" in said
    content = run(tmp_path, source, "supervisely", "--on_error=skip")
    np.testing.assert_array_equal(masks(content)["ds0/img/a.png", "cat"], [IN_RECTANGLE])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objects": 3}, "no list 'objects'"),
        ({"size": None}, "no list 'objects' and no 'size'"),
        ({"size": {"height": 0, "width": 0}}, "an image of 0 x 0 pixels"),
        ({"size": {"height": 40, "width": 30}}, "40 x 30"),
        ({"size": {"height": "x", "width": 40}}, "an image of 40 x 'x' pixels"),
    ],
)
def test_files_that_cannot_be_read(changes, words, tmp_path, capsys):
    assert words in refused(tmp_path, capsys, write(tmp_path / "set", **changes), "supervisely")


def test_folders_that_cannot_be_read(tmp_path, capsys):
    source = write(tmp_path / "set", RECTANGLE)
    assert "is not a folder" in refused(tmp_path, capsys, source / "meta.json", "supervisely")
    assert "holds no folder 'ann'" in refused(tmp_path, capsys, source / "ds0" / "img", "supervisely")
    for text, words in (("{", "is not valid json"), ('{"classes": 3}', "no list 'classes' with a 'title'")):
        (source / "meta.json").write_text(text)
        assert words in refused(tmp_path, capsys, source, "supervisely")
    (source / "meta.json").unlink()
    (source / "ds0" / "img" / "a.png").unlink()
    assert "names the image" in refused(tmp_path, capsys, source, "supervisely")
    (source / "ds0" / "ann" / "a.png.json").write_text("[]")
    assert "holds a list and not an object" in refused(tmp_path, capsys, source, "supervisely")
