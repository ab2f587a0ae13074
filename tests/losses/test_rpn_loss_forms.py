"""The forms of the region proposal network's losses, against their formulas; the box head's are elsewhere."""

import jax
import numpy as np
import pytest
from test_losses import make_targets, random_boxes

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ConfigError, ModelConfig, RPNLossConfig
from jaxmaskrcnn.ops.boxes import box_iou
from jaxmaskrcnn.structures import Anchors

COUNT = 60


def config_of(**changes):
    small = {"rpn.batch_size": 32, "rpn.delta_clamp": "none"}
    return ModelConfig().replace({**small, **{f"rpn.loss.{k}": v for k, v in changes.items()}}).rpn


def case(objects=3):
    rng = np.random.default_rng(1)
    targets = make_targets(rng, objects, slots=4)
    anchors = random_boxes(rng, COUNT)
    anchors[:objects] = targets.boxes[:objects] + 0.5  # certain positives
    logits = 2 * rng.normal(size=COUNT).astype(np.float32)
    deltas = 0.3 * rng.normal(size=(COUNT, 4)).astype(np.float32)
    return targets, anchors, logits, deltas


def found_of(config, targets, anchors, logits, deltas):
    def total(logits, deltas, targets, anchors):
        terms = losses.rpn_losses(
            logits, deltas, Anchors(anchors, np.ones(COUNT, bool)), targets, config, None
        )
        return sum(term.total for term in terms.values()), terms

    compute = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    (_, terms), gradients = compute(logits, deltas, targets, anchors)
    return terms, gradients


def sampled(targets, anchors):
    """The positions of the positive and of the negative anchors, and each anchor's object."""
    iou = np.asarray(box_iou(targets.boxes[:3], anchors))
    label = np.where(iou.max(0) >= 0.7, 1, np.where(iou.max(0) < 0.3, 0, -1))
    label[(iou == iou.max(1, keepdims=True)).any(0)] = 1
    positive = np.flatnonzero(label == 1)[:16]
    return positive, np.flatnonzero(label == 0)[: 32 - len(positive)], iou.argmax(0)


def decoded(anchors, deltas):
    anchors, deltas = anchors.astype(np.float64), deltas.astype(np.float64)
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + size / 2 + deltas[:, :2] * size
    half = np.exp(deltas[:, 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], 1)


def generalised(a, b):
    """1 minus the generalised IoU of two boxes (Rezatofighi et al., 2019)."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    around = np.prod(np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2]))
    return 1 - shared / union + (around - union) / around


def distance(a, b):
    """1 minus the distance IoU of two boxes (Zheng et al., 2020)."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    around = np.sum((np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])) ** 2)
    return 1 - shared / union + np.sum(((a[:2] + a[2:] - b[:2] - b[2:]) / 2) ** 2) / around


@pytest.mark.parametrize("form, loss", [("giou", generalised), ("diou", distance)])
def test_boxes_and_focal_objectness(form, loss):
    targets, anchors, logits, deltas = given = case()
    settings = {"form": form, "weight": 2.0, "objectness": "focal", "gamma": 1.5, "alpha": 0.3}
    terms, _ = found_of(config_of(**settings, objectness_weight=3.0), *given)
    positive, negative, matched = sampled(targets, anchors)
    boxes = decoded(anchors, deltas)
    wanted = sum(loss(boxes[i], targets.boxes[matched[i]].astype(np.float64)) for i in positive)
    np.testing.assert_allclose(terms["loss_rpn_box_reg"].total, 2 * wanted, rtol=1e-5)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    of_positive = -0.3 * (1 - p[positive]) ** 1.5 * np.log(p[positive])
    of_negative = -0.7 * p[negative] ** 1.5 * np.log(1 - p[negative])
    wanted = 3 * (of_positive.sum() + of_negative.sum())
    np.testing.assert_allclose(terms["loss_objectness"].total, wanted, rtol=1e-5)
    assert terms["loss_objectness"].count == len(positive) + len(negative) and len(positive) >= 3


def test_gradients_are_finite_where_there_is_no_object():
    targets, anchors, logits, deltas = case()
    nothing = targets._replace(boxes=np.zeros_like(targets.boxes), valid=np.zeros(4, bool))
    config = config_of(form="ciou", objectness="focal")
    terms, gradients = found_of(config, nothing, anchors, logits, deltas)
    assert terms["loss_rpn_box_reg"].total == 0 and terms["loss_objectness"].total > 0
    assert all(np.isfinite(x).all() for x in gradients) and not np.any(gradients[1])


@pytest.mark.parametrize("name, value", [("gamma", 1.0), ("alpha", 0.5)])
def test_settings_of_the_focal_loss_alone(name, value):
    with pytest.raises(ConfigError, match=f"RPNLossConfig.{name} is {value}, but it is for the objectness"):
        RPNLossConfig(**{name: value})
    assert getattr(RPNLossConfig(objectness="focal", **{name: value}), name) == value
