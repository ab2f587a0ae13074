"""The quick reading of JPEG headers: it knows what Pillow knows, and nothing that Pillow refuses."""

import io
import random

import pytest
from PIL import Image

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.images import ImageSizeError, check_header
from jaxmaskrcnn.data.jpeg_header import plain_jpeg_size
from jaxmaskrcnn.errors import UserError


def jpeg(mode="RGB", size=(9, 6), **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, "JPEG", **options)
    return file.getvalue()


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


KNOWN = {
    "RGB": jpeg(), "grey": jpeg("L"), "CMYK": jpeg("CMYK"), "progressive": jpeg(progressive=True),
    "profile": jpeg(icc_profile=b"x" * 3000), "comment": jpeg(comment=b"hello"), "dpi": jpeg(dpi=(72, 72)),
    "large": jpeg("L", (2000, 1500), quality=1),
}  # fmt: skip
OTHERS = {
    "EXIF": jpeg(exif=exif()), "XMP": jpeg(xmp=b"<x/>"), "a long profile": jpeg(icc_profile=b"x" * 40_000),
    "no JPEG": b"\x89PNG", "nothing": b"", "cut off": jpeg()[:200],
    "a fill byte": jpeg()[:2] + b"\xff" + jpeg()[2:],
}  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_the_size_is_pillows(case, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(KNOWN[case])
    with Image.open(path) as image:
        assert plain_jpeg_size(path) == (image.height, image.width)


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_known_is_left_to_pillow(case, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(OTHERS[case])
    assert plain_jpeg_size(path) is None
    assert plain_jpeg_size(tmp_path / "missing.jpg") is None


def test_nothing_is_known_that_pillow_refuses(tmp_path):
    """Of a thousand damaged files, those of which a size is told are opened by Pillow, with that size."""
    rng = random.Random(0)
    path, told, refused = tmp_path / "a.jpg", 0, 0
    whole = [data for data in (*KNOWN.values(), *OTHERS.values()) if len(data) > 100]
    for _ in range(1000):
        data = bytearray(rng.choice(whole)[:700])
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(data))
            kind = rng.random()
            if kind < 0.6:
                data[place] = rng.choice([0, 1, 2, 8, 16, 65, 67, 255, 0xDA, 0xC0, rng.randrange(256)])
            elif kind < 0.8:
                del data[place : place + rng.randint(1, 4)]
            else:
                data[place:place] = rng.randbytes(rng.randint(1, 4))
        path.write_bytes(data)
        found = plain_jpeg_size(path)
        try:
            with Image.open(path) as image:
                opened = image.height, image.width
        except Exception:  # whatever Pillow raises
            opened = None
        assert found in (None, opened)
        told += found is not None
        refused += opened is None
    assert told > 100 and refused > 100


def test_sizes_that_differ_and_limits_are_told_as_ever(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    check_header(path, (6, 9), name="a.jpg", pixels=PixelConfig())
    with pytest.raises(ImageSizeError, match=r"a\.jpg is 9 x 6 pixels"):
        check_header(path, (9, 6), name="a.jpg", pixels=PixelConfig())
    with pytest.raises(UserError, match="max_pixels is 50"):
        check_header(path, (6, 9), name="a.jpg", pixels=PixelConfig(max_pixels=50))
    with pytest.raises(UserError, match="no page 1"):
        check_header(path, (6, 9), name="a.jpg", pixels=PixelConfig(page=1))
