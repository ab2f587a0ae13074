"""Flips, quarter turns and changes of pixels against torchvision and SciPy; transforms of the user's."""

import dataclasses

import numpy as np
import pytest
from data_helpers import annotation, content, random_set, same, write
from folders import GOLDENS
from test_augment import blobs, brute_mask, placed, random_geometry

from jaxmaskrcnn.config import ConfigError, DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.augment.pixels import DRAWS, PixelChange, blur, change_pixels, draw_change
from jaxmaskrcnn.data.augment.plan import turned
from jaxmaskrcnn.data.fields.pieces import MaskGrid, tighten
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError

GOLDEN = np.load(GOLDENS / "turns_and_pixels.npz")
IMAGE = GOLDEN["image"]
SIZE = IMAGE.shape[:2]
MODEL = ModelConfig().replace(
    {
        "num_classes": 3,
        "input.test_min_size": 32,
        "input.test_max_size": 64,
        "input.pad_divisor": 16,
        "input.normalise_before_resize": False,
        "input.resize_kernel": "pil",
    }
)
SIZES = [(24, 36), (36, 24), (32, 32), (24, 40)]


def config(**changes):
    return DataConfig(**({"batch_size": 2, "min_sizes": (24,), "max_size": 64, "flip": 0.0} | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("set")
    return prepare(*random_set(directory, SIZES), directory / "cache")


# -- geometry


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_turns_are_those_of_torchvision(flip, turns):
    geometry = Geometry((0, 0, *SIZE), 0.0, SIZE, flip, (0, 0, *SIZE), turns)
    name = f"{int(flip)}{turns}"
    assert geometry.result == GOLDEN[f"image_{name}"].shape[:2]
    np.testing.assert_allclose(geometry.boxes(GOLDEN["boxes"]), GOLDEN[f"boxes_{name}"], atol=1e-5)
    corners = geometry.points(GOLDEN["boxes"]).reshape(-1, 2, 2)
    corners = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)
    np.testing.assert_allclose(corners, GOLDEN[f"boxes_{name}"], atol=1e-5)
    if not flip:  # the library's flips, but not its turns, count keypoints from the centre of the first pixel
        np.testing.assert_allclose(geometry.points(GOLDEN["points"]), GOLDEN[f"points_{name}"], atol=1e-5)
    grid = MaskGrid(geometry, "pil")
    for channel in range(3):
        want = GOLDEN[f"image_{name}"][..., channel]
        np.testing.assert_array_equal(grid.whole(IMAGE[..., channel], 0), want)
        for value in (40, 200):
            piece = grid(tighten(0, 0, IMAGE[..., channel] > value))
            np.testing.assert_array_equal(placed(piece, geometry.result), want > value)


def test_a_vertical_flip_is_a_flip_and_half_a_turn():
    always = DataConfig(flip_vertical=1.0)
    flip, turns = turned(False, 0.3, 0.0, always)
    geometry = Geometry((0, 0, *SIZE), 0.0, SIZE, flip, (0, 0, *SIZE), turns)
    for channel in range(3):
        found = MaskGrid(geometry, "pil").whole(IMAGE[..., channel], 0)
        np.testing.assert_array_equal(found, GOLDEN["vertical"][..., channel])
    drawn = [turned(False, 0.9, u, DataConfig(quarter_turns=0.6)) for u in np.linspace(0, 0.999, 1000)]
    assert [sum(turns == k for _, turns in drawn) for k in range(4)] == [400, 200, 200, 200]
    both = DataConfig(flip_vertical=1.0, quarter_turns=1.0)
    assert [turned(True, 0.0, u, both) for u in (0.1, 0.5, 0.9)] == [(False, 3), (False, 0), (False, 1)]


@pytest.mark.parametrize("rotated", [False, True])
def test_turns_behind_all_other_transforms(rotated):
    rng = np.random.default_rng(0)
    for trial in range(24):
        size = [(40, 56), (31, 31), (9, 70)][trial % 3]
        plain = random_geometry(rng, size, turned=rotated)
        geometry = plain._replace(turns=trial % 4)
        grid = MaskGrid(geometry, "cv2")
        for mask in blobs(rng, 3, size):
            want = np.rot90(brute_mask(mask, plain, "cv2"), geometry.turns)
            assert geometry.result == want.shape
            np.testing.assert_array_equal(placed(grid(tighten(0, 0, mask)), want.shape), want)
        boxes = np.array([[2, 1, 7, 5]], np.float32)
        corners = geometry.points(np.array([[2, 1], [7, 1], [2, 5], [7, 5]]))
        want = np.concatenate([corners.min(0), corners.max(0)])
        np.testing.assert_allclose(geometry.boxes(boxes)[0], want, rtol=1e-5, atol=1e-4)


def test_batches_are_flipped_vertically(source, batches):
    plain = batches(source, MODEL, config(max_objects=8))
    flipped = batches(source, MODEL, config(max_objects=8, flip_vertical=1.0))
    for _ in range(4):
        a, b = next(plain), next(flipped)
        for i, (height, width) in enumerate(a.image_sizes):
            same(b.images[i, :height, :width], a.images[i, :height, :width][::-1])
            x1, y1, x2, y2 = np.moveaxis(a.targets.boxes[i][a.targets.valid[i]], -1, 0)
            np.testing.assert_allclose(
                b.targets.boxes[i][b.targets.valid[i]], np.stack([x1, height - y2, x2, height - y1], -1),
                atol=1e-4,
            )  # fmt: skip


def test_turned_images_keep_their_size(source, batches):
    plain, turning = (
        config(max_objects=8, batch_size=1),
        config(max_objects=8, batch_size=1, quarter_turns=1.0),
    )
    iterator = batches(source, MODEL, turning)
    assert all(height == width for height, width in iterator.plan.canvases)
    whole = {}
    for _ in range(4):
        batch = next(straight := whole.setdefault("plain", batches(source, MODEL, plain)))
        height, width = batch.image_sizes[0]
        whole[int(batch.index[0])] = batch.images[0, :height, :width]
    assert straight is whole.pop("plain")
    seen = set()
    for step in range(16):
        turns = iterator.plan(step).augment[0].image.geometry.turns
        batch = next(iterator)
        height, width = batch.image_sizes[0]
        seen.add(turns)
        same(batch.images[0, :height, :width], np.rot90(whole[int(batch.index[0])], turns))
    assert seen == {1, 2, 3}


def test_polygons_stay_polygons(tmp_path, batches):
    """They are turned exactly, while crops make bitmaps of them."""
    source = prepare(*write(tmp_path, content([annotation()])), tmp_path / "cache")
    model = MODEL.replace({"mask.targets": "polygon", "num_classes": 1})
    data = config(batch_size=1, min_sizes=(32,), flip_vertical=1.0, gain=0.2)
    targets = next(batches(source, model, data)).targets
    assert targets.masks is None
    want = [[2.0, 30.0], [20.0, 29.0], [10.0, 14.0], [2.0, 30.0]]
    assert targets.polygons[0, 0, :4, :2].tolist() == want
    assert next(batches(source, model, dataclasses.replace(data, crop=0.9))).targets.polygons is None


# -- pixels


def test_pixels_change_as_in_torchvision():
    for name, change in (("bright", PixelChange(gain=1.3)), ("gamma", PixelChange(gamma=1.7))):
        found = change_pixels(IMAGE, change)  # rounded once
        assert found.dtype == np.uint8
        assert np.abs(found - np.clip(255 * GOLDEN[name], 0, 255)).max() <= 0.5 + 1e-3
    assert change_pixels(IMAGE, PixelChange(offset=-7.0))[0, 0, 0] == max(int(IMAGE[0, 0, 0]) - 7, 0)
    assert change_pixels(IMAGE, PixelChange(seed=5)) is IMAGE


@pytest.mark.parametrize("deviation", [0.6, 2.0])
def test_blur_is_that_of_scipy(deviation):
    found = blur(IMAGE.astype(np.float32), deviation)
    np.testing.assert_allclose(found, GOLDEN[f"blur_{deviation}"], rtol=1e-5, atol=1e-4)
    constant = change_pixels(np.full_like(IMAGE, 90), PixelChange(blur=deviation))
    assert (constant == 90).all()


def test_noise_is_the_same_in_all_channels_and_has_its_deviation():
    grey = np.full((80, 90, 3), 128, np.uint8)
    found = change_pixels(grey, PixelChange(noise=12.0, seed=3)).astype(int)
    assert (found == found[..., :1]).all() and found.std() == pytest.approx(12, rel=0.03)
    same(found, change_pixels(grey, PixelChange(noise=12.0, seed=3)))


def test_changes_are_drawn_within_their_limits():
    assert draw_change(np.zeros(DRAWS), 0, 0, 0, 0, 0) is None
    low, high = (draw_change(np.full(DRAWS, u), 0.25, 9.0, 1.0, 3.0, 5.0) for u in (0.0, 1 - 1e-12))
    np.testing.assert_allclose(low[:5], (0.75, -9, 0.5, 0, 0), atol=1e-9)
    np.testing.assert_allclose(high[:5], (1.25, 9, 2.0, 3, 5), rtol=1e-9)


@pytest.mark.parametrize("setting", ["gain", "offset", "gamma", "blur", "noise"])
def test_each_setting_changes_batches(source, batches, setting):
    plain = next(batches(source, MODEL, config()))
    changed = next(batches(source, MODEL, config(**{setting: 0.9 if setting != "offset" else 9.0})))
    assert plain.images.shape == changed.images.shape and (plain.images != changed.images).any()
    same(plain.targets.boxes, changed.targets.boxes)


# -- a transform of the user's

TRANSFORMS = """
import numpy as np


def unchanged(sample, rng):
    return sample


def shifted(sample, rng):
    # Two pixels to the right, and the first object is left out.
    sample = sample.take(np.arange(len(sample.labels)) > 0)
    return sample._replace(
        image=np.roll(sample.image, 2, axis=1), boxes=sample.boxes + np.float32([2, 0, 2, 0]),
        masks=np.roll(sample.masks, 2, axis=2),
    )


def noisy(sample, rng):
    return sample._replace(image=rng.integers(0, 256, sample.image.shape, dtype=np.uint8))


def polygons(sample, rng):
    moved = [[polygon + (1.0, 2.0) for polygon in of_object] for of_object in sample.polygons]
    return sample._replace(polygons=moved, boxes=sample.boxes + np.float32([1, 2, 1, 2]))


def nothing(sample, rng):
    return None


def smaller(sample, rng):
    return sample._replace(image=sample.image[1:])


def fewer_boxes(sample, rng):
    return sample._replace(boxes=sample.boxes[1:])


def elsewhere(sample, rng):
    return sample._replace(origin=sample.origin + 99)
"""


@pytest.fixture(scope="module")
def transforms(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "transforms.py"
    path.write_text(TRANSFORMS)
    return lambda name: {"transform": f"{path}:{name}", "max_objects": 8}


def test_a_transform_that_changes_nothing(source, batches, transforms):
    plain, own = (
        batches(source, MODEL, config(max_objects=8)),
        batches(source, MODEL, config(**transforms("unchanged"))),
    )
    for _ in range(4):
        same(next(plain), next(own))


def test_a_transform_moves_image_boxes_and_masks(source, batches, transforms):
    model = MODEL.replace({"input.test_min_size": 24})
    plain = batches(source, model, config(batch_size=1, max_objects=8))
    own = batches(source, model, config(batch_size=1, **transforms("shifted")))
    compared = 0
    for _ in range(4):
        a, b = next(plain), next(own)
        if a.image_sizes[0].tolist() != a.original_sizes[0].tolist():
            continue  # resized
        count = a.targets.valid[0].sum()
        assert b.targets.valid[0].sum() <= count - 1
        same(b.images[0, :, 2 : a.image_sizes[0, 1]], a.images[0, :, : a.image_sizes[0, 1] - 2])
        compared += 1
    assert compared >= 2


def test_draws_of_a_transform_depend_on_the_step_alone(source, batches, transforms):
    data = config(**transforms("noisy"))
    whole = batches(source, MODEL, data)
    expected = [next(whole) for _ in range(3)]
    again = batches(source, MODEL, data, start_step=2)
    same(next(again), expected[2])
    corners = {batch.images[0, :8, :8].tobytes() for batch in expected}
    assert len(corners) == 3


def test_a_transform_of_polygons(tmp_path, batches, transforms):
    source = prepare(*write(tmp_path, content([annotation()])), tmp_path / "cache")
    model = MODEL.replace({"mask.targets": "polygon", "num_classes": 1})
    targets = next(
        batches(source, model, config(batch_size=1, min_sizes=(32,), **transforms("polygons")))
    ).targets
    assert targets.polygons[0, 0, :4, :2].tolist() == [[3.0, 4.0], [21.0, 5.0], [11.0, 20.0], [3.0, 4.0]]
    with pytest.raises(UserError, match="returns no polygons for its 1 labels"):
        path = tmp_path / "none.py"
        path.write_text("def none(sample, rng):\n    return sample._replace(polygons=None)\n")
        next(batches(source, model, config(batch_size=1, min_sizes=(32,), transform=f"{path}:none")))


@pytest.mark.parametrize(
    "name, said",
    [
        ("nothing", "returns NoneType; return a Sample"),
        ("smaller", "returns an image of uint8 .* for one of uint8"),
        ("fewer_boxes", r"returns boxes of shape .* for \d labels; give"),
        ("elsewhere", "returns the origin 99 of"),
        ("not_there", "has no function not_there"),
    ],
)
def test_transforms_that_return_something_else_are_refused(source, batches, transforms, name, said):
    with pytest.raises((UserError, ConfigError), match=said):
        for batch in (iterator := batches(source, MODEL, config(threads=0, **transforms(name)))):
            assert batch is not iterator
            if iterator.get_state()["step"] > 4:
                break
