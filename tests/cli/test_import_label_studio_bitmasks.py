"""Bitmasks of Label Studio, PNG files inside of the json, become the same masks here."""

import base64
import io
import json

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_label_studio import HEIGHT, WIDTH, region, task, write
from cli.test_import_layouts import masks
from PIL import Image


def painted(seed=0):
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.3


def picture(mask, form="PNG"):
    """Black pixels on a transparent background, as the editor's canvas has them."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask, 3] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def address(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("key", ["imageDataURL", "image_url"])
def test_bitmasks(key, tmp_path):
    results = [
        region("bitmasklabels", {key: address(picture(painted()))}, "cat"),
        region("bitmask", {key: address(picture(painted(1)))}, id="two"),
        region("labels", {}, "dog", id="two"),  # the class, where Labels and Bitmask are two controls
    ]
    for result in results:
        result["value"].pop("bitmask", None)
    content = run(tmp_path, write(tmp_path / "set", [task(results)]), "label-studio")
    found = masks(content)
    assert list(found) == [("a.png", "cat"), ("a.png", "dog")]
    np.testing.assert_array_equal(found["a.png", "cat"], [painted()])
    np.testing.assert_array_equal(found["a.png", "dog"], [painted(1)])


def test_bitmasks_of_the_short_json(tmp_path):
    entry = region("bitmasklabels", {"imageDataURL": address(picture(painted()))})
    value = {**entry["value"], "original_width": WIDTH, "original_height": HEIGHT}
    tasks = [{"id": 1, "image": "a.png", "label": [value], "annotation_id": 1, "annotator": 1}]
    content = run(tmp_path, write(tmp_path / "set", tasks), "label-studio")
    np.testing.assert_array_equal(masks(content)["a.png", "cat"], [painted()])


def test_bitmasks_in_files_beside_the_images(tmp_path, capsys):
    results = [region("bitmasklabels", {"image_url": "/data/local-files/?d=masks/m.png"})]
    path = write(tmp_path / "set", [task(results)])
    said = refused(tmp_path, capsys, path, "label-studio")
    assert "masks/m.png', which is not among the images and is not fetched" in said
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "masks" / "m.png").write_bytes(picture(painted()))
    content = run(tmp_path, path, "label-studio")
    np.testing.assert_array_equal(masks(content)["a.png", "cat"], [painted()])
    assert len(content["images"]) == 1 and "not annotated" not in capsys.readouterr().out


def opaque():
    file = io.BytesIO()
    Image.fromarray(painted()).save(file, "PNG")
    return file.getvalue()


BAD = {
    "empty": ("", "has an empty 'imageDataURL'"),
    "null": (None, "has an empty 'imageDataURL'"),
    "no base64": ("data:image/png;base64,???", "that is not a PNG in base64"),
    "no data": ("data:image/png", "that is not a PNG in base64"),
    "cut off": (address(picture(painted())[:60]), "that is no picture"),
    "text": (address(b"mask"), "that is no picture (UnidentifiedImageError)"),
    "size": (address(picture(painted()[:-1])), "a mask of 40 x 29 pixels for an image of 40 x 30"),
    "opaque": (address(opaque()), "has a mask without transparency"),
    "nothing": (address(picture(painted() & False)), "region r"),
    "elsewhere": ("https://host/m.png", "which is not among the images and is not fetched"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_said(case, tmp_path, capsys):
    value, words = BAD[case]
    good = region("bitmasklabels", {"imageDataURL": address(picture(painted()))})
    bad = region("bitmasklabels", {"imageDataURL": value})
    path = write(tmp_path / "set", [task([good, bad])])
    said = refused(tmp_path, capsys, path, "label-studio")
    assert words in said and said.count("\n") == 1 and "region " + bad["id"] in said
    assert len(flat(run(tmp_path, path, "label-studio", "--on_error=skip"))) == 1
    assert json.loads(path.read_text())
