"""Inputs that were found to end in a traceback or a crash, and what is said of them now."""

import json
import struct
import zlib

import numpy as np
import pytest
from cli.test_import_layouts import photograph
from data_helpers import TRIANGLE, annotation, content, write
from fuzz.folders_of_tools import TOOLS
from fuzz.scenes import picture

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config.json import config_from_json
from jaxmaskrcnn.data import decode_image, prepare
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.video import VideoReader

DEEP = "[" * 100_000 + "]" * 100_000


def said(capsys) -> str:
    """The sentence on stderr."""
    text = capsys.readouterr().err
    assert "Traceback" not in text and text.rstrip().endswith(".")
    return text


def short(value) -> str:
    """A name of a number for pytest."""
    return f"{'-' * (value < 0)}{abs(value).bit_length()} bits"


@pytest.mark.parametrize("size", [(10**9, 20), (65536, 65536), (20, 10**9), (32768, 65536)])
def test_images_larger_than_masks_can_be_do_not_end_the_process(size, tmp_path, capsys):
    """Polygons in them were drawn beyond the memory of pycocotools, which is a segmentation fault."""
    data = content([annotation(), annotation(2, 2, segmentation=TRIANGLE)], [(32, 40), (32, 40)])
    path, _ = write(tmp_path, data)
    data["images"][1] |= {"height": size[0], "width": size[1]}
    path.write_text(json.dumps(data))
    assert command(["inspect", str(path), f"--output={tmp_path / 'sheet.png'}"]) == 2
    found = f"image 2 (2.png) has the height {size[0]} and width {size[1]}, which is more than masks can have"
    assert found in capsys.readouterr().out


@pytest.mark.parametrize("value", [-(2**63), 2**63, -(2**64), 10**300, 10**400, -(10**400)], ids=short)
@pytest.mark.parametrize("others", [[11, 15, 11, 15, 15], [11.5, 15, 11, 15, 15]])
def test_coordinates_beyond_all_images(value, others, tmp_path):
    """The absolute value of -2**63 is negative in 64 bits, so that it was drawn: a segmentation fault."""
    bad = annotation(2, segmentation=[[1, 1, 9, 1, 9, 9], [value, *others]], bbox=[2, 2, 2, 18, 16])
    path, folder = write(tmp_path, content([annotation(), bad]))
    source = prepare(path, folder, tmp_path / "cache", "skip")
    # A polygon with a value that is no finite number is left out of an object that has others.
    finite = abs(value) < 10**308
    assert len(source[0].labels) == 2 - finite and sum(source.skipped.values()) == finite


@pytest.mark.parametrize("polygon", [[1, 1, 9.5, 1, 10**400, 9], [10**400, 1.5, -(10**400), 1, 9, 9]])
def test_the_form_of_boxes_beside_coordinates_beyond_all_numbers(polygon, tmp_path):
    """Such a number was subtracted from a float, where the polygon is the only one of its object."""
    bad = annotation(2, segmentation=[polygon])
    path, folder = write(tmp_path, content([bad, annotation(), annotation(3), annotation(4)]))
    assert prepare(path, folder, tmp_path / "cache", "skip").skipped == {"bad polygon": 1}


@pytest.mark.parametrize("value", [-(2**63), 10**300, 10**400, -(10**400)], ids=short)
def test_boxes_and_areas_beyond_all_numbers(value, tmp_path):
    changes = {"bbox": [2.5, 2, value, 18]}, {"bbox": [value, 0.5, 3, 3]}, {"area": value}, {"area": [value]}
    annotations = [annotation(i + 2, **change) for i, change in enumerate(changes)]
    path, folder = write(tmp_path, content([annotation(), *annotations]))
    source = prepare(path, folder, tmp_path / "cache", "skip")
    kept = source[0]
    assert len(kept.labels) + sum(source.skipped.values()) == 5
    np.testing.assert_allclose(kept.boxes, [[2, 2, 20, 18]] * len(kept.labels), atol=1)  # or the masks' own


def detections(tmp_path, text):
    path, folder = write(tmp_path, content([annotation()]))
    (tmp_path / "detections.json").write_text(text)
    arguments = [str(tmp_path / "detections.json"), str(path), f"--images={folder}"]
    return command(["report", *arguments, f"--output={tmp_path / 'out'}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEEP, "is not valid json (it has too many brackets in each other)"),
        ('[{"image_id": 1, "category_id": 1, "score": 1' + "0" * 400 + "}]", "has the score 1"),
        (
            '[{"image_id": 1, "category_id": 1, "score": 1, "bbox": [0, 0, 1' + "0" * 400 + ", 1]}]",
            "the bbox",
        ),
    ],
)
def test_detections(text, words, tmp_path, capsys):
    assert detections(tmp_path, text) == 2
    assert words in said(capsys)


