"""Pictures of more pixels than Pillow opens: refused, opened on request, and read by regions."""

import json
import subprocess
import sys

import numpy as np
import pytest
from detectors import random_model, small_config
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main

HEIGHT, WIDTH = 15_000, 20_000
GB = 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small"
    jmr.save_model(random_model(small_config()), path)
    return path


def band(top, bottom):
    """Rows of the picture, uint8 [bottom - top, WIDTH, 3]: discs on a grid, on a slope."""
    y, x = np.mgrid[top:bottom, :WIDTH].astype(np.float32)
    inside = np.hypot(x % 500 - 250, y % 500 - 250) < 120
    return np.stack([inside * np.uint8(200), x // 80, y // 60], -1).astype(np.uint8)


# A process says itself what it took at most: what its parent counts begins with the parent's own memory.
PROGRAM = r"""
import re, sys
from jaxmaskrcnn.cli.main import main

code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print("peak", re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])
sys.exit(code)
"""


def predict_peak(model, picture, output, *options):
    """Runs the command in a process of its own; returns its largest memory in bytes and what it printed."""
    command = [sys.executable, "-c", PROGRAM, "predict", str(picture), f"--checkpoint={model}"]
    command += [f"--output={output}", "--tile=5000", "--score_threshold=0.3", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return int(done.stdout.split()[-1]) * 1024, done.stdout


@pytest.mark.slow
def test_a_file_of_more_pixels_than_allowed_is_refused(model, tmp_path, capsys):
    Image.new("L", (90, 80)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), f"--checkpoint={model}", f"--output={tmp_path / 'out'}"]
    assert main([*arguments, "--format=json", "--max_pixels=7199"]) == 2
    assert "a.png has 90 x 80 pixels, and max_pixels is 7199" in capsys.readouterr().err
    assert main([*arguments, "--format=json", "--max_pixels=7200"]) == 0
    assert main([*arguments, "--format=json", "--max_pixels=0"]) == 2
    assert "--max_pixels is 0; give 1 or more" in capsys.readouterr().err


def test_pillows_limit_is_lifted_for_one_file_alone(tmp_path, capsys):
    """A header that promises more than 179 million pixels, of which nothing is decoded."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("1", (14_000, 14_000)).save(tmp_path / "a.png")
    arguments = ["inspect", str(tmp_path / "a.json"), f"--images={tmp_path}", "--count=0", "--skip_decoding"]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 14_000, "width": 14_000}],
        "annotations": [{
            "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100, "bbox": [0, 0, 10, 10],
            "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]],
        }],
        "categories": [{"id": 1, "name": "a"}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert main(arguments) == 2
    printed = " ".join(capsys.readouterr().out.split())
    assert "has more pixels than Pillow opens (178,956,970)" in printed
    assert main([*arguments, "--max_pixels=200000000"]) == 0
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.slow
def test_a_picture_of_300_megapixels_takes_less_than_4_gb(model, tmp_path):
    picture = tmp_path / "large.png"
    whole = np.concatenate([band(top, top + 500) for top in range(0, HEIGHT, 500)])
    Image.fromarray(whole).save(picture, compress_level=1)
    del whole
    peak, printed = predict_peak(model, picture, tmp_path / "out", "--max_pixels=300000000")
    print(f"PNG, decoded whole: {peak / GB:.2f} GB")
    assert peak < 4 * GB
    assert "has 20000 x 15000 pixels, so that its picture is reduced to 8192 on the long side" in printed
    with Image.open(tmp_path / "out" / "large.png") as drawn:
        assert drawn.size == (8192, 6144)


@pytest.mark.slow
def test_a_tiff_of_300_megapixels_is_read_by_regions(model, tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="the extra [large] is not installed")
    picture = tmp_path / "large.tif"

    def tiles():
        for top in range(0, HEIGHT, 512):
            rows = np.zeros((512, -(-WIDTH // 512) * 512, 3), np.uint8)
            rows[: min(512, HEIGHT - top), :WIDTH] = band(top, min(top + 512, HEIGHT))
            yield from map(np.ascontiguousarray, np.split(rows, rows.shape[1] // 512, axis=1))

    tifffile.imwrite(
        picture, tiles(), shape=(HEIGHT, WIDTH, 3), dtype=np.uint8, tile=(512, 512), photometric="rgb",
        compression="zlib", metadata=None,
    )  # fmt: skip
    peak, _ = predict_peak(model, picture, tmp_path / "out", "--format=json")
    print(f"TIFF, by regions, json alone: {peak / GB:.2f} GB")
    assert peak < 2 * GB  # the decoded picture alone takes 0.9 GB, and Pillow's form of it 1.2 GB
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert found["images"][0]["width"] == WIDTH
    peak, _ = predict_peak(model, picture, tmp_path / "drawn")
    print(f"TIFF, by regions, with a picture: {peak / GB:.2f} GB")
    assert peak < 4 * GB
