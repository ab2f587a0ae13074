"""The predictions of sampled anchors from the cells around them, and the losses and gradients of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_mask_rcnn import build, losses_and_gradient, make_image, make_target

from jaxmaskrcnn.config import Level, ModelConfig
from jaxmaskrcnn.config.backbones import WholeLevel
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models import MaskRCNN, proposals_tpu, rpn_training, rpn_windows
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv
from jaxmaskrcnn.models.pooling import pool_together
from jaxmaskrcnn.models.proposals_tpu import Predictors
from jaxmaskrcnn.models.rpn import RPNHead

SIZES, STRIDES = ((20, 31), (10, 16), (5, 8), (3, 4), (2, 2)), (4, 8, 16, 32, 64)
ANCHORS = 3 * sum(height * width for height, width in SIZES)


def head_and_maps(dtype="float32", whole=False, **fields):
    config = ModelConfig().replace({f"rpn.{name}": value for name, value in fields.items()}).rpn
    levels = [(WholeLevel if whole else Level)(stride, 8) for stride in STRIDES]
    head = RPNHead(config, levels, dtype=dtype, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    for conv in (*(layer.conv for layer in head.convs), head.cls_logits, head.bbox_pred):
        conv.kernel[...] = jnp.asarray(rng.normal(size=conv.kernel.shape), jnp.float32) / 8
        if conv.bias is not None:
            conv.bias[...] = jnp.arange(conv.bias.shape[0], dtype=jnp.float32) / 8
    maps = tuple(jnp.asarray(rng.normal(size=(2, *size, 8)), dtype) for size in SIZES)
    # The first and the last anchor, those at the ends of levels, and two of one cell.
    ends = np.cumsum([3 * height * width for height, width in SIZES])
    chosen = [0, *(ends - 1), *ends[:-1], 6, 8]
    index = np.stack([chosen, rng.permutation(ANCHORS)[: len(chosen)]])
    return head, maps, jnp.asarray(index)


def predict(head, maps, index, pass_):
    windows, inside = rpn_windows.anchor_windows(head, maps, index, pass_)
    return rpn_windows.predict_anchors(head, *pool_together(maps, [windows]), inside, index)


def test_convolutions_without_a_bias_are_read_whole():
    head, *_ = head_and_maps()
    assert rpn_windows.applies(head)
    head.convs[0].conv = Conv(8, 8, 3, bias=False, rngs=nnx.Rngs(0))
    assert not rpn_windows.applies(head)


@pytest.mark.slow_except("plain")
@pytest.mark.parametrize(
    "fields, extents",
    [
        pytest.param({}, [[80, 124], [47, 66]], id="plain"),
        pytest.param({}, None, id="without extents"),
        pytest.param({"convs": 2}, [[80, 124], [47, 66]], id="two convolutions"),
        pytest.param({"convs": 3, "conv_dim": 5}, [[80, 124], [47, 66]], id="three of five channels"),
        pytest.param({"objectness": "softmax"}, [[80, 124], [47, 66]], id="softmax"),
        pytest.param({"whole": True}, [[80, 124], [47, 66]], id="whole cells"),
    ],
)
def test_windows_have_the_predictions_and_gradients_of_whole_maps(fields, extents):
    head, maps, index = head_and_maps(**fields)
    graphdef, params = nnx.split(head)
    pass_ = Pass(None if extents is None else jnp.array(extents))
    image = jnp.arange(2)[:, None]
    rng = np.random.default_rng(2)
    cotangents = tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in (index.shape, (*index.shape, 4)))

    def of_all(params, maps):
        return tuple(x[image, index] for x in nnx.merge(graphdef, params)(maps, pass_))

    def of_windows(params, maps):
        return predict(nnx.merge(graphdef, params), maps, index, pass_)

    def found(way):
        @jax.jit
        def both(params, maps):
            values, pull = jax.vjp(way, params, maps)
            return values, pull(cotangents)

        return jax.tree.leaves(both(params, maps))

    for a, b in zip(found(of_windows), found(of_all), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))


def test_gradients_in_bfloat16_are_added_in_float32():
    head, maps, _ = head_and_maps("bfloat16")
    index = jnp.full((2, 300), 3 * (31 + 1) + 1)  # the anchor of one cell, again and again

    def total(maps):
        logits, _ = predict(head, maps, index, Pass())
        return logits.sum()

    def total_of_all(maps):
        return 300 * head(maps)[0][:, index[0, 0]].sum()

    found, expected = jax.jit(jax.grad(total))(maps), jax.jit(jax.grad(total_of_all))(maps)
    assert {x.dtype for x in found} == {jnp.dtype("bfloat16")}
    for a, b in zip(found, expected, strict=True):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=0.02 * np.abs(b).max())
    assert np.abs(np.asarray(found[0], np.float32)).max() > 1


def test_the_order_of_anchors_does_not_matter():
    head, maps, index = head_and_maps()
    found = jax.jit(lambda index: predict(head, maps, index, Pass()))
    for a, b in zip(found(index), found(index[:, ::-1]), strict=True):
        np.testing.assert_array_equal(a, b[:, ::-1])


def test_heads_whose_windows_are_read():
    head, _, _ = head_and_maps(convs=2)
    assert rpn_windows.applies(head)
    assert not rpn_windows.applies(head_and_maps(norm="bn")[0])
    assert not rpn_windows.applies(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))

    class Hidden(RPNHead):
        def hidden(self, levels, pass_=Pass()):  # noqa: B008
            return super().hidden(levels, pass_)

    config = ModelConfig().rpn
    assert not rpn_windows.applies(Hidden(config, [Level(4, 8)], rngs=nnx.Rngs(0)))
    head.convs[1].conv = Conv(8, 8, 3, dilation=2, rngs=nnx.Rngs(0))
    assert not rpn_windows.applies(head)


def test_places_of_cells():
    counts = [height * width for height, width in SIZES]
    level, cell = rpn_windows.place_cells(SIZES, jnp.arange(sum(counts)))
    np.testing.assert_array_equal(level, np.repeat(range(5), counts))
    expected = np.concatenate([np.stack(np.divmod(np.arange(h * w), w), -1) for h, w in SIZES])
    np.testing.assert_array_equal(cell, expected)


def test_convolutions_of_whole_maps_have_no_gradient():
    config = build().config

    def convolutions(kind):
        model = kind(config, rngs=nnx.Rngs(0))
        batch = make_batch(model, [make_image(0, 60, 80)], [make_target(2, 60, 80, 4)])
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            terms = nnx.merge(graphdef, params, rest).loss_terms(batch)
            return sum(terms[name].total for name in ("loss_objectness", "loss_rpn_box_reg"))

        program = jax.jit(jax.grad(loss)).trace(params).lower(lowering_platforms=("cuda",)).as_text()
        return program.count("stablehlo.convolution")

    # Of each of five levels the gradients with respect to the map and to the kernel.
    assert convolutions(Proposing) - convolutions(MaskRCNN) == 10


def test_proposals_of_tpus_have_no_gradient():
    head, maps, _ = head_and_maps()
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
    "fields",
    [{}, {"rpn.convs": 2}, {"rpn.batch_padding": "ignore", "rpn.border": 0, "rpn.clip": "canvas"}],
)
def test_models_learn_the_same_either_way(fields):
    config = build(**fields).config

    def learnt(kind):
        model = kind(config, rngs=nnx.Rngs(0))
        images = [make_image(0, 60, 80), make_image(1, 100, 64)]
        batch = make_batch(model, images, [make_target(2, 60, 80, 4), make_target(1, 100, 64, 3)])
        levels = model.features(batch.images, Pass(batch.extents))
        assert rpn_training.applies(model.rpn, config.rpn, levels)
        return losses_and_gradient(model, batch, jax.random.key(0))

    (losses, gradient), (expected, of_all) = learnt(MaskRCNN), learnt(Proposing)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), losses, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(b).max())), gradient, of_all
    )
