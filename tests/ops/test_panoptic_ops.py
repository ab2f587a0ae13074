"""Labels of pixels, the combination with instances, and the loss, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.config import SemanticConfig
from jaxmaskrcnn.losses import semantic_loss
from jaxmaskrcnn.ops.panoptic import combine
from jaxmaskrcnn.ops.semantic import bilinear_taps, enlarge_bilinear, pixel_labels, repeat_border


def resized(x, size):
    """torch's bilinear interpolation of [h, w, C] to a size, in float64."""
    for axis, length in enumerate(size):
        count = x.shape[axis]
        source = np.maximum((np.arange(length) + 0.5) * count / length - 0.5, 0)
        first = np.floor(source).astype(int)
        weight = (source - first).reshape([-1 if i == axis else 1 for i in range(3)])
        second = np.minimum(first + 1, count - 1)
        x = np.take(x, first, axis) * (1 - weight) + np.take(x, second, axis) * weight
    return x


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlargement(factor):
    x = np.random.RandomState(0).standard_normal((2, 3, 5, 2)).astype(np.float32)
    ours = enlarge_bilinear(jnp.asarray(x), factor)
    for one, map_ in zip(ours, x, strict=True):
        np.testing.assert_allclose(one, resized(map_.astype(float), (3 * factor, 5 * factor)), atol=1e-6)


@pytest.mark.slow
def test_enlargement_ends_at_the_images_own_border():
    """What is outside of an image's part changes nothing inside, also no gradient."""
    x = np.random.RandomState(1).standard_normal((1, 6, 8, 2)).astype(np.float32)
    size = jnp.array([[4, 5]])
    alone = enlarge_bilinear(jnp.asarray(x[:, :4, :5]), 2)
    beside = enlarge_bilinear(jnp.asarray(np.where(np.arange(8)[:, None] < 5, x, 99.0)), 2, size)
    np.testing.assert_array_equal(beside[:, :8, :10], alone)
    gradient = jax.grad(lambda x: enlarge_bilinear(x, 2, size)[:, :8, :10].sum())(jnp.asarray(x))
    assert not gradient[:, 4:].any() and not gradient[:, :, 5:].any()
    np.testing.assert_allclose(gradient[:, :4, :5].sum(), 2 * 80, rtol=1e-6)
    bordered = repeat_border(jnp.asarray(x), size)
    np.testing.assert_array_equal(bordered[0, 5, 7], x[0, 3, 4])


@pytest.mark.parametrize("old", [(31, 47), (60, 20), (97, 130)])
def test_labels_of_pixels(old):
    """Two bilinear steps, all channels at all pixels, and smooth maps in which most pixels are skipped."""
    rng = np.random.RandomState(old[0])
    coarse = rng.standard_normal((4, 5, 6))
    for logits in (resized(coarse, (12, 17)), rng.standard_normal((12, 17, 6))):
        logits = logits.astype(np.float32)
        size = (45, 66)
        step = resized(logits.astype(float), (48, 68))[: size[0], : size[1]]
        values = resized(step, old)
        best = np.sort(values, -1)
        sure = best[..., -1] - best[..., -2] > 1e-5
        labels = pixel_labels(logits, size, old, 4)
        assert sure.mean() > 0.99
        np.testing.assert_array_equal(labels[sure], values.argmax(-1)[sure])


def test_taps_add_up_to_one():
    for count, size in ((5, 20), (20, 5), (7, 7), (1, 4)):
        index, weight = bilinear_taps(count, size)
        assert index.min() >= 0 and index.max() < count
        np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-6)


def plain(masks, scores, labels, semantic, score, overlap, area):
    panoptic, segments = np.zeros(semantic.shape, int), []
    for i in sorted(range(len(masks)), key=lambda i: -scores[i]):
        taken = masks[i] & (panoptic > 0)
        if scores[i] < score or not masks[i].any() or taken.sum() / masks[i].sum() > overlap:
            continue
        segments.append((labels[i], True))
        panoptic[masks[i] & (panoptic == 0)] = len(segments)
    for label in range(1, semantic.max() + 1):
        free = (semantic == label) & (panoptic == 0)
        if free.sum() >= area and free.any():
            segments.append((label - 1, False))
            panoptic[free] = len(segments)
    return panoptic, segments


