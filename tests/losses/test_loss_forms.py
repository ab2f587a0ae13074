"""The forms of the losses against torch, torchvision, MMDetection and SciPy, and their settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from jax.test_util import check_grads

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import Classes, ConfigError, MaskConfig, MaskLossConfig, ModelConfig
from jaxmaskrcnn.losses.masks import boundary, dice
from jaxmaskrcnn.ops.distances import signed_distances
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.ops.paired_iou import complete_iou, distance_iou
from jaxmaskrcnn.ops.sampling import sample
from jaxmaskrcnn.structures import Proposals, Targets

GOLDEN = np.load(GOLDENS / "loss_forms.npz")
CLASSES = Classes(5, "last")
WEIGHTS = tuple(map(float, GOLDEN["weights"][:5]))
BACKGROUND = float(GOLDEN["weights"][5])


def box_config(**changes):
    return ModelConfig().replace({f"box.{path}": value for path, value in changes.items()}).box


def settings_of(scores="softmax", **changes):
    return box_config(scores=scores, **{f"class_loss.{name}": value for name, value in changes.items()})


FORMS = {
    "weighted": settings_of(class_weights=WEIGHTS, background_weight=BACKGROUND),
    "smoothed": settings_of(label_smoothing=0.1),
    "weighted_smoothed": settings_of(
        class_weights=WEIGHTS, background_weight=BACKGROUND, label_smoothing=0.1
    ),
    "focal": settings_of(form="focal", gamma=1.5),
    "weighted_focal": settings_of(
        form="focal", gamma=1.5, class_weights=WEIGHTS, background_weight=BACKGROUND
    ),
    "sigmoid_weighted": settings_of("sigmoid", class_weights=WEIGHTS),
    "sigmoid_focal": settings_of("sigmoid", form="focal", alpha=0.3, gamma=1.5),
    "quality_focal": settings_of("sigmoid", form="quality_focal", gamma=1.5),
}


def regions_of(labels, boxes=None):
    count, positive = len(labels), labels < CLASSES.count
    boxes = np.zeros((count, 4), np.float32) if boxes is None else boxes
    return losses.Regions(
        boxes, np.where(positive, labels, 0), np.arange(count), positive, np.ones(count, bool)
    )


def oracle(name, logits, labels):
    """The loss of every region in float64, by the papers' formulas."""
    config, x = FORMS[name].class_loss, logits.astype(np.float64)
    found = []
    for row, label, quality in zip(x, labels, GOLDEN["quality"].astype(np.float64), strict=True):
        if FORMS[name].scores == "softmax":
            p = np.exp(row) / np.exp(row).sum()
            weights = [*config.class_weights, config.background_weight] if config.class_weights else [1.0] * 6
            target = np.full(6, config.label_smoothing / 6)
            target[label] += 1 - config.label_smoothing
            power = (1 - p) ** config.gamma if config.form == "focal" else 1.0
            found.append(-(np.asarray(weights) * target * power * np.log(p)).sum())
            continue
        p, t = 1 / (1 + np.exp(-row[:5])), (np.arange(5) == label).astype(float)
        if name == "quality_focal":
            t = t * quality
            power = np.abs(t - p) ** config.gamma
        elif name == "sigmoid_focal":
            power = np.where(t == 1, config.alpha * (1 - p) ** 1.5, (1 - config.alpha) * p**1.5)
        else:
            power = np.where(t == 1, config.class_weights, 1.0)
        found.append(-(power * (t * np.log(p) + (1 - t) * np.log1p(-p))).sum())
    return np.asarray(found)


@pytest.mark.parametrize("name", FORMS)
def test_losses_of_classes(name):
    logits, regions = GOLDEN["logits"], regions_of(GOLDEN["labels"])

    @jax.jit
    def value_and_gradient(logits):
        loss = lambda x: losses.class_losses(x, regions, CLASSES, FORMS[name], GOLDEN["quality"])  # noqa: E731
        return loss(logits), jax.grad(lambda x: loss(x).sum())(logits)

    found, gradient = value_and_gradient(logits)
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, GOLDEN[f"{name}_gradient"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, oracle(name, logits, GOLDEN["labels"]), rtol=1e-5, atol=1e-5)
    extreme = value_and_gradient(np.sign(logits) * 300)  # neither overflows
    assert all(np.isfinite(x).all() for x in extreme)


def test_the_background_may_be_the_first_class():
    """With the logits in another order, the losses are the same."""
    first = np.roll(GOLDEN["logits"], 1, axis=1)
    regions = regions_of(GOLDEN["labels"])
    for name in ("weighted_smoothed", "quality_focal"):
        found = losses.class_losses(first, regions, Classes(5, "first"), FORMS[name], GOLDEN["quality"])
        np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=1e-6)


