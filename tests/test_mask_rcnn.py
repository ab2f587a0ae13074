"""The whole detector: what padding, canvas and order must not change, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.nnx import bridge

import jaxmaskrcnn as jmr
from jaxmaskrcnn.models.norm import FrozenStat
from jaxmaskrcnn.models.padding import inside

SMALL = dict(
    backbone_depth=18,
    backbone_width=8,
    fpn_channels=16,
    anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0),
    box_fc_dim=32,
    box_conv_dim=16,
    mask_dim=16,
    mask_convs=1,
    rpn_pre_nms_train=60,
    rpn_pre_nms_test=60,
    rpn_post_nms_train=40,
    rpn_post_nms_test=30,
    rpn_batch_size=32,
    roi_batch_size=16,
    roi_positive_fraction=0.5,
    detections_per_image=10,
    test_min_size=64,
    test_max_size=100,
    freeze_at=0,
    score_threshold=0.0,
)
PRESETS = (
    "torchvision/maskrcnn_resnet50_fpn",
    "torchvision/maskrcnn_resnet50_fpn_v2",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_1x_coco",
)


def build(preset=PRESETS[2], **overrides):
    config = jmr.model_config(preset, num_classes=3, **(SMALL | overrides))
    model = jmr.MaskRCNN(config, rngs=nnx.Rngs(0))
    # Larger predictors: with the usual initial values all scores are nearly equal.
    for layer, scale in (
        (model.rpn.cls_logits, 50),
        (model.rpn.bbox_pred, 10),
        (model.box_head.cls_score, 50),
    ):
        layer.kernel[...] = layer.kernel[...] * scale
    return model


def make_image(seed, height, width):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(small, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


def make_targets(seed, height, width, n=4):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (n, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + rng.uniform(8, 0.35 * min(height, width), (n, 2))], 1)
    masks = np.zeros((n, height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return {"boxes": boxes.astype(np.float32), "labels": rng.integers(0, 3, n), "masks": masks}


def make_training_batch(model, **overrides):
    images = [make_image(0, 60, 80), make_image(1, 80, 60)]
    targets = [make_targets(2, 60, 80), make_targets(3, 80, 60, n=2)]
    return jmr.make_batch(model, images, targets, **overrides)


@jax.jit
def losses_and_gradient(model, batch, rng):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def total(params):
        scalars = nnx.merge(graphdef, params, rest, copy=True).losses(batch, rng)
        return sum(scalars.values()), scalars

    (_, scalars), gradient = jax.value_and_grad(total, has_aux=True)(params)
    return scalars, gradient


detect = jax.jit(lambda model, batch: model.detect(batch))


def assert_trees_close(a, b, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=1e-4), a, b)


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_detects(preset):
    model = build(preset)
    batch = make_training_batch(model)
    scalars, gradient = losses_and_gradient(model, batch, jax.random.key(0))
    assert set(scalars) == {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
    }
    assert all(np.isfinite(v) and v > 0 for v in scalars.values())
    for path, g in nnx.to_flat_state(gradient):
        assert np.isfinite(g[...]).all() and np.abs(g[...]).max() > 0, path
    found = detect(model, batch)
    assert found.masks.shape == (2, 10, 28, 28) and found.valid.any()
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_padded_ground_truth_changes_nothing(model):
    key = jax.random.key(1)
    for rng in (None, key):
        expected = losses_and_gradient(model, make_training_batch(model), rng)
        for slots in (5, 23):
            batch = make_training_batch(model, max_objects=slots)
            assert batch.targets.boxes.shape[1] == slots
            assert_trees_close(losses_and_gradient(model, batch, rng), expected, atol=1e-5)


def test_padded_proposals_change_nothing(model):
    batch = make_training_batch(model)
    config = dataclasses.replace(model.config, rpn_nms_threshold=0.1)  # leaves fewer than there are slots
    expected = None
    for slots in (40, 41, 77):
        model.config = dataclasses.replace(config, rpn_post_nms_train=slots)
        levels = model.features(batch.images, batch.extents)
        assert model.propose(batch, levels, train=True)[3].valid.sum(1).max() < 40
        result = losses_and_gradient(model, batch, jax.random.key(2))
        expected = expected or result
        assert_trees_close(result, expected, atol=1e-5)
    model.config = dataclasses.replace(config, rpn_nms_threshold=0.7, rpn_post_nms_train=40)


def test_order_of_the_ground_truth_changes_nothing(model):
    images = [make_image(0, 60, 80)]
    target = make_targets(2, 60, 80, n=6)
    for rng in (None, jax.random.key(3)):
        sums = []
        for order in (range(6), [5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]):
            permuted = {k: v[list(order)] for k, v in target.items()}
            scalars, _ = losses_and_gradient(model, jmr.make_batch(model, images, [permuted]), rng)
            sums.append(float(sum(scalars.values())))
        np.testing.assert_allclose(sums, sums[0], atol=1e-4)


def test_image_without_objects_trains(model):
    images = [make_image(0, 60, 80)]
    empty = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "masks": np.zeros((0, 60, 80), bool)}
    scalars, gradient = losses_and_gradient(model, jmr.make_batch(model, images, [empty]), jax.random.key(0))
    assert scalars["loss_objectness"] > 0 and scalars["loss_mask"] == 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def on_canvas(batch, height, width, extents):
    """The batch on a larger canvas, with each image's own extent."""
    grow = ((0, 0), (0, height - batch.images.shape[1]), (0, width - batch.images.shape[2]), (0, 0))
    targets = batch.targets
    if targets is not None:
        masks = jnp.pad(
            targets.masks, (*grow[:3], (0, 0))[:2] + (grow[1], (0, (width + 7) // 8 - targets.masks.shape[3]))
        )
        targets = targets._replace(masks=masks)
    return batch._replace(images=jnp.pad(batch.images, grow), extents=extents, targets=targets)


@pytest.mark.parametrize("norm", ["frozen_bn", "gn"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_larger_canvas_changes_nothing(preset, norm):
    wide = dict(backbone_width=32, fpn_channels=32) if norm == "gn" else {}
    model = build(preset, backbone_norm=norm, **wide)
    batch = jmr.make_batch(model, [make_image(0, 60, 80)], [make_targets(2, 60, 80)])
    assert tuple(batch.extents[0]) == batch.images.shape[1:3]
    larger = on_canvas(batch, 160, 192, batch.extents)
    # What lies outside of an extent must not matter, whatever the layers make of it.
    small, large = detect(model, batch), detect(model, larger)
    assert small.valid.sum() >= 5
    for name in ("boxes", "scores", "masks"):
        np.testing.assert_allclose(getattr(small, name), getattr(large, name), atol=2e-4, rtol=1e-4)
    np.testing.assert_array_equal(small.labels, large.labels)
    expected, gradient = losses_and_gradient(model, batch, None)
    scalars, other = losses_and_gradient(model, larger, None)
    assert_trees_close(scalars, expected, atol=1e-4)
    assert_trees_close(other, gradient, atol=1e-3)


def test_an_image_in_a_batch_is_treated_as_if_alone(model):
    images = [make_image(0, 60, 80), make_image(1, 80, 60)]
    together = jmr.make_batch(model, images)
    own = jnp.stack([jmr.make_batch(model, [image]).extents[0] for image in images])
    together = together._replace(extents=own)
    found = detect(model, together)
    for i, image in enumerate(images):
        alone = detect(model, jmr.make_batch(model, [image]))
        np.testing.assert_allclose(found.boxes[i], alone.boxes[0], atol=2e-4, rtol=1e-4)
        np.testing.assert_allclose(found.scores[i], alone.scores[0], atol=1e-5)


def test_an_invalid_image_of_a_batch_adds_nothing(model):
    batch = make_training_batch(model)
    masked = batch._replace(valid=jnp.array([True, False]))
    terms = model.loss_terms(masked, None)
    first = jax.tree.map(lambda x: x[:1], batch)
    for name, term in model.loss_terms(first, None).items():
        np.testing.assert_allclose(term, terms[name], rtol=1e-4)


def test_uint8_images_are_normalised_on_the_device(model):
    batch = jmr.make_batch(model, [make_image(0, 64, 96)])
    raw = batch._replace(images=jnp.pad(jnp.asarray(make_image(0, 64, 96))[None], ((0, 0),) * 4))
    assert raw.images.dtype == jnp.uint8 and batch.images.shape == raw.images.shape
    np.testing.assert_allclose(detect(model, raw).scores, detect(model, batch).scores, atol=1e-5)


def test_inside_marks_the_extent():
    mask = inside(jnp.array([[64, 32], [40, 96]]), 16, (4, 6))[..., 0]
    assert mask.shape == (2, 4, 6)
    assert mask[0].sum() == 4 * 2 and mask[1].sum() == 3 * 6
    assert inside(None, 16, (4, 6)) is None


def test_faster_rcnn_is_the_model_without_mask_head():
    model = build(mask_head=False)
    batch = make_training_batch(model)
    assert batch.targets.masks is None
    scalars, _ = losses_and_gradient(model, batch, None)
    assert "loss_mask" not in scalars and len(scalars) == 4
    assert detect(model, batch).masks is None


def test_class_agnostic_heads():
    model = build(class_agnostic_boxes=True, class_agnostic_masks=True)
    assert model.box_head.bbox_pred.kernel.shape[-1] == 4 and model.mask_head.logits.kernel.shape[-1] == 1
    batch = make_training_batch(model)
    scalars, gradient = losses_and_gradient(model, batch, None)
    assert all(np.isfinite(v) and v > 0 for v in scalars.values())
    assert detect(model, batch).valid.any()


def test_trainable_parameters():
    model = build(freeze_at=2, backbone_norm="frozen_bn")
    _, params, rest = nnx.split(model, jmr.trainable(model), ...)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert "backbone.body.layer2.0.conv1.kernel" in names
    assert not any(n.startswith(("backbone.body.conv1", "backbone.body.layer1")) for n in names)
    assert not any(".bn" in n for n in names)  # frozen batch norm is no parameter
    assert nnx.to_flat_state(nnx.state(model, FrozenStat))
    _, params, _ = nnx.split(model, jmr.trainable(model, ("backbone.*", "*.bias")), ...)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert names and not any(n.startswith("backbone") or n.endswith("bias") for n in names)


def test_batch_norm_statistics_move_in_training_only():
    model = build("torchvision/maskrcnn_resnet50_fpn_v2")
    batch = make_training_batch(model)
    before = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    model.detect(batch)
    model.loss_terms(batch, None, train=False)
    after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, after))
    model.losses(batch, None)
    after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    assert not jax.tree.any(jax.tree.map(lambda a, b: bool((a == b).all()), before, after))


def test_seeded_sampling_depends_on_the_key_and_the_place_alone(model):
    batch = make_training_batch(model)
    first = model.loss_terms(batch, jax.random.key(0))
    again = model.loss_terms(batch, jax.random.key(0))
    other = model.loss_terms(batch, jax.random.key(1))
    assert first["loss_objectness"].total == again["loss_objectness"].total
    assert first["loss_objectness"].total != other["loss_objectness"].total
    halves = [
        model.loss_terms(
            jax.tree.map(lambda x, i=i: x[i : i + 1], batch), jax.random.key(0), first_position=i
        )
        for i in range(2)
    ]
    for name, term in first.items():
        np.testing.assert_allclose(term.total, halves[0][name].total + halves[1][name].total, rtol=1e-4)


def test_works_inside_a_linen_model():
    from flax import linen as nn

    config = build().config

    class Wrapper(nn.Module):
        @nn.compact
        def __call__(self, images):
            backbone = bridge.to_linen(jmr.models.Backbone, config, name="backbone")
            return backbone(images)[0].mean()

    variables = Wrapper().init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert "FrozenStat" in variables and "params" in variables
    assert np.isfinite(Wrapper().apply(variables, jnp.ones((1, 64, 64, 3))))


def test_overfits_one_image():
    model = build(PRESETS[2], backbone_norm="bn", mask_convs=2, roi_sampling_ratio=2)
    batch = jmr.make_batch(model, [make_image(0, 64, 96)], [make_targets(5, 64, 96, n=2)])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, rest, opt_state, rng):
        def total(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return sum(model.losses(batch, rng).values()), nnx.state(model, nnx.Not(nnx.Param))

        (loss, rest), gradient = jax.value_and_grad(total, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, loss

    opt_state, losses = optimizer.init(params), []
    for i in range(120):
        params, rest, opt_state, loss = step(params, rest, opt_state, jax.random.key(i))
        losses.append(float(loss))
    assert losses[-1] < 0.25 * losses[0]
    found = detect(nnx.merge(graphdef, params, rest), batch)
    wanted = np.asarray(batch.targets.boxes[0])
    iou = np.asarray(jmr.ops.box_iou(wanted, found.boxes[0]))
    same = np.asarray(batch.targets.labels[0])[:, None] == np.asarray(found.labels[0])[None]
    confident = np.asarray(found.valid[0] & (found.scores[0] > 0.5))
    assert ((iou > 0.6) & same & confident).any(1).all()
