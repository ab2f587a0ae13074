"""Exports of Label Studio become the same objects here."""

import base64
import itertools
import json
import math
import re

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph
from PIL import Image, ImageDraw

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data.importers.brush_rle import decode_brush
from jaxmaskrcnn.errors import UserError

WIDTH, HEIGHT = 40, 30
NUMBERS = itertools.count()


def bits_of(values, sizes=(3, 4, 8, 16)):
    """rle-pack of bytes, written from its description: runs of equal values, and stretches of others."""
    text = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(values):
        end = at + 1
        repeats = end < len(values) and values[end] == values[at]
        if repeats:
            while end < len(values) and values[end] == values[at]:
                end += 1
        else:
            while end < len(values) and values[end] != values[end - 1]:
                end += 1
        end = min(end, at + 2 ** sizes[-1])
        kind = next(k for k, size in enumerate(sizes) if end - at <= 2**size)
        text += f"{int(repeats)}{kind:02b}{end - at - 1:0{sizes[kind]}b}"
        text += "".join(f"{v:08b}" for v in (values[at:end][:1] if repeats else values[at:end]))
        at = end
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def brush(mask, colour=(255, 3, 9)):
    """RGBA values of a painted mask, as the editor's canvas has them."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (*colour, 255)
    return bits_of(pixels.reshape(-1).tolist())


def region(kind, value, label="cat", **more):
    base = {"id": f"r{next(NUMBERS)}", "type": kind, "original_width": WIDTH, "original_height": HEIGHT}
    base |= {"image_rotation": 0, "from_name": "label", "to_name": "image"}
    return {**base, "value": {**value, kind: [label]}, **more}


def percent(points):
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def task(results, image="/data/upload/3/0123abcd-a.png", number=1, **more):
    return {"id": number, "data": {"image": image}, "annotations": [{"id": 1, "result": results}], **more}


def write(folder, tasks, name="a.png"):
    photograph(folder / name, (WIDTH, HEIGHT))
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


TRIANGLE = [[2, 3], [22, 3], [22, 20]]


def drawn(points):
    """Pixels whose centres lie in a convex polygon that is given clockwise."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = np.ones((HEIGHT, WIDTH), bool)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return inside


def alike(a, b, pixels):
    """Whether two masks differ in their borders alone."""
    return np.logical_xor(a, b).sum() <= pixels


def test_shapes_in_percent(tmp_path, capsys):
    angle = 30.0
    turned = [
        (10 + dx * math.cos(math.radians(angle)) - dy * math.sin(math.radians(angle)),
         8 + dx * math.sin(math.radians(angle)) + dy * math.cos(math.radians(angle)))
        for dx, dy in ((0, 0), (20, 0), (20, 6), (0, 6))
    ]  # fmt: skip
    box = {"x": 25, "y": 100 * 8 / 30, "width": 50, "height": 20}
    disk = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 90}
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[4:9, 30:37] = painted[20, 3] = True
    results = [
        region("polygonlabels", {"points": percent(TRIANGLE), "closed": True}, "dog"),
        region("rectanglelabels", {**box, "rotation": 0}),
        region("rectanglelabels", {**box, "rotation": angle}, "turned"),
        region("ellipselabels", disk, "disk"),
        region("brushlabels", {"format": "rle", "rle": brush(painted)}, "paint"),
        region("keypointlabels", {"x": 1, "y": 2, "width": 1}),
        {"id": "c", "type": "choices", "value": {"choices": ["good"]}, "from_name": "c", "to_name": "image"},
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
    ]
    path = write(tmp_path / "set", [task(results)])
    found = masks(run(tmp_path, path, "label-studio"))
    assert alike(found["a.png", "dog"][0], drawn(TRIANGLE), 12)
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[8:14, 10:30] = True
    np.testing.assert_array_equal(found["a.png", "cat"][0], wanted)
    assert alike(found["a.png", "turned"][0], drawn(turned), 12) and found["a.png", "turned"][0][18, 23]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    # A quarter of a turn: 10 pixels, a quarter of the width, go down, and 6 pixels to the side.
    inside = ((x - 20) / 6) ** 2 + ((y - 15) / 10) ** 2
    disk_found = found["a.png", "disk"][0]
    assert disk_found[inside < 0.8].all() and not disk_found[inside > 1.25].any()
    np.testing.assert_array_equal(found["a.png", "paint"][0], painted)
    said = capsys.readouterr().out
    assert "1 of type 'keypointlabels', which has no area" in said
    assert "2 results that are no regions" in said
    assert "1 images are found without what Label Studio puts before their names" in said