@pytest.mark.parametrize("seed", range(5))
def test_combination(seed):
    rng = np.random.RandomState(seed)
    masks = np.stack([np.kron(rng.rand(6, 8) < 0.3, np.ones((5, 5))) > 0 for _ in range(8)])
    scores, labels = rng.permutation(8) / 8, rng.randint(0, 3, 8)
    semantic = np.kron(rng.randint(0, 4, (6, 8)), np.ones((5, 5), int))
    for score, overlap, area in ((0.5, 0.5, 0), (0.1, 0.3, 150), (0.0, 0.9, 10_000)):
        ours, segments = combine(
            [(mask, (0, 0)) for mask in masks], scores, labels, semantic,
            score_threshold=score, overlap_threshold=overlap, stuff_area=area,
        )  # fmt: skip
        theirs, expected = plain(masks, scores, labels, semantic, score, overlap, area)
        np.testing.assert_array_equal(ours, theirs)
        assert [(s.label, s.isthing) for s in segments] == expected
        assert [s.area for s in segments] == [(theirs == s.id).sum() for s in segments]


def test_half_of_a_mask_may_be_taken_and_no_more():
    left, whole = np.zeros((2, 4), bool), np.ones((2, 4), bool)
    left[:, :2] = True
    windows, none = [(left, (0, 0)), (whole, (0, 0))], np.zeros((2, 4), int)
    scores, labels = np.array([0.9, 0.8]), np.array([0, 1])
    assert len(combine(windows, scores, labels, none)[1]) == 2
    assert len(combine(windows, scores, labels, none, overlap_threshold=0.49)[1]) == 1


def oracle(logits, labels, size, config):
    """Sum and count of the loss in float64."""
    h, w = size
    logits = logits[:h, :w].astype(float)
    labels = labels[: 4 * h, : 4 * w].astype(int)
    if config.loss_at == "map":
        labels = labels[::4, ::4]
    else:
        logits = resized(logits, labels.shape)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    channel = labels if config.things == "first" else np.where(labels == 0, len(config.stuff), labels - 1)
    known = labels != 255
    total = -np.take_along_axis(log_p, np.where(known, channel, 0)[..., None], -1)[..., 0][known].sum()
    return total * config.loss_weight, known.sum() if config.loss_count == "labelled" else labels.size


@pytest.mark.parametrize("loss_at", ["input", "map"])
@pytest.mark.parametrize("things, loss_count", [("first", "labelled"), ("last", "all")])
def test_loss(loss_at, things, loss_count):
    config = SemanticConfig(
        stuff=("a", "b", "c"), loss_weight=0.5, loss_at=loss_at, things=things, loss_count=loss_count
    )
    rng = np.random.RandomState(3)
    logits = (2 * rng.standard_normal((7, 9, 4))).astype(np.float32)
    labels = rng.choice([0, 1, 2, 3, 255], (28, 36)).astype(np.uint8)
    size = (5, 6)
    labels[4 * size[0] :] = 255
    labels[:, 4 * size[1] :] = 255
    value = jax.jit(lambda x: semantic_loss(x, labels, jnp.array(size), 4, config)["loss_semantic"])
    term = value(logits)
    total, count = oracle(logits, labels, size, config)
    np.testing.assert_allclose(term.total, total, rtol=1e-5)
    assert term.count == count
    # Padding changes nothing, and has no gradient.
    gradient = jax.grad(lambda x: value(x).total)(jnp.asarray(logits))
    assert not gradient[5:].any() and not gradient[:, 6:].any() and jnp.isfinite(gradient).all()
    step = np.zeros_like(logits)
    step[2, 3, 1] = 1e-3
    slope = (
        oracle(logits + step, labels, size, config)[0] - oracle(logits - step, labels, size, config)[0]
    ) / 2e-3
    np.testing.assert_allclose(gradient[2, 3, 1], slope, rtol=1e-3, atol=1e-4)


def test_loss_of_an_image_without_labels_is_zero():
    config = SemanticConfig(stuff=("a",))
    labels = np.full((8, 8), 255, np.uint8)
    term = semantic_loss(jnp.ones((2, 2, 2)), labels, jnp.array([2, 2]), 4, config)["loss_semantic"]
    assert term.total == 0 and term.count == 0
