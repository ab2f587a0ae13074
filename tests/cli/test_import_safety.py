"""What `import` may never do: take another picture, replace its source, leave half of its output."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from other_formats import labelme_file, labelme_shape
from PIL import Image

from jaxmaskrcnn.cli.main import main as command

TRIANGLE = [[1.0, 1.0], [20.0, 1.0], [20.0, 20.0]]


def picture(path, size=(40, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def png(width, height) -> bytes:
    """A PNG of any size in a few bytes: its pixels are not there."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(names, crowd=0):
    items = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": crowd,
         "segmentation": [[1, 1, 20, 1, 20, 20]], "bbox": [1, 1, 19, 19], "area": 180}
        for i in range(len(names))
    ]  # fmt: skip
    images = [{"id": i + 1, "file_name": n, "height": 32, "width": 40} for i, n in enumerate(names)]
    return {"images": images, "annotations": items, "categories": [{"id": 1, "name": "cat"}]}


def cvat(name, subset=""):
    part = f' subset="{subset}"' if subset else ""
    return (
        f'<annotations><version>1.1</version><image id="0" name="{name}" width="40" height="32"{part}>'
        '<polygon label="cat" points="1,1;20,1;20,20"/></image></annotations>'
    )


def via(name):
    shape = {"name": "polygon", "all_points_x": [1, 20, 20], "all_points_y": [1, 1, 20]}
    return {
        name: {"filename": name, "regions": [{"shape_attributes": shape, "region_attributes": {"c": "a"}}]}
    }


def isat(name):
    item = {"category": "cat", "group": 1, "segmentation": TRIANGLE, "layer": 1, "iscrowd": False}
    return {"info": {"name": name, "width": 40, "height": 32}, "objects": [item]}


def label_studio(name):
    value = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["cat"]}
    region = {"id": "r", "type": "polygonlabels", "value": value, "original_width": 40, "original_height": 32}
    return [{"id": 1, "data": {"image": name}, "annotations": [{"result": [region]}]}]


OTHER_PICTURES = {
    "cvat": ("cvat", "annotations.xml", cvat("cam2/0001.jpg"), "cam1/0001.jpg"),
    "cvat part": ("cvat", "annotations.xml", cvat("1.jpg", "Validation"), "Train/1.jpg"),
    "via": ("via", "p.json", via("y/1.jpg"), "x/1.jpg"),
    "via mask": ("via", "p.json", via("001.jpg"), "masks/001.png"),
    "isat": ("isat", "1.json", isat("y/1.jpg"), "x/1.jpg"),
    "label studio": (
        "label-studio", "e.json", label_studio("/data/local-files/?d=cam2/a.png"), "cam1/a.png",
    ),
    "labelme": (
        "labelme", "a.json",
        labelme_file("a.png", [labelme_shape("cat", TRIANGLE)], imagePath="../cam2/a.png"), "cam1/a.png",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_PICTURES)
def test_a_picture_of_another_folder_is_not_taken(case, tmp_path, capsys):
    form, name, content, there = OTHER_PICTURES[case]
    picture(tmp_path / "set" / there)
    source = write(tmp_path / "set" / name, content)
    words = ["import", str(source), f"--format={form}", f"--images={tmp_path / 'set'}"]
    assert command([*words, f"--output={tmp_path / 'out.json'}"]) == 2
    assert f"{there} is another path); give its folder with --images" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_the_picture_inside_of_a_labelme_json_comes_before_one_found_elsewhere(tmp_path):
    inside = io.BytesIO()
    Image.new("RGB", (40, 32), (1, 2, 3)).save(inside, "PNG")
    picture(tmp_path / "set" / "other" / "a.png")
    data = base64.b64encode(inside.getvalue()).decode()
    content = labelme_file("a.png", [labelme_shape("cat", TRIANGLE)], imageData=data, imagePath="a.png")
    write(tmp_path / "set" / "json" / "a.json", content)
    folder, output = tmp_path / "set", tmp_path / "out.json"
    words = ["import", str(folder), "--format=labelme", f"--images={folder}", f"--output={output}"]
    assert command(words) == 0
    (image,) = json.loads(output.read_text())["images"]
    with Image.open(tmp_path / "set" / image["file_name"]) as found:
        assert np.asarray(found)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("height", "width"), [("32", "41"), (32.0, 41.0), (32, None)])
