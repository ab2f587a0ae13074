"""Pictures of one, two, four and more channels: files, transforms, batches, first convolution and a run."""

import dataclasses
import io
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_helpers import annotation, content, write
from detectors import random_model, small_config
from flax import nnx
from picture_files import png16, tiff
from PIL import Image
from small_runs import run_tiny, tiny_config

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import Config, ConfigError, DataConfig, PixelConfig
from jaxmaskrcnn.convert.backbone import fill_backbone
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.array_pixels import pixel_array
from jaxmaskrcnn.data.augment.geometry import rotate_image
from jaxmaskrcnn.data.images import check_header, check_image, decode_image, used_range
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.normalise import normalise_pixels
from jaxmaskrcnn.ops.resize import resize_image
from jaxmaskrcnn.visualize.drawing import draw_detections

VALUES = np.random.default_rng(0).integers(0, 256, (32, 40, 4)).astype(np.uint8)
WIDE = np.random.default_rng(1).integers(0, 65536, (32, 40, 4)).astype(np.uint16)
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def settings(channels: int, **others) -> dict:
    """Settings of a model for pictures of so many channels."""
    statistics = {name: tuple(20.0 * (i + 2) for i in range(channels)) for name in ("mean", "std")}
    return {
        "input.pixels.channels": channels,
        "input.pixel_mean": statistics["mean"],
        "input.pixel_std": statistics["std"],
        **others,
    }


def png(values) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_files_of_eight_bits(channels, tmp_path):
    values, config = VALUES[..., :channels], PixelConfig(channels=channels)
    data = png(values)
    check_image(data, (32, 40), name="a", pixels=config)
    (tmp_path / "a.png").write_bytes(data)
    check_header(tmp_path / "a.png", (32, 40), name="a", pixels=config)
    np.testing.assert_array_equal(decode_image(data, pixels=config), values)
    np.testing.assert_array_equal(decode_image(Image.open(io.BytesIO(data)), pixels=config), values)
    assert decode_image(data).shape == (32, 40, 3)  # as before


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("intensity", ["dtype", "range"])
def test_files_of_sixteen_bits(channels, intensity):
    limits = (0, 65535) if intensity == "dtype" else (1000, 40000)
    config = PixelConfig(
        channels=channels, intensity=intensity, intensity_range=limits if intensity == "range" else ()
    )
    values = WIDE[..., :channels].astype(np.float64)
    expected = np.rint(np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1) * 255)
    files = [png16(WIDE[..., :channels])]
    if channels == 4:
        files.append(tiff(WIDE, tags=[{338: 2}]))
    for data in files:
        check_image(data, (32, 40), name="a", pixels=config)
        np.testing.assert_array_equal(decode_image(data, pixels=config), expected)


def test_colours_become_grey_by_luma_and_grey_stays():
    rgb, config = VALUES[..., :3], PixelConfig(channels=1)
    expected = np.rint(rgb.astype(np.float64) @ (0.299, 0.587, 0.114))
    found = decode_image(png(rgb), pixels=config)
    assert found.shape == (32, 40, 1) and abs(found[..., 0] - expected).max() <= 1
    np.testing.assert_array_equal(pixel_array(rgb, config, "it"), found)
    grey = np.repeat(VALUES[..., :1], 3, axis=2)
    np.testing.assert_array_equal(decode_image(png(grey), pixels=config), grey[..., :1])


