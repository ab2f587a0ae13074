"""The seesaw loss, its counts, and layers of cosines: beside a plain definition and MMDetection's own.

MMDetection's are in `goldens/mmdet_seesaw.npz` (see `record_mmdet_seesaw.py`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative

from jaxmaskrcnn.config import BoxConfig, Classes, ClassLossConfig, ConfigError, ModelConfig
from jaxmaskrcnn.losses import Regions, box_losses
from jaxmaskrcnn.losses.seesaw import seesaw_losses, two_softmaxes
from jaxmaskrcnn.models.cosine import CosineConv, CosineLinear
from jaxmaskrcnn.models.heads.region_counts import RegionCounts
from jaxmaskrcnn.models.norm import synchronise
from jaxmaskrcnn.structures import Targets

K = 5
CLASSES = Classes(K, "last", more_logits=1)
CONFIG = BoxConfig(
    scores="two_softmaxes", class_agnostic=True, class_loss=ClassLossConfig(mitigation=0.8, compensation=2.0)
)
TARGETS = Targets(jnp.array([[0.0, 0, 8, 8]]), jnp.zeros(1, int), None, jnp.zeros(1, bool), jnp.ones(1, bool))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "mmdet_seesaw.npz") as arrays:
        names = [name for name in arrays if name.startswith(("loss/", "linear/", "conv/"))]
        return {name: arrays[name] for name in names}


def regions_of(labels, padding=0):
    """Regions of one image with these labels, of which K is the background, and some padding."""
    labels = np.concatenate([labels, np.full(padding, 2)])
    valid = np.arange(len(labels)) < len(labels) - padding
    positive = valid & (labels < K)
    boxes = np.zeros((len(labels), 4), np.float32) + [0, 0, 8, 8]
    return Regions(boxes, np.where(positive, labels, 0), np.zeros(len(labels), int), positive, valid)


def total(logits, regions, counts):
    terms = box_losses(
        logits, jnp.zeros((len(logits), 1, 4)), regions, TARGETS, CLASSES, CONFIG, counts=counts
    )
    values = {name: term.total / term.count for name, term in terms.items() if "classifier" in name}
    return sum(values.values()), values


def oracle(logits, label, counts):
    """One region's loss, class by class, in float64."""
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    weights = np.ones(len(logits))
    for j in range(len(logits)):
        if j != label:
            weights[j] *= min(1, max(counts[j], 1) / max(counts[label], 1)) ** 0.8
            weights[j] *= max(1, scores[j] / max(scores[label], 0.01)) ** 2
    return np.log((weights * np.exp(logits)).sum()) - logits[label]


def test_plain_definition():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (60, K)), rng.integers(0, K, 60)
    counts = np.array([5000.0, 300, 0, 1, 20])
    expected = [oracle(x, label, counts) for x, label in zip(logits, labels, strict=True)]
    found = seesaw_losses(jnp.asarray(logits), labels, jnp.asarray(counts), 0.8, 2.0)
    check("seesaw loss", relative(found, np.array(expected)), 1e-5)
    plain = seesaw_losses(jnp.asarray(logits), labels, jnp.asarray(counts), 0.0, 0.0)
    softmax = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[:, None], 1)[:, 0]
    check("without both factors", relative(plain, softmax), 1e-5)


