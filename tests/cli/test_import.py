"""Annotations of other tools become the same objects here."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from other_formats import (
    SIZES,
    THINGS,
    labelme_file,
    labelme_mask,
    labelme_shape,
    masks_of,
    pairs,
    rasterise,
    save_palette,
    via_entries,
    via_polygon,
    via_project,
    via_region,
    voc_palette,
    voc_xml,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.importers.shapes import ellipse
from jaxmaskrcnn.errors import UserError


def run(tmp_path, source, kind, *arguments) -> dict:
    """Imports; returns the json."""
    output = tmp_path / "out" / "set.json"
    shutil.rmtree(output.parent, ignore_errors=True)
    assert command(["import", str(source), f"--format={kind}", f"--output={output}", *arguments]) == 0
    return json.loads(output.read_text())


def refused(tmp_path, capsys, source, kind, *arguments) -> str:
    """What the command says, which writes nothing."""
    output = tmp_path / "out" / "set.json"
    output.unlink(missing_ok=True)
    assert command(["import", str(source), f"--format={kind}", f"--output={output}", *arguments]) == 2
    assert not output.exists()
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.rstrip().endswith((".", ")."))
    return said


def flat(content) -> list[tuple]:
    """Each annotation by the names of its image and its class."""
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [(files[a["image_id"]], names[a["category_id"]], a) for a in content["annotations"]]


def trained_on(tmp_path, images) -> dict[str, list[tuple[str, np.ndarray]]]:
    """What training reads of the json that was written."""
    source = prepare(tmp_path / "out" / "set.json", images, tmp_path / "cache")
    found = {}
    for example in source:
        names = [source.categories[label].name for label in example.labels]
        found[example.file_name] = list(zip(names, example.masks(), strict=True))
        assert example.pixels().shape[:2] == example.size
    return found


def expected(prefix="") -> dict[str, list[tuple[str, np.ndarray]]]:
    return {
        f"{prefix}{name}": [(t.name, rasterise(t.polygons, SIZES[name])) for t in THINGS if t.image == name]
        for name in SIZES
    }


def assert_same(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, things in wanted.items():
        assert [label for label, _ in found[name]] == [label for label, _ in things]
        for (_, a), (_, b) in zip(found[name], things, strict=True):
            np.testing.assert_array_equal(a, b)


def test_labelme_round_trip(tmp_path, capsys):
    folder = write_labelme(tmp_path / "labelme")
    content = run(tmp_path, folder, "labelme")
    assert [(f, n, a["segmentation"]) for f, n, a in flat(content)] == [
        (t.image, t.name, t.polygons) for t in THINGS
    ]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    box = content["annotations"][2]["bbox"]
    assert box == [1, 1, 27, 39] and content["annotations"][2]["area"] == masks_of("b.jpg")[0].sum()
    assert_same(trained_on(tmp_path, folder), expected())
    assert "3 images with 3 objects" in capsys.readouterr().out


def test_labelme_shapes_windows_paths_and_groups(tmp_path, capsys):
    images = write_images(tmp_path / "photos" / "deep")
    folder = tmp_path / "json"
    folder.mkdir()
    patch = np.array([[1, 0, 1], [1, 1, 1]], bool)
    shapes = [
        labelme_shape("box", [[20.0, 12.0], [5.0, 4.0]], "rectangle"),
        labelme_shape("disk", [[20.0, 16.0], [20.0, 26.0]], "circle"),
        labelme_mask(patch, 7, 9, "cell"),
        labelme_mask(patch, 30, 3, "part") | {"group_id": 4},
        labelme_shape("part", [[1.0, 20.0], [9.0, 20.0], [9.0, 30.0]], group=4),
        labelme_shape("other", [[1.0, 1.0], [9.0, 1.0], [9.0, 4.0]], group=4),
        labelme_shape("tip", [[3.0, 3.0]], "point"),
        labelme_shape("tip", [[3.0, 3.0], [5.0, 5.0]], "line"),
        labelme_shape("tip", [[3.0, 3.0], [5.0, 5.0]], "star"),
    ]
    (folder / "a.json").write_text(json.dumps(labelme_file("a.png", shapes, imagePath="..\\deep\\A.PNG")))
    content = run(
        tmp_path, folder, "labelme", f"--images={tmp_path / 'photos'}", "--names=part,tip,box,disk,cell,other"
    )
    assert [c["name"] for c in content["categories"]] == ["part", "tip", "box", "disk", "cell", "other"]
    assert content["images"][0]["file_name"] == "deep/a.png"
    found = dict(trained_on(tmp_path, images.parent)["deep/a.png"])
    assert list(found) == ["box", "disk", "cell", "part", "other"]
    wanted = np.zeros((32, 40), bool)
    wanted[4:12, 5:20] = True
    np.testing.assert_array_equal(found["box"], wanted)
    y, x = np.mgrid[:32, :40] + 0.5
    disk = (x - 20) ** 2 + (y - 16) ** 2
    assert found["disk"][disk < 9.3**2].all() and not found["disk"][disk > 10.8**2].any()
    wanted = np.zeros((32, 40), bool)
    wanted[9:11, 7:10] = patch
    np.testing.assert_array_equal(found["cell"], wanted)
    wanted = rasterise([[1, 20, 9, 20, 9, 30]], (32, 40))
    wanted[3:5, 30:33] |= patch
    np.testing.assert_array_equal(found["part"], wanted)
    said = capsys.readouterr().out
    assert "1 of shape_type 'point', which has no area" in said and "shape_type 'star'" in said
    assert "2 images of" in said and "shape 8 ('tip')" in said


def test_curves_lie_close_to_their_polygons():
    for rx, ry, angle in ((3, 3, 0), (40, 40, 0), (900, 900, 0), (120, 30, 0.6)):
        x, y = np.reshape(ellipse(50, 60, rx, ry, angle), (-1, 2)).T
        for points in ((x, y), ((x + np.roll(x, 1)) / 2, (y + np.roll(y, 1)) / 2)):
            x0, y0 = points[0] - 50, points[1] - 60
            along = x0 * np.cos(angle) + y0 * np.sin(angle)
            across = y0 * np.cos(angle) - x0 * np.sin(angle)
            radius = np.hypot(along / rx, across / ry)
            assert (np.abs(radius - 1) * max(rx, ry)).max() < 0.051


def test_exif_sizes_are_those_of_training(tmp_path):
    """labelme shows the upright image; a tool that does not know EXIF shows the stored one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, (height, width) in {"upright": (20, 10), "stored": (10, 20), "unknown": (None, None)}.items():
        folder = tmp_path / name
        folder.mkdir()
        Image.new("RGB", (20, 10)).save(folder / "a.jpg", exif=exif)
        shape = labelme_shape("x", [[1.0, 1.0], [8.0, 1.0], [8.0, 7.0]])
        data = labelme_file("a.png", [shape], imagePath="a.jpg", imageHeight=height, imageWidth=width)
        (folder / "a.json").write_text(json.dumps(data))
        content = run(tmp_path, folder, "labelme")
        size = (content["images"][0]["height"], content["images"][0]["width"])
        assert size == ((height, width) if height else (20, 10))
        assert trained_on(tmp_path, folder)["a.jpg"][0][1].shape == size


