"""A value that is not finite in one slot changes no other one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn import ops
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.norm import make_norm
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops.masks import paste_mask_windows
from jaxmaskrcnn.structures import Anchors, Proposals

STRANGE = [np.nan, np.inf, -np.inf]
SIZE = (60, 80)


def random_boxes(rng, n):
    corner = rng.uniform(0, 40, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 20, (n, 2))], 1).astype(np.float32)


@functools.partial(jax.jit, static_argnames="config")
def propose(objectness, deltas, anchors, config):
    return select_proposals(objectness, deltas, anchors, ((3, 4), (1, 4)), jnp.array(SIZE), config.rpn, False)


@pytest.mark.parametrize("ranking", ["logit", "probability"])
@pytest.mark.parametrize("clamp", ["max", "both"])
def test_proposals(ranking, clamp):
    config = ModelConfig().replace(
        {
            "rpn.pre_nms_test": 20,
            "rpn.post_nms_test": 30,
            "rpn.ranking": ranking,
            "rpn.delta_clamp": clamp,
            "box.delta_clamp": clamp,
            "rpn.nms_threshold": 0.5,
        }
    )
    rng = np.random.default_rng(0)
    objectness = rng.normal(size=48).astype(np.float32)
    deltas = rng.normal(0, 0.2, (48, 4)).astype(np.float32)
    anchors, valid = random_boxes(rng, 48), np.ones(48, bool)
    slot, objectness[4:6] = 4, (4, 3)
    anchors[5], deltas[5] = anchors[4] + 1, deltas[4]  # kept only where the slot is empty
    without = propose(objectness, deltas, Anchors(anchors, np.arange(48) != slot), config)
    whole = propose(objectness, deltas, Anchors(anchors, valid), config)
    assert whole.scores[0] == 4 or ranking == "probability"
    assert (whole.boxes[1:] != without.boxes[:-1]).any()
    for value in STRANGE:
        strange = objectness.copy()
        strange[slot] = value
        jax.tree.map(
            np.testing.assert_array_equal, propose(strange, deltas, Anchors(anchors, valid), config), without
        )
        for column in range(4):
            strange = deltas.copy()
            strange[slot, column] = value
            found = propose(objectness, strange, Anchors(anchors, valid), config)
            jax.tree.map(np.testing.assert_array_equal, found, without)


def test_a_box_that_is_too_large_for_its_type_is_no_proposal():
    config = ModelConfig().replace({"rpn.pre_nms_test": 48, "rpn.post_nms_test": 48})
    rng = np.random.default_rng(1)
    objectness, deltas = rng.normal(size=48).astype(np.float32), np.zeros((48, 4), np.float32)
    anchors = random_boxes(rng, 48)
    deltas[objectness.argmax(), 0] = 3e38
    without = propose(objectness, 0 * deltas, Anchors(anchors, objectness < objectness.max()), config)
    found = propose(objectness, deltas, Anchors(anchors, np.ones(48, bool)), config)
    jax.tree.map(np.testing.assert_array_equal, found, without)


@functools.partial(jax.jit, static_argnames="config")
def detect(logits, deltas, proposals, config):
    size = jnp.array(SIZE)
    return select_detections(logits, deltas, proposals, size, config.classes, config.box, config.detections)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("min_side", [0.0, 0.01])
def test_detections(agnostic, min_side):
    config = ModelConfig(num_classes=3, background="last").replace(
        {"detections.per_image": 40, "box.class_agnostic": agnostic, "detections.min_side": min_side}
    )
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (12, 4)).astype(np.float32)
    deltas = rng.normal(size=(12, 1 if agnostic else 3, 4)).astype(np.float32)
    boxes, valid = random_boxes(rng, 12), np.ones(12, bool)
    boxes[5] = boxes[3] + 1  # without the one, more is left of the other
    deltas[5] = deltas[3]
    logits[3], logits[5] = (6, 0, 0, 0), (5, 0, 0, 0)

    def run(logits=logits, deltas=deltas, boxes=boxes, valid=valid):
        return detect(logits, deltas, Proposals(boxes, np.zeros(12, np.float32), valid), config)

    without = run(valid=np.arange(12) != 3)
    assert without.valid.sum() > 5 and run().scores[0] > without.scores[0]
    for value in STRANGE:
        strange = logits.copy()
        strange[3] = value
        jax.tree.map(np.testing.assert_array_equal, run(logits=strange), without)
        for column in range(4):
            strange = deltas.copy()
            strange[3, :, column] = value
            jax.tree.map(np.testing.assert_array_equal, run(deltas=strange), without)
            strange = boxes.copy()
            strange[3, column] = value
            jax.tree.map(np.testing.assert_array_equal, run(boxes=strange), without)


def test_a_class_of_a_detection():
    """Deltas of one class leave the other classes of their proposal; so does a logit of minus infinity."""
    config = ModelConfig(num_classes=3, background="last").replace(
        {"detections.per_image": 12, "detections.score_threshold": 0.1}
    )
    boxes = random_boxes(np.random.default_rng(3), 2)
    proposals = Proposals(boxes, np.zeros(2, np.float32), np.ones(2, bool))
    logits, deltas = np.zeros((2, 4), np.float32), np.zeros((2, 3, 4), np.float32)
    for value in STRANGE:
        strange = deltas.copy()
        strange[1, 2, 3] = value
        found = detect(logits, strange, proposals, config)
        assert sorted(found.labels[found.valid].tolist()) == [0, 0, 1, 1, 2]
    logits[1, 2] = -np.inf
    found = detect(logits, deltas, proposals, config)
    assert sorted(found.labels[found.valid].tolist()) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("convention", ["torchvision", "detectron2"])
def test_pasted_masks(convention):
    rng = np.random.default_rng(4)
    probs, boxes = rng.random((3, 6, 6)).astype(np.float32), random_boxes(rng, 3)

    @jax.jit
    def pasted_masks(probs, boxes):
        return ops.paste_masks(probs, boxes, SIZE, convention=convention)

    def paste(probs, boxes):
        return np.asarray(pasted_masks(probs, boxes))

    plain = paste(probs, boxes)
    assert plain[1].any()
    for value in STRANGE:
        for column in range(4):
            strange = boxes.copy()
            strange[1, column] = value
            pasted = paste(probs, strange)
            np.testing.assert_array_equal(pasted[[0, 2]], plain[[0, 2]])
            assert not pasted[1].any()
            windows = list(paste_mask_windows(probs, strange, SIZE, convention=convention))
            assert windows[1][0].size == 0
        strange, empty = probs.copy(), probs.copy()
        strange[1, 2, 3], empty[1, 2, 3] = value, 0
        np.testing.assert_array_equal(paste(strange, boxes), paste(empty, boxes))
        for ours, expected in zip(
            paste_mask_windows(strange, boxes, SIZE, convention=convention),
            paste_mask_windows(empty, boxes, SIZE, convention=convention),
            strict=True,
        ):
            np.testing.assert_array_equal(ours[0], expected[0])


@pytest.mark.slow_except("nan")
@pytest.mark.parametrize("value", STRANGE)
def test_suppression(value):
    rng = np.random.default_rng(5)
    boxes, scores, ids = random_boxes(rng, 30), rng.random(30).astype(np.float32), rng.integers(0, 2, 30)
    best = scores.argmax()
    valid = np.arange(30) != best
    for suppress, groups in ((ops.nms, ()), (ops.batched_nms, (ids,))):
        kept = jax.jit(lambda boxes, valid: suppress(boxes, scores, *groups, 0.3, valid))  # noqa: B023
        expected = np.asarray(kept(boxes, valid))[valid]
        for column in range(4):
            strange = boxes.copy()
            strange[best, column] = value
            np.testing.assert_array_equal(np.asarray(kept(strange, np.ones(30, bool)))[valid], expected)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("value", STRANGE)
def test_pooled_regions(sampling_ratio, value):
    rng = np.random.default_rng(6)
    features, boxes = rng.normal(size=(15, 20, 2)).astype(np.float32), random_boxes(rng, 4)
    pool = jax.jit(
        functools.partial(ops.roi_align, output_size=3, spatial_scale=0.25, sampling_ratio=sampling_ratio)
    )
    plain = np.asarray(pool(features, boxes))
    for column in range(4):
        strange = boxes.copy()
        strange[1, column] = value
        np.testing.assert_array_equal(np.asarray(pool(features, strange))[[0, 2, 3]], plain[[0, 2, 3]])


@pytest.mark.slow_except("gn")
@pytest.mark.parametrize("name", ["bn", "gn", "ln"])
def test_gradients_of_a_norm_beside_padding(name):
    """An image or region none of whose cells counts has no part in the gradients of the others."""
    layer = make_norm(name, 32, rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 32))
    mask = jnp.array([True, False, True])[:, None, None, None]

    def total(params, x, mask, counts):
        y = nnx.merge(graphdef, params, rest, copy=True)(x, mask, True)
        return jnp.where(counts[:, None, None, None], jnp.sin(y), 0).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    gradients = gradient(params, x, mask, mask[:, 0, 0, 0])
    without = gradient(params, x[::2], mask[::2], jnp.ones(2, bool))
    kept = jax.tree.map(lambda g: g[::2] if g.shape == x.shape else g, gradients)
    assert all(abs(np.asarray(g)).max() > 1e-3 for g in jax.tree.leaves(without[1]))
    for ours, theirs in zip(jax.tree.leaves(kept), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
