"""Parts of a detector that return something else than they should are refused in words, when they are traced.

docs/own-models.md has the sentences.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pages import ROOT

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import ConfigError, Level
from jaxmaskrcnn.models import FPN
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.structures import Detections, LossTerm

CONFIG = jmr.model_config(
    "jaxmaskrcnn/shapes",
    num_classes=3,
    **{
        "input.test_min_size": 64,
        "input.test_max_size": 96,
        "backbone.width": 8,
        "neck.channels": 16,
        "rpn.post_nms_train": 20,
        "rpn.post_nms_test": 20,
        "regions.batch_size": 16,
        "box.fc_dim": 16,
        "mask.convs": 1,
        "mask.dim": 16,
    },
)


class Changed(nnx.Module):
    """A part whose result is changed."""

    def __init__(self, part, change):
        self.part, self.change = part, change

    def __call__(self, *arguments):
        return self.change(self.part(*arguments))


class Head(nnx.Module):
    """A further region head that returns what it is given."""

    def __init__(self, terms=None, predicted=None):
        self.terms, self.predicted = nnx.data(terms), nnx.data(predicted)

    def loss_terms(self, pooler, regions, pass_, features=None):
        return self.terms

    def predict(self, pooler, found):
        return self.predicted


class WrongBody(nnx.Module):
    """A backbone whose maps and levels are not the configuration's."""

    def __init__(self, made, levels):
        self.made, self.levels = made, levels

    def __call__(self, images, pass_=None):
        size = images.shape[1:3]
        return tuple(jnp.zeros((images.shape[0], size[0] // s, size[1] // s, c)) for s, c in self.made)

    def frozen(self):
        return ()


STAGES = ((4, 8), (8, 16), (16, 32), (32, 64))


def body(model, made, levels=STAGES):
    model.backbone.body = WrongBody(made, tuple(Level(*level) for level in levels))


def box(model, change):
    model.box_head = Changed(model.box_head, change)


def rpn(model, change):
    model.rpn = Changed(model.rpn, change)


def head(model, **returned):
    model.extra_heads = nnx.List([Head(**returned)])


def mask_head(model, predicted):
    model.mask_head = Head({}, predicted)


def term(*shape):
    return LossTerm(jnp.zeros(shape), jnp.zeros(shape))


# The method that is traced, how the model is changed, and what is said.
CASES = {
    "K logits": (
        "losses",
        lambda m: box(m, lambda x: (x[0][:, 1:], x[1])),
        "Changed returns logits of the shape [32, 3]; return [32, 4]: a logit for each of 3 classes and for "
        "the "
        "background, the last.",
    ),
    "K logits in a prediction": (
        "detect",
        lambda m: box(m, lambda x: (x[0][:, 1:], x[1])),
        "Changed returns logits of the shape [40, 3]; return [40, 4]: a logit for each of 3 classes and for "
        "the "
        "background, the last.",
    ),
    "one box for all classes": (
        "losses",
        lambda m: box(m, lambda x: (x[0], x[1][:, :1])),
        "Changed returns deltas of the shape [32, 1, 4]; return [32, 3, 4]: a box for each class.",
    ),
    "no deltas": (
        "detect",
        lambda m: box(m, lambda x: x[0]),
        "Changed returns an array of the shape [40, 4]; return logits and deltas.",
    ),
    "an anchor too few in each cell": (
        "detect",
        lambda m: rpn(m, lambda x: (x[0][:, ::3], x[1][:, ::3])),
        "Changed returns objectness logits of the shape [2, 512]; return [2, 1536]: 3 anchors for each of "
        "16 x 24 + "
        "8 x 12 + 4 x 6 + 2 x 3 + 1 x 2 cells.",
    ),
    "a map of another stride": (
        "detect",
        lambda m: body(m, ((4, 8), (4, 16), (16, 32), (32, 64))),
        "WrongBody returns a map of 16 x 24 cells for a canvas of 64 x 96 pixels, but its levels say "
        "stride 8, which "
        "is 8 x 12 cells; correct levels or the strides of its layers.",
    ),
    "a map too few": (
        "detect",
        lambda m: body(m, STAGES[:3]),
        "WrongBody returns 3 maps, but its levels are 4, with the strides 4, 8, 16, 32; return a map for "
        "each, or "
        "correct levels.",
    ),
    "other channels than the neck was made for": (
        "detect",
        lambda m: body(m, ((4, 8), (8, 8), (16, 8), (32, 8)), ((4, 8), (8, 8), (16, 8), (32, 8))),
        "The FPN is given maps with 8, 8, 8, 8 channels, but was made for maps with 8, 16, 32, 64; make it "
        "anew from "
        "the levels of the backbone before it.",
    ),
    "a loss without a count": (
        "losses",
        lambda m: head(m, terms={"loss_depth": jnp.zeros(2)}),
        "Head.loss_terms returns a value of the type dict; return a dictionary with a LossTerm (total, "
        "count) for each "
        "loss.",
    ),
    "a loss of the whole batch": (
        "losses",
        lambda m: head(m, terms={"loss_depth": term()}),
        "Head.loss_terms returns loss_depth with the shapes [] and []; return a total and a count for each "
        "of the 2 "
        "images, [2], as jax.vmap over the images does.",
    ),
    "a name that is no loss's": (
        "losses",
        lambda m: head(m, terms={"depth": term(2)}),
        "Head.loss_terms returns 'depth'; begin its name with loss_, as the log and charts know losses by "
        "that.",
    ),
    "a name that another part has": (
        "losses",
        lambda m: head(m, terms={"loss_mask": term(2)}),
        "Head.loss_terms returns loss_mask, which another part has too; give it another name.",
    ),
    "predictions without the images": (
        "detect",
        lambda m: head(m, predicted={"depth": jnp.zeros(100)}),
        "Head.predict returns depth with the shape [100]; return an array whose first axes are those of "
        "found.valid, "
        "[2, 50].",
    ),
    "masks of all regions in a row": (
        "detect",
        lambda m: mask_head(m, {"masks": jnp.zeros((100, 28, 28))}),
        "Head.predict returns masks with the shape [100, 28, 28]; return an array whose first axes are "
        "those of "
        "found.valid, [2, 50].",
    ),
}


@functools.cache
def parts():
    image = np.zeros((60, 90, 3), np.uint8)
    masks = np.zeros((1, 60, 90), bool)
    masks[0, 16:48, 8:56] = True
    target = {"boxes": [[8, 16, 56, 48]], "labels": [2], "masks": masks}
    return nnx.split(abstract_model(CONFIG)), jmr.make_batch(CONFIG, [image, image], [target, target])


def changed(change):
    split, batch = parts()
    model = nnx.merge(*split, copy=True)
    change(model)
    return model, batch


@pytest.mark.slow_except("a loss without a count", "a name that another part has")
@pytest.mark.parametrize("method, change, said", CASES.values(), ids=CASES)
def test_wrong_parts_are_refused_in_words(method, change, said):
    model, batch = changed(change)
    with pytest.raises(ConfigError) as error:
        jax.eval_shape(lambda model, batch: getattr(model, method)(batch), model, batch)
    assert str(error.value) == said


def test_the_page_has_the_sentences():
    page = (ROOT / "docs" / "own-models.md").read_text()
    missing = [name for name, (*_, said) in CASES.items() if said not in page and "prediction" not in name]
    assert not missing


def test_a_model_is_called_with_a_batch():
    model, batch = changed(lambda m: None)
    called = jax.eval_shape(lambda model, batch: model(batch), model, batch)
    assert called == jax.eval_shape(lambda model, batch: model.detect(batch), model, batch)
    assert called.extra is None


def test_what_detect_wants():
    model, batch = changed(lambda m: None)
    for given, found in (
        (batch.images, "an array of the shape [2, 64, 96, 3]"),
        ([np.zeros((64, 64, 3), np.uint8)], "a value of the type list"),
    ):
        with pytest.raises(ConfigError) as error:
            model.detect(given)
        assert str(error.value) == (
            f"detect is called with {found}; give a Batch, which make_batch(model, images) makes of uint8 "
            f"RGB arrays, "
            "or call a Predictor with the images themselves."
        )
    with pytest.raises(ConfigError, match="loss_terms is called with a batch without targets; give them to"):
        model.losses(batch._replace(targets=None))


def test_further_heads_learn_and_predict():
    terms, depths = {"loss_depth": LossTerm(jnp.ones(2), jnp.full(2, 4.0))}, jnp.ones((2, 50))
    model, batch = changed(lambda m: head(m, terms=terms, predicted={"depth": depths}))
    losses = jax.eval_shape(lambda model, batch: model.losses(batch), model, batch)
    assert losses["loss_depth"].shape == ()
    found = jax.eval_shape(lambda model, batch: model.detect(batch), model, batch)
    assert isinstance(found, Detections) and found.extra["depth"].shape == (2, 50)


def test_a_neck_that_fits_is_accepted():
    levels = tuple(Level(s, 8) for s, _ in STAGES)

    def change(model):
        body(model, tuple(levels), levels)
        model.backbone.fpn = FPN(CONFIG.neck, levels, rngs=nnx.Rngs(0))

    model, batch = changed(change)
    assert jax.eval_shape(lambda model, x: model.features(x), model, batch.images)[4].shape == (2, 1, 2, 16)


@pytest.mark.slow
def test_regions_may_be_changed_after_sampling():
    """Here the last half of the slots is left out, which the heads then do not see."""
    seen = []

    class Half(jmr.MaskRCNN):
        def after_sampling(self, regions, pooler, pass_):
            seen.append((regions.boxes.shape, pooler.batch.targets.boxes.shape, pass_.train))
            return jax.tree.map(lambda x: x[:, :8], regions)

    class Box(nnx.Module):
        def __call__(self, regions, mask=None, train=False):
            seen.append(regions.shape)
            count = regions.shape[0]
            return jnp.zeros((count, 4)), jnp.zeros((count, 3, 4))

    model = nnx.eval_shape(lambda: Half(CONFIG, rngs=nnx.Rngs(0)))
    model.box_head = Box()
    jax.eval_shape(lambda model, batch: model.losses(batch), model, parts()[1])
    assert seen == [((2, 16, 4), (2, 1, 4), True), (16, 7, 7, 16)]
