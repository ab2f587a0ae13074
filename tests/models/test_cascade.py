"""Cascades: the rules of their later stages against NumPy, and small ones that detect and learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascade_helpers import GivenLevels
from detectors import flat, random_model, small_config
from flax import nnx

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.config import BoxConfig, BoxStageConfig, ConfigError, ModelConfig, RegionConfig, RPNConfig
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.losses import LOSS_NAMES, match_regions, rpn_losses
from jaxmaskrcnn.losses.rpn import inside
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.heads.box_stages import refine_boxes
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Anchors, Proposals, Targets

STAGES = (
    BoxStageConfig(foreground_iou=0.3, box_weights=(10, 10, 5, 5)),
    BoxStageConfig(foreground_iou=0.5, box_weights=(20, 20, 10, 10), loss_weight=0.5),
)
SIZE = jnp.array([40, 60])


def test_boxes_are_clipped_and_kept_in_their_slots():
    """One moves across the border, one out of the image, and one has a delta that is no number."""
    boxes = jnp.array([[50.0, 10, 60, 20], [50, 10, 60, 20], [0, 0, 8, 8], [4, 4, 8, 8]])
    deltas = jnp.array([[5.0, 0, 0, 0], [20, 0, 0, 0], [jnp.nan, 0, 0, 0], [0, 0, 0, 0]])[:, None]
    options = dict(stage=0, classes=ModelConfig(num_classes=1).classes)
    agnostic = ModelConfig().replace({"box.class_agnostic": True}).box
    refined, finite = refine_boxes(boxes, jnp.zeros((4, 2)), deltas, SIZE, box=agnostic, **options)
    expected = [[55, 10, 60, 20], [60, 10, 60, 20], [0, 0, 0, 0], [4, 4, 8, 8]]
    np.testing.assert_allclose(refined, expected, atol=1e-5)
    assert finite.tolist() == [True, True, False, True]
    # A stage's own weights: twice as large ones move half as far.
    cascade = BoxConfig(class_agnostic=True, stages=STAGES)
    second = refine_boxes(boxes, jnp.zeros((4, 2)), deltas, SIZE, box=cascade, **{**options, "stage": 1})[0]
    np.testing.assert_allclose(second[0], [52.5, 10, 60, 20], atol=1e-5)


@pytest.mark.parametrize("background", ["first", "last"])
def test_boxes_of_the_most_probable_class(background):
    """The background does not count, even where it is the most probable; given labels count before all."""
    classes = ModelConfig(num_classes=2, background=background).classes
    logits = np.zeros((2, 3), np.float32)
    logits[:, classes.background_channel] = 9
    logits[0, classes.offset], logits[1, classes.offset + 1] = 1, 1
    deltas = np.zeros((2, 2 + classes.offset, 4), np.float32)
    deltas[:, classes.offset, 0], deltas[:, classes.offset + 1, 0] = 1, 2
    boxes = jnp.tile(jnp.array([10.0, 10, 20, 20]), (2, 1))
    options = dict(stage=0, classes=classes, box=ModelConfig().box)
    refined, _ = refine_boxes(boxes, jnp.asarray(logits), jnp.asarray(deltas), SIZE, **options)
    np.testing.assert_allclose(refined[:, 0], [11, 12], atol=1e-5)
    labels = jnp.array([1, 0])
    refined, _ = refine_boxes(boxes, jnp.asarray(logits), jnp.asarray(deltas), SIZE, labels, **options)
    np.testing.assert_allclose(refined[:, 0], [12, 11], atol=1e-5)


@pytest.mark.slow
def test_matching_without_sampling():
    """Every box is a region in its own slot; of two objects the one with the larger IoU counts."""
    objects = np.array([[0.0, 0, 10, 10], [0, 0, 10, 8], [30, 20, 40, 30]])
    crowd = np.array([False, False, True])
    targets = Targets(jnp.asarray(objects), jnp.array([4, 5, 6]), None, jnp.asarray(crowd), jnp.ones(3, bool))
    boxes = jnp.array(
        [[50.0, 30, 58, 38], [0, 0, 10, 8.5], [0, 0, 10, 9.6], [31, 21, 39, 29], [0, 0, 10, 10]]
    )
    valid = jnp.array([True, True, True, True, False])
    found = match_regions(boxes, valid, targets, RegionConfig(), 0.7)
    assert found.positive.tolist() == [False, True, True, False, False]
    assert found.labels[1:3].tolist() == [5, 4] and found.matched[1:3].tolist() == [1, 0]
    assert found.valid.tolist() == [True, True, True, False, False]  # one is in a crowd, one was not valid
    assert not found.ground_truth.any()
    dropped = match_regions(boxes, valid, targets, RegionConfig(crowd="drop"), 0.7)
    assert dropped.valid.tolist() == [True, True, True, True, False]
    assert not match_regions(boxes, valid, targets, RegionConfig(), 0.97).positive.any()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["probability", "logit"])
def test_scores_are_averaged(rule):
    """Both rules from the same logits; the boxes are those of the last stage's deltas."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(3, 5, 4))
    config = ModelConfig(num_classes=3, background="last").replace(
        {"box.stage_scores": rule, "box.class_agnostic": True, "detections.score_threshold": 0.0,
         "detections.nms_threshold": 1.0}
    )  # fmt: skip

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    expected = softmax(logits).mean(0) if rule == "probability" else softmax(logits.mean(0))
    corners = np.arange(5.0)[:, None] * [10, 5, 10, 5]
    proposals = Proposals(jnp.asarray(corners + [0, 0, 8, 8]), jnp.zeros(5), jnp.ones(5, bool))
    found = select_detections(
        jnp.asarray(logits),
        jnp.zeros((5, 1, 4)),
        proposals,
        SIZE,
        config.classes,
        config.box,
        config.detections,
    )
    best = np.sort(expected[:, :3].ravel())[::-1]
    np.testing.assert_allclose(found.scores[found.valid], best, rtol=1e-5)