def test_sizes_of_labelme_are_checked_whatever_they_are_written_as(height, width, tmp_path, capsys):
    picture(tmp_path / "a.png")
    shapes = [labelme_shape("cat", TRIANGLE)]
    write(tmp_path / "a.json", labelme_file("a.png", shapes, imageHeight=height, imageWidth=width))
    words = ["import", str(tmp_path / "a.json"), "--format=labelme", f"--output={tmp_path / 'out.json'}"]
    assert command(words) == 2
    assert "41 x 32" in (said := capsys.readouterr().err) or "None x 32 pixels; correct its size" in said


@pytest.mark.parametrize("output", ["instances_train.json", "other.json"])
def test_the_files_of_a_source_are_not_replaced(output, tmp_path, capsys):
    folder = tmp_path / "annotations"
    for part in ("train", "val"):
        picture(tmp_path / f"{part}.png")
        write(folder / f"instances_{part}.json", coco([f"{part}.png"]))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    name = "instances.json" if output == "instances_train.json" else output
    words = ["import", str(folder), "--format=coco", f"--output={folder / name}"]
    assert command(words) == (2 if output in before else 0)
    if output in before:
        assert "is a file of the source" in capsys.readouterr().err
    assert all((folder / name).read_bytes() == data for name, data in before.items())


def test_a_json_of_labelme_is_not_replaced(tmp_path, capsys):
    picture(tmp_path / "a.png")
    path = write(tmp_path / "a.json", labelme_file("a.png", [labelme_shape("cat", TRIANGLE)]))
    before = path.read_bytes()
    assert command(["import", str(tmp_path), "--format=labelme", f"--output={path}"]) == 2
    assert "is a file of the source" in capsys.readouterr().err and path.read_bytes() == before


@pytest.mark.parametrize("blocked", ["train", "val", "test"])
def test_all_parts_are_written_or_none(blocked, tmp_path, capsys):
    names = [f"{i}.png" for i in range(6)]
    for name in names:
        picture(tmp_path / "images" / name)
    source = write(tmp_path / "all.json", coco(names))
    (tmp_path / "out" / f"x_{blocked}.json").mkdir(parents=True)
    assert command(
        ["import", str(source), "--format=coco", f"--images={tmp_path / 'images'}", "--split=0.4,0.3,0.3",
         f"--output={tmp_path / 'out' / 'x.json'}"]
    ) == 2  # fmt: skip
    assert "is a folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"x_{blocked}.json"]


@pytest.mark.parametrize("size", [(20000, 20000), (30000, 30000), (21, 20)])
def test_a_giant_mask_of_labelme_is_a_sentence(size, tmp_path, capsys):
    """Its size is known before it is decoded; Pillow refuses the larger one itself."""
    picture(tmp_path / "a.png")
    shape = labelme_shape("cat", [[1.0, 1.0], [20.0, 20.0]], "mask")
    shape["mask"] = base64.b64encode(png(*size)).decode()
    write(tmp_path / "a.json", labelme_file("a.png", [shape]))
    words = ["import", str(tmp_path / "a.json"), "--format=labelme", f"--output={tmp_path / 'out.json'}"]
    assert command(words) == 2
    said = capsys.readouterr().err
    assert "draw it again" in said and "Traceback" not in said


def test_a_part_for_training_of_crowd_regions_alone_is_refused(tmp_path, capsys):
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        picture(tmp_path / "images" / name)
    content = coco(names, crowd=1)
    content["annotations"][0]["iscrowd"] = 0
    source = write(tmp_path / "all.json", content)
    codes = {}
    for seed in range(6):
        words = ["import", str(source), "--format=coco", f"--images={tmp_path / 'images'}", "--split=0.5,0.5"]
        output = tmp_path / f"out{seed}" / "x.json"
        codes[seed] = command([*words, f"--split_seed={seed}", f"--output={output}"])
        if codes[seed]:
            assert "The part 'train' has no objects to learn" in capsys.readouterr().err
            assert not output.parent.exists() or not list(output.parent.iterdir())
        else:
            train = json.loads(output.with_name("x_train.json").read_text())
            assert [item["iscrowd"] for item in train["annotations"]].count(0) == 1
    assert set(codes.values()) == {0, 2}