@pytest.mark.parametrize("form", ["project", "annotations", "version 1"])
def test_via_round_trip(form, tmp_path):
    folder = write_images(tmp_path / "via")
    entries = via_entries()
    if form == "version 1":
        for entry in entries.values():
            entry["regions"] = {str(i): region for i, region in enumerate(entry["regions"])}
    (folder / "via.json").write_text(json.dumps(via_project(entries) if form == "project" else entries))
    content = run(tmp_path, folder / "via.json", "via")
    assert [(f, n, a["segmentation"]) for f, n, a in flat(content)] == [
        (t.image, t.name, [polygon]) for t in THINGS for polygon in t.polygons
    ]
    assert len(content["images"]) == 3  # one shows nothing
    assert len(trained_on(tmp_path, folder)["b.jpg"]) == 2


def test_via_shapes_and_attributes(tmp_path, capsys):
    folder = write_images(tmp_path)
    shapes = [
        {"name": "rect", "x": 5, "y": 4, "width": 15, "height": 8},
        {"name": "circle", "cx": 20, "cy": 16, "r": 6},
        {"name": "ellipse", "cx": 20, "cy": 16, "rx": 12, "ry": 5, "theta": np.pi / 2},
        via_polygon([1, 1, 9, 1, 9, 4], "polyline"),
        {"name": "point", "cx": 3, "cy": 3},
    ]
    regions = [via_region(shape, {"kind": {"a": False, "b": True}, "size": 3}) for shape in shapes]
    path = folder / "via.json"
    path.write_text(json.dumps({"x": {"filename": "https://host/dir/a.png", "size": -1, "regions": regions}}))
    said = refused(tmp_path, capsys, path, "via")
    assert "'kind', 'size'; choose one by --class_attribute" in said
    assert "no region attribute 'class'" in refused(tmp_path, capsys, path, "via", "--class_attribute=class")
    content = run(tmp_path, path, "via", "--class_attribute=kind")
    assert [c["name"] for c in content["categories"]] == ["b"]
    masks = [mask for _, mask in trained_on(tmp_path, folder)["a.png"]]
    wanted = np.zeros((32, 40), bool)
    wanted[4:12, 5:20] = True
    np.testing.assert_array_equal(masks[0], wanted)
    y, x = np.mgrid[:32, :40] + 0.5
    upright = ((x - 20) / 5) ** 2 + ((y - 16) / 12) ** 2  # a quarter of a turn
    assert masks[2][upright < 0.8].all() and not masks[2][upright > 1.25].any()
    assert len(masks) == 4 and "1 of shape 'point'" in capsys.readouterr().out
    assert run(tmp_path, path, "via", "--class_attribute=size")["categories"][0]["name"] == "3"
    assert run(tmp_path, path, "via", "--class_name=thing")["categories"][0]["name"] == "thing"