def test_anchors_at_the_border_are_not_learnt_from():
    """MMDetection's rule: the far edges are exclusive, and the border's width counts."""
    boxes = np.array([[0.0, 0, 59, 39], [0, 0, 60, 39], [-2, 0, 20, 20], [0, 0, 20, 40], [5, 5, 25, 25]])
    for border, count in ((0, 2), (1, 4), (3, 5)):
        expected = [
            x1 >= -border and y1 >= -border and x2 < 60 + border and y2 < 40 + border
            for x1, y1, x2, y2 in boxes
        ]
        assert inside(jnp.asarray(boxes), SIZE, border).tolist() == expected and sum(expected) == count
        window = jnp.array([0.0, 0, 60, 40]) + 7
        assert inside(jnp.asarray(boxes + 7), window, border).tolist() == expected
    targets = Targets(jnp.asarray(boxes[:1]), jnp.zeros(1, int), None, jnp.zeros(1, bool), jnp.ones(1, bool))
    anchors = Anchors(jnp.asarray(boxes), jnp.ones(5, bool))
    losses = jax.jit(rpn_losses, static_argnames="config")
    arguments = (jnp.zeros(5), jnp.zeros((5, 4)), anchors, targets)
    terms = losses(*arguments, RPNConfig(border=0), None, SIZE)
    assert int(terms["loss_objectness"].count) == 2
    with pytest.raises(ValueError, match="config.border is set but image_size is not"):
        losses(*arguments, RPNConfig(border=0), None)


# -- small cascades

RULES = {
    "detectron2": {"box.class_agnostic": True, "box.stage_gradient": "divided"},
    "mmdet": {
        "regions.later_stages": "sample", "regions.empty_boxes": "keep", "box.stage_scores": "logit",
        "mask.heads": "each_stage", "rpn.border": 0, "background": "last",
    },
}  # fmt: skip


def cascade_config(rules, **changes):
    changes = {"box.stages": STAGES, "backbone.depth": 18, "regions.batch_size": 16, **rules, **changes}
    return small_config(**changes)


def picture():
    image = np.full((48, 64, 3), 60, np.uint8)
    image[10:40, 8:50] = 200
    masks = np.zeros((1, 48, 64), bool)
    masks[0, 10:40, 8:50] = True
    return image, {"boxes": [[8, 10, 50, 40]], "labels": [1], "masks": masks}


