"""RoIAlign and its definition against torchvision (values and gradients), and against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from jax.test_util import check_grads

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.roi_align import reference

GOLDEN = np.load(GOLDENS / "torchvision_ops_roi_align.npz")
BOXES_GOLDEN = np.load(GOLDENS / "torchvision_ops_boxes.npz")
FEATURES = tuple(GOLDEN[f"features_{i}"] for i in range(3))
ROI_ALIGN = jax.jit(ops.roi_align, static_argnames=("output_size", "sampling_ratio", "aligned"))
MODES = [(ratio, aligned) for ratio in (0, 1, 2, 3) for aligned in (False, True)]


def pool_golden(ratio, aligned, features, boxes, feature_sizes=None, function=ops.multilevel_roi_align):
    """The recorded regions, each from its own level."""
    return function(
        features,
        boxes,
        GOLDEN["levels"],
        (3, 4),
        spatial_scales=GOLDEN["scales"],
        sampling_ratio=ratio,
        aligned=aligned,
        feature_sizes=feature_sizes,
    )


POOL_GOLDEN = jax.jit(pool_golden, static_argnums=(0, 1))


def definition(feature, boxes, output_size, scale, ratio, aligned):
    """Regions of one map, sample by sample."""
    return reference.multilevel_roi_align(
        (feature,), boxes, np.zeros(len(boxes), int), output_size, spatial_scales=[scale],
        sampling_ratio=ratio, aligned=aligned,
    )  # fmt: skip


def random_boxes(rng, n, image):
    corner = rng.uniform(-0.2 * image, image, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(0.1, image, (n, 2))], axis=1).astype(np.float32)


@pytest.mark.slow_except("0-True-fast", "2-False-definition")
@pytest.mark.parametrize(
    "pool",
    [POOL_GOLDEN, functools.partial(pool_golden, function=reference.multilevel_roi_align)],
    ids=["fast", "definition"],
)
@pytest.mark.parametrize(
    ("ratio", "aligned"),
    [
        pytest.param(*mode, marks=() if mode in ((0, True), (2, False)) else pytest.mark.slow)
        for mode in MODES
    ],
)
def test_pyramid_equals_torchvision(ratio, aligned, pool):
    name = f"{'aligned' if aligned else 'plain'}_{ratio}"
    pooled, pullback = jax.vjp(lambda f: pool(ratio, aligned, f, GOLDEN["boxes"]), FEATURES)
    np.testing.assert_allclose(pooled, GOLDEN[name], atol=1e-5)
    for level, grad in enumerate(pullback(GOLDEN["cotangent"])[0]):
        np.testing.assert_allclose(grad, GOLDEN[f"{name}_grad_{level}"], atol=2e-5)


@pytest.mark.slow_except("2-True")
@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), (0, False), (2, True)])
def test_equals_the_definition(ratio, aligned):
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(9, 13, 2)).astype(np.float32)
    boxes = random_boxes(rng, 25, 40)
    expected = definition(feature, boxes, (2, 3), 0.25, ratio, aligned)
    pooled = ROI_ALIGN(feature, boxes, (2, 3), spatial_scale=0.25, sampling_ratio=ratio, aligned=aligned)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_one_level_is_torchvision_too():
    mine = GOLDEN["levels"] == 1
    pooled = ROI_ALIGN(FEATURES[1], GOLDEN["boxes"][mine], (3, 4), spatial_scale=0.125)
    np.testing.assert_allclose(pooled, GOLDEN["plain_2"][mine], atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.slow
def test_adaptive_counts_and_borders_of_whole_pixel_regions(aligned):
    # Sides are multiples of the bins: one sample more, or one at exactly -1 or at the extent lost
    # or won by rounding, would show. The last ones have more than a hundred samples in a bin.
    rng = np.random.default_rng(1)
    feature = rng.normal(size=(40, 60, 1)).astype(np.float32)
    corner = rng.integers(-12, 40, (15, 2))
    boxes = np.concatenate([corner, corner + 7 * rng.integers(1, 6, (15, 2))], axis=1)
    boxes = np.concatenate([boxes, [[-300, 1, 500, 3], [2, -400, 4, 900]]])
    boxes = boxes.astype(np.float32)
    # Apart, as all regions of a call have as many samples as the largest one, of which most are left out.
    parts = boxes[:-2], boxes[-2:-1], boxes[-1:]
    expected = np.concatenate([definition(feature, part, 7, 1.0, 0, aligned) for part in parts])
    pooled = ROI_ALIGN(feature, boxes, 7, sampling_ratio=0, aligned=aligned)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


@pytest.mark.slow
def test_a_ramp_gives_the_centres_of_the_bins():
    ramp = np.broadcast_to(np.arange(20.0, dtype=np.float32)[None, :, None], (20, 20, 1))
    box = np.array([[4, 4, 12, 12]], np.float32)
    centres = np.array([5, 7, 9, 11])
    for ratio in (0, 2):
        aligned = ROI_ALIGN(ramp, box, 4, sampling_ratio=ratio, aligned=True)[0, 0, :, 0]
        plain = ROI_ALIGN(ramp, box, 4, sampling_ratio=ratio, aligned=False)[0, 0, :, 0]
        np.testing.assert_allclose(aligned, centres - 0.5, atol=1e-5)
        np.testing.assert_allclose(plain, centres, atol=1e-5)


@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_a_larger_canvas_changes_nothing(ratio, aligned):
    sizes = jnp.array([f.shape[:2] for f in FEATURES])
    # Garbage outside, so that reading it would show.
    larger = tuple(np.pad(f, ((0, 5), (0, 3), (0, 0)), constant_values=1e3) for f in FEATURES)
    pooled, pullback = jax.vjp(lambda f: POOL_GOLDEN(ratio, aligned, f, GOLDEN["boxes"], sizes), larger)
    name = f"{'aligned' if aligned else 'plain'}_{ratio}"
    np.testing.assert_allclose(pooled, GOLDEN[name], atol=1e-5)
    for level, grad in enumerate(pullback(GOLDEN["cotangent"])[0]):
        recorded = np.pad(GOLDEN[f"{name}_grad_{level}"], ((0, 5), (0, 3), (0, 0)))
        np.testing.assert_allclose(grad, recorded, atol=2e-5)
    one = ROI_ALIGN(larger[0], GOLDEN["boxes"], 3, spatial_scale=0.25, feature_size=FEATURES[0].shape[:2])
    np.testing.assert_allclose(one, ROI_ALIGN(FEATURES[0], GOLDEN["boxes"], 3, spatial_scale=0.25), atol=1e-6)


@pytest.mark.parametrize("ratio", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_padding_is_finite_and_changes_nothing(ratio):
    rng = np.random.default_rng(2)
    feature = rng.normal(size=(8, 8, 2)).astype(np.float32)
    boxes = random_boxes(rng, 4, 8)
    padding = np.array([[0, 0, 0, 0], [np.nan] * 4, [np.inf] * 4, [0, 0, np.inf, np.inf]], np.float32)

    def total(feature, boxes):
        pooled = ROI_ALIGN(feature, boxes, 2, sampling_ratio=ratio, aligned=True)
        return (pooled[:4] ** 2).sum(), pooled

    grad = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    (plain, _), pooled = grad(feature, boxes)
    (padded, box_grad), padded_pooled = grad(feature, np.concatenate([boxes, padding]))
    np.testing.assert_allclose(padded_pooled[:4], pooled, atol=1e-6)
    np.testing.assert_allclose(padded, plain, atol=1e-6)
    assert np.isfinite(padded_pooled).all()
    assert not box_grad.any()
    assert ROI_ALIGN(feature, np.zeros((0, 4)), 2, sampling_ratio=ratio).shape == (0, 2, 2, 2)


@pytest.mark.parametrize("ratio", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_gradient_is_numeric(ratio):
    rng = np.random.default_rng(3)
    feature = rng.normal(size=(5, 4, 1)).astype(np.float32)
    boxes = random_boxes(rng, 3, 6)
    check_grads(
        lambda f: ROI_ALIGN(f, boxes, 2, sampling_ratio=ratio),
        (feature,),
        1,
        ["rev"],
        atol=1e-2,
        rtol=1e-2,
    )


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_under_vmap_with_traced_scales_and_sizes(ratio):
    rng = np.random.default_rng(4)
    features = tuple(rng.normal(size=(2, h, w, 3)).astype(np.float32) for h, w in ((8, 9), (4, 5)))
    boxes = np.stack([random_boxes(rng, 6, 30) for _ in range(2)])
    levels = rng.integers(0, 2, (2, 6))
    scales = np.array([[0.25, 0.125], [0.3, 0.15]], np.float32)
    sizes = np.array([[[8, 9], [4, 5]], [[6, 7], [3, 4]]])

    def pool(features, boxes, levels, scales, sizes):
        return ops.multilevel_roi_align(
            features, boxes, levels, 2, spatial_scales=scales, sampling_ratio=ratio, aligned=True,
            feature_sizes=sizes,
        )  # fmt: skip

    def total(features):
        return (jax.vmap(pool)(features, boxes, levels, scales, sizes) ** 2).sum()

    batch = jax.jit(jax.vmap(pool))(features, boxes, levels, scales, sizes)
    grads = jax.jit(jax.grad(total))(features)
    for i in range(2):
        one = tuple(f[i] for f in features)
        real = tuple(f[:h, :w] for f, (h, w) in zip(one, sizes[i], strict=True))
        expected = reference.multilevel_roi_align(
            real, boxes[i], levels[i], 2, spatial_scales=scales[i], sampling_ratio=ratio, aligned=True
        )
        np.testing.assert_allclose(batch[i], expected, atol=1e-5)
        alone = jax.grad(lambda f, i=i: (pool(f, boxes[i], levels[i], scales[i], sizes[i]) ** 2).sum())(one)
        for a, b in zip(grads, alone, strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5)


@pytest.mark.slow_except("0-250000000.0")
@pytest.mark.parametrize(("ratio", "limit"), [(0, 250e6), (2, 250e6)])
def test_memory_of_a_full_size_level(ratio, limit):
    # Nothing is run. Features take 69 MB, the output 26 MB, all samples at their corners would take
    # 411 MB, and regions pooled along one axis alone 1.2 GB.
    features = jax.ShapeDtypeStruct((200, 336, 256), jnp.float32)
    boxes = jax.ShapeDtypeStruct((512, 4), jnp.float32)

    def total(features, boxes):
        return (ops.roi_align(features, boxes, 7, sampling_ratio=ratio, aligned=True) ** 2).sum()

    memory = jax.jit(jax.grad(total)).lower(features, boxes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < limit


@pytest.mark.slow
def test_bfloat16_features():
    features = tuple(jnp.asarray(f, jnp.bfloat16) for f in FEATURES)
    for ratio in (0, 2):
        pooled = POOL_GOLDEN(ratio, True, features, GOLDEN["boxes"])
        assert pooled.dtype == jnp.bfloat16
        np.testing.assert_allclose(pooled.astype(np.float32), GOLDEN[f"aligned_{ratio}"], atol=0.03)
        grads = jax.grad(
            lambda f, ratio=ratio: POOL_GOLDEN(ratio, True, f, GOLDEN["boxes"]).astype(jnp.float32).sum()
        )(features)
        assert all(g.dtype == jnp.bfloat16 for g in grads)


def test_levels_equal_torchvision():
    levels = jax.jit(lambda b: ops.assign_levels(b, rule="log_epsilon"))(BOXES_GOLDEN["level_boxes"])
    assert set(BOXES_GOLDEN["levels"]) == {2, 3, 4, 5}
    np.testing.assert_array_equal(levels, BOXES_GOLDEN["levels"])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("log_epsilon", [2, 3, 3, 4, 4, 4, 5, 2, 5]),
        ("side_epsilon", [2, 3, 3, 3, 4, 4, 5, 2, 5]),
        ("finest_epsilon", [2, 3, 3, 3, 4, 4, 5, 2, 5]),
    ],
)
def test_levels_at_the_boundaries(rule, expected):
    sides = np.array([111.99, 112, 223.99, 223.9999, 224, 447.99, 448, 0, 2000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    levels = jax.jit(lambda b: ops.assign_levels(b, rule=rule))(boxes)
    assert levels.tolist() == expected


def test_levels_are_limited_and_tell_the_epsilons_apart():
    boxes = np.array(
        [[0, 0, 10, 10], [0, 0, 900, 900], [5, 5, 2, 9], [0, 0, 223.99997, 223.99997]], np.float32
    )
    limited = ops.assign_levels(boxes, rule="side_epsilon", min_level=3, max_level=4)
    assert limited.tolist()[:3] == [3, 4, 3]
    assert ops.assign_levels(boxes, rule="finest_epsilon").tolist() == [2, 5, 2, 4]
    assert ops.assign_levels(boxes, rule="side_epsilon").tolist() == [2, 5, 2, 3]
    with pytest.raises(ValueError, match="'mmdet'; choose one of log_epsilon, side_epsilon, finest_epsilon"):
        ops.assign_levels(boxes, rule="mmdet")