def test_yolo_round_trip(tmp_path):
    folder = write_yolo(tmp_path / "yolo")
    content = run(tmp_path, folder, "yolo-seg")
    assert content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    wanted = [(f"train/{t.image}", t.name, polygon) for t in THINGS for polygon in t.polygons]
    assert len(flat(content)) == len(wanted)
    for (file, name, found), (wanted_file, wanted_name, polygon) in zip(flat(content), wanted, strict=True):
        assert (file, name) == (wanted_file, wanted_name)
        assert found["segmentation"] == [polygon]
    trained = trained_on(tmp_path, folder / "images")
    np.testing.assert_array_equal(trained["train/a.png"][0][1], masks_of("a.png")[0])
    assert trained["train/c.png"] == []
    # The folder of the labels alone, and names in the place of the yaml's.
    part = run(tmp_path, folder / "labels" / "train", "yolo-seg", "--names=hound,tiger")
    assert [(f, n) for f, n, _ in flat(part)][:2] == [("a.png", "tiger"), ("a.png", "hound")]


def test_voc_round_trip(tmp_path):
    folder, left = write_voc(tmp_path / "voc")
    content = run(tmp_path, folder, "voc")
    assert len(content["categories"]) == 20 and content["categories"][7]["name"] == "cat"
    wanted = {
        name: [(t.name, mask) for t, mask in zip([t for t in THINGS if t.image == name], masks, strict=True)]
        for name, masks in left.items()
    }
    assert_same(trained_on(tmp_path, folder / "JPEGImages"), wanted)
    # The xml's box holds the border too.
    rows = np.flatnonzero(masks_of("a.png")[1].any(1))
    assert content["annotations"][1]["bbox"] == [22, rows[0], 16, rows[-1] + 1 - rows[0]]
    assert {f for f, _, _ in flat(run(tmp_path, folder, "voc", "--split=train"))} == {"a.png", "b.jpg"}
    assert len(json.loads((tmp_path / "out" / "set.json").read_text())["images"]) == 2