@pytest.mark.parametrize("sizes", [(3, 4, 8, 16), (1, 2, 5, 9), (2, 3, 4, 16)])
def test_brush_masks_of_any_run_lengths(sizes):
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = tuple(rng.integers(1, 12, 2).tolist())
        pixels = rng.integers(0, 3, (*size, 4), dtype=np.uint8) * rng.integers(0, 2, (*size, 4), np.uint8)
        data = bits_of(pixels.reshape(-1).tolist(), sizes)
        np.testing.assert_array_equal(decode_brush(data, size, "x"), pixels[..., 3] > 0)


def test_a_mask_of_another_program(tmp_path):
    """As label-studio-converter's `mask2rle` writes it: grey values, four times, and no stretches."""
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).ellipse((5, 5, 30, 20), fill=255)
    values = np.repeat(np.asarray(picture).reshape(-1), 4)
    text = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = [0, *(np.flatnonzero(np.diff(values.astype(int))) + 1).tolist(), len(values)]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        text += f"111{end - start - 1:016b}{values[start]:08b}"
    text += "0" * (8 - len(text) % 8)
    data = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
    np.testing.assert_array_equal(decode_brush(data, (HEIGHT, WIDTH), "x"), np.asarray(picture) > 0)


@pytest.mark.parametrize(
    "rle, words",
    [
        ("text", "not a list of bytes"),
        ([1, 2, 300], "not a list of bytes"),
        ([0] * 4, "not a list of bytes"),
        (brush(np.eye(8) > 0), "256 values and not of 6 x 8 x 4"),
        (brush(np.ones((8, 6), bool))[:-3], "cut off or damaged"),
        ([0, 0, 0, 192, *brush(np.ones((8, 6), bool))[4:8], 255], "cut off or damaged"),
        ([0, 0, 0, 192, *bits_of([1, 2] * 97)[4:]], "cut off or damaged"),
        ([0, 0, 0, 192, 0b01111010, *brush(np.ones((8, 6), bool))[5:]], "16 bits a value"),
    ],
)
def test_damaged_brush_masks(rle, words):
    with pytest.raises(UserError, match=words):
        decode_brush(rle, (8, 6), "x")


def test_the_annotation_that_counts(tmp_path, capsys):
    def one(label, **more):
        return {"result": [region("polygonlabels", {"points": percent(TRIANGLE)}, label)], **more}

    several = {"annotations": [one("skipped", was_cancelled=True), one("first"), one("second")]}
    none = {"annotations": [], "predictions": [one("guess")]}
    cancelled = {"annotations": [one("cancelled", was_cancelled=True)]}
    empty = {"annotations": [{"result": []}]}
    for name in ("b.png", "c.png", "d.png"):
        photograph(tmp_path / "set" / name, (WIDTH, HEIGHT))
    tasks = [
        task([], f"s3://bucket/far/{name}.png", i) | more
        for i, (name, more) in enumerate(
            zip("abcd", (several, none, cancelled, empty), strict=True)
        )
    ]  # fmt: skip
    content = run(tmp_path, write(tmp_path / "set", tasks), "label-studio")
    assert [(f, n) for f, n, _ in flat(content)] == [("a.png", "first")]
    assert [image["file_name"] for image in content["images"]] == ["a.png", "d.png"]
    said = capsys.readouterr().out
    assert "1 tasks have several annotations, of which the first one is read" in said
    assert "2 tasks without an annotation (predictions are none) are left out" in said


