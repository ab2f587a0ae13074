"""The Predictor with a small random model."""

import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import numpy as np
import pytest
from detectors import Stub, random_model, small_config
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.preprocess import eval_size, make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.inference.predictor import Predictor, canvas_of, canvases
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.lookup import model_config

CATEGORIES = (Category(3, "cat"), Category(17, "dog"), Category(90, "eel"))


@pytest.fixture(scope="module")
def model():
    config = model_config(
        "jaxmaskrcnn/shapes",
        num_classes=3,
        categories=CATEGORIES,
        **{"input.test_min_size": 64, "input.test_max_size": 96, "detections.score_threshold": 0.2},
    )
    return Stub(config)


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model)


def picture(seed, height=75, width=100):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def assert_same(a, b, atol=1e-3):
    assert a.keys() == b.keys() and len(a["boxes"]) == len(b["boxes"])
    np.testing.assert_allclose(a["boxes"], b["boxes"], atol=atol)
    np.testing.assert_allclose(a["scores"], b["scores"], atol=1e-5)
    np.testing.assert_array_equal(a["labels"], b["labels"])
    assert np.mean(a["masks"] != b["masks"]) < 1e-4


def test_shapes_types_and_order(predictor):
    out = predictor(picture(0))
    n = len(out["boxes"])
    assert n == 4
    assert out["boxes"].shape == (n, 4) and out["boxes"].dtype == np.float32
    assert out["scores"].shape == (n,) and out["scores"].dtype == np.float32
    assert out["masks"].shape == (n, 75, 100) and out["masks"].dtype == bool
    assert np.issubdtype(out["labels"].dtype, np.integer) and set(out["labels"]) <= {3, 17, 90}
    assert (np.diff(out["scores"]) <= 0).all() and (out["scores"] > 0.2).all()
    assert (out["boxes"] >= 0).all() and (out["boxes"] <= [100, 75, 100, 75]).all()


@pytest.mark.slow
def test_the_real_model_through_make_batch_gives_the_same():
    config = small_config(num_classes=3, **{"detections.score_threshold": 0.01, "input.test_max_size": 96})
    model = random_model(config)
    image = picture(1, 30, 100)
    batch = make_batch(model, [image])
    assert batch.images.shape[1:3] == (32, 96)
    assert canvas_of((32, 96), config) == (64, 96)  # the Predictor pads further
    detections = jax.jit(lambda m, b: m.detect(b))(model, batch)
    expected = postprocess_batch(detections, batch.image_sizes, batch.original_sizes, config)[0]
    assert len(expected["boxes"]) == 6 and expected["masks"].any()
    raised = float(np.median(expected["scores"]))
    keep = expected["scores"] > raised
    assert_same(Predictor(model, raised)(image), {k: v[keep] for k, v in expected.items()})


def test_every_kind_of_input_gives_the_same(predictor, tmp_path):
    image = picture(2)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    expected = predictor(image)
    for other in (path, str(path), Image.open(path), Image.fromarray(image)):
        assert_same(predictor(other), expected, atol=0)
    outs = predictor([image, path])
    assert isinstance(outs, list) and len(outs) == 2
    for out in outs:
        assert_same(out, expected, atol=0)
    assert predictor([]) == []


def test_files_of_other_modes_and_orientations(predictor, tmp_path):
    image = picture(3)
    grey = Image.fromarray(image).convert("L")
    grey.save(tmp_path / "grey.png")
    expected = predictor(np.asarray(grey.convert("RGB")))
    assert_same(predictor(tmp_path / "grey.png"), expected, atol=0)
    assert_same(predictor(grey.convert("RGBA")), expected, atol=0)
    turned = Image.fromarray(np.rot90(image))  # stored turned by 90 degrees, with the tag to turn it back
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert_same(predictor(tmp_path / "turned.png"), predictor(image), atol=0)


@pytest.mark.slow  # a compilation for each form of canvas
def test_batches_do_not_change_results_or_order(model, predictor):
    sizes = [(75, 100), (100, 75), (60, 60), (50, 100), (70, 100), (100, 70), (33, 200)]
    images = [picture(i, *size) for i, size in enumerate(sizes)]
    outs = Predictor(model, max_batch=3)(images)
    assert [out["masks"].shape[1:] for out in outs] == sizes
    for image, out in zip(images, outs, strict=True):
        assert_same(out, predictor(image))


def test_mask_formats_agree(predictor):
    image = picture(5)
    bools, probs, rles = (predictor(image, masks=form)["masks"] for form in ("bool", "probs", "rle"))
    assert bools.any() and probs.dtype == np.float32
    np.testing.assert_array_equal(bools, probs >= 0.5)
    for mask, rle in zip(bools, rles, strict=True):
        encoded = rle_codec.encode(np.asfortranarray(mask, np.uint8))
        assert rle == {"size": [75, 100], "counts": encoded["counts"].decode()}


@pytest.mark.slow
def test_score_threshold_above_and_below_the_config(model, predictor):
    image = picture(6)
    middle = predictor(image)
    threshold = float(np.median(middle["scores"]))
    high = Predictor(model, threshold)(image)
    keep = middle["scores"] > threshold
    assert 0 < keep.sum() < len(keep)
    assert_same(high, {key: value[keep] for key, value in middle.items()})
    strict = Stub(model.config.replace({"detections.score_threshold": 0.99}))
    assert len(Predictor(strict)(image)["boxes"]) == 0
    assert_same(Predictor(strict, 0.2)(image), middle)
    assert strict.config.detections.score_threshold == 0.99  # the model itself is left as it was


@pytest.mark.slow
def test_without_a_mask_head():
    stub = Stub(
        ModelConfig(num_classes=1).replace(
            {"mask": None, "input.test_min_size": 32, "input.test_max_size": 32}
        )
    )
    out = Predictor(stub)(picture(0, 32, 32))
    assert sorted(out) == ["boxes", "labels", "scores"]