@pytest.mark.parametrize(("channels", "given"), [(2, 1), (2, 3), (4, 3), (4, 2)])
def test_files_without_the_other_channel_are_refused(channels, given, tmp_path):
    data, config = png(VALUES[..., :given]), PixelConfig(channels=channels)
    (tmp_path / "a.png").write_bytes(data)
    Image.fromarray(VALUES[..., :3]).save(tmp_path / "a.jpg")
    message = rf"the channels .*, but pictures have {channels} \(input.pixels.channels\); save it as PNG with"
    for call in (
        lambda: decode_image(data, pixels=config),
        lambda: check_image(data, (32, 40), name="a", pixels=config),
        lambda: check_header(tmp_path / "a.png", (32, 40), name="a", pixels=config),
        lambda: check_header(tmp_path / "a.jpg", (32, 40), name="a", pixels=config),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_grey_of_sixteen_bits_with_alpha_has_two_channels():
    """Pillow opens it as colours with alpha."""
    with pytest.raises(UserError, match="the channels L, A, but pictures have 4"):
        decode_image(png16(WIDE[..., :2]), pixels=PixelConfig(channels=4))


def test_arrays():
    for channels in (1, 2, 4):
        config, values = PixelConfig(channels=channels), VALUES[..., :channels]
        assert pixel_array(values, config, "it") is values
        np.testing.assert_array_equal(pixel_array(values / 255, config, "it"), values)
        with pytest.raises(UserError, match=f"input.pixels.channels of the model is {channels}; give"):
            pixel_array(VALUES[..., :3] if channels != 1 else VALUES[..., :2], config, "it")
    assert pixel_array(VALUES[..., 0], PixelConfig(channels=1), "it").shape == (32, 40, 1)


@pytest.mark.parametrize("kernel", ["torch", "pil", "cv2", "skimage"])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_do_not_mix(channels, kernel):
    """Each channel is resized and turned as if it were a picture of its own, transparent or not."""
    values = np.concatenate([VALUES, VALUES[..., :1].max() - VALUES[..., :1]], axis=2)[..., :channels]
    own = [np.repeat(values[..., [c]], 3, axis=2) for c in range(channels)]
    found = resize_image(values, (20, 50), kernel)
    expected = [resize_image(picture, (20, 50), kernel)[..., 0] for picture in own]
    np.testing.assert_array_equal(found, np.stack(expected, axis=-1))
    fill = [7, 8, 9, 10, 11][:channels]
    found = rotate_image(values, 20.0, fill)
    expected = [rotate_image(picture, 20.0, [fill[c]] * 3)[..., 0] for c, picture in enumerate(own)]
    np.testing.assert_array_equal(found, np.stack(expected, axis=-1))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_batches(channels):
    config = small_config(**settings(channels))
    values = VALUES[..., :channels]
    batch = jmr.make_batch(config, [values])
    resized = resize_image(values, tuple(batch.image_sizes[0]), config.input.resize_kernel)
    mean = np.float32(config.input.pixel_mean)
    height, width = batch.image_sizes[0]
    np.testing.assert_allclose(batch.images[0, :height, :width], (resized - mean) / mean, atol=1e-5)
    assert batch.images.shape[3] == channels and normalise_pixels(values, config).shape == values.shape
    device = normalise_pixels(jnp.asarray(values), config)
    np.testing.assert_allclose(device, normalise_pixels(values, config), atol=1e-5)
    assert draw_detections(values, {"boxes": [], "labels": []}).mode == "RGB"


STACK = np.random.default_rng(2).integers(0, 60000, (5, 32, 40)).astype(np.uint16)


def pages(channels=5, **others):
    return PixelConfig(channels=channels, pages="channels", **others)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pages_are_channels(channels, kind, tmp_path):
    """In their order, of 8 and 16 bits, from bytes, paths and PIL images, and from arrays."""
    values = (STACK[:channels] >> (8 if kind == np.uint8 else 0)).astype(kind)
    expected = np.rint(values.transpose(1, 2, 0) / np.iinfo(kind).max * 255).astype(np.uint8)
    data, config = tiff(*values), pages(channels)
    (tmp_path / "a.tif").write_bytes(data)
    check_image(data, (32, 40), name="a", pixels=config)
    check_header(tmp_path / "a.tif", (32, 40), name="a", pixels=config)
    for source in (data, tmp_path / "a.tif", str(tmp_path / "a.tif"), Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(decode_image(source, size=(32, 40), pixels=config), expected)
    np.testing.assert_array_equal(pixel_array(values.transpose(1, 2, 0), config, "it"), expected)


def test_each_page_has_an_intensity_of_its_own():
    """A faint stain beside a bright one."""
    faint = STACK.copy()
    faint[1] //= 100
    config = pages(intensity="percentile")
    found = decode_image(tiff(*faint), pixels=config)
    assert (found.max((0, 1)) == 255).all() and (found.min((0, 1)) == 0).all()
    alone = decode_image(tiff(faint[1]), pixels=PixelConfig(channels=1, intensity="percentile"))
    np.testing.assert_array_equal(found[..., [1]], alone)
    np.testing.assert_array_equal(pixel_array(faint.transpose(1, 2, 0), config, "it"), found)
    assert used_range(tiff(*faint), name="a", pixels=config) == pytest.approx(60000 / 65535, rel=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            tiff(*STACK[:4]),
            r"a.tif has 4 pages, but pictures have 5 channels, one a page \(input.pixels.pages\)",
        ),
        (png(VALUES[..., :3]), "a.tif has 1 page, but pictures have 5 channels"),
        (tiff(STACK[0], *[VALUES[..., :3]] * 4), "the channels R, G, B in its page 1, but each page is one"),
        (tiff(STACK[0], tags=[{270: "ImageJ=1.5\nimages=5\n"}]), "a stack of 5 pictures, of which programs"),
        (tiff(*STACK[:4], STACK[4][:20]), "is 40 x 20 pixels .* but its annotations are for 40 x 32"),
        (tiff(*STACK)[:-3000], "a.tif cannot be decoded"),
    ],
)
def test_files_with_other_pages_are_refused(data, message, tmp_path):
    (tmp_path / "a.tif").write_bytes(data)
    for call in (
        lambda: decode_image(tmp_path / "a.tif", size=(32, 40), pixels=pages()),
        lambda: check_image(data, (32, 40), name="a.tif", pixels=pages()),
        lambda: check_header(tmp_path / "a.tif", (32, 40), name="a.tif", pixels=pages()),
    ):
        if "cannot be decoded" in message and call.__code__.co_names[0] == "check_header":
            continue  # it decodes nothing
        with pytest.raises(UserError, match=message):
            call()