@pytest.mark.parametrize(
    "written",
    [
        "/data/upload/3/0123abcd-my_cells_1.png",
        "/data/upload/0123abcd-my_cells_1.png",
        "/data/local-files/?d=photos/my%20cells%20%231.png",
        "/data/local-files/?d=photos/my%20cells%20%231.png&v=2",
        "s3://bucket/photos/my cells #1.png",
        "https://host/photos/my%20cells%20%231.png?X-Amz-Signature=1/2",
        "/tasks/7/presign/?fileuri=" + base64.b64encode(b"gs://bucket/my cells #1.png").decode(),
        "photos\\my cells #1.png",
    ],
)
def test_names_of_images(written, tmp_path):
    tasks = [task([region("polygonlabels", {"points": percent(TRIANGLE)})], written)]
    content = run(tmp_path, write(tmp_path / "set", tasks, "photos/my cells #1.png"), "label-studio")
    assert [image["file_name"] for image in content["images"]] == ["photos/my cells #1.png"]


def test_an_upload_that_keeps_its_whole_name(tmp_path):
    """The files of the upload folder itself; the shorter name is another picture."""
    photograph(tmp_path / "set" / "0123abcd-a.png", (WIDTH, HEIGHT), seed=1)
    tasks = [task([region("polygonlabels", {"points": percent(TRIANGLE)})])]
    content = run(tmp_path, write(tmp_path / "set", tasks), "label-studio")
    assert [image["file_name"] for image in content["images"]] == ["0123abcd-a.png"]


def test_classes_apart_from_their_regions_and_short_exports(tmp_path, capsys):
    value = {"points": percent(TRIANGLE)}
    apart = [
        {"id": "x", "type": "polygon", "value": value, "original_width": WIDTH, "original_height": HEIGHT},
        {"id": "x", "type": "labels", "value": {**value, "labels": ["cat"]}},
    ]
    path = write(tmp_path / "set", [task(apart)])
    assert [n for _, n, _ in flat(run(tmp_path, path, "label-studio"))] == ["cat"]
    short = {**value, "polygonlabels": ["cat"], "original_width": WIDTH, "original_height": HEIGHT}
    box = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]}
    entry = {"id": 1, "image": "/data/upload/1/0123abcd-a.png", "annotator": 1, "annotation_id": 1}
    path.write_text(json.dumps([{**entry, "label": [short], "box": [box]}, {**entry, "label": []}]))
    assert sorted(n for _, n, _ in flat(run(tmp_path, path, "label-studio"))) == ["cat", "dog"]
    assert "1 further annotations of tasks are left out" in capsys.readouterr().out
    # One annotation a file, as Label Studio writes them into a cloud's storage.
    whole = task(apart)
    annotation = {"id": 5, **whole.pop("annotations")[0], "task": whole}
    path.write_text(json.dumps(annotation))
    assert [n for _, n, _ in flat(run(tmp_path, path.parent, "label-studio"))] == ["cat"]


def test_one_class_for_regions_without_labels(tmp_path):
    """As the controls Brush and Polygon make them."""
    apart = {"id": "x", "type": "brush", "value": {"format": "rle", "rle": brush(drawn(TRIANGLE))}}
    both = [apart, region("polygonlabels", {"points": percent(TRIANGLE)}, "cat")]
    path = write(tmp_path / "set", [task(both)])
    content = run(tmp_path, path, "label-studio", "--class_name=cell")
    assert [n for _, n, _ in flat(content)] == ["cell", "cell"]
    np.testing.assert_array_equal(masks(content)["a.png", "cell"][0], drawn(TRIANGLE))


