"""What is pooled once for several heads, beside each head's own pooling."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from test_mask_rcnn import build, losses_and_gradient, make_image, make_target

from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models import MaskRCNN
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.heads.region_head import Pooler


class OwnPooler(Pooler):
    """A pooler that may do something else than `Pooler`, so that every head has to call it."""


class Apart(MaskRCNN):
    """A model whose heads pool their regions themselves."""

    def pooler(self, *arguments, **options):
        return OwnPooler(**vars(super().pooler(*arguments, **options)))


class OwnMaskHead(MaskHead):
    """A head whose losses are of other boxes than the sampled ones."""

    def loss_terms(self, pooler, regions, pass_, features=None):
        assert features is None
        return super().loss_terms(pooler, regions._replace(boxes=regions.boxes + 1), pass_)


def learnt(kind, change=None, **fields):
    model = kind(build(**fields).config, rngs=nnx.Rngs(0))
    if change is not None:
        change(model)
    images = [make_image(0, 60, 80), make_image(1, 100, 64)]
    batch = make_batch(model, images, [make_target(2, 60, 80, 4), make_target(1, 100, 64, 3)])
    return model, batch


def poolings(kind, change=None, **fields):
    """How often the maps are pooled in a training step."""
    model, batch = learnt(kind, change, **fields)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    traced = jax.make_jaxpr(lambda params: nnx.merge(graphdef, params, rest).loss_terms(batch))(params)
    return str(traced).count("name=_pool_lists")


def test_regions_are_pooled_once():
    assert poolings(MaskRCNN) == 1
    assert poolings(Apart) == 3  # windows, boxes, masks
    # Masks are learnt in other boxes, or in boxes that are not known yet.
    assert poolings(MaskRCNN, own_mask_head) == 2
    assert poolings(MaskRCNN, **{"regions.head_boxes": "predicted"}) == 2


def own_mask_head(model):
    model.mask_head.__class__ = OwnMaskHead


@pytest.mark.slow  # compiles two models each
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"box.pool.sampling_ratio": 0, "mask.pool.sampling_ratio": 0},
        {"rpn.norm": "bn"},
        {"regions.head_boxes": "predicted"},
    ],
)
def test_models_learn_the_same_together_and_apart(fields):
    (losses, gradient), (expected, expected_gradient) = (
        losses_and_gradient(*learnt(kind, **fields), jax.random.key(0)) for kind in (MaskRCNN, Apart)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), losses, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(b).max())),
        gradient,
        expected_gradient,
    )
