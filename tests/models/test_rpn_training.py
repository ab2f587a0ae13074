"""The predictions of sampled anchors and their gradients, as TPUs and as other platforms compute them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_mask_rcnn import build, losses_and_gradient, make_image, make_target

from jaxmaskrcnn.config import Level, ModelConfig
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models import MaskRCNN, proposals_tpu, rpn_training
from jaxmaskrcnn.models import sampled_predictions_tpu as sampled_tpu
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.proposals_tpu import Predictors
from jaxmaskrcnn.models.rpn import RPNHead, image_anchors

SIZES, STRIDES = ((20, 31), (10, 16), (5, 8), (3, 4), (2, 2)), (4, 8, 16, 32, 64)
ANCHORS = 3 * sum(height * width for height, width in SIZES)


def head_and_maps(objectness, dtype="float32"):
    config = ModelConfig().replace({"rpn.objectness": objectness}).rpn
    head = RPNHead(config, [Level(stride, 8) for stride in STRIDES], dtype=dtype, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    for conv in (head.cls_logits, head.bbox_pred):
        conv.kernel[...] = jnp.asarray(rng.normal(size=conv.kernel.shape), jnp.float32)
        conv.bias[...] = jnp.arange(conv.bias.shape[0], dtype=jnp.float32)
    maps = tuple(jnp.asarray(rng.normal(size=(2, *size, 8)), dtype) for size in SIZES)
    # The first and the last anchor, those at the ends of levels, and two of one cell.
    ends = np.cumsum([3 * height * width for height, width in SIZES])
    chosen = [0, *(ends - 1), *ends[:-1], 6, 8]
    index = np.stack([chosen, rng.permutation(ANCHORS)[: len(chosen)]])
    return config, head, maps, jnp.asarray(index)


def by_anchor(config, predict, maps, predictors, index):
    """The plain definition: predictions of all anchors, in NumPy's order."""
    scores, score_bias, boxes, box_bias = predictors
    logits, deltas = [], []
    for x in maps:
        logits.append(predict(x, scores) + score_bias)
        deltas.append(predict(x, boxes) + box_bias)
    logits = jnp.concatenate([x.reshape(2, -1) for x in logits], 1)
    if config.objectness == "softmax":
        logits = logits[:, 1::2] - logits[:, ::2]
    deltas = jnp.concatenate([x.reshape(2, -1, 4) for x in deltas], 1)
    image = jnp.arange(2)[:, None]
    return logits[image, index], deltas[image, index]


@pytest.mark.slow_except("sigmoid")
@pytest.mark.parametrize("objectness", ["sigmoid", "softmax"])
def test_predictions_and_gradients_of_sampled_anchors(objectness):
    config, head, maps, index = head_and_maps(objectness)
    predictors = Predictors.of(head)
    plain = functools.partial(by_anchor, config, lambda x, kernel: jnp.einsum("bhwc,co->bhwo", x, kernel))
    rng = np.random.default_rng(2)
    cotangents = tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in (index.shape, (*index.shape, 4)))

    @jax.jit
    def expected(maps, predictors):
        found, pull = jax.vjp(lambda *arrays: plain(*arrays, index), maps, predictors)
        return found, pull(cotangents)

    @jax.jit
    def cells_last(maps, predictors):
        predicted = tuple(proposals_tpu.predict(maps, predictors))
        look_up = functools.partial(sampled_tpu.sampled_predictions, config=config)
        found = jax.vmap(lambda predicted, index: look_up(predicted, SIZES, index))(predicted, index)
        of_maps, of_predictors = sampled_tpu.gradients(maps, predictors, index, *cotangents, config)
        return found, (tuple(of_maps), of_predictors)

    close = functools.partial(np.testing.assert_allclose, atol=1e-4, rtol=1e-5)
    jax.tree.map(close, cells_last(maps, predictors), expected(maps, predictors))


