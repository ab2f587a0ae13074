"""Arguments that cannot work are refused in one sentence; whole numbers are not cut off on the way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.masks import paste_mask_windows
from jaxmaskrcnn.ops.roi_align.api import IMPLEMENTATIONS
from jaxmaskrcnn.ops.top_k import top_k

N, SIZE = 3, (8, 8)
BOXES, SCORES, IDS = jnp.zeros((N, 4)), jnp.zeros(N), jnp.zeros(N, int)
MAP = jnp.zeros((*SIZE, 2))
PACKED = jnp.zeros((2, 8, 1), jnp.uint8)
PROBS = jnp.zeros((N, 4, 4))
ONES = (1, 1, 1, 1)

pool = functools.partial(ops.roi_align, MAP, BOXES)
pool_levels = functools.partial(ops.multilevel_roi_align, (MAP, MAP), BOXES, sampling_ratio=2, aligned=True)
match = functools.partial(ops.match, jnp.zeros((2, N)), jnp.ones(2, bool))
levels = functools.partial(ops.assign_levels, BOXES, rule="log_epsilon")
targets = functools.partial(ops.mask_targets, index=IDS, boxes=BOXES, rule="soft")
polygons = functools.partial(ops.polygon_targets, jnp.zeros((2, 5, 2)), jnp.zeros((2, 5), int), IDS, BOXES)

# The call, and what the message says behind the name of the function.
IMPOSSIBLE = {
    "base_anchors": (lambda: ops.base_anchors((-3,), (1.0,), True), r"sizes is \(-3,\); .* above 0"),
    "base_anchors ": (lambda: ops.base_anchors(0, (1.0,), True), "sizes is 0; give a number above 0"),
    "base_anchors  ": (lambda: ops.base_anchors((), (1.0,), True), r"sizes is \(\); give one or more"),
    "base_anchors   ": (lambda: ops.base_anchors(8, (1.0, np.nan), True), "ratios is"),
    "base_anchors    ": (lambda: ops.base_anchors(8, np.array([-1.0]), False), "ratios is"),
    "grid_anchors": (lambda: ops.grid_anchors(BOXES, (2.5, 3), (4, 4)), r"feature_size is \(2.5, 3\)"),
    "grid_anchors ": (lambda: ops.grid_anchors(BOXES, (-2, 3), (4, 4)), r"feature_size is \(-2, 3\)"),
    "grid_anchors  ": (lambda: ops.grid_anchors(BOXES, (2, 3), (0, 4)), r"stride is \(0, 4\)"),
    "encode_boxes": (
        lambda: ops.encode_boxes(jnp.zeros((2, 4)), jnp.zeros((3, 4)), ONES),
        r"targets has the shape \[3, 4\]; give it one that broadcasts with that of boxes, \[2, 4\]",
    ),
    "encode_boxes ": (lambda: ops.encode_boxes(BOXES, BOXES, (10, 10, 0, 5)), "weights is"),
    "decode_boxes": (
        lambda: ops.decode_boxes(jnp.zeros((3, 2, 4)), BOXES, ONES),
        r"boxes has the shape \[3, 4\]; give it one that broadcasts with that of deltas, \[3, 2, 4\]",
    ),
    "decode_boxes ": (lambda: ops.decode_boxes(BOXES, BOXES, (1, 1, -1, 1)), "weights is"),
    "clip_boxes": (lambda: ops.clip_boxes(BOXES, (-1, 8)), r"image_size is \(-1, 8\)"),
    "nms": (lambda: ops.nms(BOXES, SCORES, -0.5), "iou_threshold is -0.5; give a number of at least 0"),
    "nms ": (lambda: ops.nms(BOXES, SCORES, float("nan")), "iou_threshold is nan"),
    "batched_nms": (lambda: ops.batched_nms(BOXES, SCORES, IDS, "0.5"), "iou_threshold is '0.5'"),
    "limited_nms": (lambda: ops.limited_nms(BOXES, SCORES, IDS, 0.5, 1.5), "limit is 1.5"),
    "limited_nms ": (lambda: ops.limited_nms(BOXES, SCORES, IDS, 0.5, -1), "limit is -1"),
    "top_k": (lambda: top_k(SCORES, 4), "k is 4; give at most the number of values, 3"),
    "match": (
        lambda: match(foreground_iou=0.3, background_iou=0.7),
        "background_iou is 0.7 and foreground_iou 0.3; give a background_iou that is not above",
    ),
    "match ": (lambda: match(foreground_iou=70, background_iou=0.3), "foreground_iou is 70; .* from 0 to 1"),
    "match  ": (
        lambda: match(foreground_iou=0.7, background_iou=0.3, low_quality_min_iou=-1.0),
        "low_quality_min_iou is -1.0",
    ),
    "index_priority": (lambda: ops.index_priority(2**24 + 1), "n is 16777217; give at most 16777216"),
    "random_priority": (lambda: ops.random_priority(jax.random.key(0), -1), "n is -1"),
    "sample": (lambda: ops.sample(IDS, SCORES, 2, 2.0), "positive_fraction is 2.0; .* from 0 to 1"),
    "sample ": (lambda: ops.sample(IDS, SCORES, 2, -0.1), "positive_fraction is -0.1"),
    "sample  ": (lambda: ops.sample(IDS, SCORES, 2.5, 0.5), "count is 2.5; .* at least 0"),
    "roi_align": (lambda: pool(2, sampling_ratio=1.5), "sampling_ratio is 1.5; give a whole number"),
    "roi_align ": (lambda: pool(2, sampling_ratio=-1), "sampling_ratio is -1"),
    "roi_align  ": (lambda: pool(2, sampling_ratio=True), "sampling_ratio is True"),
    "roi_align   ": (lambda: pool(0), "output_size is 0; give a whole number of at least 1"),
    "roi_align    ": (lambda: pool((2, 0)), r"output_size is \(2, 0\); give whole numbers of at least 1"),
    "roi_align     ": (lambda: pool((2, 2, 2)), r"output_size is \(2, 2, 2\); give \(height, width\)"),
    "roi_align      ": (lambda: pool(2.0), "output_size is 2.0"),
    "roi_align       ": (lambda: pool(2, spatial_scale=0.0), "spatial_scale is 0.0; give a number above 0"),
    "roi_align        ": (
        lambda: ops.roi_align(jnp.zeros((0, 0, 2)), BOXES, 2),
        r"features has the shape \[0, 0, 2\]; give a map with pixels",
    ),
    "roi_align         ": (
        lambda: pool(2, feature_size=(9, 8)),
        r"feature_size is \(9, 8\) and the map's size \(8, 8\)",
    ),
    "roi_align          ": (lambda: pool(2, feature_size=(-1, 8)), r"feature_size is \(-1, 8\)"),
    "multilevel_roi_align": (
        lambda: pool_levels(jnp.zeros(N), 2, spatial_scales=(1.0, 0.5)),
        "levels has the type float32; give it the type int",
    ),
    "multilevel_roi_align ": (
        lambda: ops.multilevel_roi_align(
            (), BOXES, IDS, 2, spatial_scales=(), sampling_ratio=2, aligned=True
        ),
        "features is empty",
    ),
    "roi_align           ": (lambda: pool_levels(IDS, 2, spatial_scales=(0.5, -1.0)), "spatial_scales is"),
    "assign_levels": (
        lambda: levels(min_level=5, max_level=2),
        "min_level is 5 and max_level 2; give a min_level that is not above max_level",
    ),
    "assign_levels ": (lambda: levels(min_level=2.5), "min_level is 2.5"),
    "pack_masks": (lambda: ops.pack_masks(np.full((2, 2), 0.3)), "masks has the type float64.*masks >= 0.5"),
    "unpack_masks": (
        lambda: ops.unpack_masks(np.zeros((1, 9, 2), np.uint8), 99),
        r"packed has the shape \[1, 9, 2\]; give it the shape \[\.\.\., H, 13\]",
    ),
    "unpack_masks ": (lambda: ops.unpack_masks(PACKED, 0), "width is 0; give a whole number of at least 1"),
    "unpack_masks  ": (lambda: ops.unpack_masks(PACKED > 0, 8), "packed has the type bool; .* uint8"),
    "mask_targets": (lambda: targets(PACKED, 8, size=0), "size is 0"),
    "mask_targets ": (lambda: targets(PACKED, 7.5, size=4), "width is 7.5"),
    "mask_targets  ": (lambda: targets(PACKED > 0, 8, size=4), "packed has the type bool"),
    "mask_targets   ": (lambda: targets(PACKED, 8, size=4, index=SCORES), "index has the type float32"),
    "polygon_targets": (lambda: polygons(0), "size is 0"),
    "paste_masks": (lambda: ops.paste_masks(PROBS, BOXES, (8.5, 8)), r"image_size is \(8.5, 8\)"),
    "paste_masks ": (lambda: ops.paste_masks(PROBS[:, :0, :0], BOXES, SIZE), r"probs has .*\[3, 0, 0\]"),
    "paste_mask_windows": (lambda: paste_mask_windows(PROBS, BOXES, (-8, 8)), r"image_size is \(-8, 8\)"),
    "paste_mask_windows ": (lambda: paste_mask_windows(PROBS, BOXES, (8, 8, 3)), "image_size has the shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_arguments_are_refused(case):
    call, said = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=f"^{case.strip()}: {said}") as error:
        call()
    assert str(error.value).count("; ") == 1 and str(error.value).endswith(".")


def test_traced_arguments_are_not_checked():
    """Their values are not known; what they are in this call would work, too."""
    found = jax.jit(lambda low, high: match(foreground_iou=high, background_iou=low))(0.3, 0.7)
    assert found.label.tolist() == [0, 0, 0]
    chosen = jax.jit(lambda low, high: levels(min_level=low, max_level=high))(3, 4)
    assert chosen.tolist() == [3, 3, 3]
    pooled = jax.jit(lambda scale, size: pool(2, spatial_scale=scale, feature_size=size))(0.5, (8, 8))
    assert pooled.shape == (N, 2, 2, 2)
    assert ops.grid_anchors(np.zeros((1, 4)), np.array([1, 2]), np.array([4, 4])).shape == (2, 4)


@pytest.mark.slow_except("int32-reference")
@pytest.mark.parametrize("implementation", [None, "reference", *IMPLEMENTATIONS])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_features_of_whole_numbers_have_fractions(dtype, implementation):
    """A bin between pixels has their mean, which is no whole number."""
    features = (np.arange(512).reshape(16, 16, 2) % 251 % 2 ** (dtype == "bool" or 8)).astype(dtype)
    box = jnp.array([[0.3, 0.3, 10.3, 10.3]])
    pooled = ops.roi_align(features, box, 1, sampling_ratio=2, implementation=implementation)
    # The four samples of the bin, interpolated one by one.
    expected = np.zeros(2)
    for y in (2.8, 7.8):
        for x in (2.8, 7.8):
            for row in (int(y), int(y) + 1):
                for column in (int(x), int(x) + 1):
                    weight = (1 - abs(y - row)) * (1 - abs(x - column))
                    expected += weight * features[row, column].astype(float) / 4
    assert pooled.dtype == jnp.float32 and (expected % 1 > 0.01).all()
    np.testing.assert_allclose(pooled[0, 0, 0], expected, rtol=1e-5)


def test_one_level_of_whole_numbers_among_others():
    maps = (np.arange(64, dtype=np.int32).reshape(8, 8, 1), np.zeros((4, 4, 1), np.float32))

    @jax.jit
    def pool(maps):
        return ops.multilevel_roi_align(
            maps, jnp.array([[0, 0, 3, 3]]), jnp.zeros(1, int), 1,
            spatial_scales=(1.0, 0.5), sampling_ratio=1, aligned=False,
        )  # fmt: skip

    pooled = pool(maps)
    assert pooled.tolist() == [[[[13.5]]]]  # the sample at (1.5, 1.5), between 9, 10, 17 and 18


def test_boxes_of_whole_numbers_are_clipped_to_fractions():
    assert ops.clip_boxes(jnp.array([-3, 2, 90, 40]), (30.5, 50.25)).tolist() == [0, 2, 50.25, 30.5]
    assert ops.clip_boxes(jnp.array([0, 2, 90, 40], jnp.uint8), (300, 50)).tolist() == [0, 2, 50, 40]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_scores_of_whole_numbers(dtype):
    boxes, scores = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]], dtype), np.array([0, 9, 1], dtype)

    @jax.jit
    def kept(boxes, scores):
        every = ops.nms(boxes, scores, 0.5), ops.batched_nms(boxes, scores, IDS, 0.5)
        return every, ops.limited_nms(boxes, scores, IDS, 0.5, 3)

    every, (index, valid) = kept(boxes, scores)
    assert [keep.tolist() for keep in every] == 2 * [[False, True, True]]
    assert index.tolist() == [1, 2, 0] and valid.tolist() == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["reference", *IMPLEMENTATIONS])
def test_an_infinity_far_from_a_region_does_not_change_it(implementation):
    """Tiles reach beyond a region; what is in them and not read becomes NaN, as their docstrings say."""
    tiles = implementation.startswith("tiles")
    far = 33 if implementation == "tiles_tpu" else 20  # its tiles are read many at a time
    for place, untouched in (((far, far), True), ((3, far), True), ((9, 9), not tiles)):
        features = jnp.ones((64, 64, 1)).at[place].set(jnp.inf)
        pooled = ops.roi_align(features, jnp.array([[2.0, 2, 6, 6]]), 2, implementation=implementation)
        assert (pooled == 1).all() if untouched else jnp.isnan(pooled).all()
