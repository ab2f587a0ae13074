"""Kinds of TIFF whose values or channels Pillow takes for something else."""

import numpy as np
import pytest
from picture_files import tiff

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.images import check_header, check_image, decode_image
from jaxmaskrcnn.errors import UserError

GREY = np.arange(54).reshape(6, 9)
RGBN = np.stack([GREY, GREY + 50, GREY + 100, GREY + 150], -1).astype(np.uint8)
KINDS = {
    "signed bytes": (tiff(GREY.astype(np.int8) - 20), "signed pixels of 8 bits"),
    "two channels": (tiff(np.stack([GREY, GREY], -1).astype(np.uint8), tags=[{338: [0]}]), "2 channels"),
    "an unknown fourth": (tiff(RGBN, tags=[{338: [0]}]), "4 channels, and nothing says .* save these three"),
    "an unknown fourth of 16 bits": (tiff(RGBN.astype(np.uint16), tags=[{338: [0]}]), "4 channels"),
    "an unknown fourth plane": (tiff(RGBN, planar=True, tags=[{338: [0]}]), "4 channels"),
    "16 bits, 0 is white": (tiff(GREY.astype(np.uint16), tags=[{262: 0}]), "white as 0"),
    "floats, 0 is white": (tiff(GREY.astype(np.float32), tags=[{262: 0}]), "white as 0"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_would_be_misread_is_refused(kind, tmp_path):
    data, said = KINDS[kind]
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    pixels = PixelConfig(intensity="range", intensity_range=(0, 100))
    for read in (
        lambda: decode_image(data, name="a.tif", pixels=pixels),
        lambda: check_image(data, (6, 9), name="a.tif", pixels=pixels),
        lambda: check_header(path, (6, 9), name="a.tif", pixels=pixels),
    ):
        with pytest.raises(UserError, match=said):
            read()


def test_32_bits_without_a_sign_stay_positive():
    values = np.array([[0, 2**30, 2**31, 2**32 - 1]], np.uint32)
    pixels = PixelConfig(intensity="range", intensity_range=(0, 2**32 - 1))
    assert decode_image(tiff(values), name="a", pixels=pixels)[..., 0].tolist() == [[0, 64, 128, 255]]


@pytest.mark.parametrize("planar", [False, True])
def test_a_fourth_channel_that_is_alpha_is_dropped(planar, tmp_path):
    data = tiff(RGBN, planar=planar, tags=[{338: [2]}])
    np.testing.assert_array_equal(decode_image(data, name="a.tif"), RGBN[..., :3])
    check_image(data, (6, 9), name="a.tif")
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    check_header(path, (6, 9), name="a.tif", pixels=PixelConfig())
