"""Detectron2's federated loss, sigmoid scores and repeat factors, and the law of the draw."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.config import BoxConfig, Classes, ConfigError, DetectionConfig, FederatedConfig, ModelConfig
from jaxmaskrcnn.data.repeat_factors import repeat_factors
from jaxmaskrcnn.losses import Regions, box_losses, federated_classes
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.box_stages import box_loss_terms
from jaxmaskrcnn.structures import Proposals, Targets

K = 30
CLASSES = Classes(K, "last")


@pytest.fixture(scope="module")
def golden():
    return dict(np.load("tests/goldens/federated.npz"))


def regions_of(labels, padding=0):
    """Regions with these labels, of which K is the background, and some padding."""
    boxes = np.zeros((len(labels) + padding, 4), np.float32) + [0, 0, 8, 8]
    labels = np.concatenate([labels, np.full(padding, 5)])
    valid = np.arange(len(labels)) < len(labels) - padding
    positive = valid & (labels < K)
    return Regions(boxes, np.where(positive, labels, 0), np.zeros(len(labels), int), positive, valid)


TARGETS = Targets(jnp.array([[0.0, 0, 8, 8]]), jnp.zeros(1, int), None, jnp.zeros(1, bool), jnp.ones(1, bool))


@functools.partial(jax.jit, static_argnames=("config", "classes"))
@functools.partial(jax.value_and_grad, argnums=0)
def classification(logits, regions, key, config, classes=CLASSES):
    deltas = jnp.zeros((len(logits), classes.count + classes.offset, 4))
    term = box_losses(logits, deltas, regions, TARGETS, classes, config, key=key)["loss_classifier"]
    return term.total / term.count


@pytest.mark.parametrize(
    "kind, case, padding",
    [("federated", 0, 7), ("federated", 1, 0), ("federated", 2, 0), ("all", 0, 0), ("all", 1, 7)],
)
def test_loss_and_gradient_of_detectron2(golden, kind, case, padding):
    config = BoxConfig(scores="sigmoid")
    if kind == "federated":
        # Only the classes that were drawn have images, so that they are all drawn here too.
        drawn = np.isin(np.arange(K), golden[f"federated_{case}_classes"]).astype(int).tolist()
        config = BoxConfig(
            scores="sigmoid",
            federated=FederatedConfig(classes=int(golden["wanted"]), image_counts=tuple(drawn)),
        )
    regions = regions_of(golden[f"{kind}_{case}_labels"], padding)
    logits = golden[f"{kind}_{case}_logits"]
    logits = np.concatenate([logits, np.full((padding, K + 1), 9.0, np.float32)])
    value, gradient = classification(logits, regions, jax.random.key(1), config)
    np.testing.assert_allclose(value, golden[f"{kind}_{case}_loss"], rtol=1e-6)
    count = len(logits) - padding
    np.testing.assert_allclose(gradient[:count], golden[f"{kind}_{case}_gradient"], atol=1e-7)
    assert not np.any(gradient[count:])
    if padding:  # with the background in the first channel it is the same
        rolled = np.roll(logits, 1, 1)
        again, _ = classification(rolled, regions, jax.random.key(1), config, Classes(K, "first"))
        np.testing.assert_allclose(again, value, rtol=1e-6)


def choose(labels, config, key=None, padding=0):
    regions = regions_of(np.array(labels), padding)
    return federated_classes(regions.labels, regions.positive, regions.valid, CLASSES, config, key)


def test_the_law_of_the_draw_is_detectron2s(golden):
    """How often each class counts, and two of them together, in as many draws as the library made."""
    config = FederatedConfig(classes=int(golden["wanted"]), image_counts=tuple(golden["counts"].tolist()))
    draws = int(golden["draws"])
    keys = jax.random.split(jax.random.key(0), draws)
    found = np.asarray(jax.jit(jax.vmap(lambda key: choose([3, 9, K, K], config, key)))(keys))
    assert (found.sum(1) == int(golden["wanted"]) - 1).all()  # the background is one of them
    assert found[:, [3, 9]].all()
    for ours, theirs in (
        (found.mean(0), golden["times"][:K] / draws),
        (found[:, [0, 1]].all(1).mean(), golden["both"] / draws),
    ):
        deviation = np.sqrt(np.maximum(theirs * (1 - theirs), 1 / draws) * 2 / draws)
        assert np.abs(ours - theirs).max() < (4.5 * deviation).max()
        assert (np.abs(ours - theirs) < 4.5 * deviation).all()


@pytest.mark.slow
def test_which_classes_count_without_a_key():
    counts = tuple(range(K, 0, -1))
    config = FederatedConfig(classes=4, image_counts=counts)
    assert np.flatnonzero(choose([7, 7, K], config)).tolist() == [0, 1, 7]
    assert np.flatnonzero(choose([7, 7], config)).tolist() == [0, 1, 2, 7]  # no background
    assert np.flatnonzero(choose([7, 7], config, padding=3)).tolist() == [0, 1, 2, 7]
    assert np.flatnonzero(choose([1, 2, 3, 4, 5], config)).tolist() == [1, 2, 3, 4, 5]  # more than that
    few = FederatedConfig(classes=9, image_counts=(5, *(0,) * (K - 1)))
    assert np.flatnonzero(choose([7], few)).tolist() == [0, 7]  # classes without images are not drawn


def test_scores_are_sigmoids_without_the_last_channel(golden):
    proposals = Proposals(golden["proposals"], jnp.zeros(24), jnp.ones(24, bool))
    found = jax.jit(select_detections, static_argnames=("classes", "box", "config"))(
        jnp.asarray(golden["logits"]), jnp.asarray(golden["deltas"]).reshape(24, K, 4), proposals,
        jnp.array([200, 200]), classes=CLASSES, box=BoxConfig(scores="sigmoid"),
        config=DetectionConfig(score_threshold=0.3, min_side=0),
    )  # fmt: skip
    count = len(golden["scores"])
    assert found.valid.sum() == min(count, 100) and count > 60
    np.testing.assert_allclose(found.scores[:count], golden["scores"], rtol=1e-6)
    np.testing.assert_array_equal(found.labels[:count], golden["classes"])
    np.testing.assert_allclose(found.boxes[:count], golden["boxes"], atol=1e-3)


def test_repeat_factors_of_both_libraries(golden):
    factors = repeat_factors(golden["pairs"], len(golden["factors"]), 0.2)
    np.testing.assert_allclose(factors, golden["factors"], rtol=1e-6)
    np.testing.assert_array_equal(np.ceil(factors), golden["repeated"])
    assert (golden["repeated"] > 1).any() and (golden["factors"] % 1 > 0).any()


def test_settings_that_do_not_go_together():
    with pytest.raises(ConfigError, match="set scores to 'sigmoid' too"):
        BoxConfig(federated=FederatedConfig())
    changes = {"num_classes": 3, "box.scores": "sigmoid", "box.federated": True}
    assert ModelConfig().replace(changes).box.federated.classes == 50
    with pytest.raises(ConfigError, match="image_counts has 2 numbers but num_classes is 3"):
        ModelConfig().replace({**changes, "box.federated.image_counts": (1, 2)})


class Given:
    """Stands for the features of a batch."""

    def __init__(self, logits):
        self.logits = logits
        self.batch = SimpleNamespace(targets=jax.tree.map(lambda x: jnp.stack([x] * len(logits)), TARGETS))
        self.limits = jnp.tile(jnp.array([100, 100]), (len(logits), 1))

    def __call__(self, *_):
        return self.logits.reshape(-1, K + 1)


def test_each_image_has_its_own_draw():
    """Which depends on the image's key alone, and not on the others in its batch."""
    changes = {"num_classes": K, "background": "last", "box.scores": "sigmoid"}
    config = ModelConfig().replace({**changes, "box.federated": FederatedConfig(classes=6)})
    one = jax.tree.map(jnp.asarray, regions_of(np.array([3, 9, K, K])))
    regions = jax.tree.map(lambda x: jnp.stack([x] * 3), one)
    own = np.random.default_rng(0).normal(size=(1, 4, K + 1)).astype(np.float32)
    logits = jnp.asarray(np.repeat(own, 3, 0))

    @jax.jit
    def totals(keys):
        head = lambda features, *_: (features, jnp.zeros((len(features), K, 4)))  # noqa: E731
        terms, _ = box_loss_terms(head, Given(logits), regions, config, Pass(None), keys)
        return terms["loss_classifier"].total

    a, b, c = jax.random.split(jax.random.key(0), 3)
    first, second = totals(jnp.stack([a, b, c])), totals(jnp.stack([b, a, a]))
    assert len(set(np.asarray(first).tolist())) == 3
    np.testing.assert_array_equal(second, first[jnp.array([1, 0, 0])])