def test_pages_from_a_decoded_picture_and_settings_without_a_meaning_are_refused():
    with pytest.raises(UserError, match="is decoded already, but pictures have 5 channels, one a page"):
        decode_image(Image.fromarray(VALUES[..., 0]), pixels=pages())
    with pytest.raises(UserError, match=r"channels of the model is 5; give \[height, width, 5\]\."):
        pixel_array(VALUES, pages(), "it")
    with pytest.raises(ConfigError, match="channels is 5, and a picture has 1 to 4 channels"):
        PixelConfig(channels=5)
    with pytest.raises(ConfigError, match="page is 1, but pages is 'channels', which reads every page"):
        pages().changed(page=1)
    config = tiny_config("unused", settings(3, **{"input.pixels.pages": "channels"}))
    config.data = dataclasses.replace(config.data, photometric=0.5)
    with pytest.raises(ConfigError, match="channels is 3 and pages is 'channels'; set it to 0"):
        config.check()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_first_convolution_from_weights_for_rgb(channels, caplog):
    """torchvision's ResNet in a file; for one channel a grey picture gives what three equal ones gave."""
    caplog.set_level(logging.INFO, logger="jaxmaskrcnn")
    rgb = random_model(small_config())
    wanted = {path: np.asarray(v[...]) for path, v in variables_by_path(rgb.backbone.body).items()}
    arrays = {
        path.replace(".kernel", ".weight").replace(".scale", ".weight").replace("mean", "running_mean")
        .replace("var", "running_var").replace("downsample.conv", "downsample.0")
        .replace("downsample.bn", "downsample.1"):
        value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        for path, value in wanted.items()
    }  # fmt: skip
    model = random_model(small_config(**settings(channels)), seed=1)
    fill_backbone(model, SourceFile(path="r18.pth", arrays=arrays, attributes={}))
    kernel, old = np.asarray(model.backbone.body.conv1.kernel[...]), wanted["conv1.kernel"]
    if channels == 1:
        expected = old.sum(2, keepdims=True)
    else:
        expected = old[:, :, [0, 1, 2, 0][:channels]] * (3 / channels)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    assert f"has kernels of 3 channels, and of {channels} here" in caplog.text
    other = variables_by_path(model.backbone.body)["layer1.0.conv1.kernel"][...]
    np.testing.assert_array_equal(other, wanted["layer1.0.conv1.kernel"])


