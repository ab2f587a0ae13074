"""Test-time augmentation: versions of a picture, their boxes merged, their masks averaged."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import Stub, random_model, small_config
from folders import GOLDENS
from golden_helpers import check
from goldens.seeded_weights import seeded_scene
from parity.test_detectron2_model import model_of
from PIL import Image

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.augmentation import (
    AugmentedPredictor,
    box_in_picture,
    box_in_view,
    merge_views,
)
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.structures import Detections
from jaxmaskrcnn.zoo.lookup import model_config


def picture(seed, height=60, width=80):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


class Seer(Stub):
    """Detects two bright things by what the pixels show, with masks that show what is in the boxes.

    The left half and the right half of a picture have an object each, as wide as the bright part.
    """

    def detect_boxes(self, batch):
        size = batch.image_sizes[0]
        height, width = size
        bright = (batch.images[0].sum(-1) > 0).any(0)  # [W]
        columns = jnp.arange(bright.shape[0])
        left = bright & (columns < width / 2)
        right = bright & (columns >= width / 2) & (columns < width)

        def box(inside):
            x1 = jnp.where(inside, columns, 10**6).min()
            x2 = jnp.where(inside, columns + 1, 0).max()
            return jnp.array([x1, 0.25 * height, x2, 0.75 * height])

        scores = jnp.array([left.sum(), right.sum()]) / width
        order = jnp.argsort(-scores)
        found = Detections(
            boxes=jnp.stack([box(left), box(right)])[order][None],
            scores=scores[order][None],
            labels=jnp.zeros((1, 2), jnp.int32),
            masks=None,
            valid=(scores[order] > 0)[None],
        )
        return [batch.images], found

    def masks_of_boxes(self, batch, levels, boxes, labels, valid):
        """Which share of the box's columns are bright, from left to right, times its place in the picture."""
        image = levels[0][0].sum(-1)[batch.image_sizes[0, 0] // 2]  # the middle row
        share = (jnp.arange(28) + 0.5) / 28
        x = boxes[0, :, :1] + share * (boxes[0, :, 2:3] - boxes[0, :, :1])
        value = jax.nn.sigmoid(image[jnp.clip(x.astype(int), 0, image.shape[0] - 1)])
        return jnp.broadcast_to(value[None, :, None], (1, *value.shape[:1], 28, 28))


@pytest.fixture(scope="module")
def seer():
    return Seer(
        model_config(
            "jaxmaskrcnn/shapes", num_classes=1, **{"input.test_min_size": 64, "input.test_max_size": 96}
        )
    )


def bars(*spans, width=80):
    """A black picture with bright columns, brighter to their right."""
    pixels = np.zeros((60, width, 3), np.uint8)
    for x1, x2 in spans:
        pixels[:, x1:x2] = np.linspace(150, 250, x2 - x1).astype(np.uint8)[:, None]
    return pixels


# -- geometry


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_go_into_a_version_and_back(flip):
    boxes = jnp.array([[0.0, 0, 20, 10], [3, 1, 7, 9.5]])
    there = box_in_view(boxes, (25, 40), (10, 20), flip)
    np.testing.assert_allclose(box_in_picture(there, (25, 40), (10, 20), flip), boxes, atol=1e-5)
    # By hand: twice as wide, two and a half times as high, mirrored within 40 pixels.
    x = [26, 34] if flip else [6, 14]
    np.testing.assert_allclose(there[1], [x[0], 2.5, x[1], 23.75])


def oracle_iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = np.prod(np.maximum(sides, 0))
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


@pytest.mark.slow
def test_boxes_of_all_versions_are_merged_by_nms_within_each_class():
    """Against a NumPy oracle: every version's boxes in the picture, then greedy NMS, best first."""
    rng = np.random.default_rng(0)
    original, sizes, flips = (50, 70), np.array([[50, 70], [75, 105], [75, 105]]), [False, False, True]
    corner = rng.uniform(0, 40, (3, 12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 25, (3, 12, 2))], -1).astype(np.float32)
    scores, labels = rng.random((3, 12)).astype(np.float32), rng.integers(0, 2, (3, 12))
    valid = rng.random((3, 12)) < 0.8
    found = [
        Detections(b[None], s[None], k[None], None, v[None])
        for b, s, k, v in zip(boxes, scores, labels, valid, strict=True)
    ]
    out = merge_views(found, sizes, np.array(original), flips, nms_threshold=0.3, limit=40)

    everything = []
    for v in range(3):
        for k in np.flatnonzero(valid[v]):
            x1, y1, x2, y2 = boxes[v, k]
            if flips[v]:
                x1, x2 = sizes[v][1] - x2, sizes[v][1] - x1
            ratio = np.array(original) / sizes[v]
            box = np.clip([x1 * ratio[1], y1 * ratio[0], x2 * ratio[1], y2 * ratio[0]], 0, [70, 50, 70, 50])
            everything.append((scores[v, k], labels[v, k], box))
    kept = []
    for one in sorted(everything, key=lambda one: -one[0]):
        if all(one[1] != other[1] or oracle_iou(one[2], other[2]) <= 0.3 for other in kept):
            kept.append(one)
    assert 10 < len(kept) < len(everything) - 5
    assert int(out.valid.sum()) == len(kept)
    np.testing.assert_allclose(out.boxes[: len(kept)], [box for _, _, box in kept], atol=1e-4)
    np.testing.assert_allclose(out.scores[: len(kept)], [score for score, _, _ in kept])
    np.testing.assert_array_equal(out.labels[: len(kept)], [label for _, label, _ in kept])
    assert not out.boxes[len(kept) :].any() and out.masks is None


