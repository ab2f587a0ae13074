"""Decoding of every kind of image file people have."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.data.images import ImageSizeError, check_image, decode_image
from jaxmaskrcnn.errors import UserError


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(height=6, width=9):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 20, x * 20, (x + y) * 10], axis=-1).astype(np.uint8)


def with_orientation(pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), "PNG", exif=exif)


def test_rgb_bytes_path_and_pil_agree(tmp_path):
    pixels = gradient()
    data = encoded(Image.fromarray(pixels))
    (tmp_path / "a.png").write_bytes(data)
    for source in (data, tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(io.BytesIO(data))):
        decoded = decode_image(source)
        assert decoded.dtype == np.uint8 and decoded.flags.writeable
        np.testing.assert_array_equal(decoded, pixels)


def test_greyscale_and_bilevel():
    grey = gradient()[..., 1]
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(grey))), np.stack([grey] * 3, -1))
    bilevel = Image.fromarray(grey > 60)
    assert set(np.unique(decode_image(encoded(bilevel)))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(mode):
    image = Image.fromarray(gradient()).convert(mode)
    image.putalpha(Image.fromarray(gradient()[..., 0]))
    expected = np.asarray(Image.fromarray(gradient()).convert(mode[:-1]).convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded(image)), expected)


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
def test_palette_gives_colours_and_not_indices(transparency):
    image = Image.new("P", (3, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 2, 1, 0])
    options = {} if transparency is None else {"transparency": transparency}
    colours = np.eye(3, dtype=np.uint8) * 255
    expected = np.stack([colours, colours[::-1]])
    np.testing.assert_array_equal(decode_image(encoded(image, **options)), expected)


def test_cmyk():
    cmyk = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    decoded = decode_image(encoded(cmyk, "JPEG", quality=100))
    assert decoded.shape == (8, 8, 3)
    np.testing.assert_allclose(decoded[4, 4], [0, 255, 255], atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_greyscale_is_scaled_not_clipped(kind):
    wide = np.array([[0, 128, 257, 25700], [32896, 40000, 65279, 65535]], np.uint16)
    decoded = decode_image(encoded(Image.fromarray(wide), kind))
    np.testing.assert_array_equal(decoded[..., 0], np.rint(wide / 257))
    assert (decoded == decoded[..., :1]).all()


def test_pixels_beyond_sixteen_bits_are_refused():
    for pixels in (np.array([[70000]], np.int32), np.array([[-1]], np.int32)):
        with pytest.raises(UserError, match="deep.tif has pixel values beyond 16 bits"):
            decode_image(encoded(Image.fromarray(pixels), "TIFF"), name="deep.tif")
    floating = encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(UserError, match="float.tif holds floating-point pixels"):
        decode_image(floating, name="float.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = gradient()
    # Stored so that the orientation brings it upright: EXIF's definition, written with NumPy.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    data = with_orientation(np.ascontiguousarray(stored), orientation)
    np.testing.assert_array_equal(decode_image(data), upright)
    np.testing.assert_array_equal(decode_image(data, size=(6, 9)), upright)
    np.testing.assert_array_equal(decode_image(Image.open(io.BytesIO(data))), upright)


def test_annotations_of_the_stored_orientation_keep_it():
    stored = gradient(6, 9)
    data = with_orientation(stored, 6)
    np.testing.assert_array_equal(decode_image(data, size=(6, 9)), stored)
    np.testing.assert_array_equal(decode_image(data, size=(9, 6)), np.rot90(stored, -1))
    check_image(data, (6, 9), name="a")
    check_image(data, (9, 6), name="a")
    square = gradient(6, 6)
    np.testing.assert_array_equal(
        decode_image(with_orientation(square, 6), size=(6, 6)), np.rot90(square, -1)
    )


@pytest.mark.parametrize(
    ("at_least", "ratio"),
    [((40, 60), 2), ((41, 60), 1), ((40, 61), 1), ((20, 30), 4), ((21, 30), 2), ((10, 15), 8), ((1, 1), 8),
     ((80, 120), 1), ((200, 300), 1)],
)  # fmt: skip
def test_a_jpeg_is_decoded_smaller_only_where_half_of_it_is_enough(at_least, ratio):
    y, x = np.mgrid[:80, :120]
    pixels = np.stack([3 * y, 2 * x, y + x], axis=-1).astype(np.uint8)
    file = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    small = decode_image(file, size=(80, 120), at_least=at_least)
    assert small.shape == (80 // ratio, 120 // ratio, 3)
    means = pixels.reshape(80 // ratio, ratio, 120 // ratio, ratio, 3).mean((1, 3))
    assert abs(small - means).mean() < 3
    png = encoded(Image.fromarray(pixels))  # has no such thing
    np.testing.assert_array_equal(decode_image(png, at_least=at_least), pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.fromarray(pixels), "JPEG", quality=95, exif=exif)
    got = decode_image(turned, size=(120, 80), at_least=at_least[::-1])
    np.testing.assert_array_equal(got, np.rot90(small, -1))


def test_other_sizes_are_refused():
    data = encoded(Image.fromarray(gradient(6, 9)))
    for read in (
        lambda: decode_image(data, size=(9, 6), name="x.png"),
        lambda: check_image(data, (9, 6), name="x.png"),
    ):
        with pytest.raises(ImageSizeError, match=r"x.png is 9 x 6 pixels .* annotations are for 6 x 9"):
            read()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    check_image(data, (64, 64), name="x")
    for read in (lambda d: decode_image(d, name="x.img"), lambda d: check_image(d, (64, 64), name="x.img")):
        with pytest.raises(UserError, match="x.img cannot be decoded"):
            read(data[: len(data) // 2])
        with pytest.raises(UserError, match="x.img cannot be decoded"):
            read(b"no image")


def test_missing_file_bad_type_and_too_many_pixels(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="none.png does not exist"):
        decode_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder; give an image file"):
        decode_image(tmp_path)
    with pytest.raises(UserError, match="not list"):
        decode_image([1, 2])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's limit is set like this
    with pytest.raises(UserError, match="more pixels than Pillow opens"):
        decode_image(encoded(Image.fromarray(gradient())))
