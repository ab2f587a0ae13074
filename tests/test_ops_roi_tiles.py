"""RoIAlign by tiles and by all taps at once, as each platform computes it, against the sums of taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops import roi_gather, roi_tile_batches, roi_tiles

BY_TAP = roi_gather.sum_taps, roi_gather.spread_taps
WAYS = {
    "tiles": (roi_tiles.pool, roi_tiles.spread),
    "batches of tiles": (roi_tile_batches.pool, roi_tile_batches.spread),
    "all taps at once": (roi_gather.sum_taps_at_once, roi_gather.spread_taps_at_once),
}


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


@pytest.mark.parametrize(
    ("way", "ratio", "aligned"),
    [("tiles", 0, True), ("tiles", 2, False), ("batches of tiles", 0, True), ("all taps at once", 2, False)],
)
def test_pooling_and_its_gradient(way, ratio, aligned, monkeypatch):
    maps, boxes, levels = example()
    sizes = np.array([[[41, 30], [13, 50], [7, 5]], [[30, 29], [13, 31], [6, 5]]])
    # Several batches, of which the last one is not full.
    monkeypatch.setattr(roi_tile_batches, "_BATCH_BYTES", 4 * roi_tile_batches.TILE**2 * 3 * 17)

    def pool(maps, boxes, levels, sizes):
        return ops.multilevel_roi_align(
            maps, boxes, levels, (3, 5), spatial_scales=np.array([1 / 4, 1 / 8, 1 / 16]),
            sampling_ratio=ratio, aligned=aligned, feature_sizes=sizes,
        )  # fmt: skip

    def run(pool_regions, spread):
        # What a CPU takes is replaced by what another platform takes.
        monkeypatch.setattr(roi_tiles, "pool", pool_regions)
        monkeypatch.setattr(roi_gather, "sum_taps", pool_regions)
        monkeypatch.setattr(roi_tiles, "spread", spread)

        def both():
            pooled, pullback = jax.vjp(lambda maps: jax.vmap(pool)(maps, boxes, levels, sizes), maps)
            wave = jnp.sin(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape)
            return pooled, pullback(wave)[0]

        return jax.jit(both)()

    pooled, gradient = run(*WAYS[way])
    expected, expected_gradient = run(*BY_TAP)
    assert (abs(expected).max((2, 3, 4)) > 0.1).mean() > 0.6
    np.testing.assert_allclose(pooled, expected, atol=2e-6)
    for got, wanted in zip(gradient, expected_gradient, strict=True):
        assert abs(wanted).max() > 0.1
        np.testing.assert_allclose(got, wanted, atol=3e-6)


@pytest.mark.parametrize("way", list(WAYS))
def test_bfloat16_is_summed_in_float32(way, monkeypatch):
    features = jnp.asarray(np.random.default_rng(0).normal(size=(40, 40, 4)), jnp.bfloat16)
    boxes, ratio = jnp.array([[2.0, 3, 35, 30], [8, 8, 12, 20]]), 2 if way == "all taps at once" else 0
    for name, function in zip(("pool", "spread"), WAYS[way], strict=True):
        monkeypatch.setattr(roi_tiles, name, function)
    monkeypatch.setattr(roi_gather, "sum_taps", WAYS[way][0])

    def pool(features):
        return ops.roi_align(features, boxes, 2, sampling_ratio=ratio, aligned=True)

    pooled, pullback = jax.vjp(pool, features)
    exact, exact_pullback = jax.vjp(pool, features.astype(jnp.float32))
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
