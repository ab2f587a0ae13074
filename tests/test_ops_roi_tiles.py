"""RoIAlign by tiles, as CPUs compute it, against the sums of taps that every other device computes."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops import roi_tiles

roi_align = importlib.import_module("jaxmaskrcnn.ops.roi_align")  # the package has a function of this name


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


@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), (2, False)])
def test_pooling_and_its_gradient(ratio, aligned, monkeypatch):
    maps, boxes, levels = example()
    sizes = np.array([[[41, 30], [13, 50], [7, 5]], [[30, 29], [13, 31], [6, 5]]])

    def pool(maps, boxes, levels, sizes):
        return ops.multilevel_roi_align(
            maps, boxes, levels, (3, 5), spatial_scales=np.array([1 / 4, 1 / 8, 1 / 16]),
            sampling_ratio=ratio, aligned=aligned, feature_sizes=sizes,
        )  # fmt: skip

    def run():
        pooled, pullback = jax.vjp(lambda maps: jax.vmap(pool)(maps, boxes, levels, sizes), maps)
        return pooled, pullback(jnp.sin(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape))[0]

    pooled, gradient = jax.jit(run)()
    monkeypatch.setattr(roi_tiles, "pool", roi_align.sum_taps)
    monkeypatch.setattr(roi_tiles, "spread", roi_align.spread_taps)
    expected, expected_gradient = jax.jit(lambda: run())()
    assert (abs(expected).max((2, 3, 4)) > 0.1).mean() > 0.6
    np.testing.assert_allclose(pooled, expected, atol=2e-6)
    for got, wanted in zip(gradient, expected_gradient, strict=True):
        assert abs(wanted).max() > 0.1
        np.testing.assert_allclose(got, wanted, atol=3e-6)


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
