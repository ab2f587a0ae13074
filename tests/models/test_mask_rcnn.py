"""The whole detector: what padding, canvas and order must not change, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from detectors import random_model
from flax import linen, nnx
from flax.nnx import bridge

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.rpn import AnchorConfig
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.models.anchor_grids import image_anchors
from jaxmaskrcnn.models.features import Backbone, Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.inputs import normalise
from jaxmaskrcnn.models.layers import Deconv2x2
from jaxmaskrcnn.models.norm import FrozenStat, make_norm
from jaxmaskrcnn.models.padding import feature_extent, inside
from jaxmaskrcnn.ops.boxes import box_iou
from jaxmaskrcnn.ops.resize import output_size, resize_image
from jaxmaskrcnn.zoo.lookup import model_config

NARROW = {"backbone.depth": 18, "backbone.width": 8, "neck.channels": 16}
SMALL = NARROW | {
    "backbone.stride_in_1x1": False,
    "backbone.freeze_at": 0,
    "rpn.anchors.sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
    "box.fc_dim": 32,
    "box.conv_dim": 16,
    "mask.dim": 16,
    "mask.convs": 1,
    "rpn.pre_nms_train": 60,
    "rpn.pre_nms_test": 60,
    "rpn.post_nms_train": 40,
    "rpn.post_nms_test": 30,
    "rpn.batch_size": 32,
    "regions.batch_size": 16,
    "regions.positive_fraction": 0.5,
    "detections.per_image": 10,
    "input.test_min_size": 64,
    "input.test_max_size": 100,
    "detections.score_threshold": 0.0,
}
TORCHVISION, TORCHVISION_V2, DETECTRON2, MMDET = (
    "torchvision/maskrcnn_resnet50_fpn",
    "torchvision/maskrcnn_resnet50_fpn_v2",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_1x_coco",
)


def build(preset=DETECTRON2, **overrides):
    parts = vars(model_config(preset)) | overrides
    absent = tuple(f"{path}." for path, part in parts.items() if part is None)
    small = {path: value for path, value in SMALL.items() if not path.startswith(absent or "/")}
    model = random_model(model_config(preset, num_classes=3, **(small | overrides)))
    # Scores that differ, and deltas of the size that trained models have.
    for layer, scale in (
        (model.rpn.cls_logits, 3),
        (model.box_head.cls_score, 3),
        (model.rpn.bbox_pred, 0.2),
        (model.box_head.bbox_pred, 0.2),
    ):
        layer.kernel[...] = layer.kernel[...] * scale
    return model


def make_image(seed, height, width):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(small, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


def make_target(seed, height, width, n):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (n, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + rng.uniform(8, 0.35 * min(height, width), (n, 2))], 1)
    masks = np.zeros((n, height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return {"boxes": boxes.astype(np.float32), "labels": rng.integers(0, 3, n), "masks": masks}


IMAGES = make_image(0, 60, 80), make_image(1, 80, 60)
TARGETS = make_target(2, 60, 80, 4), make_target(3, 80, 60, 2)
NOTHING = make_target(2, 60, 80, 0)


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


def own_extents(model, images):
    """The extents that the images would have alone."""
    return np.concatenate([make_batch(model, [image]).extents for image in images])


@pytest.fixture(scope="module")
def model():
    # So much suppression that some proposal slots stay empty.
    return build(**{"rpn.nms_threshold": 0.01, "rpn.post_nms_train": 50})


@pytest.fixture(scope="module")
def batch(model):
    return make_batch(model, IMAGES, TARGETS)


@pytest.fixture(scope="module")
def expected(model, batch):
    return losses_and_gradient(model, batch, jax.random.key(0))


@pytest.mark.slow
def test_losses_and_gradients_reach_every_parameter(expected):
    scalars, gradient = expected
    assert set(scalars) == set(LOSS_NAMES)
    assert all(np.isfinite(v) and v > 0 for v in scalars.values())
    for path, g in nnx.to_flat_state(gradient):
        assert np.isfinite(g[...]).all() and np.abs(g[...]).max() > 0, path


@pytest.mark.parametrize("preset", [TORCHVISION, TORCHVISION_V2, MMDET])
@pytest.mark.slow
def test_other_presets_train(preset):
    model = build(preset)
    scalars, gradient = losses_and_gradient(model, make_batch(model, IMAGES, TARGETS), jax.random.key(0))
    assert all(np.isfinite(v) and v > 0 for v in scalars.values())
    for path, g in nnx.to_flat_state(gradient):
        # A coarse level of so small an image may have no anchor among the sampled ones.
        reached = np.abs(g[...]).max() > 0 or "layer_blocks" in path
        assert np.isfinite(g[...]).all() and reached, path


@pytest.mark.slow  # a compilation of its own; test_losses.py has it for each loss
@pytest.mark.parametrize("slots", [5, 23])
def test_padded_ground_truth_changes_nothing(model, expected, slots):
    batch = make_batch(model, IMAGES, TARGETS, max_objects=slots)
    assert batch.targets.boxes.shape[1] == slots
    assert_trees_close(losses_and_gradient(model, batch, jax.random.key(0)), expected, atol=1e-5)


@pytest.mark.slow  # a compilation of its own
def test_padded_proposals_change_nothing(model, batch, expected):
    wider = nnx.clone(model)
    wider.config = model.config.replace({"rpn.post_nms_train": model.config.rpn.post_nms_train + 37})

    @jax.jit
    def count_proposals(model, batch):
        levels = model.features(batch.images, Pass(batch.extents))
        return model.propose(batch, levels, train=True)[3].valid.sum(1)

    assert (count_proposals(wider, batch) < model.config.rpn.post_nms_train).all()
    assert_trees_close(losses_and_gradient(wider, batch, jax.random.key(0)), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]])
def test_order_of_the_ground_truth_changes_nothing(model, expected, order):
    permuted = {name: value[order] for name, value in TARGETS[0].items()}
    batch = make_batch(model, IMAGES, [permuted, TARGETS[1]])
    scalars, _ = losses_and_gradient(model, batch, jax.random.key(0))
    np.testing.assert_allclose(sum(scalars.values()), sum(expected[0].values()), atol=1e-4)


@pytest.mark.slow
def test_images_without_objects_train(model):
    nothing = {name: np.zeros((0, *value.shape[1:])) for name, value in TARGETS[1].items()}
    batch = make_batch(
        model, IMAGES, [NOTHING, nothing | {"masks": np.zeros((0, 80, 60), bool)}], max_objects=4
    )
    scalars, gradient = losses_and_gradient(model, batch, jax.random.key(0))
    assert scalars["loss_objectness"] > 0 and scalars["loss_mask"] == 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def on_canvas(batch, height, width):
    """The batch on a larger canvas; the extents stay what they were."""
    grow = (0, height - batch.images.shape[1]), (0, width - batch.images.shape[2])
    masks = batch.targets.masks
    if masks is not None:
        masks = np.pad(masks, ((0, 0), (0, 0), grow[0], (0, (width + 7) // 8 - masks.shape[3])))
    images = np.pad(batch.images, ((0, 0), *grow, (0, 0)))
    return batch._replace(images=images, targets=batch.targets._replace(masks=masks))


CANVAS_CASES = [
    pytest.param(preset, norm, marks=() if (preset, norm) == quick else pytest.mark.slow)
    for quick in [(TORCHVISION, "frozen_bn")]
    for preset in (TORCHVISION, TORCHVISION_V2, DETECTRON2, MMDET)
    for norm in ("frozen_bn", "gn", "bn")
]


@pytest.mark.parametrize(("preset", "norm"), CANVAS_CASES)
def test_a_larger_canvas_changes_nothing(preset, norm):
    wide = {"backbone.width": 32, "neck.channels": 32} if norm == "gn" else {}
    check_a_larger_canvas(build(preset, **wide, **{"backbone.norm": norm}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        TORCHVISION,
        TORCHVISION_V2,
        "torchvision/fasterrcnn_resnet50_fpn",
        "detectron2/mask_rcnn_X_101_32x8d_FPN_3x",
        "detectron2/mask_rcnn_R_50_FPN_50ep_LSJ",
        "detectron2/mask_rcnn_R_50_FPN_1x_cls_agnostic",
        "detectron2/mask_rcnn_R_50_FPN_3x_gn",
        "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco",
        "mmdet/mask-rcnn_r50_fpn_1x_coco",
        "mmdet/mask-rcnn_r50_fpn_gn-all_2x_coco",
        "mmdet/mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco",
        "mmdet/faster-rcnn_x101-64x4d_fpn_1x_coco",
        "jaxmaskrcnn/shapes",
    ],
)
def test_a_larger_canvas_changes_nothing_in_every_kind_of_preset(preset):
    """With the preset's own blocks, groups and norms, one preset of each kind that layers differ in."""
    config = model_config(preset)
    changes = {
        "backbone.depth": min(config.backbone.depth, 50),
        "backbone.norm": config.backbone.norm,
        "backbone.stride_in_1x1": config.backbone.stride_in_1x1,
    }
    if config.backbone.width_per_group < 8:
        changes |= {"backbone.width": 16}
    if "gn" in (config.backbone.norm, config.neck.norm, config.box.norm):  # 32 groups
        changes |= {"backbone.width": 32, "neck.channels": 32, "box.conv_dim": 32, "mask.dim": 32}
    check_a_larger_canvas(build(preset, **changes))


