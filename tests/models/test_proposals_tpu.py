"""Proposals as TPUs select them, with the cells last, against those of the other platforms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.config import Level, ModelConfig
from jaxmaskrcnn.models import proposals_tpu
from jaxmaskrcnn.models.anchor_grids import image_anchors, image_grids
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.models.rpn import RPNHead

SIZES, STRIDES = ((50, 62), (25, 31), (13, 16), (7, 8), (3, 4)), (4, 8, 16, 32, 64)
EXTENT, IMAGE = np.array([192, 240]), np.array([190, 233])
LENGTHS = ((8,), (16,), (32,), (64,), (128,))
RULES = {
    "torchvision": {"rpn.ranking": "logit", "rpn.anchors.stride": "derived", "rpn.anchors.rounding": True},
    "probabilities": {"rpn.ranking": "probability", "rpn.anchors.stride": "fixed", "rpn.pre_nms_test": 300},
    "last pixels": {"box_edges": "last_pixel", "rpn.empty_boxes": "keep"},
}


def configuration(**fields):
    return ModelConfig().replace(
        {"rpn.anchors.sizes": LENGTHS, "rpn.pre_nms_test": 2200, "rpn.post_nms_test": 500, **fields}
    )


def predictions(rng, equal):
    """Objectness [h * w, A] and deltas [h * w, A, 4] of each level; many are equal, some not finite."""
    found = []
    for height, width in SIZES:
        logits = rng.normal(0, 3, (height * width, 3)).astype(np.float32)
        deltas = rng.normal(0, 0.3, (height * width, 3, 4)).astype(np.float32)
        strange = rng.random(logits.shape) < 0.02
        logits[strange], deltas[rng.random(deltas.shape) < 0.01] = np.nan, np.inf
        found.append((np.round(logits) if equal else logits, deltas))
    return found


def rows_of(x):
    """Filled up to whole rows of cells, with values that would be the best."""
    return np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, -x.shape[-1] % 128)], constant_values=99)


@pytest.mark.slow_except("probabilities-True")
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("rules", RULES)
def test_the_same_proposals_bit_for_bit(rules, equal):
    config = configuration(**RULES[rules])
    rpn, edges, whole = config.rpn, config.box_edges, (False, True, False, False, True)
    found = predictions(np.random.default_rng(0), equal)

    @jax.jit
    def by_anchor(logits, deltas):
        anchors = image_anchors(SIZES, STRIDES, jnp.asarray(EXTENT), rpn.anchors, edges, whole)
        return select_proposals(logits, deltas, anchors, SIZES, jnp.asarray(IMAGE), rpn, train=False)

    @jax.jit
    def cells_last(found):
        grids = image_grids(SIZES, STRIDES, jnp.asarray(EXTENT), rpn.anchors, whole)
        return proposals_tpu.select(found, grids, jnp.asarray(IMAGE), rpn, edges)

    expected = by_anchor(
        np.concatenate([logits.reshape(-1) for logits, _ in found]),
        np.concatenate([deltas.reshape(-1, 4) for _, deltas in found]),
    )
    assert expected.valid.sum() > 100
    turned = [(rows_of(logits.T), rows_of(deltas.transpose(1, 2, 0))) for logits, deltas in found]
    jax.tree.map(np.testing.assert_array_equal, cells_last(turned), expected)


@pytest.mark.slow_except("softmax")
@pytest.mark.parametrize("objectness", ["sigmoid", "softmax"])
def test_the_head_predicts_the_same_with_the_cells_last(objectness):
    config = configuration(**{"rpn.objectness": objectness}).rpn
    levels = [Level(stride, 8) for stride in STRIDES]
    head = RPNHead(config, levels, rngs=nnx.Rngs(0))
    for conv in (head.cls_logits, head.bbox_pred):
        conv.bias[...] = jnp.arange(conv.bias.shape[0], dtype=jnp.float32)
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(2, *size, 8)).astype(np.float32) for size in SIZES]
    pass_ = Pass(jnp.array([EXTENT, EXTENT - 64]))
    logits, deltas = jax.jit(lambda head, maps: head(maps, pass_))(head, maps)

    @jax.jit
    def cells_last(head, maps):
        predicted = proposals_tpu.predict(head.hidden(maps, pass_), proposals_tpu.Predictors.of(head))
        return [jax.vmap(lambda y: proposals_tpu.by_kind(y, config))(y) for y in predicted]

    found = cells_last(head, maps)
    cells = [height * width for height, width in SIZES]
    turned = [x[:, :, :n].swapaxes(1, 2) for (x, _), n in zip(found, cells, strict=True)]
    turned = np.concatenate([x.reshape(2, -1) for x in turned], 1)
    np.testing.assert_allclose(turned, logits, atol=1e-5)
    turned = [x[..., :n].transpose(0, 3, 1, 2) for (_, x), n in zip(found, cells, strict=True)]
    turned = np.concatenate([x.reshape(2, -1, 4) for x in turned], 1)
    np.testing.assert_allclose(turned, deltas, atol=1e-5)


def test_heads_of_ones_own_are_called():
    class Own(RPNHead):
        def __call__(self, levels, pass_=Pass()):  # noqa: B008
            return super().__call__(levels, pass_)

    config = configuration().rpn
    levels = [Level(stride, 8) for stride in STRIDES]
    maps = [jnp.zeros((1, *size, 8)) for size in SIZES]
    applies = functools.partial(proposals_tpu.applies, levels=maps)
    plain, own = (kind(config, levels, rngs=nnx.Rngs(0)) for kind in (RPNHead, Own))
    assert applies(plain, config) and not applies(own, config)
    together = configuration(**{"rpn.nms_scope": "image"}).rpn
    assert not applies(plain, together)
    assert proposals_tpu.applies(plain, together, maps[:1])


def test_predictors_of_ones_own_are_called():
    config = configuration().rpn
    maps = [jnp.zeros((1, *size, 8)) for size in SIZES]
    for field, layer in {
        "cls_logits": Conv(8, 3, 3, rngs=nnx.Rngs(0)),
        "bbox_pred": Conv(8, 12, 1, bias=False, rngs=nnx.Rngs(0)),
    }.items():
        head = RPNHead(config, [Level(stride, 8) for stride in STRIDES], rngs=nnx.Rngs(0))
        assert proposals_tpu.applies(head, config, maps)
        setattr(head, field, layer)
        assert not proposals_tpu.applies(head, config, maps)
    head = RPNHead(config, [Level(stride, 8) for stride in STRIDES], rngs=nnx.Rngs(0))
    head.cls_logits = Conv(8, 4, 1, rngs=nnx.Rngs(0))  # which is refused where its result is looked at
    assert not proposals_tpu.applies(head, config, maps)