def test_gradients_in_bfloat16():
    config, head, maps, index = head_and_maps("sigmoid", "bfloat16")
    predictors, ones = Predictors.of(head), jnp.ones(index.shape)
    of_maps, found = sampled_tpu.gradients(maps, predictors, index, ones, jnp.zeros((*ones.shape, 4)), config)
    assert {x.dtype for x in (*of_maps, *found)} == {jnp.dtype("bfloat16")}
    # Each of an image's anchors adds 1 to its logit's bias.
    counts = np.bincount(np.asarray(index).reshape(-1) % 3)
    np.testing.assert_array_equal(found.score_bias.astype(np.float32), counts)
    np.testing.assert_array_equal(found.box_bias.astype(np.float32), np.zeros(12))


def test_only_tpus_keep_the_cells_last():
    _, head, maps, index = head_and_maps("sigmoid")
    config = ModelConfig().replace({"rpn.anchors.sizes": ((8,), (16,), (32,), (64,), (128,))})
    extents = jnp.array([[80, 124]] * 2)
    place = functools.partial(image_anchors, SIZES, STRIDES, config=config.rpn.anchors)
    anchors = jax.vmap(lambda extent: place(extent=extent))(extents)

    def loss(maps, predictors):
        function = rpn_training.predictions_and_proposals
        logits, deltas, _ = function(config, maps, predictors, index, (anchors, extents, extents))
        return logits.sum() + deltas.sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(maps, Predictors.of(head))
    programs = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert {p for p, text in programs.items() if f"tensor<2x{ANCHORS}x4xf32>" in text} == {"cpu", "cuda"}


def test_both_ways_have_the_same_proposals_and_predictions():
    _, head, maps, index = head_and_maps("sigmoid")
    config = ModelConfig().replace(
        {
            "rpn.anchors.sizes": ((8,), (16,), (32,), (64,), (128,)),
            "rpn.pre_nms_train": 150,
            "rpn.post_nms_train": 90,
            "rpn.pre_nms_test": 40,
            "rpn.post_nms_test": 30,
        }
    )
    extents, limits = jnp.array([[80, 124], [64, 96]]), jnp.array([[71, 103], [60, 90]])
    place = functools.partial(image_anchors, SIZES, STRIDES, config=config.rpn.anchors)
    anchors = jax.vmap(lambda extent: place(extent=extent))(extents)

    def found(way):
        arrays = maps, Predictors.of(head), index, (anchors, extents, limits)
        return jax.jit(lambda *arrays: way(config, *arrays))(*arrays)

    plain = found(rpn_training.with_every_anchor)
    assert plain[2].boxes.shape[1] == 90 and plain[2].valid.sum() > 60
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, found(rpn_training.with_cells_last), plain)


def test_proposals_of_tpus_have_no_gradient():
    config, head, maps, _ = head_and_maps("sigmoid")
    config = ModelConfig().replace({"rpn.anchors.sizes": ((8,), (16,), (32,), (64,), (128,))})
    extents = jnp.array([[80, 124]] * 2)

    def total(maps):
        predicted = proposals_tpu.predict(maps, Predictors.of(head))
        found = proposals_tpu.propose(predicted, SIZES, extents, extents, config)
        return found.boxes.sum() + found.scores.sum()

    assert all(not x.any() for x in jax.jit(jax.grad(total))(maps))


class Proposing(MaskRCNN):
    """A model with a hook of its own, whose losses read all predictions."""

    def propose(self, *arguments, **options):
        return super().propose(*arguments, **options)


@pytest.mark.slow  # compiles two models
@pytest.mark.parametrize(
    "fields", [{}, {"rpn.batch_padding": "ignore", "rpn.border": 0, "rpn.clip": "canvas"}]
)
def test_models_learn_the_same_either_way(fields):
    config = build(**fields).config

    def learnt(kind):
        model = kind(config, rngs=nnx.Rngs(0))
        batch = make_batch(model, [make_image(0, 60, 80)], [make_target(2, 60, 80, 4)])
        levels = model.features(batch.images, Pass(batch.extents))
        assert rpn_training.applies(model.rpn, config.rpn, levels)
        return losses_and_gradient(model, batch, jax.random.key(0))

    (losses, gradient), (expected, of_all) = learnt(MaskRCNN), learnt(Proposing)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), losses, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(b).max())), gradient, of_all
    )
