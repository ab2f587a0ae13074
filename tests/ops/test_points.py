"""Values of maps at points against a plain definition, and the choice of points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.ops.points import (
    grid_points,
    points_in_boxes,
    sample_map,
    sample_masks,
    sample_region_maps,
)
from jaxmaskrcnn.ops.subdivision import subdivide, training_points, uncertain_points

RNG = np.random.default_rng(0)
# Inside, in the middle of a cell, on edges and corners, half a cell outside and far away.
POINTS = np.float32([
    [1.3, 2.7], [0.5, 0.5], [2.5, 3.5], [0, 0], [5, 4], [5, 0.2], [-0.4, 1], [2.2, 4.45], [-30, 2], [4.9, 99],
])  # fmt: skip


def plain(values, points, inside=None):
    """Each of the four cells around a point, by the share that is left to the others; zero outside."""
    height, width = inside or values.shape[:2]
    found = np.zeros((len(points), *values.shape[2:]))
    for i, (x, y) in enumerate(np.float64(points)):
        for row in (int(np.floor(y - 0.5)), int(np.floor(y - 0.5)) + 1):
            for column in (int(np.floor(x - 0.5)), int(np.floor(x - 0.5)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    weight = (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
                    found[i] += weight * values[row, column]
    return found


@pytest.mark.parametrize("inside", [None, (3, 4)])
def test_values_of_a_map(inside):
    features = RNG.normal(size=(4, 5, 3)).astype(np.float32)
    ours = sample_map(features, POINTS, inside and jnp.array(inside))
    np.testing.assert_allclose(ours, plain(features, POINTS, inside), atol=1e-5)


def test_values_of_masks():
    masks = RNG.random((3, 4, 19)) > 0.5  # three bytes a row
    index = np.array([2, 0, 2])
    points = np.stack([POINTS * [s, 1] for s in (1, 3, 3.7)]).astype(np.float32)
    ours = sample_masks(pack_masks(masks), 19, jnp.asarray(index), points)
    expected = [plain(masks[i].astype(float), p) for i, p in zip(index, points, strict=True)]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    short = sample_masks(pack_masks(masks), 19, jnp.asarray(index), points, jnp.array([3, 16]))
    expected = [plain(masks[i].astype(float), p, (3, 16)) for i, p in zip(index, points, strict=True)]
    np.testing.assert_allclose(short, expected, atol=1e-5)


def test_values_of_regions_maps_and_their_gradient():
    """The product with weights is the gather of `sample_map`, and so is its gradient."""
    maps = RNG.normal(size=(2, 7, 7, 3)).astype(np.float32)
    points = RNG.random((2, 30, 2)).astype(np.float32)
    points[0, :4] = [[0, 0], [1, 1], [0.5, 0.5], [1 / 14, 1]]
    factors = RNG.normal(size=(2, 30, 3)).astype(np.float32)

    def by_product(maps):
        return (factors * sample_region_maps(maps, points)).sum()

    def by_gather(maps):
        return (factors * jax.vmap(sample_map)(maps, jnp.asarray(points) * 7)).sum()

    values = sample_region_maps(maps, points)
    expected = [plain(m, p * 7) for m, p in zip(maps, points, strict=True)]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(
        jax.jit(jax.grad(by_product))(maps), jax.jit(jax.grad(by_gather))(maps), atol=1e-5
    )


def test_points_of_boxes():
    points = points_in_boxes(jnp.stack([grid_points(2)] * 2), jnp.array([[0.0, 0, 4, 8], [-2, 1, 2, 3]]))
    expected = [[[1, 2], [3, 2], [1, 6], [3, 6]], [[-1, 1.5], [1, 1.5], [-1, 2.5], [1, 2.5]]]
    np.testing.assert_array_equal(points, expected)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="sample_region_maps: maps"):
        sample_region_maps(np.zeros((2, 7, 6, 3)), np.zeros((2, 5, 2)))
    with pytest.raises(ValueError, match="sample_masks"):
        sample_masks(np.zeros((1, 4, 4)), 4, jnp.zeros(1, int), np.zeros((1, 5, 2)))


@pytest.mark.slow
def test_points_of_training():
    """Most are the least certain ones of those that are drawn, whatever the other regions are."""
    ramp = np.linspace(-3, 3, 7, dtype=np.float32)
    logits = np.stack(
        [np.tile(ramp, (7, 1)), np.tile(ramp[:, None], (1, 7)), np.full((7, 7), 2.0, np.float32)]
    )
    draw = jax.jit(training_points, static_argnames=("count", "oversampling", "importance"))
    options = {"count": 40, "oversampling": 3.0, "importance": 0.75}
    points = np.asarray(draw(jax.random.key(3), logits, **options))
    assert points.shape == (3, 40, 2) and (points >= 0).all() and (points < 1).all()
    # 30 of 120 uniform points: those at most an eighth from the edge, or a little more, and some at the
    # border, where values tend to zero.
    near = np.quantile(abs(points[[0, 1], :30, [0, 1]] - 0.5), 0.8, axis=1)
    assert (near < 0.18).all()
    assert abs(points[0, 30:, 0] - 0.5).max() > 0.25
    assert points[0, :30, 1].std() > 0.2  # along the edge they are anywhere
    fewer = np.asarray(draw(jax.random.key(3), logits[:2], **options))
    np.testing.assert_array_equal(fewer, points[:2])
    assert not (np.asarray(draw(jax.random.key(4), logits, **options)) == points).any()
    np.testing.assert_array_equal(points[0, :30], uncertain_points(logits[:1], points[:1, :30], 30)[0])


def disk(points):
    """Logits of disks, whose edges are between cells."""
    sizes = jnp.array([0.31, 0.44])[:, None]
    return 9 * (sizes - jnp.linalg.norm(points - 0.5, axis=-1))


@pytest.mark.slow
def test_subdivision():
    """With enough points, all cells near the edge are predicted and the others have its sign."""
    points = jnp.broadcast_to(grid_points(32), (2, 1024, 2))
    exact = np.asarray(disk(points)).reshape(2, 32, 32)
    run = jax.jit(lambda count: subdivide(disk, (8, 16, 32), count, regions=2), static_argnums=0)
    np.testing.assert_allclose(run(1024), exact, atol=1e-5)
    few = np.asarray(run(150))
    np.testing.assert_array_equal(few > 0, exact > 0)
    same = np.abs(few - exact) < 1e-5
    assert (
        not same.all() and same.sum((1, 2)).min() >= 150
    )  # the cells farthest from the edge are interpolated
    from_zeros = subdivide(disk, (8, 16), 256, jnp.zeros((2, 8, 8)))
    every = disk(jnp.broadcast_to(grid_points(16), (2, 256, 2))).reshape(2, 16, 16)
    np.testing.assert_allclose(from_zeros, every, atol=1e-5)