def test_voc_without_xml_without_classes_and_in_colours(tmp_path, capsys):
    folder, left = write_voc(tmp_path / "voc")
    by_classes = flat(run(tmp_path, folder, "voc"))
    shutil.move(folder / "SegmentationClass", tmp_path / "classes")
    by_xml = flat(run(tmp_path, folder, "voc"))
    assert [(f, n, a["bbox"]) for f, n, a in by_xml] == [(f, n, a["bbox"]) for f, n, a in by_classes]
    shutil.move(folder / "Annotations", tmp_path / "xml")
    assert "object 1 has no class" in refused(tmp_path, capsys, folder, "voc")
    shutil.move(tmp_path / "classes", folder / "SegmentationClass")
    found = flat(run(tmp_path, folder, "voc"))
    assert [n for _, n, _ in found] == ["cat", "dog", "cat"]
    columns = np.flatnonzero(left["a.png"][1].any(0))
    assert found[1][2]["bbox"][0] == columns[0] and found[1][2]["bbox"][2] == len(columns)
    # CVAT's: colours of its own in the classes, those of VOC's palette in the objects.
    palette = np.reshape(voc_palette(), (256, 3)).astype(np.uint8)
    swapped = palette[:, ::-1].copy()
    swapped[255] = palette[255]  # borders
    for kind, recolour in (("Object", palette), ("Class", swapped)):
        for path in (folder / f"Segmentation{kind}").glob("*.png"):
            Image.fromarray(recolour[np.asarray(Image.open(path))]).save(path)
    rows = [
        f"{n}:{','.join(map(str, palette[i][::-1]))}::"
        for i, n in ((0, "background"), (12, "Hund"), (8, "Katze"))
    ]
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(rows) + "\n")
    content = run(tmp_path, folder, "voc")
    assert content["categories"] == [{"id": 1, "name": "Hund"}, {"id": 2, "name": "Katze"}]
    assert [n for _, n, _ in flat(content)] == ["Katze", "Hund", "Katze"]
    assert [a["segmentation"] for _, _, a in flat(content)] == [a["segmentation"] for _, _, a in found]