@functools.cache
def small(name):
    """A cascade behind given feature maps, and a batch."""
    model = random_model(cascade_config(RULES[name]))
    image, target = picture()
    batch = make_batch(model, [image], [target])
    rng = np.random.default_rng(0)
    sides = [-(-64 // level.stride) for level in model.config.levels]
    model.backbone = GivenLevels([rng.normal(size=(1, side, side, 8)) for side in sides])
    return model, batch


@functools.cache
def outcome(name):
    model, batch = small(name)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, batch):
        def total(params):
            model = nnx.merge(graphdef, params, rest)
            losses = model.losses(batch, jax.random.key(0))
            return sum(losses.values()), (losses, model.detect(batch))

        gradient, (losses, found) = jax.grad(total, has_aux=True)(params)
        return gradient, losses, found

    gradient, losses, found = run(params, batch)
    gradients = {".".join(map(str, p)): np.asarray(v[...]) for p, v in nnx.to_flat_state(gradient)}
    return gradients, losses, found


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_losses_of_each_stage(name):
    """Named with their stage; every head gets a gradient, and detections have masks."""
    gradients, losses, found = outcome(name)
    staged = {"loss_classifier", "loss_box_reg"} | ({"loss_mask"} if name == "mmdet" else set())
    expected = (set(LOSS_NAMES) - staged) | {f"{x}_stage{k}" for x in staged for k in (0, 1)}
    assert set(losses) == expected
    assert all(np.isfinite(x).all() for x in gradients.values())
    for k in (0, 1):
        assert np.abs(gradients[f"box_head.{k}.fcs.0.kernel"]).max() > 0
    masks = (
        [f"mask_head.{k}.logits.kernel" for k in (0, 1)] if name == "mmdet" else ["mask_head.logits.kernel"]
    )
    assert all(np.abs(gradients[path]).max() > 0 for path in masks)
    assert found.valid.any() and found.masks.shape == (1, 6, 28, 28)


@pytest.mark.slow
def test_a_cascade_is_saved_and_loaded(tmp_path):
    config = cascade_config(RULES["mmdet"])
    model = random_model(config)
    save_model(model, tmp_path / "cascade")
    again = load_model(tmp_path / "cascade")
    assert again.config == config and len(again.mask_head) == 2
    for path, value in flat(model).items():
        np.testing.assert_array_equal(flat(again)[path], value)


@pytest.mark.slow
def test_new_heads_for_another_number_of_classes():
    """Of every stage; all other layers are the file's."""
    config = cascade_config(RULES["mmdet"])
    arrays = to_state_dict(random_model(config), "mmdet")
    new = from_state_dict(
        arrays, config.replace({"num_classes": 7, "categories": ()}), "mmdet", allow_new_heads=True
    )
    assert [head.cls_score.bias.shape for head in new.box_head] == [(8,), (8,)]
    assert [head.logits.kernel.shape[-1] for head in new.mask_head] == [7, 7]
    kernels = [np.asarray(head.cls_score.kernel[...]) for head in new.box_head]
    assert all(0.005 < kernel.std() < 0.02 for kernel in kernels) and not np.array_equal(*kernels)
    with pytest.raises(UserError, match=r"box_head.1.cls_score.bias \(8,\)"):
        from_state_dict(arrays, config.replace({"num_classes": 7, "categories": ()}), "mmdet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"mask": None}, ("List", "NoneType")),
        ({"mask.heads": "each_stage"}, ("List", "StageHeads")),
        ({"mask.heads": "each_stage", "regions.later_stages": "match"}, ("List", "StageHeads")),
        ({"mask.heads": "each_stage", "box.stages": STAGES[:1]}, ("BoxHead", "MaskHead")),
        (
            {
                "backbone.outputs": (4,), "neck": None, "trunk": "res5", "box.pool.size": 14, "box.fcs": 0,
                "box.average": True, "mask.heads": "each_stage", "rpn.anchors.sizes": ((16.0, 32.0),),
            },
            ("List", "StageHeads"),
        ),
    ],
)  # fmt: skip
def test_combinations(changes, kinds):
    """Without masks, with each way of masks, and on C4, whose last stage all heads share."""
    if "neck" in changes:
        config = small_config(**{"backbone.depth": 18}).replace({"box.stages": STAGES, **changes})
    else:
        config = cascade_config({}, **changes)
    model = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    assert (type(model.box_head).__name__, type(model.mask_head).__name__) == kinds
    image, target = picture()
    target = target if config.mask is not None else {k: target[k] for k in ("boxes", "labels")}
    batch = make_batch(config, [image], [target])
    losses = jax.eval_shape(lambda model, batch: model.losses(batch, jax.random.key(0)), model, batch)
    per_stage = kinds[1] == "StageHeads"
    assert ("loss_mask_stage1" in losses) == per_stage and ("loss_mask" in losses) == (kinds[1] == "MaskHead")
    found = jax.eval_shape(lambda model, batch: model.detect(batch), model, batch)
    assert (found.masks is None) == (config.mask is None)


def test_no_stage():
    with pytest.raises(ConfigError, match="box.stages|BoxConfig.stages"):
        ModelConfig().replace({"box.stages": ()})