def check_a_larger_canvas(model):
    batch = make_batch(model, IMAGES[:1], TARGETS[:1])
    assert tuple(batch.extents[0]) == batch.images.shape[1:3]
    larger = on_canvas(batch, 160, 192)

    @jax.jit
    def everything(model, batch):
        found = model.detect(batch)
        return found, nnx.clone(model).losses(batch)

    (small, losses), (large, other) = everything(model, batch), everything(model, larger)
    assert small.valid.sum() >= 5
    for name in ("boxes", "scores", "masks") if model.config.mask is not None else ("boxes", "scores"):
        np.testing.assert_allclose(getattr(small, name), getattr(large, name), atol=2e-4, rtol=1e-4)
    np.testing.assert_array_equal(small.labels, large.labels)
    assert_trees_close(other, losses, atol=1e-4)


@pytest.mark.slow  # the larger canvas is the quick one
@pytest.mark.parametrize("preset", [DETECTRON2, "torchvision/maskrcnn_resnet50_fpn_v2"])
def test_an_image_in_a_batch_is_treated_as_if_alone(preset):
    """In float64, because random heads make a score of 1e-5 of a logit's rounding in float32."""
    with jax.enable_x64(True):
        model = build(preset, **{"compute.dtype": "float64", "backbone.norm": "frozen_bn"})
        batch = make_batch(model, IMAGES)
        together = detect(model, batch._replace(extents=own_extents(model, IMAGES)))
        assert (together.scores[:, :-1] >= together.scores[:, 1:]).all()
        assert together.boxes.dtype == jnp.float64 and together.valid.sum() >= 5
        for i, image in enumerate(IMAGES):
            alone = detect(model, make_batch(model, [image]))
            for name in ("boxes", "scores", "masks"):
                np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name)[0], atol=1e-9)


