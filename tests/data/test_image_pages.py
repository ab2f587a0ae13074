"""TIFF files: their orientation, and files of several pages."""

import io

import numpy as np
import pytest
from data_helpers import annotation, content, write
from picture_files import tiff
from PIL import Image, ImageOps

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.images import (
    ImageSizeError,
    check_header,
    check_image,
    decode_image,
    upright_size,
)
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.errors import UserError

STORED = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
ORIENTATION = 274


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def tiff_files(orientation: int, pixels: np.ndarray = STORED) -> dict[str, bytes]:
    """The same picture, stored in several ways with an orientation."""
    files = {
        "plain": tiff(pixels, tags=[{ORIENTATION: orientation}]),
        "big-endian": tiff(pixels, order=">", tags=[{ORIENTATION: orientation}]),
        "grey": tiff(pixels[..., 0], tags=[{ORIENTATION: orientation}]),
        "16 bits": tiff(pixels[..., 0].astype(np.uint16) * 257, tags=[{ORIENTATION: orientation}]),
        "16-bit colours": tiff(pixels.astype(np.uint16) * 257, tags=[{ORIENTATION: orientation}]),
    }
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", tiffinfo={ORIENTATION: orientation}, compression="tiff_lzw")
    return files | {"lzw": file.getvalue()}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", list(tiff_files(1)))
def test_a_tiff_is_turned_once(tmp_path, kind, orientation):
    data = tiff_files(orientation)[kind]
    upright = pillow(data)  # of 16 bits in one channel it is clipped, so its size alone counts
    shown = STORED if "colours" in kind or kind in ("plain", "big-endian", "lzw") else STORED[..., :1]
    turns = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, -1), 7: shown[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(shown, 1),
    }  # fmt: skip
    expected = np.broadcast_to(turns[orientation], (*turns[orientation].shape[:2], 3))
    if kind != "16 bits":
        np.testing.assert_array_equal(upright, expected)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    for pixels in (
        PixelConfig(),
        PixelConfig(page=0),
        PixelConfig(intensity="range", intensity_range=(0, 65535)),
    ):
        np.testing.assert_array_equal(decode_image(data, pixels=pixels), expected)
        np.testing.assert_array_equal(decode_image(path, size=expected.shape[:2], pixels=pixels), expected)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(decode_image(opened), expected)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    np.testing.assert_array_equal(decode_image(loaded), expected)
    assert upright_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["plain", "lzw", "16-bit colours"])
def test_annotations_of_a_tiff_as_it_is_stored(tmp_path, kind, orientation):
    data = tiff_files(orientation)[kind]
    decoded = decode_image(data, size=(6, 9))
    # Where both sizes are the same, the orientation is applied.
    np.testing.assert_array_equal(decoded, STORED if orientation >= 5 else pillow(data))
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    check_image(data, (6, 9), name="a.tif")
    check_header(path, (6, 9), name="a.tif")
    if orientation >= 5:
        check_image(data, (9, 6), name="a.tif")
        check_header(path, (9, 6), name="a.tif")
    for check in (lambda: check_image(data, (7, 9), name="x"), lambda: check_header(path, (7, 9), name="x")):
        with pytest.raises(ImageSizeError):
            check()


# -- pages

PAGES = np.random.default_rng(1).integers(0, 256, (3, 6, 9, 3), dtype=np.uint8)
STACKS = {
    "z stack": tiff(*PAGES),
    "channels first": tiff(*PAGES[..., 0], tags=[{270: '{"shape": [3, 6, 9]}'}]),
    "scan": tiff(PAGES[0], PAGES[1, :4, :5]),
    "a later page of a kind that is not read": tiff(PAGES[0], PAGES[1].astype(np.float32)),
    "ImageJ's hyperstack behind one directory": tiff(
        PAGES[0, ..., 0], tags=[{270: "ImageJ=1.53t\nimages=40\nslices=40\nmode=grayscale\n"}]
    ),
    "tifffile's truncated array": tiff(PAGES[0], tags=[{270: '{"shape": [7, 6, 9, 3], "truncated": true}'}]),
}
SINGLE = {
    "a pyramid": tiff(PAGES[0], PAGES[1, ::2, ::2], PAGES[1, ::4, ::4], tags=[{}, {254: 1}, {254: 1}]),
    "a thumbnail": tiff(PAGES[0], PAGES[1, ::2, ::2], tags=[{}, {255: 2}]),
    "a mask beside it": tiff(PAGES[0], PAGES[1, ..., 0], tags=[{}, {254: 4}]),
    "a described single picture": tiff(PAGES[0], tags=[{270: '{"shape": [6, 9, 3]}'}]),
    "one picture of ImageJ's": tiff(PAGES[0], tags=[{270: "ImageJ=1.53t\nimages=1\n"}]),
}