@pytest.mark.parametrize("padding", [0, 7])
def test_two_steps_of_mmdetection(golden, padding):
    """Losses, gradients and counts; what is in padded slots changes nothing."""
    seen = RegionCounts(K)
    seen.counts[...] = jnp.array([900.0, 40, 0, 7, 0, 3000])
    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    for i in range(2):
        logits, labels = golden[f"loss/{i}/logits"], golden[f"loss/{i}/labels"]
        wide = np.pad(logits, ((0, padding), (0, 0)), constant_values=9.0)
        regions = regions_of(labels, padding)
        counts = seen(jax.tree.map(lambda x: jnp.asarray(x)[None], regions), jnp.ones(1, bool), True)
        np.testing.assert_array_equal(counts, golden[f"loss/{i}/counts"])
        (_, values), gradient = step(wide, regions, counts)
        for name, theirs in (("", "classes"), ("_objectness", "objectness")):
            expected = golden[f"loss/{i}/loss_cls_{theirs}"]
            check(theirs, abs(float(values[f"loss_classifier{name}"]) / expected - 1), 1e-5)
        check("gradient", relative(gradient[:40], golden[f"loss/{i}/gradient"]), 1e-5)
        assert not np.asarray(gradient[40:]).any()
        check("scores", np.abs(two_softmaxes(logits) - golden[f"loss/{i}/scores"]), 1e-6)


def test_counts_over_devices_are_those_of_the_whole_batch():
    """Images that are not valid are not counted, and without training nothing is."""
    rng = np.random.default_rng(0)
    images = [regions_of(rng.integers(0, K + 1, 20 + i), 4 - i) for i in range(4)]
    regions = jax.tree.map(lambda *x: jnp.stack(x), *images)
    valid = jnp.array([True, True, False, True])

    def count(regions, valid, axis_name=None, train=True):
        seen = RegionCounts(K)
        synchronise(seen, axis_name)
        return seen(regions, valid, train), seen.counts[...]

    whole, stored = count(regions, valid)
    labels = np.concatenate(
        [np.where(x.positive, x.labels, K)[x.valid] for i, x in enumerate(images) if i != 2]
    )
    np.testing.assert_array_equal(whole, np.bincount(labels, minlength=K + 1))
    np.testing.assert_array_equal(whole, stored)
    split = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (regions, valid))
    for found in jax.vmap(lambda *x: count(*x, axis_name="batch"), axis_name="batch")(*split):
        np.testing.assert_array_equal(found, np.stack([whole, whole]))
    assert not any(x.any() for x in count(regions, valid, train=False))


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_layers_of_cosines(golden, name):
    """Also where the input is zeros."""
    arrays = {k.removeprefix(f"{name}/"): v for k, v in golden.items() if k.startswith(f"{name}/")}
    kind, last = (CosineLinear, (1, 0)) if name == "linear" else (CosineConv, (2, 3, 1, 0))
    layer = kind(6, 4, scale=20.0, init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = arrays["weight"].transpose(last), arrays["bias"]

    def moved(x):
        return x if name == "linear" else np.moveaxis(x, 1, -1)

    def run(layer, x):
        y = layer(x)
        return (y * moved(arrays["factor"])).sum(), y

    x = moved(arrays["x"])
    (gradients, of_x), y = nnx.grad(run, argnums=(0, 1), has_aux=True)(layer, jnp.asarray(x))
    check("layer", relative(y, moved(arrays["y"])), 1e-5)
    check("gradient of the input", relative(of_x, moved(arrays["gradient/x"])), 1e-5)
    expected = arrays["gradient/weight"].transpose(last)
    check("gradient of the kernel", relative(gradients.kernel[...], expected), 1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"box.class_loss.mitigation": 0.8}, "mitigation is 0.8, but it is for box.scores='two_softmaxes'"),
        (
            {"box.scores": "two_softmaxes", "background": "first"},
            "background 'first', which do not go",
        ),
        (
            {"box.scores": "two_softmaxes", "background": "last", "regions.sampling": "hard"},
            "regions.sampling 'hard', which do not go together",
        ),
        ({"box.scores": "two_softmaxes", "box.class_loss.form": "focal"}, "form is 'focal', but it is for"),
        (
            {"box.scores": "two_softmaxes", "box.class_loss.class_weights": (1.0,)},
            "class_weights is .*, but it is for box.scores='softmax' and 'sigmoid'",
        ),
    ],
)
def test_what_does_not_go_together(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig().replace(changes)
