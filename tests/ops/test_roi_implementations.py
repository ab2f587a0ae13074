"""Each implementation of RoIAlign, values and gradients, against the definition."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.roi_align import api, tile_order, tiles_batched, tiles_tpu
from jaxmaskrcnn.ops.roi_align.regions import make_regions

SCALES = np.array([1 / 4, 1 / 8, 1 / 16], np.float32)
SIZES = np.array([[[41, 30], [13, 50], [7, 5]], [[30, 29], [13, 31], [6, 5]]])
# None is what the platform of the test computes with.
CASES = [(name, 2, False) for name in (None, *api.IMPLEMENTATIONS)]
CASES += [(name, 0, True) for name in (None, *api.IMPLEMENTATIONS) if name != "gather_at_once"]


def example():
    """Two images; maps larger than several tiles and smaller than one; boxes of all sizes, and padding."""
    rng = np.random.default_rng(0)
    maps = tuple(rng.normal(size=(2, h, w, 3)).astype(np.float32) for h, w in ((41, 30), (13, 50), (7, 5)))
    corner = rng.uniform(-30, 120, (2, 30, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(0, 5.5, (2, 30, 2)))], -1)
    levels = rng.integers(0, 3, (2, 30))
    levels[1, levels[1] == 1] = 0  # none of this level
    special = [[0, 0, 120, 164], [500, 500, 600, 600], [0] * 4, [np.nan] * 4, [0, 0, np.inf, np.inf]]
    boxes[:, :5] = special
    levels[:, :5] = 0
    return maps, boxes.astype(np.float32), levels


def pool(maps, boxes, levels, sizes, ratio, aligned, implementation):
    return ops.multilevel_roi_align(
        maps, boxes, levels, (3, 5), spatial_scales=SCALES, sampling_ratio=ratio, aligned=aligned,
        feature_sizes=sizes, implementation=implementation,
    )  # fmt: skip


def wave(pooled):
    """A cotangent."""
    return jnp.sin(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape)


def both(function, maps):
    pooled, pullback = jax.vjp(function, maps)
    return pooled, pullback(wave(pooled))[0]


def defined(ratio, aligned):
    """The values and gradients of the example by the definition, image by image."""
    maps, boxes, levels = example()

    def images(maps):
        return jnp.stack(
            [
                pool(tuple(f[i] for f in maps), boxes[i], levels[i], SIZES[i], ratio, aligned, "reference")
                for i in range(2)
            ]
        )

    return both(images, maps)


def assert_equal(pooled, gradient, expected, expected_gradient):
    assert (abs(expected).max((-3, -2, -1)) > 0.1).mean() > 0.6
    np.testing.assert_allclose(pooled, expected, atol=2e-6)
    for actual, wanted in zip(gradient, expected_gradient, strict=True):
        assert abs(wanted).max() > 0.1
        np.testing.assert_allclose(actual, wanted, atol=3e-6)


# Each implementation with one kind of sampling; the default is the CPU's own way.
QUICK = {
    ("tiles_cpu", 0, True),
    ("tiles_batched", 0, True),
    ("gather", 2, False),
    ("gather_at_once", 2, False),
}


@pytest.mark.slow_except("tiles_cpu-0-True")
@pytest.mark.parametrize(
    ("implementation", "ratio", "aligned"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_pooling_and_its_gradient(implementation, ratio, aligned):
    maps, boxes, levels = example()

    def images(maps):
        one = lambda *arrays: pool(*arrays, ratio, aligned, implementation)  # noqa: E731
        return jax.vmap(one)(maps, boxes, levels, SIZES)

    assert_equal(*jax.jit(lambda maps: both(images, maps))(maps), *defined(ratio, aligned))


@pytest.mark.slow_except("None-2", "tiles_tpu-0")
@pytest.mark.parametrize(("implementation", "ratio"), [case[:2] for case in CASES])
def test_several_lists_of_regions_at_once(implementation, ratio):
    maps, boxes, levels = example()

    def regions(boxes, levels, sizes, bins, ratio):
        return make_regions(boxes, levels, bins, SCALES, ratio, True, sizes)

    def lists(boxes, levels, sizes):
        first = regions(boxes, levels, sizes, (3, 5), ratio)
        return first, regions(boxes[7:11], levels[7:11], sizes, (2, 2), 2)  # with a fixed number of samples

    def one(maps, boxes, levels, sizes, chosen):
        return api.pool_lists(implementation, [f[None] for f in maps], lists(boxes, levels, sizes)[chosen])

    def at_once(maps):
        pool = functools.partial(one, chosen=slice(0, 2))
        return jax.vmap(pool)(maps, boxes, levels, SIZES)

    def apart(maps):
        pools = (functools.partial(one, chosen=slice(i, i + 1)) for i in range(2))
        return tuple(jax.vmap(pool)(maps, boxes, levels, SIZES)[0] for pool in pools)

    @jax.jit
    def values_and_gradients(maps):
        found = []
        for function in (at_once, apart):
            pooled, pull = jax.vjp(function, maps)
            found.append((pooled, pull(tuple(map(wave, pooled)))[0]))
        return found

    found, expected = values_and_gradients(maps)
    assert [x.shape for x in found[0]] == [(2, 30, 3, 5, 3), (2, 4, 2, 2, 3)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6), found, expected)


@pytest.mark.slow
def test_several_batches_of_tiles_of_which_the_last_is_not_full():
    maps, boxes, levels = (jax.tree.map(lambda x: x[0], part) for part in example())
    batch_bytes = 4 * tiles_batched.TILE**2 * 3 * 17

    @jax.jit
    def batches(maps):
        regions = make_regions(boxes, levels, (3, 5), SCALES, 0, True, SIZES[0])
        maps = tuple(f[None] for f in maps)
        (pooled,) = tiles_batched.pool(maps, (regions,), batch_bytes=batch_bytes)
        gradient = tiles_batched.spread(maps, (regions,), (wave(pooled),), batch_bytes=batch_bytes)
        return pooled, tuple(g[0] for g in gradient)

    expected = both(lambda maps: pool(maps, boxes, levels, SIZES[0], 0, True, "reference"), maps)
    assert_equal(*batches(maps), *expected)


@pytest.mark.parametrize("count", [1, 64, 65, 130])
def test_every_tile_is_set(count):
    # Memory without values may be zeros, so another number shows what is written.
    tiles = tile_order.zeros(count, 2, jnp.float32(3))
    np.testing.assert_array_equal(tiles, np.full((count, 64, 2), 3, np.float32))


def test_tiles_of_maps_whose_last_rows_and_columns_are_not_whole():
    rng = np.random.default_rng(0)
    sizes = (37, 50), (16, 24), (5, 7), (8, 1)
    maps = tuple(rng.normal(size=(2, *size, 3)).astype(np.float32) for size in sizes)
    expected = []
    for features in maps:
        (height, width), tile = features.shape[1:3], tile_order.TILE
        whole = np.pad(features, ((0, 0), (0, -height % tile), (0, -width % tile), (0, 0)))
        for image, y, x in np.ndindex(2, -(-height // tile), -(-width // tile)):
            own = whole[image, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
            expected.append(own.reshape(tile * tile, 3))
    tiles = tile_order.tiles_of(tuple(map(jnp.asarray, maps)))
    np.testing.assert_array_equal(tiles, np.stack(expected))
    for found, features in zip(tile_order.maps_of(tiles, maps), maps, strict=True):
        np.testing.assert_array_equal(found, features)


def test_sums_of_further_blocks_do_not_read_the_memory_that_they_are_given():
    rng = np.random.default_rng(2)
    maps = (jnp.asarray(rng.normal(size=(1, 70, 80, 3)), jnp.float32),)
    # Regions of 1, 1, 9, 3 and 1 blocks, in batches of two blocks.
    boxes = np.array([[3, 4, 20, 30], [50, 8, 60, 9], [0, 0, 70, 69], [9, 1, 20, 66], [1, 1, 8, 8]])
    arguments = boxes.astype(np.float32), np.zeros(5, int), (3, 5)
    regions = make_regions(*arguments, np.ones(1), 2, True, [(70, 80)])
    side = tile_order.TILE * tiles_tpu.ACROSS
    not_numbers = lambda shape, dtype: jnp.full(shape, np.nan, dtype)  # noqa: E731
    (pooled,) = tiles_tpu.pool(maps, (regions,), batch_bytes=4 * side**2 * 24 * 2, empty=not_numbers)
    expected = ops.multilevel_roi_align(
        (maps[0][0],), *arguments, spatial_scales=np.ones(1), sampling_ratio=2, aligned=True,
        implementation="reference",
    )  # fmt: skip
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_batches_of_blocks_and_regions_of_several_blocks():
    rng = np.random.default_rng(1)
    maps = (rng.normal(size=(100, 70, 3)).astype(np.float32),)
    corner = rng.uniform(-30, 120, (30, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(3, 6, (30, 2)))], -1).astype(np.float32)
    arguments = boxes, np.zeros(30, int), (3, 5)
    settings = dict(spatial_scales=SCALES[:1], sampling_ratio=0, aligned=True)
    side = tile_order.TILE * tiles_tpu.ACROSS
    # The weights of seven blocks with 3 x 8 bins, which do not share thirty regions evenly.
    batch_bytes = 4 * side**2 * 24 * 7

    @jax.jit
    def batches(maps):
        regions = make_regions(*arguments, *settings.values(), [maps[0].shape[:2]])
        (top, bottom), (left, right) = regions.rows.span(), regions.columns.span()
        long = (bottom - top >= side) | (right - left >= side)
        maps = tuple(f[None] for f in maps)
        (pooled,) = tiles_tpu.pool(maps, (regions,), batch_bytes=batch_bytes)
        gradient = tiles_tpu.spread(maps, (regions,), (wave(pooled),), batch_bytes=batch_bytes // 200)
        return pooled, tuple(g[0] for g in gradient), long

    *found, long = batches(maps)
    assert 8 < long.sum() < 22  # more than one batch of them
    reference = lambda maps: ops.multilevel_roi_align(  # noqa: E731
        maps, *arguments, implementation="reference", **settings
    )
    assert_equal(*found, *both(reference, maps))


@pytest.mark.parametrize("implementation", list(api.IMPLEMENTATIONS))
@pytest.mark.slow
def test_bfloat16_is_summed_in_float32(implementation):
    features = jnp.asarray(np.random.default_rng(0).normal(size=(40, 40, 4)), jnp.bfloat16)
    boxes = jnp.array([[2.0, 3, 35, 30], [8, 8, 12, 20]])
    ratio = 0 if api.IMPLEMENTATIONS[implementation].adaptive else 2

    def pool(features):
        return ops.roi_align(
            features, boxes, 2, sampling_ratio=ratio, aligned=True, implementation=implementation
        )

    pooled, pullback = jax.vjp(jax.jit(pool), features)
    exact, exact_pullback = jax.vjp(jax.jit(pool), features.astype(jnp.float32))
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled, exact.astype(jnp.bfloat16))
    (gradient,), (expected,) = pullback(pooled), exact_pullback(pooled.astype(jnp.float32))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, expected.astype(jnp.bfloat16))


def test_the_gradient_is_added_in_place():
    # Nothing is run. The gradient takes 69 MB; a copy of it would double that.
    features = jax.ShapeDtypeStruct((200, 336, 256), jnp.float32)
    boxes, bins = (
        jax.ShapeDtypeStruct((512, 4), jnp.float32),
        jax.ShapeDtypeStruct((512, 7, 7, 256), jnp.float32),
    )

    def gradient(features, boxes, bins):
        return jax.vjp(lambda f: ops.roi_align(f, boxes, 7, sampling_ratio=2), features)[1](bins)

    memory = jax.jit(gradient).lower(features, boxes, bins).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 5e6


def test_a_wrong_implementation_is_named():
    features, boxes = jnp.ones((4, 4, 1)), jnp.ones((1, 4))
    with pytest.raises(ValueError, match='\'tiles\'; choose "gather", .*"reference" or None'):
        ops.roi_align(features, boxes, 2, implementation="tiles")
    with pytest.raises(ValueError, match="'gather_at_once' needs a fixed number of samples"):
        ops.roi_align(features, boxes, 2, sampling_ratio=0, implementation="gather_at_once")


def test_the_package_does_not_hide_the_function():
    """``ops.roi_align`` is the function, whatever part of the package of that name is imported."""
    for part in ("", ".api", ".reference"):
        importlib.import_module(f"jaxmaskrcnn.ops.roi_align{part}")
    assert ops.roi_align is api.roi_align
    assert ops.roi_align(jnp.ones((4, 4, 1)), jnp.array([[0.0, 0, 2, 2]]), 1).shape == (1, 1, 1, 1)
