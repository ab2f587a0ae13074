"""Results at the original scale: three rules against oracles in plain Python."""

import numpy as np
import pytest
from pycocotools import mask as rle_codec

from jaxmaskrcnn import ops
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import encode_window, postprocess, postprocess_batch, rescale_boxes
from jaxmaskrcnn.structures import Category, Detections

RESIZED, ORIGINAL = (60, 83), (45, 61)  # no whole ratio on either axis
RULES = {
    "torchvision": {},
    "detectron2": {
        "detections.rescale_rule": "multiply_and_clip",
        "detections.paste_rule": "grid_sample",
        "background": "last",
    },
    "mmdet": {
        "detections.rescale_rule": "divide",
        "detections.paste_rule": "grid_sample",
        "background": "last",
    },
}


def make_config(rule, **overrides):
    return ModelConfig(num_classes=3).replace({**RULES[rule], **overrides})


def make_detections(seed=0, slots=12, valid=9):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-10, 70, (slots, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[0] = [-30, -30, -5, -5]  # wholly outside: empty once clipped
    boxes[1] = [70, 40, 90, 80]  # over the corner
    return Detections(
        boxes=boxes,
        scores=rng.random(slots).astype(np.float32),
        labels=rng.integers(0, 3, slots).astype(np.int32),
        masks=rng.random((slots, 7, 7)).astype(np.float32),
        valid=np.arange(slots) < valid,
    )


def oracle_box(box, rule):
    """One box by the rule's definition, in float64."""
    ratios = [ORIGINAL[1] / RESIZED[1], ORIGINAL[0] / RESIZED[0]] * 2
    box = [float(c) * r for c, r in zip(box, ratios, strict=True)]
    if rule == "detectron2":
        limits = [ORIGINAL[1], ORIGINAL[0]] * 2
        box = [min(max(c, 0), limit) for c, limit in zip(box, limits, strict=True)]
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
    return box


@pytest.mark.parametrize("rule", RULES)
def test_boxes_scores_and_labels_follow_the_rule(rule):
    detections = make_detections()
    out = postprocess(detections, RESIZED, ORIGINAL, make_config(rule))
    expected = [(i, oracle_box(b, rule)) for i, b in enumerate(detections.boxes) if detections.valid[i]]
    expected = [(i, b) for i, b in expected if b is not None]
    assert len(expected) == (8 if rule == "detectron2" else 9)
    kept = [i for i, _ in expected]
    np.testing.assert_allclose(out["boxes"], [b for _, b in expected], rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(out["scores"], detections.scores[kept])
    first = 1 if rule == "torchvision" else 0  # torchvision's labels count the background
    np.testing.assert_array_equal(out["labels"], detections.labels[kept] + first)
    assert out["boxes"].dtype == out["scores"].dtype == np.float32 and out["labels"].dtype == np.int64


def test_the_ratios_are_rounded_where_each_library_rounds_them():
    box = np.float32([[1 / 3, 2 / 3, 1e4, 2e4]])
    new, old = (749, 1333), (1079, 1921)
    f = np.float32
    expected = box * np.tile([f(1921) / f(1333), f(1079) / f(749)], 2).astype(f)
    np.testing.assert_array_equal(rescale_boxes(box, new, old, "multiply")[0], expected)
    expected = box / np.tile([f(1333 / 1921), f(749 / 1079)], 2).astype(f)
    np.testing.assert_array_equal(rescale_boxes(box, new, old, "divide")[0], expected)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="'detectron2'; choose one of multiply, divide, multiply_and_clip"):
        rescale_boxes(np.zeros((1, 4), np.float32), RESIZED, ORIGINAL, "detectron2")


@pytest.mark.slow_except("torchvision")
@pytest.mark.parametrize("rule", RULES)
def test_masks_are_the_thresholded_full_paste(rule):
    detections = make_detections(1)
    config = make_config(rule)
    out = postprocess(detections, RESIZED, ORIGINAL, config, masks="probs")
    _, keep = rescale_boxes(detections.boxes[:9], RESIZED, ORIGINAL, config.detections.rescale_rule)
    full = ops.paste_masks(
        detections.masks[:9][keep], out["boxes"], ORIGINAL, convention=config.detections.paste_rule
    )
    np.testing.assert_allclose(out["masks"], full, atol=1e-5)
    assert out["masks"].dtype == np.float32 and np.ptp(out["masks"]) > 0.5
    bools = postprocess(detections, RESIZED, ORIGINAL, config)["masks"]
    assert bools.dtype == bool and 0 < bools.mean() < 1
    np.testing.assert_array_equal(bools, out["masks"] > 0.5)
    rles = postprocess(detections, RESIZED, ORIGINAL, config, masks="rle")["masks"]
    np.testing.assert_array_equal(
        np.stack([decode_mask(r["counts"].encode(), *r["size"]).T for r in rles]), bools
    )


def test_a_probability_on_the_threshold_counts_for_detectron2_only():
    detections = Detections(
        boxes=np.float32([[4, 4, 12, 12]]),
        scores=np.float32([0.9]),
        labels=np.int32([0]),
        masks=np.full((1, 4, 4), 0.5, np.float32),
        valid=np.array([True]),
    )
    counts = {
        rule: postprocess(detections, (20, 20), (20, 20), make_config(rule))["masks"].sum() for rule in RULES
    }
    # The inner pixels are exactly 0.5; the outermost row fades towards zero.
    assert counts == {"torchvision": 0, "detectron2": 36, "mmdet": 36}


def test_no_masks_without_a_mask_head_and_none_where_nothing_is_found():
    detections = make_detections()
    assert "masks" not in postprocess(
        detections._replace(masks=None), RESIZED, ORIGINAL, make_config("mmdet", **{"mask": None})
    )
    nothing = detections._replace(valid=np.zeros(12, bool))
    for form, shape in (("bool", (0, *ORIGINAL)), ("probs", (0, *ORIGINAL)), ("rle", (0,))):
        out = postprocess(nothing, RESIZED, ORIGINAL, make_config("torchvision"), masks=form)
        assert out["boxes"].shape == (0, 4) and np.shape(out["masks"]) == shape


def test_labels_are_ids_of_the_categories():
    categories = (Category(5, "cat"), Category(17, "dog"), Category(90, "eel"))
    detections = make_detections()
    ids = np.array([5, 17, 90])[detections.labels[:9]]
    out = postprocess(detections, RESIZED, ORIGINAL, make_config("mmdet", categories=categories))
    np.testing.assert_array_equal(out["labels"], ids)
    out = postprocess(detections, RESIZED, ORIGINAL, make_config("mmdet"), categories=categories)
    np.testing.assert_array_equal(out["labels"], ids)


def test_a_batch_is_its_images():
    parts = [make_detections(seed) for seed in (3, 4)]
    batch = Detections(*(np.stack(fields) for fields in zip(*parts, strict=True)))
    outs = postprocess_batch(batch, [RESIZED, (50, 70)], [ORIGINAL, (99, 40)], make_config("mmdet"))
    for out, part, new, old in zip(outs, parts, [RESIZED, (50, 70)], [ORIGINAL, (99, 40)], strict=True):
        alone = postprocess(part, new, old, make_config("mmdet"))
        for key in alone:
            np.testing.assert_array_equal(out[key], alone[key])


def test_window_rle_is_that_of_the_full_mask():
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(1, 12, 2)
        y, x = rng.integers(0, height), rng.integers(0, width)
        # Windows of full height and full columns make runs that go on in the next column.
        h, w = rng.integers(0, height - y + 1), rng.integers(0, width - x + 1)
        window = rng.random((h, w)) < rng.choice([0, 0.3, 0.9, 1])
        full = np.zeros((height, width), np.uint8, order="F")
        full[y : y + h, x : x + w] = window
        rle = encode_window(window, (y, x), (height, width))
        expected = rle_codec.encode(full)
        assert rle == {"size": expected["size"], "counts": expected["counts"].decode()}


def test_unknown_mask_format_is_named():
    with pytest.raises(UserError, match="'polygon'.*'bool'"):
        postprocess(make_detections(), RESIZED, ORIGINAL, make_config("mmdet"), masks="polygon")