# -- with a detector


@pytest.mark.slow
def test_the_average_of_masks_is_that_of_numpy(seer):
    """Each version alone, averaged by hand over the versions, for the boxes of all of them."""
    image = bars((8, 31), (50, 66))
    predictor = AugmentedPredictor(seer, 0.0, scales=(1, 1.5), flip=True)
    _, batches = predictor._prepare(image, "image")
    found = jax.tree.map(lambda x: np.asarray(x)[:, :2], predictor._compute(batches))
    assert found.valid.all() and found.masks.shape == (1, 2, 28, 28)
    expected = np.zeros((2, 28, 28))
    for batch, flip in zip(batches, (False, True, False, True), strict=True):
        (height, width), original = batch.image_sizes[0], batch.original_sizes[0]
        boxes = found.boxes[0] * np.tile((np.array([width, height]) / original[::-1]), 2)
        if flip:
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        masks = np.asarray(
            seer.masks_of_boxes(batch, [batch.images], jnp.asarray(boxes[None], jnp.float32), None, None)
        )[0]
        expected += masks[..., ::-1] if flip else masks
    np.testing.assert_allclose(found.masks[0], expected / 4, atol=1e-6)
    spread = [np.ptp(m) for m in found.masks[0]]
    assert min(spread) > 0.01  # not all the same, so that a mask the wrong way round would be seen
    assert np.abs(found.masks[0] - found.masks[0][..., ::-1]).max() > 0.01


@pytest.mark.slow
def test_a_mirrored_picture_has_mirrored_results(seer):
    predictor = AugmentedPredictor(seer, 0.0, scales=(1,), flip=True)
    image = bars((8, 31), (50, 66))
    out, mirrored = predictor([image, image[:, ::-1]], masks="probs")
    assert len(out["boxes"]) == len(mirrored["boxes"]) == 2
    x1, y1, x2, y2 = mirrored["boxes"].T
    np.testing.assert_allclose(out["boxes"], np.stack([80 - x2, y1, 80 - x1, y2], 1), atol=1e-3)
    np.testing.assert_allclose(out["scores"], mirrored["scores"], atol=1e-6)
    np.testing.assert_allclose(out["masks"], mirrored["masks"][..., ::-1], atol=1e-4)


@pytest.mark.slow  # the real network, compiled twice; the other tests have stand-ins
def test_one_version_is_the_plain_prediction():
    """The real network. Its boxes go to the picture's scale and back before masks are asked for."""
    model = random_model(
        small_config(num_classes=3, **{"detections.score_threshold": 0.01, "input.test_max_size": 96})
    )
    image = picture(1, 45, 60)
    out = AugmentedPredictor(model, scales=(1,), flip=False)(image, masks="probs")
    expected = Predictor(model)(image, masks="probs")
    assert len(expected["boxes"]) > 3 and expected["masks"].max() > 0.4
    np.testing.assert_allclose(out["boxes"], expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(out["scores"], expected["scores"], atol=1e-6)
    np.testing.assert_array_equal(out["labels"], expected["labels"])
    np.testing.assert_allclose(out["masks"], expected["masks"], atol=1e-3)


@pytest.mark.slow
def test_classes_and_streams_work_as_with_one_version(seer, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    images = [bars((8, 31)), tmp_path / "broken.png", bars((8, 31), (50, 66), width=120)]
    errors = []
    predictor = AugmentedPredictor(seer, 0.0, scales=(0.5, 1), classes=[seer.categories[0].name])
    found = list(predictor.stream(images, "rle", on_error=lambda *error: errors.append(error)))
    assert [p.index for p in found] == [0, 2] and [index for index, _ in errors] == [1]
    assert [len(p.result["masks"]) for p in found] == [1, 2]
    assert found[1].result["masks"][0]["size"] == [60, 120]


def test_mistakes_are_named(seer):
    for scales in ((), (0,), (1, -2), (float("nan"),), (11,)):
        with pytest.raises(UserError, match="The scales are"):
            AugmentedPredictor(seer, scales=scales)


@pytest.mark.slow  # four programs of a real network
@pytest.mark.usefixtures("highest_precision")
def test_detectron2_gives_the_same():
    """Its ``GeneralizedRCNNWithTTA``: a real network, two sizes, mirrored and not."""
    with np.load(GOLDENS / "detectron2_tta.npz") as file:
        golden = dict(file)
    image = seeded_scene(*json.loads(str(golden["scene"])))["image"]
    predictor = AugmentedPredictor(model_of("fpn"), scales=(1, 1.5))
    _, batches = predictor._prepare(image, "image")
    found = predictor._compute(batches)
    assert found.valid.all()
    np.testing.assert_array_equal(found.labels[0], golden["labels"])
    check("scores", np.abs(found.scores[0] - golden["scores"]), 1e-5)
    check("boxes, px", np.abs(found.boxes[0] - golden["boxes"]), 1e-3)
    check("mean of the masks", np.abs(found.masks[0] - golden["masks"]), 1e-4)
    masks = predictor(image)["masks"]
    theirs = np.unpackbits(golden["final_masks"], count=masks.size).reshape(masks.shape)
    check("share of mask pixels that differ", (masks != theirs).mean(), 1e-4)
    assert theirs.any()
