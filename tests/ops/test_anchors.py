"""Anchors against torchvision's and against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
from folders import GOLDENS

from jaxmaskrcnn import ops

GOLDEN = np.load(GOLDENS / "torchvision_ops_boxes.npz")
RATIOS = (0.5, 1.0, 2.0)


def test_rounded_base_anchors():
    np.testing.assert_array_equal(
        ops.base_anchors(32, RATIOS, True), [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
    corners = [ops.base_anchors(size, RATIOS, True)[0, 2:].tolist() for size in (64, 128, 256, 512)]
    assert corners == [[45, 23], [91, 45], [181, 91], [362, 181]]
    # half to even: 12.5 -> 12, 13.5 -> 14
    assert ops.base_anchors(25, (1.0,), True)[0, 2] == 12
    assert ops.base_anchors(27, (1.0,), True)[0, 2] == 14


def test_unrounded_base_anchors_keep_area_and_ratio():
    for size in (32, 512):
        base = ops.base_anchors(size, RATIOS, False)
        assert base.dtype == np.float32
        w, h = base[:, 2] - base[:, 0], base[:, 3] - base[:, 1]
        np.testing.assert_allclose(w * h, size**2, rtol=1e-6)
        np.testing.assert_allclose(h / w, RATIOS, rtol=1e-6)
        np.testing.assert_array_equal(base[:, :2], -base[:, 2:])
    # Detectron2 computes sqrt(area / ratio) in float64 and stores float32.
    assert ops.base_anchors(32, (0.5,), False)[0, 2] == np.float32(np.sqrt(32.0**2 / 0.5) / 2)


def test_pyramid_equals_torchvision_with_derived_strides():
    sizes = GOLDEN["anchor_feature_sizes"]
    anchors = [
        ops.grid_anchors(ops.base_anchors(32 * 2**i, RATIOS, True), (h, w), (96 // h, 160 // w))
        for i, (h, w) in enumerate(sizes.tolist())
    ]
    assert 160 // sizes[-1, 1] == 53
    np.testing.assert_array_equal(np.concatenate(anchors), GOLDEN["anchors"])


def test_order_and_centres_against_a_loop():
    base = ops.base_anchors(20, (0.5, 2.0), False)
    expected = [
        base[a] + np.array([j * 7, i * 5, j * 7, i * 5]) for i in range(3) for j in range(4) for a in range(2)
    ]
    np.testing.assert_allclose(ops.grid_anchors(base, (3, 4), (5, 7)), np.stack(expected), rtol=1e-6)


def test_traced_strides_under_vmap():
    base = ops.base_anchors(20, RATIOS, True)
    strides = jnp.array([[4, 4], [61, 64]])
    anchors = jax.jit(jax.vmap(lambda stride: ops.grid_anchors(base, (3, 4), stride)))(strides)
    assert anchors.dtype == jnp.float32
    np.testing.assert_array_equal(anchors[1], ops.grid_anchors(base, (3, 4), (61, 64)))
