"""Pictures of more than 8 bits: what becomes black and white, for training, evaluation and prediction."""

import io

import numpy as np
import pytest
from data_helpers import annotation, content, write
from detectors import random_model, small_config
from picture_files import png16, tiff
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import Config, ConfigError, DataConfig, PixelConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.images import check_image, decode_image, used_range
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.data.inspection.report import as_text
from jaxmaskrcnn.data.load_batch import LoadBatch
from jaxmaskrcnn.data.sampler import eval_plans
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.run_config import pixel_config

TWELVE = np.random.default_rng(0).integers(100, 4096, (32, 40, 3)).astype(np.uint16)
PERCENTILE = PixelConfig(intensity="percentile")
RANGE = PixelConfig(intensity="range", intensity_range=(0, 4095))


def by_range(values, low, high):
    values = np.asarray(values, np.float64)
    scaled = np.rint(np.clip((values - low) / (high - low) * 255, 0, 255)).astype(np.uint8)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3))


def lzw(order: str) -> bytes:
    """Compressed files are decoded by libtiff, which exchanges bytes itself."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(tiff(TWELVE[..., 0], order=order))) as image:
        image.save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()


ALPHA = np.concatenate([TWELVE, TWELVE[..., :1]], -1)
FILES = {
    "grey PNG": (png16(TWELVE[..., :1]), TWELVE[..., :1]),
    "grey PNG with alpha": (png16(TWELVE[..., :2]), TWELVE[..., :1]),
    "RGB PNG": (png16(TWELVE), TWELVE),
    "RGBA PNG": (png16(ALPHA), TWELVE),
    "grey TIFF": (tiff(TWELVE[..., 0]), TWELVE[..., :1]),
    "grey TIFF, big-endian": (tiff(TWELVE[..., 0], order=">"), TWELVE[..., :1]),
    "grey TIFF, lzw": (lzw("<"), TWELVE[..., :1]),
    "RGB TIFF": (tiff(TWELVE), TWELVE),
    "RGB TIFF, big-endian": (tiff(TWELVE, order=">"), TWELVE),
    "RGB TIFF, planes": (tiff(TWELVE, planar=True), TWELVE),
    "RGB TIFF, planes, big-endian": (tiff(TWELVE, planar=True, order=">"), TWELVE),
    "RGBA TIFF": (tiff(ALPHA, tags=[{338: 2}]), TWELVE),
    "signed TIFF": (tiff(TWELVE[..., 0].astype(np.int16)), TWELVE[..., :1]),
    "32-bit TIFF": (tiff(TWELVE[..., 0].astype(np.int32)), TWELVE[..., :1]),
}


@pytest.mark.parametrize("kind", FILES)
def test_twelve_bits_in_sixteen(kind):
    data, values = FILES[kind]
    np.testing.assert_array_equal(decode_image(data, pixels=RANGE), by_range(values, 0, 4095))
    limits = np.percentile(values, (0.1, 99.9))
    np.testing.assert_array_equal(decode_image(data, pixels=PERCENTILE), by_range(values, *limits))
    # Of the type's range, a sixteenth: nearly black, as Pillow has it too.
    dark = decode_image(data)
    assert dark.max() <= 16
    assert abs(dark - values / 257).max() <= 1
    for config in (PixelConfig(), PERCENTILE, RANGE):
        check_image(data, (32, 40), name="a", pixels=config)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode_image(image, pixels=RANGE), by_range(values, 0, 4095))


def test_values_outside_of_the_range_are_cut():
    values = np.array([[0, 100, 150, 200, 60000]], np.uint16)
    config = PixelConfig(intensity="range", intensity_range=(100, 200))
    assert decode_image(png16(values[..., None]), pixels=config)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_floats_and_negative_values_need_a_range():
    floats = np.linspace(-1, 3, 1280, dtype=np.float32).reshape(32, 40)
    signed = np.linspace(-1000, 3000, 1280).astype(np.int16).reshape(32, 40)
    for values, low, high, said in (
        (floats, 0, 1, "holds floating-point pixels"),
        (signed, -200, 1000, r"pixel values beyond 16 bits \(-1000 to 3000"),
        (signed.astype(np.int32) * 100, 0, 65536, r"beyond 16 bits \(-100000 to 300000"),
    ):
        data = tiff(values)
        for read in (
            lambda d: decode_image(d, name="a.tif"),
            lambda d: check_image(d, (32, 40), name="a.tif"),
        ):
            with pytest.raises(UserError, match=rf"a.tif .*{said}.*intensity=range.*percentile"):
                read(data)
        config = PixelConfig(intensity="range", intensity_range=(low, high))
        np.testing.assert_array_equal(
            decode_image(data, pixels=config), by_range(values[..., None], low, high)
        )
        expected = by_range(values[..., None], *np.percentile(values, (0.1, 99.9)))
        assert abs(decode_image(data, pixels=PERCENTILE).astype(int) - expected).max() <= 1


def test_what_is_not_finite_changes_nothing_else():
    values = np.linspace(0, 1, 1280, dtype=np.float32).reshape(32, 40)
    holes = values.copy()
    holes[3, 4], holes[5, 6], holes[7, 8] = np.nan, np.inf, -np.inf
    decoded = decode_image(tiff(holes), pixels=PERCENTILE)[..., 0]
    assert (decoded[3, 4], decoded[5, 6], decoded[7, 8]) == (0, 255, 0)
    expected = by_range(values[..., None], *np.percentile(values, (0.1, 99.9)))[..., 0]
    assert (abs(decoded.astype(int) - expected) <= 1).mean() > 0.997
    assert not decode_image(tiff(np.full((4, 4), np.nan, np.float32)), pixels=PERCENTILE).any()


def test_pictures_of_one_value_and_of_few_others():
    flat = np.full((64, 80, 1), 700, np.uint16)
    assert not decode_image(png16(flat), pixels=PERCENTILE).any()
    flat[5, 7] = 3000  # a single bright pixel is beyond the percentile
    decoded = decode_image(png16(flat), pixels=PERCENTILE)[..., 0]
    assert decoded[5, 7] == 255 and decoded.sum() == 255
    flat[6, 7] = 1620  # and so is another one
    decoded = decode_image(png16(flat), pixels=PERCENTILE)[..., 0]
    assert decoded[5, 7] == 255 and decoded[6, 7] == 102 and decoded.sum() == 357


def test_eight_bits_are_taken_as_they_are():
    pixels = np.random.default_rng(1).integers(0, 64, (32, 40, 3), dtype=np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
        file = io.BytesIO()
        image.save(file, "PNG")
        expected = np.asarray(image.convert("RGB"))
        for config in (PixelConfig(), PERCENTILE, RANGE):
            np.testing.assert_array_equal(decode_image(file.getvalue(), pixels=config), expected)
        assert used_range(file.getvalue(), name="a") is None


def test_colours_whose_lower_bytes_are_not_read_are_refused_where_it_matters():
    data = tiff(ALPHA, tags=[{338: 1}])  # premultiplied
    assert decode_image(data).shape == (32, 40, 3)
    for read in (
        lambda: decode_image(data, pixels=RANGE),
        lambda: check_image(data, (32, 40), name="the image", pixels=RANGE),
    ):
        with pytest.raises(UserError, match="the image has colours of 16 bits in an arrangement"):
            read()
    assert used_range(data, name="a") is None


# -- the settings


def test_the_settings_fit_each_other():
    for fields, said in (
        ({"intensity": "range"}, "give the two values"),
        ({"intensity": "range", "intensity_range": (5, 5)}, "the smaller one first"),
        ({"intensity": "range", "intensity_range": (1, 2, 3)}, "give the two values"),
        ({"intensity_range": (0, 4095)}, "has no effect with intensity 'dtype'"),
        ({"intensity": "auto"}, "give 'dtype' or 'percentile' or 'range'"),
        ({"page": -2}, "a whole number of at least -1"),
    ):
        with pytest.raises(ConfigError, match=said):
            PixelConfig(**fields)


def test_a_run_changes_the_settings_of_its_model():
    config = Config()
    assert pixel_config(config) == PixelConfig()
    config.data.intensity = "percentile"
    assert pixel_config(config) == PERCENTILE
    config.model.architecture = config.model.architecture.replace({"input.pixels": RANGE})
    assert pixel_config(config) == PERCENTILE
    config.data.intensity = ""
    assert pixel_config(config) == RANGE
    config.data.intensity, config.data.page = "range", 2
    assert pixel_config(config) == PixelConfig(intensity="range", intensity_range=(0, 4095), page=2)
    config.data.intensity_range = (0, 1)
    assert pixel_config(config).intensity_range == (0, 1)
    config.data.intensity = "dtype"
    with pytest.raises(ConfigError, match="has no effect"):
        pixel_config(config)


def write_twelve_bits(directory):
    path, images = write(directory, content([annotation(), annotation(2, 2)], sizes=((32, 40), (32, 40))))
    (images / "1.png").write_bytes(png16(TWELVE[..., :1]))
    (images / "2.png").write_bytes(png16(TWELVE))
    return path, images


@pytest.mark.slow
def test_training_evaluation_and_prediction_see_the_same_pixels(tmp_path):
    path, images = write_twelve_bits(tmp_path)
    model = random_model(small_config(num_classes=1, **{"input.pixels": RANGE}))
    jmr.save_model(model, tmp_path / "model")
    model = jmr.load_model(tmp_path / "model")
    assert model.config.input.pixels == RANGE
    source = prepare(path, images, tmp_path / "cache", pixels=RANGE)
    seen = {}
    predictor = jmr.Predictor(model)
    for i, (name, values) in enumerate((("1.png", TWELVE[..., :1]), ("2.png", TWELVE))):
        expected = by_range(values, 0, 4095)
        np.testing.assert_array_equal(source[i].pixels(RANGE), expected)
        np.testing.assert_array_equal(LoadBatch(source, model.config, 4)._pixels(source[i]), expected)
        (prediction,) = predictor.stream([images / name])
        np.testing.assert_array_equal(prediction.pixels, expected)
        seen[name] = expected
    config = model.config.replace({"input.resize_kernel": "pil", "input.normalise_before_resize": False})
    size = {"input.test_min_size": 32, "input.test_max_size": 40}
    config = config.replace(size)
    for plan in eval_plans(source, config, DataConfig()):
        batch = LoadBatch(source, config, None)(plan)
        for row, index in zip(batch.images, batch.index, strict=True):
            np.testing.assert_array_equal(row[:32, :40], seen[source.file_names[index]])


def test_inspection_points_at_pictures_that_become_black(tmp_path):
    path, images = write_twelve_bits(tmp_path)
    found = inspect_annotations(path, images)
    assert not found.problems
    assert found.summary["suspicion_counts"] == {"dark 16-bit picture": 2}
    text = as_text(found)
    assert "dark 16-bit picture: 2" in text and "--config.data.intensity=percentile" in text
    share = np.percentile(TWELVE[..., 0], 99.9) / 65535
    assert f"image 1 (1.png) uses {share:.2%} of the range" in text
    for config in (PERCENTILE, RANGE):
        assert not inspect_annotations(path, images, pixels=config).suspicions
    (images / "1.png").write_bytes(png16(TWELVE[..., :1] * 16))
    (images / "2.png").write_bytes(png16(TWELVE * 3))
    assert not inspect_annotations(path, images).suspicions


ANY = (
    PixelConfig(),
    PixelConfig(intensity="percentile"),
    PixelConfig(intensity="range", intensity_range=(0, 255)),
)


@pytest.mark.parametrize("pixels", ANY, ids=lambda pixels: pixels.intensity)
def test_signed_bytes_and_inverted_values_are_refused(pixels):
    """Pillow gives -128 as 128, and leaves white as 0 with more than 8 bits."""
    white_is_zero = [{262: 0}]
    cases = (
        (tiff(np.array([[-128, -1], [0, 127]], np.int8)), "signed pixels of 8 bits"),
        (tiff(np.array([[0, 4095]], np.uint16), tags=white_is_zero), "white as 0 .MinIsWhite. with 16 bits"),
        (tiff(np.array([[0, 0.5]], np.float32), tags=white_is_zero), "white as 0 .MinIsWhite. with 32 bits"),
    )
    for data, words in cases:
        for read in (decode_image, lambda d, **k: check_image(d, (1, 2), **k)):
            with pytest.raises(UserError, match=f"x.tif .*{words}"):
                read(data, name="x.tif", pixels=pixels)


def test_white_as_zero_of_eight_bits_is_inverted():
    data = tiff(np.array([[0, 255, 55]], np.uint8), tags=[{262: 0}])
    assert decode_image(data)[0, :, 0].tolist() == [255, 0, 200]


def test_whole_numbers_of_32_bits_have_no_sign():
    values = np.array([[0, 1000, 2**31 - 1, 2**31, 3_000_000_000, 4_000_000_000]], np.uint32)
    pixels = PixelConfig(intensity="range", intensity_range=(0, 4e9))
    got = decode_image(tiff(values), pixels=pixels)[0, :, 0]
    np.testing.assert_array_equal(got, np.rint(values[0] * (255 / 4e9)))
    signed = np.array([[-1000, 0, 1000]], np.int32)
    pixels = PixelConfig(intensity="range", intensity_range=(-1000, 1000))
    assert decode_image(tiff(signed), pixels=pixels)[0, :, 0].tolist() == [0, 128, 255]
