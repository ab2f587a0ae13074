"""Encodings, labels and names as they come, and what cannot be learned from."""

import json
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import read_xml
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.importers.split import by_part
from jaxmaskrcnn.errors import UserError

SHAPE = {"label": "größe", "points": [[1, 1], [20, 1], [20, 20]], "shape_type": "polygon"}


def labelme(folder, label="größe", encoding="utf-8"):
    folder.mkdir()
    Image.new("RGB", (40, 32)).save(folder / "a.png")
    content = {
        "imagePath": "a.png",
        "imageHeight": 32,
        "imageWidth": 40,
        "shapes": [{**SHAPE, "label": label}],
    }
    (folder / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return folder


def coco(folder, rings, crowd=0, name="a"):
    folder.mkdir()
    Image.new("RGB", (40, 32)).save(folder / "0.png")
    items = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": crowd, "segmentation": [ring]}
        for i, ring in enumerate(rings)
    ]
    for item in items:
        xs, ys = item["segmentation"][0][::2], item["segmentation"][0][1::2]
        item["bbox"] = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        item["area"] = item["bbox"][2] * item["bbox"][3] / 2
    images = [{"id": 1, "file_name": "0.png", "height": 32, "width": 40}]
    path = folder / "c.json"
    path.write_text(
        json.dumps({"images": images, "annotations": items, "categories": [{"id": 1, "name": name}]})
    )
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark_are_read(encoding, tmp_path):
    source, output = labelme(tmp_path / "s", encoding=encoding), tmp_path / "o.json"
    assert command(["import", str(source), "--format=labelme", f"--output={output}"]) == 0
    assert [c["name"] for c in json.loads(output.read_text())["categories"]] == ["größe"]


@pytest.mark.parametrize("label", [7, 0, 2.5])
def test_a_label_that_is_a_number_is_its_text(label, tmp_path):
    source, output = labelme(tmp_path / "s", label=label), tmp_path / "o.json"
    assert command(["import", str(source), "--format=labelme", f"--output={output}"]) == 0
    assert [c["name"] for c in json.loads(output.read_text())["categories"]] == [str(label)]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("count", [1, 4])
def test_polygons_that_are_shares_of_the_image_are_refused(count, on_error, tmp_path, capsys):
    path = coco(tmp_path / "s", [[0.1, 0.1, 0.5, 0.1, 0.5, 0.75]] * count)
    flags = ["--format=coco", f"--output={tmp_path / 'o.json'}", f"--on_error={on_error}"]
    assert command(["import", str(path), *flags]) == 2
    assert "polygons of numbers from 0 to 1 only" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["\t", " -> "])
def test_a_class_with_a_colon_is_renamed_by_a_file(mark, tmp_path):
    path = coco(tmp_path / "s", [[1, 1, 20, 1, 20, 20]], name="a:b")
    names = tmp_path / "names.txt"
    names.write_text(f"a:b{mark}c:d\n")
    output = tmp_path / "o.json"
    assert command(["import", str(path), "--format=coco", f"--rename={names}", f"--output={output}"]) == 0
    assert [c["name"] for c in json.loads(output.read_text())["categories"]] == ["c:d"]


def test_an_xml_is_read_in_the_encoding_that_it_declares(tmp_path):
    for encoding in ("iso-8859-1", "windows-1252", "utf-16", "utf-8"):
        path = tmp_path / f"{encoding}.xml"
        path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><a>größe</a>'.encode(encoding))
        assert read_xml(path).text == "größe"


def test_a_class_beside_ids_that_hold_it_is_refused(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    Image.new("I;16", (40, 32), 257).save(tmp_path / "m" / "a.png")
    flags = ["--format=masks", "--ids=kitti", "--class_name=x", f"--output={tmp_path / 'o.json'}"]
    assert command(["import", str(tmp_path / "m"), *flags]) == 2
    assert "--class_name has no effect with --ids=kitti" in capsys.readouterr().err


@pytest.mark.parametrize("crowd", [1, None])
def test_a_part_to_train_on_needs_objects_that_are_learned(crowd):
    images = [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)]
    items = [{"id": 1, "image_id": 1, "iscrowd": 1}, {"id": 2, "image_id": 2, "iscrowd": 0}]
    content = {"images": images, "annotations": items if crowd else items[1:], "categories": []}
    with pytest.raises(UserError, match="no objects to learn"):
        by_part(content, {"1.png": "train", "2.png": "val"})


def test_a_giant_picture_inside_of_a_json_is_a_sentence(tmp_path):
    data = b"\x89PNG\r\n\x1a\n"
    for kind, part in ((b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)), (b"IEND", b"")):
        data += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    with pytest.raises(UserError, match="more pixels than Pillow opens"):
        Builder(ImageFolder(tmp_path)).picture("a", data, "a.json")


def test_half_a_character_in_a_name_is_printed_as_its_code(tmp_path):
    path = coco(tmp_path / "s", [[1, 1, 20, 1, 20, 20]], name="cat" + chr(0xD800))
    words = [sys.executable, "-m", "jaxmaskrcnn", "inspect", str(path), f"--images={path.parent}"]
    done = subprocess.run([*words, f"--output={tmp_path / 'r'}"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "cat\\ud800" in done.stdout + done.stderr
