"""The generated data set."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.data import prepare, shapes, write_shapes
from jaxmaskrcnn.errors import UserError


def test_written_set_is_good_coco_data(tmp_path, caplog):
    annotations, images = write_shapes(tmp_path, 12, 64, seed=3)
    with caplog.at_level(logging.WARNING):
        source = prepare(annotations, images, tmp_path / "cache")
    assert not caplog.records and source.skipped == {}
    assert [c.name for c in source.categories] == ["circle", "square", "triangle"]
    assert {name.split(".")[1] for name in source.file_names} == {"png", "jpg"}
    assert set(source.object_counts) <= set(range(1, 6)) and len(set(source.object_counts)) > 2
    for i in range(12):
        _, masks, labels = shapes.draw_scene(np.random.default_rng([3, i]), 64)
        example = source[i]
        np.testing.assert_array_equal(example.masks(), masks)
        np.testing.assert_array_equal(example.labels, labels)
        for mask, (x1, y1, x2, y2), area in zip(masks, example.boxes.astype(int), example.areas, strict=True):
            assert mask[y1:y2, x1:x2].sum() == mask.sum() == area
            assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()


def test_masks_are_the_visible_parts_of_distinct_objects():
    overlaps = 0
    for seed in range(40):
        image, masks, labels = shapes.draw_scene(np.random.default_rng(seed), 96)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8 and len(masks) == len(labels) >= 1
        assert masks.sum(axis=0).max() == 1  # what is hidden belongs to the one in front alone
        assert (masks.sum(axis=(1, 2)) >= 20).all()
        # A mask shows in the image: its colour stands out from just outside of it somewhere.
        for mask in masks:
            inside = image[mask].astype(float).mean(axis=0)
            background = image[~masks.any(axis=0)].astype(float).mean(axis=0)
            assert np.abs(inside - background).max() > 20
        circle = masks[labels == 0]
        overlaps += sum(m.sum() < 0.95 * _hull_area(m) for m in circle)
    assert overlaps > 0


def _hull_area(mask):
    """Area of the ellipse in the mask's bounding box: that of a whole circle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.pi / 4 * (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)


def test_outlines_have_the_area_of_their_shape():
    centre, radius = np.array([100.0, 100.0]), 60.0
    areas = [np.pi, 2.0, 3 * np.sqrt(3) / 4]  # of the unit circle and its inscribed polygons
    for label, area in enumerate(areas):
        for angle in (0.0, 0.4, 2.0):
            outline = shapes._outline(label, centre, radius, angle, 200)
            np.testing.assert_allclose(outline.sum(), area * radius**2, rtol=0.025)


def test_seeds_and_prefixes(tmp_path):
    a, images_a = write_shapes(tmp_path / "a", 4, 48, seed=0)
    b, images_b = write_shapes(tmp_path / "b", 6, 48, seed=0)
    c, images_c = write_shapes(tmp_path / "a", 4, 48, seed=1)
    first = json.loads(a.read_text())["annotations"]
    assert json.loads(b.read_text())["annotations"][: len(first)] == first
    assert json.loads(c.read_text())["annotations"][: len(first)] != first
    for name in ("000000.png", "000003.jpg"):
        assert (images_a / name).read_bytes() == (images_b / name).read_bytes()
        assert (images_a / name).read_bytes() != (images_c / name).read_bytes()


def test_a_complete_set_is_used_again_and_a_broken_one_never_appears(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)  # stands for Ctrl-C at that moment
        with pytest.raises(KeyboardInterrupt):
            write_shapes(tmp_path, 3, 48, seed=0)
    assert list(tmp_path.iterdir()) == []
    first = write_shapes(tmp_path, 3, 48, seed=0)
    before = first[0].stat().st_mtime_ns
    assert write_shapes(tmp_path, 3, 48, seed=0) == first
    assert first[0].stat().st_mtime_ns == before


def test_impossible_sets():
    for count, size in ((0, 64), (3, 16)):
        with pytest.raises(UserError, match=f"{count} images of {size} pixels"):
            write_shapes("nowhere", count, size, seed=0)
