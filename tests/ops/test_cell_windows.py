"""Windows of cells, in every implementation, against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.derivatives import every_derivative
from jaxmaskrcnn.ops.roi_align.api import IMPLEMENTATIONS, pool_lists
from jaxmaskrcnn.ops.roi_align.windows import cell_windows

SIZES = ((9, 17), (5, 8), (1, 1))
OWN = np.array([[7, 15], [5, 6], [0, 1]])  # the last map has no cell that belongs to the image


def examples(channels=3):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(*size, channels)).astype(np.float32) for size in SIZES]
    levels = np.concatenate([np.full(h * w, level) for level, (h, w) in enumerate(SIZES)])
    cells = np.concatenate([np.stack(np.divmod(np.arange(h * w), w), -1) for h, w in SIZES])
    order = rng.permutation(len(levels))
    return maps, levels[order], cells[order]


def in_numpy(maps, levels, cells, reach):
    side = 2 * reach + 1
    windows = np.zeros((len(levels), side, side, maps[0].shape[-1]), np.float32)
    inside = np.zeros(windows.shape[:3], bool)
    for number, (level, (row, column)) in enumerate(zip(levels, cells, strict=True)):
        for i in range(side):
            for j in range(side):
                y, x = row + i - reach, column + j - reach
                if 0 <= y < OWN[level][0] and 0 <= x < OWN[level][1]:
                    windows[number, i, j], inside[number, i, j] = maps[level][y, x], True
    return windows, inside


def read(maps, levels, cells, reach, implementation):
    windows, inside = cell_windows(jnp.asarray(levels), jnp.asarray(cells), reach, jnp.asarray(OWN))
    return pool_lists(implementation, tuple(x[None] for x in maps), (windows,))[0], inside


@pytest.mark.parametrize("implementation", [None, *IMPLEMENTATIONS])
def test_windows_and_their_gradients(implementation):
    maps, levels, cells = examples()
    expected, known = in_numpy(maps, levels, cells, 1)
    cotangent = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)

    @jax.jit
    def both(maps):
        windows, pull, inside = jax.vjp(
            lambda maps: read(maps, levels, cells, 1, implementation), maps, has_aux=True
        )
        return windows, inside, pull(jnp.asarray(cotangent))[0]

    windows, inside, gradients = both([jnp.asarray(x) for x in maps])
    np.testing.assert_array_equal(inside, known)
    np.testing.assert_allclose(windows, expected, atol=1e-6)
    # What reads a number of a map with some weights has the weights' sum as its gradient.
    for level, gradient in enumerate(gradients):
        marked = [np.zeros((*size, 1), np.float32) for size in SIZES]
        marked[level] = 1.0 + np.arange(np.prod(SIZES[level]), dtype=np.float32).reshape(*SIZES[level], 1)
        cell = in_numpy(marked, levels, cells, 1)[0][..., 0].astype(int)
        sums = np.zeros((np.prod(SIZES[level]) + 1, 3), np.float32)
        np.add.at(sums, cell, cotangent)
        np.testing.assert_allclose(gradient, sums[1:].reshape(*SIZES[level], 3), atol=1e-5)


@pytest.mark.parametrize("reach", [0, 2])
def test_other_sides(reach):
    maps, levels, cells = examples()
    for found, expected in zip(
        read(maps, levels, cells, reach, None), in_numpy(maps, levels, cells, reach), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_forward_derivatives():
    maps, levels, cells = examples()
    maps = [jnp.asarray(x) for x in maps]

    def windows(maps):
        with every_derivative():
            return read(maps, levels, cells, 1, None)[0]

    found, moved = jax.jvp(windows, (maps,), (maps,))
    np.testing.assert_array_equal(found, in_numpy(maps, levels, cells, 1)[0])
    np.testing.assert_array_equal(moved, found)


def test_wrong_arguments():
    maps, levels, cells = examples()
    with pytest.raises(ValueError, match=r"cell_windows: cells has the shape \[194, 1\]; give it the shape"):
        read(maps, levels, cells[:, :1], 1, None)
    with pytest.raises(ValueError, match="cell_windows: reach is -1; give a whole number of at least 0"):
        read(maps, levels, cells, -1, None)