def test_the_quality_is_the_iou_of_the_predicted_box():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    objects = np.array([[0, 0, 10, 20], [20, 20, 40, 40]], np.float32)
    targets = Targets(objects, np.array([1, 3]), None, np.zeros(2, bool), np.ones(2, bool))
    regions = regions_of(np.array([1, 3]), boxes)
    logits = np.zeros((2, 6), np.float32)
    deltas = np.zeros((2, 5, 4), np.float32)
    found = losses.region_class_losses(logits, deltas, regions, targets, CLASSES, FORMS["quality_focal"])
    # p = 0.5, the targets 0.5 and 1 of the own class and 0 of the other four
    want = np.log(2) * (4 * 0.5**1.5 + np.array([0.0, 0.5**1.5]))
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form, overlap", [("diou", distance_iou), ("ciou", complete_iou)])
def test_losses_of_boxes(form, overlap):
    boxes, objects = GOLDEN["boxes"], GOLDEN["objects"]
    found, gradient = jax.jit(
        lambda a, b: (1 - overlap(a, b), jax.grad(lambda x: (1 - overlap(x, b)).sum())(a))
    )(boxes, objects)
    np.testing.assert_allclose(found, GOLDEN[form], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, GOLDEN[f"{form}_gradient"], rtol=1e-4, atol=1e-5)
    # MMDetection's is the same, but that CIoU counts the aspect ratio above an IoU of 0.5 alone.
    if form == "diou":
        np.testing.assert_allclose(found, GOLDEN["mmdet_diou"], rtol=1e-5, atol=1e-5)
    else:
        above = (np.asarray(1 - GOLDEN["mmdet_diou"]) > 0.5) & (found < 1.5)
        assert above.sum() > 5
        np.testing.assert_allclose(found[above], GOLDEN["mmdet_ciou"][above], rtol=1e-5, atol=1e-5)
    a, b = boxes.astype(np.float64), objects.astype(np.float64)
    want = [plain_overlap(x, y, form) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(1 - found, want, rtol=1e-5, atol=1e-5)
    check_grads(lambda x: distance_iou(x, objects[10:14]), (boxes[10:14],), 1, ["rev"], atol=0.02, rtol=0.02)
    empty = jnp.zeros((2, 4))
    assert np.isfinite(jax.grad(lambda x: overlap(x, empty).sum())(empty)).all()


def plain_overlap(a, b, form):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    size_a, size_b = a[2:] - a[:2], b[2:] - b[:2]
    iou = shared / (size_a.prod() + size_b.prod() - shared)
    around = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    found = iou - np.sum(((a[:2] + a[2:] - b[:2] - b[2:]) / 2) ** 2) / np.sum(around**2)
    if form == "diou":
        return found
    v = 4 / np.pi**2 * (np.arctan(size_b[0] / size_b[1]) - np.arctan(size_a[0] / size_a[1])) ** 2
    return found - v * v / (1 - iou + v) if v else found


@pytest.mark.parametrize("form", ["diou", "ciou"])
def test_the_box_head_takes_the_form(form):
    boxes, objects = GOLDEN["boxes"], GOLDEN["objects"]
    config = box_config(**{"loss.form": form, "loss.weight": 2.0})
    found = losses.box_errors(np.zeros((40, 4), np.float32), boxes, objects, config)
    np.testing.assert_allclose(found, GOLDEN[form], rtol=1e-5, atol=1e-5)


# -- masks


def test_distances_from_the_edge():
    found = jax.jit(jax.vmap(signed_distances))(GOLDEN["masks"])
    np.testing.assert_allclose(found, GOLDEN["distances"], atol=1e-5)
    mask = GOLDEN["masks"][3]
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    for y, x in ((0, 0), (5, 9), (13, 13)):
        others = outside if mask[y, x] else inside
        away = np.sqrt(((others - (y, x)) ** 2).sum(1).min())
        assert found[3, y, x] == pytest.approx(1 - away if mask[y, x] else away)


@pytest.mark.parametrize(
    "name, loss, targets", [("dice", dice, "soft_masks"), ("boundary", boundary, "masks")]
)
def test_losses_of_masks(name, loss, targets):
    logits, targets = GOLDEN["mask_logits"], GOLDEN[targets].astype(np.float32)
    found, gradient = jax.jit(lambda x: (loss(x, targets), jax.grad(lambda y: loss(y, targets).sum())(x)))(
        logits
    )
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, GOLDEN[f"{name}_gradient"], rtol=1e-5, atol=1e-6)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    if name == "dice":
        t = targets.astype(np.float64)
        want = 1 - 2 * (p * t).sum((1, 2)) / ((p * p).sum((1, 2)) + (t * t).sum((1, 2)) + 0.002)
    else:
        want = (p * GOLDEN["distances"]).mean((1, 2))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_factors_of_the_masks_losses():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 8:40, 8:24] = True
    boxes = np.array([[8, 8, 40, 40]], np.float32)
    targets = Targets(boxes, np.zeros(1, np.int32), pack_masks(masks), np.zeros(1, bool), np.ones(1, bool))
    regions = losses.Regions(
        np.repeat(boxes, 3, 0),
        np.zeros(3, np.int32),
        np.zeros(3, np.int32),
        np.arange(3) < 2,
        np.ones(3, bool),
    )
    logits = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)

    def terms(**factors):
        config = MaskConfig(targets="threshold", loss=MaskLossConfig(**factors))
        return losses.mask_loss(logits, regions, targets, 64, np.array([64, 64]), config)

    plain, both = terms(), terms(cross_entropy=0.5, dice=2.0, boundary=0.25)
    assert set(plain) == {"loss_mask"} and set(both) == {"loss_mask", "loss_mask_dice", "loss_mask_boundary"}
    np.testing.assert_allclose(both["loss_mask"].total, 0.5 * plain["loss_mask"].total, rtol=1e-6)
    half = np.tile(np.arange(8) < 4, (2, 8, 1)).astype(np.float32)
    for name, factor, loss in (("dice", 2.0, dice), ("boundary", 0.25, boundary)):
        assert both[f"loss_mask_{name}"].count == 2
        want = factor * loss(logits[:2], half).sum()
        np.testing.assert_allclose(both[f"loss_mask_{name}"].total, want, rtol=1e-5)
    assert set(terms(cross_entropy=0.0, dice=1.0)) == {"loss_mask_dice"}