@pytest.mark.slow
def test_an_invalid_image_of_a_batch_adds_nothing(model, batch):
    masked = batch._replace(valid=np.array([True, False]))
    other = batch._replace(images=batch.images * np.array([1, 0.5])[:, None, None, None].astype("f"))
    other = other._replace(valid=masked.valid)
    assert_trees_close(loss_terms(model, masked, None, 0), loss_terms(model, other, None, 0), atol=1e-6)
    both = loss_terms(model, batch, None, 0)
    assert all(both[name].total > loss_terms(model, masked, None, 0)[name].total for name in both)


loss_terms = jax.jit(lambda model, batch, rng, first: model.loss_terms(batch, rng, first_position=first))


def test_uint8_images_are_normalised_on_the_device(model, batch):
    raw = np.zeros(batch.images.shape, np.uint8)
    for slot, image in zip(raw, IMAGES, strict=True):
        height, width = output_size(*image.shape[:2], 64, 100, model.config.input.size_rule)
        slot[:height, :width] = resize_image(image, (height, width), "pil")
    np.testing.assert_allclose(normalise(raw, batch.image_sizes, model.config), batch.images, atol=1e-5)


def test_inside_marks_the_extent():
    extents = np.array([[64, 32], [40, 96], [48, 33], [16, 1]])
    mask = inside(jnp.array(extents), 16, (4, 6))[..., 0]
    anchors = AnchorConfig(sizes=((32.0,),), ratios=(0.5, 1.0))
    for own, (rows, columns), extent in zip(
        mask, ((4, 2), (3, 6), (3, 3), (1, 1)), jnp.array(extents), strict=True
    ):
        expected = np.zeros((4, 6), bool)
        expected[:rows, :columns] = True
        np.testing.assert_array_equal(own, expected)
        np.testing.assert_array_equal(feature_extent(extent, 16), (rows, columns))
        valid = image_anchors(((4, 6),), (16,), extent, anchors).valid
        np.testing.assert_array_equal(valid.reshape(4, 6, 2), np.repeat(expected[..., None], 2, -1))
    assert inside(None, 16, (4, 6)) is None


