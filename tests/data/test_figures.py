"""Generated figures: the same every time, with masks and keypoints that fit each other."""

import json

import numpy as np
from PIL import Image

from jaxmaskrcnn.data import prepare, write_figures
from jaxmaskrcnn.data.figures import POINTS, SKELETON, draw_figures
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations


def test_keypoints_that_are_seen_are_in_the_mask_and_left_is_on_the_right():
    hidden = 0
    for seed in range(12):
        image, masks, keypoints = draw_figures(np.random.default_rng(seed), 96)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        assert masks.any((1, 2)).all() and (masks.sum(0) <= 1).all()
        assert keypoints.shape == (len(masks), len(POINTS), 3)
        for mask, points in zip(masks, keypoints, strict=True):
            rows = points[points[:, 2] == 2]
            assert mask[rows[:, 1].astype(int), rows[:, 0].astype(int)].all()
            covered = points[points[:, 2] == 1]
            hidden += len(covered)
            assert not mask[covered[:, 1].astype(int), covered[:, 0].astype(int)].any()
            assert not points[points[:, 2] == 0].any()
            left, right = (points[POINTS.index(f"{side}_shoulder")] for side in ("left", "right"))
            if left[2] and right[2]:
                assert left[0] > right[0]
    assert hidden


def test_a_data_set_is_complete_and_reproducible(tmp_path):
    annotations, images = write_figures(tmp_path / "a", 5, 64, seed=3)
    again, other = write_figures(tmp_path / "b", 5, 64, seed=3)
    assert annotations.read_bytes() == again.read_bytes()
    for path in images.iterdir():
        np.testing.assert_array_equal(Image.open(path), Image.open(other / path.name))
    assert write_figures(tmp_path / "a", 5, 64, seed=3)[0] == annotations
    found = inspect_annotations(annotations, images)
    assert not found.problems and not found.annotations.notes
    assert found.summary["keypoints"]["names"] == list(POINTS)
    source = prepare(annotations, images, tmp_path / "cache", keypoints=True)
    assert source.skeleton.lines == SKELETON and source.counts["keypoint_counts"].min() > 0
    assert json.loads(annotations.read_text())["categories"][0]["name"] == "figure"