def test_what_is_refused():
    with pytest.raises(ConfigError, match="pixel_mean has 3 values, but pixels.channels is 1; give one"):
        small_config(**{"input.pixels.channels": 1})
    with pytest.raises(ConfigError, match="pixel_std has 1 values, but pixels.channels is 3"):
        small_config(**{"input.pixel_std": (1.0,)})
    with pytest.raises(ConfigError, match="channel_order is 'bgr', but pixels.channels is 2"):
        small_config(**settings(2), **{"input.channel_order": "bgr"})
    with pytest.raises(ConfigError, match="pixels.channels is 4, but the backbone 'swin' reads pictures of"):
        jmr.model_config("mmdet/mask-rcnn_swin-t-p4-w7_fpn_1x_coco", **settings(4))
    config = tiny_config("unused", settings(1))
    config.data = dataclasses.replace(config.data, photometric=0.5)
    with pytest.raises(ConfigError, match="photometric is 0.5, which changes colours, but"):
        config.check()
    Config(model=config.model, data=DataConfig()).check()


def write_set(directory, channels):
    boxes = [annotation(i + 1, i // 2 + 1) for i in range(8)]
    path, images = write(directory, content(boxes, sizes=((32, 40),) * 4), files=False)
    for i in range(4):
        file = images / f"{i + 1}.png"
        if channels > 4:  # read by its content, not by its name
            file.write_bytes(tiff(*np.roll(STACK, i, 1)))
        else:
            Image.fromarray(np.roll(VALUES, i, 0)[..., :channels].squeeze()).save(file)
    return path, images


@pytest.mark.slow  # a run for each
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_a_run(channels, tmp_path):
    """Trained, evaluated, stored and loaded; the result depends on every channel."""
    path, images = write_set(tmp_path, channels)
    config = tiny_config(
        tmp_path / "cache",
        settings(channels, **({"input.pixels.pages": "channels"} if channels > 4 else {})),
        data__source="coco", data__train_annotations=str(path), data__train_images=str(images),
        data__eval_annotations=str(path), data__eval_images=str(images), data__rotate=20.0,
        train__steps=2, train__eval_every=2,
    )  # fmt: skip
    run_tiny(config, tmp_path / "run")
    model = jmr.load_model(tmp_path / "run")
    assert model.config.input.pixels.channels == channels
    assert model.backbone.body.conv1.kernel.shape[2] == channels
    batch = jmr.make_batch(model, [images / "1.png"])
    graphdef, state = nnx.split(model)
    gradient = jax.jit(jax.grad(lambda x: nnx.merge(graphdef, state).backbone(x)[0].sum()))(batch.images)
    assert (abs(gradient).max((0, 1, 2)) > 0).all()
    (prediction,) = jmr.Predictor(model).stream([images / "1.png"])
    assert prediction.pixels.shape == (32, 40, channels)
    source = prepare(path, images, tmp_path / "other", pixels=model.config.input.pixels)
    np.testing.assert_array_equal(source[0].pixels(model.config.input.pixels), prediction.pixels)