@pytest.mark.parametrize("form", ["L", "I;16", "RGB"])
def test_masks_with_a_value_an_object(form, tmp_path):
    images = write_images(tmp_path / "images")
    folder = tmp_path / "masks"
    folder.mkdir()
    for name, size in SIZES.items():
        values = np.zeros(size, np.int64)
        for i, mask in enumerate(masks_of(name)):
            values[mask] = 3 + 5 * i if form == "L" else 300 + 500 * i
        stored = {
            "L": values.astype(np.uint8),
            "I;16": values.astype(np.uint16),
            "RGB": np.stack([values % 256, values // 256, values * 0], -1).astype(np.uint8),
        }[form]
        Image.fromarray(stored).save(folder / f"{Path(name).stem}_mask.png")
    content = run(tmp_path, folder, "masks", f"--images={images}", "--class_name=cell")
    assert content["categories"] == [{"id": 1, "name": "cell"}] and len(content["images"]) == 3
    wanted = {name: [("cell", mask) for mask in masks_of(name)] for name in SIZES}
    assert_same(trained_on(tmp_path, images), wanted)


def test_masks_in_a_folder_for_each_image(tmp_path, capsys):
    """As in the Data Science Bowl 2018; file names give the class, or none."""
    folder = tmp_path / "stage1"
    for name in ("a.png", "b.jpg"):
        stem = Path(name).stem
        (folder / stem / "masks").mkdir(parents=True)
        write_images(tmp_path / "all")
        (folder / stem / "images").mkdir()
        shutil.copy(tmp_path / "all" / name, folder / stem / "images")
        for i, (thing, mask) in enumerate(
            zip([t for t in THINGS if t.image == name], masks_of(name), strict=True)
        ):
            values = np.where(mask, 255, 100 * i).astype(np.uint8) if stem == "a" else mask
            Image.fromarray(values).save(folder / stem / "masks" / f"{thing.name}_{i}.png")
    run(tmp_path, folder, "masks")
    assert "not annotated" not in capsys.readouterr().out
    wanted = {f"{Path(n).stem}/images/{n}": expected()[n] for n in ("a.png", "b.jpg")}
    assert_same(trained_on(tmp_path, folder), wanted)
    content = run(tmp_path, folder, "masks", "--class_name=nucleus")
    assert [n for _, n, _ in flat(content)] == ["nucleus"] * 3
    for i in range(30):
        Image.fromarray(masks_of("a.png")[0]).save(folder / "a" / "masks" / f"{i:x}{i}f.png")
    assert "name the class of all with --class_name" in refused(tmp_path, capsys, folder, "masks")


def test_a_picture_with_a_single_value_is_pointed_out(tmp_path, capsys):
    images = write_images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    Image.fromarray(masks_of("a.png")[0]).save(tmp_path / "masks" / "a.png")
    run(tmp_path, tmp_path / "masks", "masks", f"--images={images}", "--class_name=cell")
    said = capsys.readouterr().out
    assert "1 of 1 pictures have a single value" in said and "2 images of" in said


# -- what is wrong with a source, and the words of the sentence that says so


def labelme_case(change):
    def make(folder):
        write_labelme(folder)
        path = folder / "a.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return folder

    return make


def text_case(write, name, text):
    def make(folder):
        source = write(folder)
        (source[0] if isinstance(source, tuple) else source).joinpath(name).write_text(text)
        return folder

    return make


def via_case(change):
    def make(folder):
        write_images(folder)
        entries = via_entries()
        change(entries)
        (folder / "via.json").write_text(json.dumps(entries))
        return folder / "via.json"

    return make


def yolo_line(line):
    return text_case(write_yolo, "labels/train/a.txt", f"1 0.1 0.1 0.5 0.5 0.1 0.5\n{line}\n")


def shape0(**changes):
    return labelme_case(lambda content: content["shapes"][0].update(changes))


def region0(**changes):
    return via_case(lambda entries: entries["a.png1234"]["regions"][0]["shape_attributes"].update(changes))


def voc_case(change):
    def make(folder):
        write_voc(folder)
        change(folder)
        return folder

    return make


BAD = {
    "no json": ("labelme", text_case(write_labelme, "a.json", "{"), r"a.json is not valid json"),
    "no labelme json": ("labelme", text_case(write_labelme, "a.json", "{}"), "a.json has no list 'shapes'"),
    "list": ("labelme", text_case(write_labelme, "a.json", "[]"), "a.json holds a list"),
    "image path": ("labelme", labelme_case(lambda c: c.pop("imagePath")), "a.json has the imagePath None"),
    "lost image": (
        "labelme",
        labelme_case(lambda c: c.update(imagePath="C:\\x\\gone.png")),
        r"a.json names the image 'C:\\\\x\\\\gone.png', which is not in",
    ),
    "other size": ("labelme", labelme_case(lambda c: c.update(imageHeight=99)), "a.json: the image .* x 99"),
    "same image": (
        "labelme",
        labelme_case(lambda c: c.update(imagePath="c.png", imageHeight=None, imageWidth=None)),
        "c.png, as is .*a.json",
    ),
    "two points": (
        "labelme", shape0(points=[[1, 1], [2, 2]]), r"a.json: shape 0 \('cat'\) has a polygon of 2 points",
    ),
    "text point": ("labelme", shape0(points=[[1, "1"]]), r"shape 0 \('cat'\) has the coordinate '1'"),
    "flat points": ("labelme", shape0(points=[1, 2, 3, 4]), "has no list 'points'"),
    "no label": ("labelme", shape0(label=None), "has the class None"),
    "three corners": ("labelme", shape0(shape_type="circle"), "is a circle of 3 points and not of 2"),
    "no mask": ("labelme", shape0(shape_type="mask", points=[[1, 1], [2, 2]]), "'mask' that is not a PNG"),
    "not VIA's": ("via", via_case(lambda e: e.update(x={})), "without 'filename' or 'regions'"),
    "no class": (
        "via",
        via_case(lambda e: e["a.png1234"]["regions"][0].update(region_attributes={})),
        "via.json: region 0 of a.png has no value of 'class'",
    ),
    "uneven points": ("via", region0(all_points_x=[1]), "region 0 of a.png has not as many all_points_x"),
    "text radius": ("via", region0(name="circle", cx=1, cy=1, r="2"), "region 0 of a.png has r '2'"),
    "box line": ("yolo-seg", yolo_line("0 0.5 0.5 0.2 0.2"), "a.txt: line 2 is a box"),
    "pixels": ("yolo-seg", yolo_line("0 20 20 30 30 20 30"), "a.txt: line 2 .* not between 0 and 1"),
    "odd line": ("yolo-seg", yolo_line("0 .1 .1 .5 .5 .1"), "a.txt: line 2 has 5 coordinates"),
    "words": ("yolo-seg", yolo_line("dog .1 .1 .5 .5 .1 .5"), "line 2 holds text that is not a number"),
    "seventh class": ("yolo-seg", yolo_line("7 .1 .1 .5 .5 .1 .5"), "the class 7, and there are 2"),
    "NaN class": ("yolo-seg", yolo_line("nan .1 .1 .5 .5 .1 .5"), "line 2 has the class nan"),
    "no image": (
        "yolo-seg", text_case(write_yolo, "labels/train/z.txt", ""), "z.txt has no image of its name",
    ),
    "bad yaml": ("yolo-seg", text_case(write_yolo, "data.yaml", "names: [a"), "data.yaml is not valid yaml"),
    "yaml without names": ("yolo-seg", text_case(write_yolo, "data.yaml", "a: 1"), "data.yaml has 'names'"),
    "no objects": (
        "voc", voc_case(lambda f: shutil.rmtree(f / "SegmentationObject")), "no folder SegmentationObject",
    ),
    "class beyond": (
        "voc",
        voc_case(lambda f: save_palette(np.full((32, 40), 99), f / "SegmentationClass" / "a.png")),
        "a.png: object 1 has the class 99",
    ),
    "smaller classes": (
        "voc",
        voc_case(lambda f: save_palette(np.full((8, 8), 1), f / "SegmentationClass" / "a.png")),
        "a.png is 8 x 8 pixels and SegmentationObject 40 x 32",
    ),
    "bad xml": ("voc", text_case(write_voc, "Annotations/a.xml", "<a>"), "a.xml is not valid xml"),
    "bad bndbox": (
        "voc",
        text_case(write_voc, "Annotations/a.xml", voc_xml("a.png", [("cat", (1, 2, 3, "x"))])),
        "a.xml: object 1 has the bndbox",
    ),
    "no masks": ("masks", lambda folder: folder, "holds neither mask pictures"),
    "no class name": ("masks", write_images, "give it with --class_name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    kind, make, words = BAD[case]
    (tmp_path / "source").mkdir()
    source = make(tmp_path / "source")
    said = refused(tmp_path, capsys, source, kind)
    assert re.search(words, said), said
    assert str(source) in said


def test_all_problems_are_listed_or_left_out(tmp_path, capsys):
    folder = write_labelme(tmp_path / "labelme")
    for name in ("a", "b"):
        content = json.loads((folder / f"{name}.json").read_text())
        content["shapes"][0]["points"] = [[1, 1], [2, 2]]
        (folder / f"{name}.json").write_text(json.dumps(content))
    said = refused(tmp_path, capsys, folder, "labelme")
    assert "a.json: shape 0" in said and "b.json: shape 0" in said and "these 2 problems" in said
    content = run(tmp_path, folder, "labelme", "--on_error=skip")
    assert [(f, n) for f, n, _ in flat(content)] == [("a.png", "dog")] and len(content["images"]) == 3
    assert capsys.readouterr().err.count("left out: ") == 2


def test_settings_that_do_not_fit(tmp_path, capsys):
    folder = write_labelme(tmp_path / "labelme")
    for arguments, words in (
        (["--class_name=x"], "--class_name has no effect with the format labelme"),
        (["--names=a,a"], "--names has 'a' twice"),
        (["--names=a,,b"], "--names has an empty name"),
        (["--names=cat"], r"shape 0 ('dog') has the class 'dog', which is not among the names"),
        (["--images=nowhere"], "image folder nowhere does not exist"),
    ):
        if "dog" in words:
            words = "('dog') has the class 'dog', which is not among the names"
        assert words in refused(tmp_path, capsys, folder, "labelme", *arguments)
    assert "does not exist" in refused(tmp_path, capsys, tmp_path / "none", "labelme")
    assert command(["import", str(folder), "--format=labelme", f"--output={folder}"]) == 2
    assert (
        command(["import", str(folder / "a.json"), "--format=labelme", f"--output={folder / 'a.json'}"]) == 2
    )
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    content = run(tmp_path, folder, "labelme", f"--names={tmp_path / 'names.txt'}")
    assert [c["name"] for c in content["categories"]] == ["dog", "cat"]


def test_what_is_coco_already_is_told(tmp_path, capsys):
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert "set.json is in COCO's format already; use it" in refused(tmp_path, capsys, path, "labelme")


def test_the_output_may_lie_among_the_sources(tmp_path):
    folder = write_labelme(tmp_path / "labelme")
    output = folder / "set.json"
    for _ in range(2):
        assert command(["import", str(folder), "--format=labelme", f"--output={output}"]) == 0
        assert len(json.loads(output.read_text())["annotations"]) == 3


def test_finding_images(tmp_path):
    for name in ("one/a.png", "two/A.png", "two/b.v1.png", "two/b.png", "c.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    folder = ImageFolder(tmp_path)

    def find(name, near=None):
        return folder.relative(folder.find(name, "x.json", near))

    assert find("one/a.png") == "one/a.png" and find("one\\a.png") == "one/a.png"
    assert find("..\\one\\a.png", tmp_path / "two") == "one/a.png"
    assert find("A.png", tmp_path / "two") == "two/A.png"
    assert find("C:\\data\\c.jpeg") == "c.jpeg" and find("/home/me/C.JPEG") == "c.jpeg"
    assert find("c.png") == "c.jpeg" and find("b.v1") == "two/b.v1.png" and find("b") == "two/b.png"
    with pytest.raises(UserError, match=r"has 2 such files \(.*one/a.png, .*two/A.png\)"):
        find("a.png")
    # Another folder's file of this name is another image, and so is one of another kind elsewhere.
    with pytest.raises(UserError, match=r"'data/a.png', which is not in .*one/a.png is another path"):
        find("data/a.png")
    with pytest.raises(UserError, match=r"'b.jpg', which is not in .*two/b.png is another path"):
        find("b.jpg")
    with pytest.raises(UserError, match="x.json names the image 'b.v2', which is not in"):
        find("b.v2")
    with pytest.raises(UserError, match="names no image"):
        find("")
    assert pairs([1, 2, 3, 4]) == [[1, 2], [3, 4]]