@pytest.mark.slow  # a compilation of its own
def test_faster_rcnn_with_class_agnostic_boxes():
    model = build(**{"mask": None, "box.class_agnostic": True})
    assert model.box_head.bbox_pred.kernel.shape[-1] == 4
    batch = make_batch(model, IMAGES, TARGETS)
    assert batch.targets.masks is None
    scalars, _ = losses_and_gradient(model, batch, None)
    assert set(scalars) == set(LOSS_NAMES) - {"loss_mask"}
    found = detect(model, batch)
    assert found.masks is None and found.valid.any()


@pytest.mark.slow
def test_class_agnostic_masks():
    config = build(**{"mask.class_agnostic": True}).config
    head = MaskHead(config.mask, config.region_channels, config.classes, rngs=nnx.Rngs(0))
    logits = head(jnp.ones((2, 14, 14, 16)))
    assert logits.shape == (2, 28, 28, 1)
    np.testing.assert_array_equal(head.of_class(logits, jnp.array([2, 0])), logits[..., 0])


@pytest.mark.parametrize("preset", [TORCHVISION, DETECTRON2])
def test_masks_are_those_of_the_class(preset):
    config = build(preset).config
    head = MaskHead(config.mask, config.region_channels, config.classes, rngs=nnx.Rngs(0))
    logits = jnp.arange(4.0)[: 4 if preset == TORCHVISION else 3] * jnp.ones((2, 28, 28, 1))
    own = head.of_class(logits, jnp.array([2, 0]))
    offset = 1 if preset == TORCHVISION else 0
    assert own[0, 0, 0] == 2 + offset and own[1, 0, 0] == offset