@pytest.mark.parametrize("kind", STACKS)
def test_a_stack_is_refused_unless_a_page_is_chosen(tmp_path, kind):
    data, path = STACKS[kind], tmp_path / "stack.tif"
    path.write_bytes(data)
    for read in (
        lambda: decode_image(data, name="stack.tif"),
        lambda: decode_image(path),
        lambda: check_image(data, (6, 9), name="stack.tif"),
        lambda: check_header(path, (6, 9), name="stack.tif", pixels=PixelConfig()),
    ):
        with pytest.raises(
            UserError, match=r"stack.tif (has \d pages|is a stack of \d+ pictures).*; "
        ) as error:
            read()
        assert str(error.value).count(". ") == 0
    check_header(path, (6, 9), name="stack.tif")  # its size alone
    first = PAGES[0, ..., :1] if "channels" in kind or "ImageJ" in kind else PAGES[0]
    expected = np.broadcast_to(first, (6, 9, 3))
    np.testing.assert_array_equal(decode_image(path, pixels=PixelConfig(page=0)), expected)


def test_every_page_can_be_chosen():
    for number, page in enumerate(PAGES):
        np.testing.assert_array_equal(decode_image(STACKS["z stack"], pixels=PixelConfig(page=number)), page)
    with pytest.raises(UserError, match="s.tif has 3 pages and no page 3"):
        decode_image(STACKS["z stack"], name="s.tif", pixels=PixelConfig(page=3))
    with pytest.raises(UserError, match="a.png has 1 page and no page 1"):
        file = io.BytesIO()
        Image.fromarray(STORED).save(file, "PNG")
        decode_image(file.getvalue(), name="a.png", pixels=PixelConfig(page=1))
    opened = Image.open(io.BytesIO(STACKS["z stack"]))
    opened.seek(2)  # a picture in memory is taken at the page that it stands at
    np.testing.assert_array_equal(decode_image(opened), PAGES[2])


@pytest.mark.parametrize("kind", SINGLE)
def test_reduced_versions_and_masks_are_no_pages(kind):
    np.testing.assert_array_equal(decode_image(SINGLE[kind]), PAGES[0])
    check_image(SINGLE[kind], (6, 9), name="a")


def test_an_animation_is_its_first_picture():
    frames = [Image.fromarray(page[..., 0]) for page in PAGES]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(file.getvalue())[..., 0], PAGES[0, ..., 0])
    second = decode_image(file.getvalue(), pixels=PixelConfig(page=1))
    np.testing.assert_array_equal(second[..., 0], PAGES[1, ..., 0])


def test_preparation_and_inspection_ask_for_the_page(tmp_path):
    path, images = write(tmp_path, content([annotation()]))
    (file,) = [images / entry["file_name"] for entry in content([annotation()])["images"]][:1]
    pages = np.random.default_rng(2).integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    file.write_bytes(tiff(*pages))  # whatever its suffix says
    with pytest.raises(UserError, match=r"has 2 pages.*--config.data.page=0"):
        prepare(path, images, tmp_path / "cache")
    for decode in (True, False):
        # Without its only image the set has nothing to learn, which is said besides.
        pages_of, nothing = inspect_annotations(path, images, decode=decode).problems
        assert "has 2 pages" in pages_of.message and nothing.reason == "nothing to learn"
        assert not inspect_annotations(path, images, decode=decode, pixels=PixelConfig(page=1)).problems
    for number in (0, 1):
        config = PixelConfig(page=number)
        source = prepare(path, images, tmp_path / "cache", pixels=config)
        np.testing.assert_array_equal(source[0].pixels(config), pages[number])
