"""Pictures inside of labelme's json files are those that the polygons were drawn on, whatever EXIF says."""

import base64
import io

import numpy as np
import pytest
from cli.test_import import refused, run
from cli.test_import_layouts import labelme, masks, shape
from PIL import Image, ImageOps

from jaxmaskrcnn.data import prepare

TRIANGLE = [[2, 3], [22, 3], [22, 20]]
HEIGHT, WIDTH = 30, 40


def encoded(orientation, kind="JPEG", size=(HEIGHT, WIDTH), mode="RGB"):
    """A picture of noise [H, W], with an EXIF orientation."""
    pixels = np.random.default_rng(orientation).integers(0, 256, (*size, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, exif=exif, quality=95)
    return file.getvalue()


def stored(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def upright(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def trained_on(tmp_path, folder):
    """File name, pixels and mask as training has them."""
    (example,) = prepare(tmp_path / "out" / "set.json", folder, tmp_path / "cache")
    return example.file_name, example.pixels(), example.masks()[0]


def inside(folder, data, size, **changes):
    labelme(
        folder,
        [shape("cat", TRIANGLE)],
        **{"imageData": base64.b64encode(data).decode(), "imagePath": "lost.jpg"}
        | {"imageHeight": size and size[0], "imageWidth": size and size[1]}
        | changes,
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_stored_pixels_are_drawn_on(orientation, known, tmp_path):
    data = encoded(orientation)
    inside(tmp_path / "set", data, (HEIGHT, WIDTH) if known else None)
    content = run(tmp_path, tmp_path / "set", "labelme")
    assert (content["images"][0]["height"], content["images"][0]["width"]) == (HEIGHT, WIDTH)
    name, pixels, mask = trained_on(tmp_path, tmp_path / "set")
    np.testing.assert_array_equal(pixels, stored(data))
    np.testing.assert_array_equal([mask], masks(content)[name, "cat"])
    # Every other reader sees them in the same way.
    written = Image.open(tmp_path / "set" / name)
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(written)), stored(data))
    assert written.format == ("JPEG" if orientation == 1 else "PNG")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_that_is_that_of_the_upright_picture(orientation, tmp_path, capsys):
    data = encoded(orientation)
    inside(tmp_path / "set", data, (WIDTH, HEIGHT))
    run(tmp_path, tmp_path / "set", "labelme")
    _, pixels, mask = trained_on(tmp_path, tmp_path / "set")
    assert mask.shape == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(pixels, upright(data))
    inside(tmp_path / "bad", data, (WIDTH, HEIGHT + 1))
    said = refused(tmp_path, capsys, tmp_path / "bad", "labelme")
    assert "holds a picture of 40 x 30 pixels but gives its size as 31 x 40" in said


@pytest.mark.parametrize(
    "kind", [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB")]
)
def test_other_kinds_of_pictures(kind, tmp_path):
    data = encoded(8, kind[0], mode=kind[1])
    inside(tmp_path / "set", data, (HEIGHT, WIDTH))
    run(tmp_path, tmp_path / "set", "labelme")
    np.testing.assert_array_equal(trained_on(tmp_path, tmp_path / "set")[1], stored(data))


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
@pytest.mark.parametrize("own", [True, False])
def test_the_file_is_there_too(orientation, own, tmp_path, capsys):
    """The picture inside is the file as it is, or as labelme puts it there: upright and without EXIF."""
    data = encoded(orientation)
    turned = io.BytesIO()
    Image.fromarray(upright(data)).save(turned, "PNG")
    there = data if own else turned.getvalue()
    size = stored(there).shape[:2]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jpg").write_bytes(data)
    inside(tmp_path / "set", there, size, imagePath="a.jpg")
    run(tmp_path, tmp_path / "set", "labelme")
    name, pixels, _ = trained_on(tmp_path, tmp_path / "set")
    np.testing.assert_array_equal(pixels, stored(there))
    replaced = (
        own and orientation != 6
    )  # whose size tells it, so that training leaves the file as it is stored
    assert name == ("a.png" if replaced else "a.jpg")
    said = capsys.readouterr().out
    assert ("1 pictures inside of json files are taken for the files" in said) == replaced
    assert "not annotated" not in said