def test_two_regions_of_one_id_are_two_objects(tmp_path):
    """As scripts write them that copy regions."""
    results = [
        region("polygonlabels", {"points": percent(TRIANGLE)}, "cat", id="x"),
        region("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 50}, "dog", id="x"),
    ]
    path = write(tmp_path / "set", [task(results)])
    assert [n for _, n, _ in flat(run(tmp_path, path, "label-studio"))] == ["cat", "dog"]


def test_halves_of_characters_are_shown(tmp_path, capsys):
    """json can hold them, and no terminal can."""
    entry = task([{"type": "choices", "value": {}}, *polygons()[0]["annotations"][0]["result"]])
    run(tmp_path, write(tmp_path / "set", [entry | {"id": "a\ud800"}]), "label-studio")
    assert "first: " in (said := capsys.readouterr().out) and "task a\\ud800" in said


def test_parts_by_fraction_and_names(tmp_path):
    tasks = []
    for i in range(5):
        photograph(tmp_path / "set" / f"{i}.png", (WIDTH, HEIGHT))
        tasks.append(
            task([region("polygonlabels", {"points": percent(TRIANGLE)})], f"/data/upload/1/{i}.png")
        )
    path = write(tmp_path / "set", tasks)
    arguments = ["import", str(path), "--format=label-studio", f"--output={tmp_path / 'x.json'}"]
    assert main([*arguments, "--split=0.8,0.2", "--names=dog,cat"]) == 0
    parts = [json.loads((tmp_path / f"x_{part}.json").read_text()) for part in ("train", "val")]
    assert [len(part["images"]) for part in parts] == [4, 1]
    assert [c["name"] for c in parts[1]["categories"]] == ["dog", "cat"]


def polygons(**changes):
    value = {"points": percent(TRIANGLE)} | changes.pop("value", {})
    return [task([region("polygonlabels", value, **changes)])]


BAD = {
    "a mapping": ({"a": 1}, "task 0 has no list 'annotations'|names no image"),
    "a number": (3, "holds a int"),
    "a list of numbers": ([3], "task 0 is not an object"),
    "no result": ([{"id": 4, "data": {"image": "a.png"}, "annotations": [{}]}], "task 4 .* list 'result'"),
    "bad result": ([task([3])], "task 1 has a result that is not an object"),
    "no image": ([task([], "gone.png")], "names the image 'gone.png', which is not in"),
    "no address": ([task([], "http://[::1/b")], "names the image 'http://.::1/b', which is not in"),
    "no image named": ([{"data": {"text": "hi"}, "annotations": [{"result": []}]}], "names no image"),
    "two images": (
        [{"data": {"left": "a.png", "right": "b.png"}, "annotations": [{"result": []}]}], "several images",
    ),
    "turned": (polygons(image_rotation=90), "turned by 90 degrees"),
    "another size": (polygons(original_width=41), "the image .* 40 x 30 .* 41 x 30|41 x 30"),
    "size 0": (polygons(original_width=0), "an image of 0 x 30"),
    "size as text": (polygons(original_width="x"), "an image of 'x' x 30 pixels"),
    "two sizes": (
        [task([*polygons()[0]["annotations"][0]["result"],
               region("polygonlabels", {"points": []}, original_width=20)])],
        "different sizes",
    ),
    "two classes": ([task([
        {**region("polygonlabels", {"points": percent(TRIANGLE)}), "value":
         {"points": percent(TRIANGLE), "polygonlabels": ["a", "b"]}}])], "the classes 'a', 'b'; give it one"),
    "no class": ([task([{**region("polygonlabels", {}), "value": {"points": percent(TRIANGLE)}}])],
                 "has the class None"),
    "far": (polygons(value={"points": [[0, 0], [1e9, 0], [5, 5]]}), "the x coordinate 4e\\+08, far from"),
    "infinite": (polygons(value={"points": [[0, 0], [1e999, 0], [5, 5]]}), "the coordinate inf"),
    "text": (polygons(value={"points": [[0, 0], ["1", 0], [5, 5]]}), "the coordinate '1'"),
    "flat": (polygons(value={"points": [0, 0, 1, 1, 2, 2]}), "no list of points"),
    "two points": (polygons(value={"points": [[0, 0], [50, 50]]}), "a polygon of 2 points"),
    "no shape": ([task([region("polygonlabels", {})])], "neither points nor a box nor a mask"),
    "box of 0": ([task([region("rectanglelabels", {"x": 1, "y": 1, "width": 0, "height": 5})])], "width 0"),
    "far box": ([task([region("rectanglelabels", {"x": 1, "y": 1, "width": 1e9, "height": 5})])], "far from"),
    "far ellipse": (
        [task([region("ellipselabels", {"x": 1, "y": 1, "radiusX": 1e300, "radiusY": 5})])], "far from",
    ),
    "bad mask": ([task([region("brushlabels", {"format": "rle", "rle": [1, 2]})])], "not a list of bytes"),
    "other mask": ([task([region("brushlabels", {"format": "png", "rle": [1]})])], "in the format 'png'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    tasks, words = BAD[case]
    said = refused(tmp_path, capsys, write(tmp_path / "set", tasks), "label-studio")
    assert re.search(words, said), said
    assert "export.json" in said and said.count("\n") == 1, said
