"""Files that are no picture, or none that is read: the reason, and the way out."""

import importlib.util
import io
import sys

import numpy as np
import pytest
from picture_files import tiff
from PIL import Image, ImageOps

from jaxmaskrcnn.data.image_kinds import why_not_read
from jaxmaskrcnn.data.images import check_header, check_image, decode_image, upright_size
from jaxmaskrcnn.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 4096, (6, 9, 5)).astype(np.uint16)
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + b"\0" * 40
KINDS = {
    "empty": (b"", "is empty \\(0 bytes\\)"),
    "zero bytes": (b"\0" * 5000, "zero bytes alone"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "annex pointer": (b"/annex/objects/MD5E-s5--00.tif\n", "git annex get"),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in</body>", "is a web page"),
    "server's xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "json answer": (b'{"error": "quota"}', "json answer"),
    "SVG": (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "is an SVG drawing"),
    "NumPy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "is a NumPy array"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL"),
    "OpenEXR": (b"\x76\x2f\x31\x01\x02\0\0\0", "is an HDR picture"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "is an HDF5 file"),
    "archive": (b"PK\x03\x04\x14\0", "is an archive"),
    "DICOM file": (b"\0" * 128 + b"DICM\2\0\0\0UL", "is a DICOM file"),
    "NIfTI": (b"\x5c\1\0\0" + b"\0" * 340 + b"n+1\0", "is a NIfTI volume"),
    "video": (b"\0\0\0\x18ftypisom\0\0\2\0", "is a video"),
    "PDF": (b"%PDF-1.7\n", "is a PDF document"),
    "five bands": (tiff(PIXELS), "TIFF of 5 channels of 16 bits, unsigned, .*save one or three of them"),
    "two channels": (tiff(PIXELS[..., :2]), "TIFF of 2 channels of 16 bits"),
    "float colours": (tiff(PIXELS[..., :3].astype(np.float32)), "3 channels of 32 bits, floating-point"),
    "half floats": (tiff(PIXELS[..., 0].astype(np.float16)), "1 channel of 16 bits, floating-point"),
    "64 bits": (tiff(PIXELS[..., 0].astype(np.uint64)), "1 channel of 64 bits, unsigned"),
    "five bands, big-endian": (tiff(PIXELS, order=">"), "TIFF of 5 channels of 16 bits"),
    "unknown compression": (tiff(PIXELS[..., 0], tags=[{259: 34925 + 9}]), "compressed by method 34934"),
    "cut TIFF": (tiff(PIXELS[..., 0])[:60], "is a damaged TIFF"),
    "text": (b"hello", "is no picture of a known format"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", KINDS)
def test_the_reason_is_named(tmp_path, kind):
    data, said = KINDS[kind]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for read in (
        lambda: decode_image(data, name=str(path)),
        lambda: decode_image(path),
        lambda: check_image(data, (6, 9), name=str(path)),
        lambda: check_header(path, (6, 9), name=str(path)),
        lambda: upright_size(path),
    ):
        with pytest.raises(UserError, match=f"a.jpg cannot be decoded: it .*{said}") as error:
            read()
        assert "; " in str(error.value) and "\n" not in str(error.value)


def test_truncated_beginnings_never_raise_anything_else():
    for data, _ in KINDS.values():
        for length in range(0, min(len(data), 600), 7):
            assert isinstance(why_not_read(data[:length]), str)


def test_heic_without_its_reader(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"a.heic .* it is HEIC.*pip install 'jaxmaskrcnn\[heif\]'"):
        decode_image(HEIC, name="a.heic")


@pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="the extra [heif] is not installed"
)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic(tmp_path, orientation):
    import pillow_heif

    pillow_heif.register_heif_opener()
    y, x = np.mgrid[:64, :96]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.heic"
    picture = Image.fromarray(np.stack([2 * y, 2 * x, x + y], -1).astype(np.uint8))
    picture.save(path, quality=95, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes()))))
    np.testing.assert_array_equal(decode_image(path), expected)
    assert upright_size(path) == expected.shape[:2]
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_image(path.read_bytes()[:300])
