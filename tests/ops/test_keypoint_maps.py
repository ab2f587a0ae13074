"""Keypoints from heat-maps, and back, against plain NumPy loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.ops.keypoints import cubic_matrix, decode_keypoints, double_bilinear, keypoint_cells


def cubic_value(row, position):
    """Bicubic interpolation of one value (Keys, a = -0.75), tap by tap."""
    a, first, value = -0.75, math.floor(position), 0.0
    for tap in range(first - 1, first + 3):
        x = abs(position - tap)
        if x <= 1:
            weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
        else:
            weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        value += weight * row[min(max(tap, 0), len(row) - 1)]
    return value


@pytest.mark.parametrize("sizes", [(56, 1), (56, 7), (56, 143), (5, 56), (3, 3)])
def test_cubic_matrix_is_an_interpolation_of_every_value(sizes):
    row = np.random.default_rng(0).normal(size=sizes[0])
    expected = [cubic_value(row, (i + 0.5) * sizes[0] / sizes[1] - 0.5) for i in range(sizes[1])]
    np.testing.assert_allclose(cubic_matrix(*sizes) @ row, expected, rtol=0, atol=1e-12)


def plain_decoding(values, box):
    """x, y and logit of one map by the definition: every pixel of the box is interpolated."""
    width, height = max(box[2] - box[0], 1), max(box[3] - box[1], 1)
    columns, rows = math.ceil(width), math.ceil(height)
    best = (-math.inf, 0, 0)
    for i in range(rows):
        y = (i + 0.5) * len(values) / rows - 0.5
        row = [cubic_value(values[:, j], y) for j in range(values.shape[1])]
        for j in range(columns):
            value = cubic_value(row, (j + 0.5) * len(row) / columns - 0.5)
            if value > best[0]:  # the first one of equal values
                best = (value, i, j)
    value, i, j = best
    return box[0] + (j + 0.5) * width / columns, box[1] + (i + 0.5) * height / rows, value


@pytest.mark.parametrize(
    "box",
    [
        (3.0, 5.0, 23.5, 18.25),
        (3.0, 5.0, 3.25, 40.5),  # narrower than a pixel
        (7.5, 7.5, 8.25, 8.0),  # one pixel
        (2.0, 3.0, 10.0, 9.0),  # whole pixels
    ],
)
def test_decoding_is_the_definition(box):
    maps = np.random.default_rng(1).normal(size=(2, 9, 9)).astype(np.float32)
    found = decode_keypoints(maps[None], np.float32([box]), "logit")[0]
    expected = [plain_decoding(values.astype(float), box) for values in maps]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_the_first_of_two_equal_maxima():
    maps = np.zeros((1, 1, 4, 4))
    maps[0, 0, 2, 0] = maps[0, 0, 0, 3] = 5
    found = decode_keypoints(maps, np.float32([[0, 0, 4, 4]]), "logit")[0, 0]
    assert found.tolist() == [3.5, 0.5, 5.0]  # the upper row comes first


def test_softmax_score_is_relative_to_the_map_before_it_is_resized():
    maps = np.random.default_rng(2).normal(scale=3, size=(1, 3, 7, 7))
    box = np.float32([[1, 2, 30, 41]])
    logit, score = (decode_keypoints(maps, box, name)[0, :, 2] for name in ("logit", "softmax"))
    expected = [np.exp(top) / np.exp(values).sum() for top, values in zip(logit, maps[0], strict=True)]
    np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_corners_of_a_large_box():
    maps = np.zeros((1, 4, 56, 56), np.float32)
    for k, (i, j) in enumerate([(0, 0), (0, 55), (55, 0), (55, 55)]):
        maps[0, k, i, j] = 9
    found = decode_keypoints(maps, np.float32([[10, 20, 210, 120]]), "logit")[0]
    near = np.float32([[10, 20], [210, 20], [10, 120], [210, 120]])
    # The cell's own part of the box is 3.6 x 1.8 pixels.
    assert (np.abs(found[:, :2] - near) <= [3.6, 1.8]).all()


def test_unknown_score():
    with pytest.raises(ValueError, match="score is 'best'; choose one of logit, softmax"):
        decode_keypoints(np.zeros((1, 1, 2, 2)), np.zeros((1, 4)), "best")


def test_no_regions():
    assert decode_keypoints(np.zeros((0, 17, 56, 56)), np.zeros((0, 4)), "logit").shape == (0, 17, 3)


def test_bilinear_enlargement_is_jax_image_resize():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 7, 3)))
    expected = jax.image.resize(x, (2, 10, 14, 3), "bilinear")
    np.testing.assert_allclose(double_bilinear(x), expected, rtol=1e-5, atol=1e-6)


def plain_cell(point, box, side):
    """Detectron2's and torchvision's rule for one keypoint; None if it has no cell."""
    x, y, visibility = point
    x1, y1, x2, y2 = box
    column = side - 1 if x == x2 else math.floor((x - x1) * (side / (x2 - x1)))
    row = side - 1 if y == y2 else math.floor((y - y1) * (side / (y2 - y1)))
    inside = 0 <= column < side and 0 <= row < side and visibility > 0
    return row * side + column if inside else None


def test_cells():
    rng = np.random.default_rng(4)
    corner = rng.integers(0, 20, (40, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 30, (40, 2))], 1).astype(np.float32)
    points = np.concatenate([rng.integers(0, 50, (40, 6, 2)), rng.integers(0, 3, (40, 6, 1))], 2)
    points[:, 0, :2], points[:, 0, 2] = boxes[:, 2:], 1  # the lower right corner is in the last cell
    points[:, 1, :2], points[:, 1, 2] = boxes[:, :2], 2
    cells, inside = jax.jit(keypoint_cells, static_argnums=2)(points.astype(np.float32), boxes, 8)
    expected = [[plain_cell(p, b, 8) for p in row] for row, b in zip(points, boxes, strict=True)]
    assert [[None if e is None else True for e in row] for row in expected] == [
        [x or None for x in row] for row in inside.tolist()
    ]
    assert cells.tolist() == [[e or 0 for e in row] for row in expected]
    assert inside[:, :2].all() and not inside.all()


def test_a_region_without_a_size_has_no_cells():
    cells, inside = keypoint_cells(jnp.array([[[0.0, 0.0, 2.0]]]), jnp.zeros((1, 4)), 56)
    assert not inside.any() and not cells.any()