def test_mistakes_are_named(model, predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for image, said in (
        (picture(0)[None], r"^images is an array of uint8 .* several images as a list"),
        (picture(0).astype(np.float32), "^images is an array of float32 .* divide it so that white is 1"),
        (np.zeros((5, 5, 2), np.uint8), r"shape \[5, 5, 2\]"),
        (b"no image", "^images"),
        ([picture(0), 7], r"^images\[1\] is an array of int64 with the shape \[\]"),
        (tmp_path / "broken.png", "broken.png"),
        (tmp_path / "absent.png", "absent.png"),
    ):
        with pytest.raises(UserError, match=said):
            predictor(image)
    with pytest.raises(UserError, match="'full'"):
        predictor(picture(0), masks="full")
    with pytest.raises(UserError, match="score_threshold is 50"):
        Predictor(model, 50)
    with pytest.raises(UserError, match="The model is 3; give a detector, or the folder or the file of one"):
        Predictor(3)
    with pytest.raises(UserError, match="The model is a dict; give a detector"):
        Predictor({"params": {}})
    with pytest.raises(UserError, match="max_batch is 0"):
        Predictor(model, max_batch=0)


def test_other_arrays_and_bytes_are_the_same_picture(predictor, tmp_path):
    image = picture(2)
    grey = image[..., 0]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    rgba = np.concatenate([image, np.full((*grey.shape, 1), 9, np.uint8)], 2)
    for other in (
        file.getvalue(),
        memoryview(file.getvalue()),
        rgba,
        image / 255,
        image.astype(np.uint16) * 257,
    ):
        assert_same(predictor(other), predictor(image), atol=0)
    expected = predictor(np.stack([grey] * 3, 2))
    for out in predictor([grey, grey[..., None], Image.fromarray(grey), (grey / 255).astype(np.float32)]):
        assert_same(out, expected, atol=0)


@pytest.mark.slow
def test_a_pickled_predictor_gives_the_same(model):
    predictor = Predictor(model, 0.3, max_batch=2, classes=["cat", "dog"], device="cpu")
    again = pickle.loads(pickle.dumps(predictor))
    assert again.config == predictor.config and again.categories == CATEGORIES
    images = [picture(7), picture(8)]
    for out, expected in zip(again(images), predictor(images), strict=True):
        assert_same(out, expected, atol=0)
        assert len(out["boxes"])


@pytest.mark.slow
def test_threads_share_a_predictor(model):
    predictor = Predictor(model)
    images = [picture(seed) for seed in range(8)]
    expected = [predictor(image) for image in images]
    shared = Predictor(model)  # compiled by one of the threads
    with ThreadPoolExecutor(4) as pool:
        for out, wanted in zip(pool.map(shared, images), expected, strict=True):
            assert_same(out, wanted, atol=0)
    assert shared._detect.__wrapped__._cache_size() == 1


@pytest.mark.slow
def test_warming_up_compiles_what_pictures_need(model):
    predictor = Predictor(model, max_batch=3)
    predictor.warm_up([(75, 100)], batches=[1])
    compiled = predictor._detect.__wrapped__._cache_size()
    assert compiled == 2
    found = predictor([picture(0), picture(1), picture(2), picture(3)])  # three and one
    assert predictor._detect.__wrapped__._cache_size() == compiled
    assert_same(found[3], Predictor(model)(picture(3)))
    assert canvases(ModelConfig()) == [(800, 800), (800, 1088), (800, 1344), (1088, 800), (1344, 800)]
    for wrong in ({"sizes": [(0, 5)]}, {"batches": [4]}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is"):
            predictor.warm_up(**wrong)


@pytest.mark.slow  # compiles the whole model twice
def test_dtype_is_that_of_a_model_built_with_it():
    config = small_config(num_classes=3, **{"detections.score_threshold": 0.01})
    real, image = random_model(config), picture(4, 30, 60)
    out = Predictor(real, device=jax.devices("cpu")[0], dtype="bfloat16")(image)
    assert Predictor(real, dtype="bfloat16").config.compute.dtype == "bfloat16"
    built = small_config(num_classes=3, **{"detections.score_threshold": 0.01, "compute.dtype": "bfloat16"})
    assert_same(out, Predictor(random_model(built))(image), atol=0)
    assert real.config.compute.dtype == "float32"


@pytest.mark.slow
def test_another_process_predicts_with_a_pickled_predictor():
    predictor = Predictor(random_model(small_config(num_classes=3)), 0.01)
    image = picture(4, 30, 60)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert_same(pool.submit(predictor, image).result(), predictor(image), atol=0)


def test_devices_and_dtypes_that_do_not_exist(model):
    with pytest.raises(UserError, match="device is 'abacus'"):
        Predictor(model, device="abacus")
    with pytest.raises(UserError, match="device is 'cpu:99'.* of that platform"):
        Predictor(model, device="cpu:99")
    with pytest.raises(UserError, match="dtype is 'bfloat16', but parts of the model were replaced"):
        Predictor(model, dtype="bfloat16")


def test_five_canvases_hold_every_image():
    config = ModelConfig()  # 800 / 1333
    rng = np.random.default_rng(0)
    canvases = set()
    for height, width in rng.integers(30, 4000, (500, 2)):
        size = [-(-s // 32) * 32 for s in eval_size(config, int(height), int(width))]
        canvas = canvas_of(tuple(size), config)
        assert canvas[0] >= size[0] and canvas[1] >= size[1]
        canvases.add(canvas)
    assert canvases == {(800, 800), (800, 1088), (800, 1344), (1088, 800), (1344, 800)}
