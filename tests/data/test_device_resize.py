"""Images resized on the device, beside the host's, which are the libraries' to the last bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_helpers import random_set
from detectors import random_model, small_config

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare, train_iterator
from jaxmaskrcnn.data.device_resize import gather_raw
from jaxmaskrcnn.data.preprocess import resize_for
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.inputs import network_input, normalise, resize_matrix
from jaxmaskrcnn.structures import Batch

# Enlarged, shrunk by less and by more than a half, one axis of each, left alone, a single pixel.
SIZES = [((24, 36), (40, 60)), ((50, 33), (37, 24)), ((64, 90), (20, 28)), ((30, 64), (60, 20)),
         ((31, 17), (31, 17)), ((1, 1), (5, 9))]  # fmt: skip
CANVAS = (64, 64)
INPUT = jax.jit(network_input, static_argnames="config")


def config(kernel, **more):
    return (
        ModelConfig()
        .replace(more)
        .replace({"input.resize_kernel": kernel, "input.normalise_before_resize": kernel == "torch"})
    )


def batch_of(images, new_sizes, flips):
    sizes = np.asarray(new_sizes, np.int32)
    empty = np.zeros((len(images), *CANVAS, 0), np.uint8)
    count = len(images)
    return Batch(
        empty, sizes, sizes, sizes, np.arange(count), np.ones(count, bool), None, gather_raw(images, flips)
    )


def on_the_host(images, new_sizes, flips, config):
    out = []
    for image, (height, width), flip in zip(images, new_sizes, flips, strict=True):
        resized = resize_for(config, image, (height, width))
        padded = np.zeros((1, *CANVAS, 3), resized.dtype)
        padded[0, :height, :width] = resized[:, ::-1] if flip else resized
        out.append(normalise(jnp.asarray(padded), np.array([[height, width]]), config)[0])
    return np.stack(out)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("kernel", ["torch", "pil", "cv2"])
def test_the_network_sees_what_the_host_would_show_it(kernel, smooth):
    rng = np.random.default_rng(0)
    settings = config(
        kernel,
        **{"input.channel_order": "bgr", "input.pixel_std": (50.0, 60.0, 70.0), "input.pixel_scale": 1.0},
    )
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size, _ in SIZES]
    if smooth:
        images = [np.cumsum(image // 64, axis=1).astype(np.uint8) for image in images]
    new_sizes, flips = [new for _, new in SIZES], np.arange(len(SIZES)) % 2 == 1
    found = np.asarray(INPUT(batch_of(images, new_sizes, flips), config=settings))
    expected = on_the_host(images, new_sizes, flips, settings)
    assert found.dtype == np.float32 and found.shape == expected.shape
    difference = abs(found - expected) * np.asarray(settings.input.pixel_std, np.float32)
    if kernel == "torch":
        assert difference.max() < 1e-3 and abs(expected).max() > 1
    else:  # a grey level, where Pillow rounds the other way, and OpenCV more often
        assert difference.max() < 1.01
        inside = np.concatenate([d[:h, :w].ravel() for d, (h, w) in zip(difference, new_sizes, strict=True)])
        assert (inside > 0.5).mean() < {"pil": 0.01, "cv2": 0.15}[kernel]
    for image, (height, width) in zip(found, new_sizes, strict=True):
        assert not image[height:].any() and not image[:, width:].any()


@pytest.mark.parametrize("kernel", ["torch", "pil", "cv2"])
def test_a_larger_canvas_of_decoded_images_changes_nothing(kernel):
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    batch = batch_of([image], [(30, 60)], np.array([True]))
    pixels = np.full((1, 512, 256, 3), 77, np.uint8)  # what lies beside the image does not count
    pixels[0, :40, :50] = image
    other = batch._replace(raw=batch.raw._replace(pixels=pixels))
    first, second = (INPUT(b, config=config(kernel)) for b in (batch, other))
    np.testing.assert_allclose(first, second, atol=1e-5 if kernel == "torch" else 0.01)


def test_rows_of_a_matrix_sum_to_one_and_kernels_are_checked():
    for kernel in ("torch", "pil", "cv2"):
        matrix = resize_matrix(37, 90, 64, 100, kernel)
        np.testing.assert_allclose(matrix.sum(1), np.arange(100) < 90, atol=1e-6)
        assert not matrix[:, 37:].any()
    with pytest.raises(ValueError, match="'area' is unknown"):
        resize_matrix(2, 3, 2, 3, "area")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("set")
    sizes = [(24, 36), (36, 24), (30, 30), (20, 40)]
    return prepare(*random_set(directory, sizes, formats=("png", "jpg")), directory / "cache")


def first_batch(source, model, **data):
    data = DataConfig(**({"batch_size": 3, "min_sizes": (32, 40), "max_size": 64} | data))
    batches = train_iterator(source, model, data, seed=1)
    try:
        return next(batches)
    finally:
        batches.close()


def test_a_training_batch_differs_in_who_resizes_alone(source):
    model = small_config(num_classes=3, **{"input.test_min_size": 32, "input.test_max_size": 64})
    hosts, devices = (first_batch(source, model, device_resize=on) for on in (False, True))
    assert devices.images.shape == (*hosts.images.shape[:3], 0) and hosts.raw is None
    assert devices.raw.pixels.shape == (3, 256, 256, 3) and devices.raw.flips.any()
    jax.tree.map(np.testing.assert_array_equal, hosts.targets, devices.targets)
    for name in ("image_sizes", "extents", "original_sizes", "index", "valid"):
        np.testing.assert_array_equal(getattr(hosts, name), getattr(devices, name))
    shown, expected = (np.asarray(INPUT(b, config=model)) for b in (devices, hosts))
    assert abs(shown - expected).max() < 0.05 and abs(expected).max() > 1

    detector = random_model(model)
    levels = jax.jit(
        lambda model, batch: model.features(network_input(batch, model.config), Pass(batch.extents))
    )
    for ours, theirs in zip(levels(detector, devices), levels(detector, hosts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02 * abs(theirs).max())


def test_all_processes_have_arrays_of_one_shape(tmp_path):
    sizes = [(24, 36), (300, 20), (20, 600), (40, 30), (520, 31), (30, 30)]
    source = prepare(*random_set(tmp_path, sizes, formats=("png",)), tmp_path / "cache")
    model = small_config(num_classes=3, **{"input.test_min_size": 32, "input.test_max_size": 64})
    data = DataConfig(batch_size=2, min_sizes=(32,), max_size=64, device_resize=True)
    parts = [train_iterator(source, model, data, seed=0, process_index=i, process_count=2) for i in (0, 1)]
    largest = []
    for _ in range(6):
        batches = [next(part) for part in parts]
        first, second = (batch.raw for batch in batches)
        assert first.pixels.shape == second.pixels.shape and len(first.pixels) == 1
        largest.append([raw.sizes.max() // 256 for raw in (first, second)])
        for raw in (first, second):
            assert (raw.sizes <= raw.pixels.shape[1:3]).all()
    for part in parts:
        part.close()
    assert any(a != b for a, b in largest)  # each alone would have had another canvas
    inexact = DataConfig(batch_size=2, device_resize=True, exact_decode=False)
    with pytest.raises(UserError, match="can be combined in one process only, and there are 2"):
        train_iterator(source, model, inexact, seed=0, process_count=2)


def test_slots_without_an_image_and_augmentations(source):
    raw = gather_raw([None, np.full((300, 20, 3), 9, np.uint8)], np.array([False, True]))
    assert raw.pixels.shape == (2, 512, 256, 3) and raw.sizes.tolist() == [[1, 1], [300, 20]]
    with pytest.raises(UserError, match="data.device_resize leaves images to the device"):
        first_batch(source, small_config(num_classes=3), device_resize=True, rotate=5.0)