@pytest.mark.parametrize("name", ["2\x00.png", "2\ud800.png"], ids=["NUL", "half of a pair"])
def test_a_report_of_names_that_no_file_can_have(name, tmp_path, capsys, caplog):
    data = content([annotation(), annotation(2, 2)], [(32, 40), (32, 40)])
    path, folder = write(tmp_path, data)
    data["images"][1]["file_name"] = name
    path.write_text(json.dumps(data))
    (tmp_path / "detections.json").write_text("[]")
    arguments = ["report", str(tmp_path / "detections.json"), str(path), f"--images={folder}"]
    assert command([*arguments, f"--output={tmp_path / 'out'}"]) == 0
    assert "0 detections of 1 images" in capsys.readouterr().out.replace("1 image,", "1 images,")
    caplog.text.encode()  # half of a pair is shown as its code
    assert name not in caplog.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (DEEP, "too many brackets in each other"),
        ('{"step": 1, "loss": 1' + "0" * 400 + "}", "where a number belongs"),
        ('{"step": 1' + "0" * 30 + ', "loss": 1}', "a whole number as its step"),
    ],
)
def test_metrics(line, words, tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n' + line + "\n")
    assert command(["plot", str(tmp_path)]) == 2
    assert words in said(capsys) and not (tmp_path / "metrics.png").exists()


def test_whole_numbers_of_metrics_beyond_64_bits_are_drawn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1' + "0" * 30 + "}\n")
    assert command(["plot", str(tmp_path)]) == 0


@pytest.mark.parametrize("data", [DEEP.encode(), b'{"format": "\xe9"}'])
def test_descriptions_of_models(data):
    with pytest.raises(UserError, match="a.json is damaged: it is not JSON"):
        config_from_json(data, "a.json")


def imported(tmp_path, tool, change):
    """The exit code of an import whose json was changed."""
    write_folder, source, (pattern, *_), arguments = TOOLS[tool]
    write_folder(tmp_path / "set")
    path = next((tmp_path / "set").rglob(pattern))
    path.write_text(change(path.read_text()))
    options = [word.format(tmp_path / "set") for word in arguments]
    name, output = tool.split(" ")[0], tmp_path / "out" / "set.json"
    return command(
        ["import", str(tmp_path / "set" / source), f"--format={name}", f"--output={output}", *options]
    )


@pytest.mark.parametrize("tool", ["labelme", "via", "isat", "datumaro"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000])
def test_whole_numbers_beyond_every_float(tool, number, tmp_path, capsys):
    def change(text):
        data = json.loads(text)
        if tool == "labelme":
            data["shapes"][0]["points"][0][0] = "@"
        elif tool == "via":
            entry = next(iter(data["_via_img_metadata"].values()))
            entry["regions"][0]["shape_attributes"]["all_points_x"][0] = "@"
        elif tool == "isat":
            data["objects"][0]["segmentation"][0][0] = "@"
        else:
            data["items"][0]["annotations"][0]["points"][0] = "@"
        return json.dumps(data).replace('"@"', number)

    assert imported(tmp_path, tool, change) == 2
    text = said(capsys)
    assert ("a finite number" in text or "is not valid json" in text) and len(text) < 2000


def test_attributes_of_via_that_are_no_table(tmp_path, capsys):
    def change(text):
        data = json.loads(text)
        data["metadata"]["m0"]["av"] = 7
        return json.dumps(data)

    assert imported(tmp_path, "via (3)", change) == 2
    assert "region m0 has no class" in said(capsys)


def test_a_picture_of_segments_is_not_decoded_at_a_size_that_is_wrong(tmp_path, capsys):
    """A damaged header took 18 seconds and a gigabyte."""
    write_folder, source, _, arguments = TOOLS["panoptic"]
    write_folder(tmp_path / "set")
    path = tmp_path / "set" / "panoptic_val" / "a.png"
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 9000, 9000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    options = [word.format(tmp_path / "set") for word in arguments]
    output = tmp_path / "out" / "set.json"
    source = str(tmp_path / "set" / source)
    assert command(["import", source, "--format=panoptic", f"--output={output}", *options]) == 2
    assert "a.png is 9000 x 9000 pixels, and its image 40 x 30" in said(capsys)


def test_the_fixtures_are_read(tmp_path):
    photograph(tmp_path / "a.png")  # the folders above are valid before they are changed
    assert imported(tmp_path, "via (3)", str) == 0


def test_a_video_whose_title_is_not_utf_8(tmp_path):
    """Reading its metadata was a traceback."""
    av = pytest.importorskip("av", reason="videos are read with PyAV (pip install av)")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"a title" in data
    path.write_bytes(data.replace(b"a title", b"\xe6 title"))
    reader = VideoReader(path)
    assert reader.count == len(list(reader)) == 1


def test_a_webp_animation_that_promises_millions_of_pixels(tmp_path):
    """Its few bytes took twenty seconds and two gigabytes."""
    data = bytearray(picture("webp", pages=3))
    assert data[12:16] == b"VP8X"
    data[24:27] = (2**23).to_bytes(3, "little")  # the width, less 1
    (tmp_path / "a.webp").write_bytes(data)
    with pytest.raises(UserError, match="a.webp is damaged: .* 8388609 x 9 pixels, and WebP pictures"):
        decode_image(tmp_path / "a.webp")
