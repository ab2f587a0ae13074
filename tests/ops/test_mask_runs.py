"""Pasted masks as runs against the pixels of `paste_mask_windows`."""

import numpy as np
import pytest

from jaxmaskrcnn.ops.masks import RunWindows, mask_runs, paste_mask_windows
from jaxmaskrcnn.ops.masks.paste import PASTE_RULES
from jaxmaskrcnn.ops.masks.runs import _LINES


def random_boxes(rng, count, height, width):
    corner = rng.uniform([-0.2 * width, -0.2 * height], [width, height], (count, 2))
    side = np.exp(rng.uniform(np.log(0.5), np.log(1.5 * height), (count, 2)))
    boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
    boxes[0] = [5, 5, 5, 5]  # empty
    boxes[1] = [np.nan, 0, 3, 3]
    boxes[2] = [10, 10, 4, 4]  # inverted
    boxes[3] = [-1e9, -1e9, 1e9, 1e9]  # all pixels are at nearly one position
    boxes[4] = [0, 0, width, height]
    boxes[5] = [-50, -50, -20, -20]  # outside
    boxes[6] = np.round(boxes[6])
    boxes[7] = [1e9, 1e9, 2e9, 2e9]
    return boxes


def random_probs(rng, kind, count, side):
    if kind == "noise":
        return rng.random((count, side, side)).astype(np.float32)
    if kind == "disc":
        y, x = np.mgrid[:side, :side] + 0.5 - side / 2
        radius = rng.uniform(0, side / 2, (count, 1, 1))
        return (1 / (1 + np.exp(np.hypot(x, y) - radius))).astype(np.float32)
    if kind == "constant":  # rounding decides everywhere
        return np.full((count, side, side), 0.5, np.float32)
    return (rng.integers(0, 3, (count, side, side)) / 2).astype(np.float32)  # on the threshold


def full_mask(window, corner, size):
    mask = np.zeros(size, bool)
    mask[corner[0] : corner[0] + window.shape[0], corner[1] : corner[1] + window.shape[1]] = window
    return mask


@pytest.mark.parametrize("convention", PASTE_RULES)
@pytest.mark.parametrize("kind", ["noise", "disc", "constant", "steps"])
def test_runs_cover_the_pixels_of_the_thresholded_windows(convention, kind):
    rng = np.random.default_rng(0)
    seen = 0
    for height, width, side in ((97, 131, 28), (45, 61, 7), (33, 40, 1)):
        size, probs = (height, width), random_probs(rng, kind, 20, side)
        boxes = random_boxes(rng, 20, height, width)
        probs[8, 0, 0] = np.nan
        windows = list(paste_mask_windows(probs, boxes, size, convention=convention))
        for threshold, strict in ((0.5, True), (0.5, False), (0.0, False), (-1.0, True)):
            expected = [
                full_mask(w > threshold if strict else w >= threshold, corner, size) for w, corner in windows
            ]
            for rows in (False, True):
                runs = mask_runs(
                    probs, boxes, size, threshold, strict=strict, convention=convention, rows=rows
                )
                for i, mask in enumerate(expected):
                    found = np.zeros(height * width, bool)
                    own = slice(*runs.splits[i : i + 2])
                    for start, end in zip(runs.starts[own], runs.ends[own], strict=True):
                        assert not found[start:end].any() and end > start
                        found[start:end] = True
                    found = found.reshape(size) if rows else found.reshape(width, height).T
                    np.testing.assert_array_equal(found, mask)
                    seen += mask.any() and not mask.all()
            for mask, (window, corner) in zip(expected, RunWindows(runs, width), strict=True):
                np.testing.assert_array_equal(full_mask(window, corner, size), mask)
    assert seen > 50


def test_more_lines_than_are_computed_at_a_time():
    rng = np.random.default_rng(1)
    size = (40, _LINES + 300)
    boxes, probs = np.float32([[3, 2, _LINES + 250, 38]] * 3), random_probs(rng, "disc", 3, 14)
    runs = mask_runs(probs, boxes, size, 0.5, strict=True)
    for i, (window, corner) in enumerate(paste_mask_windows(probs, boxes, size)):
        own = slice(*runs.splits[i : i + 2])
        assert (runs.ends[own] - runs.starts[own]).sum() == (window > 0.5).sum() > 0
        assert (np.diff(runs.starts[own]) > 0).all()
        assert runs.starts[own][0] // 40 >= corner[1]


def test_no_masks_have_no_runs():
    runs = mask_runs(np.zeros((0, 28, 28)), np.zeros((0, 4)), (10, 12), 0.5, strict=True)
    assert len(runs.starts) == len(runs.ends) == 0 and runs.splits.tolist() == [0]
    assert len(RunWindows(runs, 12)) == 0
    with pytest.raises(ValueError, match="mask_runs: "):
        mask_runs(np.zeros((1, 28, 27)), np.zeros((1, 4)), (10, 12), 0.5, strict=True)