# -- hard examples


def test_hard_examples_are_those_of_mmdetection():
    labels = np.where(GOLDEN["hard_positive"], 1, 0)
    chosen = sample(labels, GOLDEN["hard_losses"], 16, 0.25)
    index, positive = np.asarray(chosen.index), np.asarray(chosen.positive)
    assert set(index[positive]) == set(GOLDEN["hard_chosen"])
    assert set(index[~positive]) == set(GOLDEN["hard_background"])


@pytest.mark.slow
def test_regions_are_sampled_by_their_priority():
    """Whatever the place of the objects among the candidates."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (12, 2))
    boxes = np.concatenate([corner, corner + 10], 1).astype(np.float32)
    objects = boxes[[3, 7]] + 0.5
    targets = Targets(objects, np.array([0, 1]), None, np.zeros(2, bool), np.ones(2, bool))
    proposals = Proposals(boxes, np.zeros(12, np.float32), np.arange(12) != 5)
    for order in ("append", "prepend"):
        config = (
            ModelConfig()
            .replace(
                {
                    "regions.batch_size": 4,
                    "regions.positive_fraction": 0.5,
                    "regions.ground_truth_proposals": order,
                }
            )
            .regions
        )
        candidates = losses.region_candidates(proposals, targets, config, 0.5)
        priority = rng.random(14).astype(np.float32)
        found = losses.sample_regions(proposals, targets, config, 0.5, jax.random.key(0), priority)
        positive, valid = np.asarray(candidates.positive), np.asarray(candidates.valid)
        ranked = lambda member: sorted(np.flatnonzero(member), key=lambda i: -priority[i])[:2]  # noqa: B023, E731
        want = [*ranked(positive), *ranked(~positive & valid)]
        np.testing.assert_array_equal(found.boxes, np.asarray(candidates.boxes)[want])
        assert positive.sum() >= 4


# -- settings


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(form="quality_focal"), "form is 'quality_focal', but it is for box.scores='sigmoid'"),
        (dict(alpha=0.5), "alpha is 0.5, but it is for the form 'focal'"),
        (dict(gamma=1.0), "gamma is 1.0, but it is for the forms 'focal' and 'quality_focal'"),
        (dict(scores="sigmoid", background_weight=2.0), "background_weight is 2.0, but it is for box.scores"),
        (
            dict(scores="sigmoid", label_smoothing=0.1),
            "label_smoothing is 0.1, but it is for box.scores='softmax'",
        ),
        (dict(form="focal", label_smoothing=0.1), "label_smoothing is 0.1, but it is for the form"),
    ],
)
def test_losses_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        settings_of(**changes)


def test_a_mask_head_has_a_loss():
    with pytest.raises(ConfigError, match="the factor 0 for every loss"):
        MaskLossConfig(cross_entropy=0.0)


def test_the_number_of_weights_is_that_of_the_classes():
    config = settings_of(class_weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="class_weights has 2 numbers, but the number of classes is 5"):
        losses.class_losses(GOLDEN["logits"], regions_of(GOLDEN["labels"]), CLASSES, config)
