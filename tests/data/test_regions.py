"""Large TIFF files read by regions: the same pixels as the whole file, and little memory."""

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.regions import LARGE, Regions, open_regions
from jaxmaskrcnn.errors import UserError

tifffile = pytest.importorskip("tifffile", reason="the extra [large] is not installed")
HEIGHT, WIDTH = 700, 960


@pytest.fixture(scope="module")
def picture():
    """A picture in which no two regions are alike."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x % 251, y % 241, (x // 16 + y // 16) % 256], -1).astype(np.uint8)


WINDOWS = [(0, 0, 40, 50), (10, 900, 700, 960), (650, 0, 700, 300), (300, 400, 360, 470)]


def opened(path, pixels=DEFAULT_PIXELS):
    return open_regions(path, pixels, least=WIDTH * HEIGHT)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (256, 512)},
        {"tile": (512, 256), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 32, "compression": "lzw"},
        {"rowsperstrip": 64},
        {"tile": (256, 256), "bigtiff": True},
    ],
)
def test_regions_are_parts_of_the_picture(options, picture, tmp_path):
    path = tmp_path / "large.tif"
    file = {key: options.pop(key) for key in ("bigtiff",) if key in options}
    with tifffile.TiffWriter(path, **file) as writer:
        writer.write(picture, photometric="rgb", metadata=None, **options)
    regions = opened(path)
    assert regions is not None and regions.shape == picture.shape and regions.dtype == np.uint8
    for y0, x0, y1, x1 in WINDOWS:
        np.testing.assert_array_equal(regions[y0:y1, x0:x1], picture[y0:y1, x0:x1])


def test_grey_and_alpha_are_read_as_the_whole_is(picture, tmp_path):
    grey, alpha = tmp_path / "grey.tif", tmp_path / "alpha.tif"
    tifffile.imwrite(grey, picture[..., 2], photometric="minisblack", tile=(256, 256), metadata=None)
    tifffile.imwrite(
        alpha, np.dstack([picture, picture[..., 0]]), photometric="rgb", tile=(256, 256),
        extrasamples=["unassalpha"], metadata=None,
    )  # fmt: skip
    for path in (grey, alpha):
        regions, whole = opened(path), decode_image(path)
        for y0, x0, y1, x1 in WINDOWS:
            np.testing.assert_array_equal(regions[y0:y1, x0:x1], whole[y0:y1, x0:x1])
    np.testing.assert_array_equal(np.asarray(opened(grey))[..., 1], picture[..., 2])


def test_jpeg_in_tiff_differs_by_rounding_alone(picture, tmp_path):
    path = tmp_path / "jpeg.tif"
    smooth = np.asarray(Image.fromarray(picture[::40, ::40]).resize((WIDTH, HEIGHT)))
    tifffile.imwrite(
        path, smooth, photometric="rgb", tile=(256, 256), compression="jpeg",
        compressionargs={"level": 95, "outcolorspace": "ycbcr"}, metadata=None,
    )  # fmt: skip
    regions, whole = opened(path), decode_image(path)
    for y0, x0, y1, x1 in WINDOWS:
        difference = regions[y0:y1, x0:x1].astype(int) - whole[y0:y1, x0:x1]
        assert abs(difference).max() <= 2


def test_what_has_to_be_decoded_whole(picture, tmp_path):
    """Turned, of 16 bits, with an alpha that is multiplied in, in planes, small, or no TIFF."""
    small = picture[:100, :100]
    turned = {"extratags": [(274, "H", 1, 6, True)], "photometric": "rgb"}
    cases = {
        "turned": (picture, turned),
        "planes": (picture.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        "wide": (picture[..., 0].astype(np.uint16), {"photometric": "minisblack"}),
        "small": (small, {"photometric": "rgb", "tile": (16, 16)}),
        "multiplied": (
            np.dstack([picture, picture[..., 0]]), {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        ),
    }  # fmt: skip
    for name, (values, options) in cases.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", values, metadata=None, **options)
        assert opened(tmp_path / f"{name}.tif") is None, name
    Image.fromarray(small).save(tmp_path / "small.png")
    assert opened(tmp_path / "small.png") is None


def test_pages_are_chosen_as_for_the_whole(picture, tmp_path):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (picture, 255 - picture):
            writer.write(page, photometric="rgb", tile=(512, 512), metadata=None)
    with pytest.raises(UserError, match="has 2 pages"):
        opened(path)
    regions = opened(path, PixelConfig(page=1))
    np.testing.assert_array_equal(regions[9:20, 5:30], 255 - picture[9:20, 5:30])


def test_a_cut_file_is_refused_where_it_is_cut(picture, tmp_path):
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, photometric="rgb", rowsperstrip=32, metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    regions = opened(path)
    np.testing.assert_array_equal(regions[:50, :50], picture[:50, :50])
    with pytest.raises(UserError, match=r"cut.tif (ends within its pixels|cannot be decoded)"):
        regions[690:700, :50]


def test_decoded_parts_are_kept_up_to_a_limit(picture, tmp_path):
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, picture, photometric="rgb", rowsperstrip=100, metadata=None)
    with tifffile.TiffFile(path) as file:
        regions = Regions(path, file.pages[0].aspage(), kept=picture.nbytes // 2)
    for top in [*range(0, HEIGHT, 100), 0]:
        np.testing.assert_array_equal(regions[top : top + 10, :10], picture[top : top + 10, :10])
        assert 0 < regions.kept_bytes <= picture.nbytes // 2


def test_small_files_are_decoded_whole_by_default(picture, tmp_path):
    path = tmp_path / "small.tif"
    tifffile.imwrite(path, picture, photometric="rgb", tile=(256, 256), metadata=None)
    assert open_regions(path) is None and LARGE > WIDTH * HEIGHT
