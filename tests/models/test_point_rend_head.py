"""PointRend's mask head: what padding may not change, predicted boxes, random points, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import small_config
from flax import nnx

from jaxmaskrcnn.config import BoxConfig, Classes, ConfigError, ModelConfig, PointRendConfig
from jaxmaskrcnn.losses import Regions
from jaxmaskrcnn.models.frames import Frame
from jaxmaskrcnn.models.heads.box_stages import predicted_regions
from jaxmaskrcnn.models.heads.point_rend import PointRendHead, point_features
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.structures import Batch, Detections
from jaxmaskrcnn.zoo.lookup import model_config

CONFIG = PointRendConfig(
    grid=4, coarse_side=3, dim=8, fcs=1, fc_dim=8, point_fcs=1, point_dim=8, subdivisions=2,
    subdivision_points=20, train_points=12,
)  # fmt: skip
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(1, 16, 24, 4)).astype(np.float32)


def head_of(config=CONFIG, classes=3):
    """A head with random weights made by NumPy; initialisers would have to be compiled."""
    make = lambda: PointRendHead(config, 4, Classes(classes, "last"), rngs=nnx.Rngs(0))  # noqa: E731
    graphdef, state = nnx.split(nnx.eval_shape(make))
    return nnx.merge(
        graphdef, jax.tree.map(lambda v: jnp.asarray(RNG.normal(size=v.shape) * 0.5, v.dtype), state)
    )


def pooler_of(features, extents, frame=None):
    sizes = jnp.asarray(extents)[None]
    batch = Batch(jnp.zeros((1, 64, 96, 3)), sizes, sizes, sizes, jnp.zeros(1), jnp.ones(1, bool))
    return Pooler(batch, [jnp.asarray(features)], (4,), frame=frame)


def test_masks_depend_on_the_own_extent_alone():
    """Features behind the image's extent read as zeros, and slots without a box have empty masks."""
    head = head_of()
    boxes = jnp.array([[[3.0, 2, 30, 40], [30, 20, 61, 70], [0, 0, 0, 0]]])
    found = Detections(
        boxes, jnp.ones((1, 3)), jnp.array([[0, 2, 0]]), None, jnp.array([[True, True, False]])
    )
    run = jax.jit(lambda features, extents: head.predict(pooler_of(features, extents), found)["masks"])
    other = np.where(np.arange(24)[:, None] < 15, FEATURES, np.float32(1e3))
    masks, same = (np.asarray(run(x, np.array([64, 60]))) for x in (FEATURES, other))
    np.testing.assert_allclose(masks, same, atol=1e-6)
    assert masks.shape == (1, 3, 12, 12) and not masks[0, 2].any()
    wider = np.asarray(run(FEATURES, np.array([64, 96])))
    assert abs(wider - masks)[0, 1].max() > 1e-4  # the second box reaches over the image's right border


def test_points_of_a_network_that_moves_its_images():
    """With `input.placement` "centre" and boxes that end at their last pixels, a point is where it was."""
    boxes, points = jnp.array([[[3.0, 2, 31, 41]]]), jnp.asarray(RNG.random((1, 1, 9, 2)), jnp.float32)
    features = jax.jit(
        lambda x, boxes, frame: point_features(pooler_of(x, (64, 96), frame), boxes, points, 1)
    )
    plain = features(FEATURES, boxes, None)
    moved = np.roll(FEATURES, (2, 0), (1, 2))  # by eight pixels down
    frame = Frame(jnp.array([[0.0, 8, -1, 7]]), jnp.zeros((1, 4)), jnp.zeros((1, 4)))
    again = features(moved, frame.to_network(boxes), frame)
    np.testing.assert_allclose(again, plain, atol=1e-5)


