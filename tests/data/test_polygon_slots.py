"""Polygons on their way from the annotations to the targets."""

import jax
import numpy as np
import pytest
from data_helpers import TRIANGLE, annotation, content, encode, write

from jaxmaskrcnn import losses, ops
from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare, train_iterator
from jaxmaskrcnn.data.fields.packed import pack, vertex_count
from jaxmaskrcnn.data.fields.polygons import Polygons, vertex_slots
from jaxmaskrcnn.data.fields.targets import empty_targets
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

TWO_PARTS = [[1.0, 1.5, 9, 1.5, 9, 9], [20.25, 4, 30, 4, 30, 12.5, 20.25, 12.5]]
SIZE = (32, 40)  # height and width
MASK = np.zeros(SIZE, bool)
MASK[5:20, 6:30] = True
CONFIG = model_config(
    "detectron2/mask_rcnn_R_50_FPN_3x",
    num_classes=1,
    **{"input.test_min_size": 64, "input.test_max_size": 90, "input.pad_divisor": 16},
)


def target(polygons, masks=None, crowd=None):
    count = len(polygons)
    out = {"boxes": np.tile([[1.0, 1, 30, 20]], (count, 1)), "labels": np.zeros(count, int)}
    out |= {"polygons": polygons} | ({} if masks is None else {"masks": masks})
    return out | ({} if crowd is None else {"crowd": crowd})


def batch_of(*targets, config=CONFIG):
    return make_batch(config, [np.zeros((*SIZE, 3), np.uint8)] * len(targets), list(targets))


def placed(polygons, new, flip=False):
    """An object's vertices and parts in the targets, after its image has been resized and mirrored."""
    moved = Polygons.from_lists([polygons]).transform(Geometry.resize(SIZE, new, flip), ModelConfig())
    targets = empty_targets(1, 1, new, {"polygons": len(moved.parts[0])})
    moved.fill(targets, 0)
    return targets.polygons[0, 0], targets.polygon_parts[0, 0]


def as_lists(vertices, parts):
    """The polygons back from the arrays, without the repeated vertices, as float32."""
    return [vertices[parts == i][:-1, :2].ravel().tolist() for i in range(parts.max() + 1)]


@pytest.mark.parametrize("polygons", [TRIANGLE, TWO_PARTS, [[1, 2, 3.5, 4, 5, 6]] * 7])
def test_counting_without_parsing(polygons):
    expected = sum(len(polygon) // 2 + 1 for polygon in polygons)
    assert vertex_count(pack(polygons)) == expected
    assert len(placed(polygons, SIZE)[1]) == expected
    assert vertex_count("") == 0


def test_slots():
    assert [vertex_slots(n) for n in (0, 5, 16, 17, 33, 1024, 1025)] == [16, 16, 16, 32, 64, 1024, 2048]


def test_resized_then_mirrored_in_float64():
    vertices, parts = placed(TWO_PARTS, (47, 59), flip=True)
    assert parts.tolist() == [0] * 4 + [1] * 5
    for ours, polygon in zip(as_lists(vertices, parts), TWO_PARTS, strict=True):
        x, y = np.reshape(polygon, (-1, 2)).T
        expected = np.stack([59 - x * (59 / 40), y * (47 / 32)], axis=1).astype(np.float32)
        assert ours == expected.ravel().tolist()
    exact = np.array([59 - x * (59 / 40) for x in TWO_PARTS[0][::2]])
    np.testing.assert_allclose(vertices[:3, 0].astype(float) + vertices[:3, 2], exact, rtol=0, atol=1e-13)
    for part in (0, 1):
        ring = vertices[parts == part]
        np.testing.assert_array_equal(ring[0], ring[-1])


def test_make_batch():
    both = batch_of(target([TRIANGLE, TWO_PARTS]), target([TRIANGLE])).targets
    assert both.masks is None and both.polygons.shape == (2, 2, 16, 4)
    for g, polygons in enumerate((TRIANGLE, TWO_PARTS)):
        ours = as_lists(both.polygons[0, g], both.polygon_parts[0, g])
        assert ours == [[2 * v for v in polygon] for polygon in polygons]
    assert (both.polygon_parts[1, 1] == -1).all()
    # An object without polygons: masks are needed, and only they are read for it.
    mixed = batch_of(target([TRIANGLE, None], np.stack([MASK, MASK])), target([TRIANGLE])).targets
    assert (mixed.polygon_parts[0, 1] == -1).all() and mixed.masks[0, 1].any() and not mixed.masks[1].any()
    # Crowd regions have no target.
    crowd = batch_of(target([TRIANGLE, None], crowd=[False, True])).targets
    assert crowd.masks is None and (crowd.polygon_parts[0, 1] == -1).all()
    # Other rules do not look at polygons, no objects need none, and none at all means masks.
    threshold = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco", num_classes=1, **{"input.test_min_size": 64})
    assert batch_of(target([TRIANGLE], MASK[None]), config=threshold).targets.polygons is None
    assert batch_of(target([])).targets.masks.shape[1] == 1
    plain = target([None], MASK[None])
    del plain["polygons"]
    assert batch_of(plain).targets.polygons is None


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([TRIANGLE, TRIANGLE], "polygons of 2 objects for 1 labels"),
        ([None], "object 0 of image 0 has neither"),
        ([[[1, 2, 3, 4]]], r"a polygon of int64 \[4\]"),
        ([[[1, 2, 3, 4, 5, 6, 7]]], r"\[7\]; give at least three points"),
        ([[[[1, 2], [3, 4], [5, 6]]]], r"\[3, 2\]"),
        ([[["a", "b", "c", "d", "e", "f"]]], "give at least three"),
        ([[[1, 2, 3, 4, 5, float("nan")]]], "not finite"),
    ],
)
def test_make_batch_refuses(polygons, message):
    one = target([TRIANGLE]) | {"polygons": polygons}
    with pytest.raises(UserError, match=message):
        batch_of(one)


