"""The Predictor with a small random model."""

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
from jaxmaskrcnn.inference.predictor import Predictor, canvas_of
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
    outs = Predictor(model, batch_size=3)(images)
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
        (picture(0)[..., 0], r"shape \[75, 100\]"),
        (picture(0).astype(np.float32), "float32"),
        (np.zeros((5, 5, 4), np.uint8), r"shape \[5, 5, 4\]"),
        (tmp_path / "broken.png", "broken.png"),
        (tmp_path / "absent.png", "absent.png"),
    ):
        with pytest.raises(UserError, match=said):
            predictor(image)
    with pytest.raises(UserError, match="'full'"):
        predictor(picture(0), masks="full")
    with pytest.raises(UserError, match="score_threshold is 50"):
        Predictor(model, 50)
    with pytest.raises(UserError, match="batch_size is 0"):
        Predictor(model, batch_size=0)


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