def test_random_points():
    head, coarse = head_of(), jnp.asarray(RNG.normal(size=(2, 4, 3, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    draw = jax.jit(lambda coarse, keys: head.draw_points(coarse, keys))
    points = np.asarray(draw(coarse, keys))
    assert points.shape == (2, 4, 12, 2)
    assert len(np.unique(points.reshape(-1, 2), axis=0)) == 2 * 4 * 12
    # An image's points are its own, wherever it stands in the batch.
    np.testing.assert_array_equal(np.asarray(draw(coarse[::-1], keys[::-1])), points[::-1])
    # Without keys they are the same in every image, and in every pass.
    fixed = np.asarray(jax.jit(lambda coarse: head.draw_points(coarse, None))(coarse[jnp.array([0, 0])]))
    np.testing.assert_array_equal(fixed[0], fixed[1])


@pytest.mark.parametrize("background, agnostic", [("first", False), ("last", False), ("last", True)])
def test_predicted_boxes(background, agnostic):
    """The own class' deltas move a region, beyond the image too, and no gradient flows through the boxes."""
    box, classes = BoxConfig(class_agnostic=agnostic), Classes(2, background)
    deltas = RNG.normal(size=(3, 1 if agnostic else 2 + classes.offset, 4)).astype(np.float32)
    boxes = np.float32([[0, 0, 10, 20], [5, 5, 25, 15], [0, 0, 0, 0]])
    flags = np.array([True, True, False])
    regions = Regions(boxes, np.array([1, 0, 0]), np.zeros(3, int), flags, flags)
    regions = jax.tree.map(jnp.asarray, regions)

    def run(deltas):
        return predicted_regions(regions, deltas, classes=classes, box=box)

    ours = jax.jit(run)(deltas)
    own = deltas[np.arange(3), 0 if agnostic else np.array([1, 0, 0]) + classes.offset]
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2 + own[:, :2] / 10 * size
    half = size * np.exp(own[:, 2:] / 5) / 2
    np.testing.assert_allclose(ours.boxes, np.concatenate([centre - half, centre + half], 1), atol=1e-4)
    np.testing.assert_array_equal(ours.positive, flags)
    assert not jax.jit(jax.grad(lambda d: run(d).boxes.sum()))(deltas).any()


def test_what_makes_no_sense_is_refused_in_a_sentence():
    for preset, changes, match in (
        (
            "detectron2/mask_rcnn_R_50_C4_1x",
            {"mask": "point_rend"},
            "reads feature maps at points, but heads",
        ),
        (
            "detectron2/mask_rcnn_R_50_FPN_1x",
            {"mask.kind": "point_rend", "mask.point_levels": 5},
            "are 4 feature",
        ),
        (
            "detectron2/cascade_mask_rcnn_R_50_FPN_1x",
            {"regions.head_boxes": "predicted"},
            "several box stages",
        ),
        ("detectron2/mask_rcnn_R_50_C4_1x", {"regions.head_boxes": "predicted"}, "with a trunk"),
    ):
        with pytest.raises(ConfigError, match=match) as refused:
            model_config(preset, **changes)
        assert str(refused.value).count(".\n") == 0 and str(refused.value).endswith(".")
    with pytest.raises(ConfigError, match="grid is 13"):
        PointRendConfig(grid=13)


def test_combinations():
    """A PointRend head goes with every backbone and neck, with one map, and with a cascade."""
    for preset in (
        "detectron2/mask_rcnn_regnety_4gf_dds_fpn_1x", "detectron2/mask_rcnn_R_101_DC5_3x",
        "detectron2/cascade_mask_rcnn_R_50_FPN_3x", "torchvision/maskrcnn_resnet50_fpn_v2",
        "mmdet/mask-rcnn_x101-64x4d_fpn_1x_coco",
    ):  # fmt: skip
        config = model_config(preset, mask="point_rend")
        assert isinstance(config.mask, PointRendConfig) and config.mask.map_sides == (28, 56, 112, 224)
    assert isinstance(small_config(mask=PointRendConfig()), ModelConfig)