def regions_of(boxes, matched):
    count = len(boxes)
    ones = np.ones(count, bool)
    return losses.Regions(np.float32(boxes), np.zeros(count, np.int32), np.array(matched), ones, ones)


@pytest.mark.slow
def test_rules_of_the_loss():
    """Drawn where there are polygons, pooled from the bitmap where there are none."""
    batch = batch_of(target([TRIANGLE, None], np.stack([MASK, MASK])))
    one = jax.tree.map(lambda x: x[0], batch.targets)
    regions = regions_of([[4, 4, 40, 36], [4, 4, 40, 36]], [0, 1])
    wanted = losses.mask_head_targets(
        regions, one, 28, batch.images.shape[2], batch.image_sizes[0], CONFIG.mask
    )
    drawn = ops.polygon_targets(one.polygons, one.polygon_parts, regions.matched, regions.boxes, 28)
    pooled = ops.mask_targets(
        one.masks, batch.images.shape[2], regions.matched, regions.boxes, 28, rule="threshold"
    )
    np.testing.assert_array_equal(wanted, np.stack([drawn[0], pooled[1]]))
    assert (wanted[0] != pooled[0]).any() and wanted[1].any() and not drawn[1].any()


@pytest.fixture
def batches_of(tmp_path):
    """Training batches of annotations in one image."""
    open_iterators = []

    def make(annotations, config=CONFIG, flip=0.0):
        source = prepare(*write(tmp_path, content(annotations, [SIZE])), tmp_path / "cache")
        data = DataConfig(batch_size=1, min_sizes=(48,), max_size=64, flip=flip, threads=0)
        open_iterators.append(train_iterator(source, config, data, seed=0))
        return source, next(open_iterators[-1])

    yield make
    for iterator in open_iterators:
        iterator.close()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_training_batches(batches_of, flip):
    crowd = annotation(3, iscrowd=1, segmentation=encode(MASK))
    annotations = [annotation(1), annotation(2, segmentation=TWO_PARTS, bbox=[1, 1, 29, 12]), crowd]
    source, batch = batches_of(annotations, flip=flip)
    assert source.counts["vertex_counts"].tolist() == [9] and source.counts["bitmap_counts"].tolist() == [0]
    assert batch.targets.masks is None and batch.targets.valid.sum() == 3
    size = tuple(batch.image_sizes[0])
    for g, polygons in enumerate((TRIANGLE, TWO_PARTS)):
        vertices, parts = placed(polygons, size, flip=bool(flip))
        np.testing.assert_array_equal(batch.targets.polygons[0, g, : len(parts)], vertices)
        np.testing.assert_array_equal(batch.targets.polygon_parts[0, g, : len(parts)], parts)
        # The box is where the polygons are: neither has been flipped without the other.
        x1, y1, x2, y2 = batch.targets.boxes[0, g]
        low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
        assert (low >= [x1 - 1, y1 - 1]).all() and (high <= [x2 + 1, y2 + 1]).all()
    assert (batch.targets.polygon_parts[0, 2:] == -1).all()


def test_training_batches_with_bitmaps_among_them(batches_of):
    source, batch = batches_of([annotation(1), annotation(2, segmentation=encode(MASK))])
    assert source.counts["bitmap_counts"].tolist() == [1]
    assert batch.targets.masks[0, :2].any(axis=(1, 2)).all()
    assert (batch.targets.polygon_parts[0, :2] >= 0).any(1).tolist() == [True, False]


def test_data_without_polygons_costs_nothing(batches_of):
    _, batch = batches_of([annotation(segmentation=encode(MASK))])
    assert batch.targets.polygons is None and batch.targets.masks.any()


def test_other_rules_leave_polygons_where_they_are(batches_of):
    config = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco", num_classes=1, **{"input.pad_divisor": 16})
    _, batch = batches_of([annotation()], config)
    assert batch.targets.polygons is None and batch.targets.masks.any()