def test_deconvolution_is_the_transposed_convolution():
    layer = Deconv2x2(3, 5, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    kernel = layer.kernel[...]
    expected = np.zeros((2, 8, 12, 5), np.float32)
    for a in range(2):
        for b in range(2):
            expected[:, a::2, b::2] = np.einsum("nhwi,io->nhwo", x, kernel[a, b])
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_trainable_parameters():
    model = build(**{"backbone.freeze_at": 2, "backbone.norm": "frozen_bn"})
    _, params, _ = nnx.split(model, trainable(model), ...)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert "backbone.body.layer2.0.conv1.kernel" in names
    assert not any(n.startswith(("backbone.body.conv1", "backbone.body.layer1")) for n in names)
    assert not any(".bn" in n for n in names)  # frozen batch norm is no parameter
    assert nnx.to_flat_state(nnx.state(model, FrozenStat))
    _, params, _ = nnx.split(model, trainable(model, ("backbone.*", "*.bias")), ...)
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert names and not any(n.startswith("backbone") or n.endswith("bias") for n in names)


def test_fixed_statistics_with_a_trainable_affine_part():
    layer = make_norm("bn_eval", 4, rngs=nnx.Rngs(0))
    assert {path[-1] for path, _ in nnx.to_flat_state(nnx.state(layer, nnx.Param))} == {"scale", "bias"}
    assert layer(jnp.full((1, 2, 2, 4), 3.0), None, True)[0, 0, 0, 0] == pytest.approx(3, abs=1e-4)


@pytest.mark.slow_except("gn")
@pytest.mark.parametrize("kind", ["bn", "gn"])
def test_padding_does_not_count_in_statistics(kind):
    layer = make_norm(kind, 64, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(2, 3, (2, 5, 6, 64)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), constant_values=50)
    mask = np.zeros((2, 8, 8, 1), bool)
    mask[:, :5, :6] = True
    np.testing.assert_allclose(layer(padded, mask, True)[:, :5, :6], layer(x, None, True), atol=1e-4)


def test_batch_norm_statistics_move_in_training_only():
    layer = make_norm("bn", 4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(2, 3, (2, 5, 6, 4)).astype(np.float32)
    layer(x, None, False)
    assert (layer.mean[...] == 0).all()
    layer(x, None, True)
    np.testing.assert_allclose(layer.mean[...], 0.1 * x.mean((0, 1, 2)), rtol=1e-4)


@pytest.mark.slow  # test_sampling.py has the sampler's own, quick ones
def test_sampling_depends_on_the_key_and_the_place_alone(model, batch):
    first = loss_terms(model, batch, jax.random.key(0), 0)
    again = loss_terms(model, batch, jax.random.key(0), 0)
    other = loss_terms(model, batch, jax.random.key(1), 0)
    assert first["loss_objectness"].total == again["loss_objectness"].total
    assert first["loss_objectness"].total != other["loss_objectness"].total
    halves = []
    for i in range(2):
        alone = jax.tree.map(lambda x, i=i: x[i : i + 1], batch)
        halves.append(loss_terms(model, alone, jax.random.key(0), i))
    for name, term in first.items():
        np.testing.assert_allclose(term.total, halves[0][name].total + halves[1][name].total, rtol=1e-4)


@pytest.mark.slow
def test_works_inside_a_linen_model():
    class Wrapper(linen.Module):
        @linen.compact
        def __call__(self, images):
            backbone = bridge.to_linen(Backbone, ModelConfig().replace(NARROW), name="backbone")
            return backbone(images)[0].mean()

    variables = jax.jit(Wrapper().init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert "FrozenStat" in variables and "params" in variables
    assert np.isfinite(jax.jit(Wrapper().apply)(variables, jnp.ones((1, 64, 64, 3))))


@pytest.mark.slow
def test_overfits_one_image():
    model = build(
        **{
            "backbone.norm": "bn",
            "mask.convs": 2,
            "box.pool.sampling_ratio": 2,
            "mask.pool.sampling_ratio": 2,
        }
    )
    target = make_target(5, 64, 96, 2)
    batch = make_batch(model, [make_image(0, 64, 96)], [target])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 200))

    @jax.jit
    def step(params, rest, opt_state, rng):
        def total(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return sum(model.losses(batch, rng).values()), nnx.state(model, nnx.Not(nnx.Param))

        (loss, rest_), gradient = jax.value_and_grad(total, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), rest_, opt_state, loss

    opt_state, losses = optimizer.init(params), []
    for i in range(200):
        params, rest, opt_state, loss = step(params, rest, opt_state, jax.random.key(i))
        losses.append(float(loss))
    assert losses[-1] < 0.25 * losses[0]
    found = detect(nnx.merge(graphdef, params, rest), batch)
    iou = np.asarray(box_iou(batch.targets.boxes[0], found.boxes[0]))
    same = batch.targets.labels[0][:, None] == np.asarray(found.labels[0])[None]
    confident = np.asarray(found.valid[0] & (found.scores[0] > 0.5))
    assert ((iou > 0.6) & same & confident).any(1).all()
