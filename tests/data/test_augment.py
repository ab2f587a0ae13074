"""Augmented images, masks and boxes against brute force on whole label maps."""

from types import SimpleNamespace

import numpy as np
import pytest
from folders import GOLDENS
from pycocotools import mask as mask_utils

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment.copy_paste import choose_pasted, paste
from jaxmaskrcnn.data.augment.geometry import fill_colour, rotate_image, transform_image
from jaxmaskrcnn.data.augment.photometric import Distortion, distort, draw_distortion
from jaxmaskrcnn.data.augment.plan import crop_window, fixed_window, jittered_size
from jaxmaskrcnn.data.augment.scene import Scene, transform_scene
from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.pieces import MaskGrid, tighten
from jaxmaskrcnn.data.fields.targets import empty_targets, fill_targets
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.ops.masks import unpack_masks
from jaxmaskrcnn.ops.resize import resize_image, resize_mask

GOLDEN = np.load(GOLDENS / "augment.npz")
MODEL = {
    kernel: ModelConfig().replace({"input.resize_kernel": kernel, "input.normalise_before_resize": False})
    for kernel in ("pil", "cv2", "torch")
}
SIZES = [(40, 56), (57, 33), (31, 31), (9, 70), (1, 12)]


def random_geometry(rng, size, *, turned):
    height, width = (int(rng.integers(max(n // 2, 1), n + 1)) for n in size)
    top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    angle = float(rng.uniform(-40, 40)) if turned else 0.0
    new = tuple(int(n) for n in np.maximum(np.rint(np.array([height, width]) * rng.uniform(0.3, 2.2)), 1))
    limit = int(rng.integers(10, 80))
    window = fixed_window(new, (limit, limit), rng.random())
    return Geometry((top, left, height, width), angle, new, bool(rng.integers(2)), window)


def blobs(rng, count, size, largest=12):
    """Masks of random ellipses, some of them in several parts, some tiny."""
    y, x = np.mgrid[: size[0], : size[1]]
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        for _ in range(rng.integers(1, 3)):
            cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
            ry, rx = rng.uniform(0.6, largest, 2)
            mask |= ((y + 0.5 - cy) / ry) ** 2 + ((x + 0.5 - cx) / rx) ** 2 <= 1
    masks = masks[masks.any(axis=(1, 2))]
    return masks


def tight(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def record(rng, size, count=6, crowd=None):
    """An example as a source returns it, with loose boxes, and its masks."""
    masks = blobs(rng, count, size)
    boxes = np.array([tight(mask) for mask in masks], np.float32).reshape(-1, 4)
    grown = boxes + rng.uniform(0, 0.4, boxes.shape).astype(np.float32) * np.float32([1, 1, -1, -1])
    rles = tuple(mask_utils.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks)
    labels = rng.integers(0, 5, len(masks)).astype(np.int32)
    crowd = np.zeros(len(masks), bool) if crowd is None else crowd
    columns = {"bbox": grown, "rle": rles}
    areas = masks.sum(axis=(1, 2))
    return SimpleNamespace(size=size, labels=labels, crowd=crowd, areas=areas, columns=columns), masks


def turned_back(angle, y, x, height, width):
    """Where a pixel of a turned image comes from, with complex numbers."""
    centre = complex(width / 2, height / 2)
    source = (complex(x + 0.5, y + 0.5) - centre) * np.exp(1j * np.deg2rad(angle)) + centre
    return source.imag, source.real


def brute_turn(mask, angle):
    out = np.zeros_like(mask)
    for y, x in np.ndindex(*mask.shape):
        row, column = turned_back(angle, y, x, *mask.shape)
        if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
            out[y, x] = mask[int(row), int(column)]
    return out


def brute_mask(mask, geometry, kernel):
    top, left, height, width = geometry.crop
    mask = mask[top : top + height, left : left + width]
    if geometry.angle:
        mask = brute_turn(mask, geometry.angle)
    mask = resize_mask(mask, geometry.size, kernel)
    if geometry.flip:
        mask = mask[:, ::-1]
    top, left, height, width = geometry.window
    return mask[top : top + height, left : left + width]


def placed(piece, size):
    whole = np.zeros(size, bool)
    if piece is not None:
        left, top, right, bottom = piece.box
        whole[top:bottom, left:right] = piece.pixels
    return whole


@pytest.mark.parametrize("kernel", ["pil", "cv2", "torch"])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_equal_brute_force(kernel, turned):
    rng = np.random.default_rng(0)
    gone = 0
    for trial in range(40):
        size = SIZES[trial % len(SIZES)]
        geometry = random_geometry(rng, size, turned=turned)
        grid = MaskGrid(geometry, kernel)
        for mask in blobs(rng, 4, size):
            piece, expected = grid(tighten(0, 0, mask)), brute_mask(mask, geometry, kernel)
            np.testing.assert_array_equal(placed(piece, geometry.window[2:]), expected)
            assert (piece is None) == (not expected.any())
            if piece is None:
                gone += 1
            else:
                assert list(piece.box) == tight(expected)
    assert gone > 5


@pytest.mark.parametrize("kernel", ["pil", "cv2", "torch"])
@pytest.mark.parametrize("turned", [False, True])
def test_label_maps_equal_brute_force(kernel, turned):
    """What comes from outside of the image gets the value that losses ignore."""
    rng = np.random.default_rng(3)
    outside = 0
    for trial in range(20):
        size = SIZES[trial % len(SIZES)]
        geometry = random_geometry(rng, size, turned=turned)
        labels = rng.integers(1, 9, size).astype(np.uint8)
        found = MaskGrid(geometry, kernel).whole(labels, 255)
        expected = brute_mask(labels, geometry, kernel)
        np.testing.assert_array_equal(found, np.where(expected == 0, 255, expected))
        outside += (expected == 0).sum()
    assert (outside > 100) == turned


@pytest.mark.parametrize("turned", [False, True])
def test_scenes_equal_brute_force(turned):
    """Which objects remain, their labels, and the rule for every box."""
    rng = np.random.default_rng(1)
    counts = {"kept": 0, "cut": 0, "dropped": 0}
    for trial in range(40):
        size = SIZES[trial % 4]
        example, masks = record(rng, size)
        geometry = random_geometry(rng, size, turned=turned)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        scene = transform_scene(image, example, geometry, None, MODEL["pil"], ("boxes", "masks"))
        k = 0
        for g, mask in enumerate(masks):
            whole = brute_mask(mask, geometry, "pil")
            if not whole.any():
                counts["dropped"] += 1
                continue
            assert scene.objects.labels[k] == example.labels[g]
            np.testing.assert_array_equal(
                placed(scene.objects.fields["masks"].pieces[k], geometry.window[2:]), whole
            )
            corners = geometry.points(example.columns["bbox"][g].reshape(2, 2))
            moved = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            limits = np.array(geometry.window[2:])[[1, 0, 1, 0]]
            if turned or (moved < -0.01).any() or (moved > limits + 0.01).any():
                assert scene.objects.boxes[k].tolist() == tight(whole)
                counts["cut"] += 1
            else:
                np.testing.assert_allclose(scene.objects.boxes[k], moved, atol=1e-4)
                counts["kept"] += 1
            k += 1
        assert (
            k
            == len(scene.objects.boxes)
            == len(scene.objects.labels)
            == len(scene.objects.crowd)
            == len(scene.objects.fields["masks"].pieces)
        )
    assert counts["dropped"] > 10 and counts["cut"] > 10 and (turned or counts["kept"] > 10)


def test_boxes_without_masks_are_clipped():
    rng = np.random.default_rng(2)
    for turned in (False, True):
        for _ in range(30):
            example, _ = record(rng, SIZES[0])
            geometry = random_geometry(rng, SIZES[0], turned=turned)
            image = np.zeros((*SIZES[0], 3), np.uint8)
            scene = transform_scene(image, example, geometry, None, MODEL["pil"], ("boxes",))
            expected = []
            for x1, y1, x2, y2 in example.columns["bbox"]:
                corners = geometry.points([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
                low, high = (np.clip(c, 0, geometry.window[:1:-1]) for c in (corners.min(0), corners.max(0)))
                if ((high - low) >= 1e-3).all():
                    expected.append([*low, *high])
            assert "masks" not in scene.objects.fields
            np.testing.assert_allclose(scene.objects.boxes, np.reshape(expected, (-1, 4)), atol=1e-3)


def test_points_follow_the_image():
    """The centre of a small square comes to lie where the points say."""
    rng = np.random.default_rng(3)
    size, seen = (120, 150), 0
    for trial in range(60):
        geometry = random_geometry(rng, size, turned=trial % 2 == 0)
        geometry = geometry._replace(window=(0, 0, *geometry.size))
        top, left, height, width = geometry.crop
        y, x = top + int(rng.integers(0, height - 9)), left + int(rng.integers(0, width - 9))
        mask = np.zeros(size, bool)
        mask[y : y + 9, x : x + 9] = True
        piece = MaskGrid(geometry, "pil")(tighten(0, 0, mask))
        where = geometry.points([[x + 4.5, y + 4.5]])[0]
        inside = (where > 15).all() and (where < np.array(geometry.size)[::-1] - 15).all()
        if inside and piece is not None:
            rows, columns = np.nonzero(placed(piece, geometry.size))
            assert np.hypot(*(np.array([columns.mean(), rows.mean()]) + 0.5 - where)) < 1.0
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("kernel", ["pil", "cv2", "torch"])
def test_images_are_cropped_resized_mirrored_and_cut(kernel):
    rng = np.random.default_rng(4)
    for trial in range(10):
        size = SIZES[trial % 4]
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        geometry = random_geometry(rng, size, turned=False)
        top, left, height, width = geometry.crop
        mirrored = resize_image(image[top : top + height, left : left + width], geometry.size, kernel)
        if kernel == "torch":
            mirrored = (mirrored / 255 - MODEL[kernel].input.pixel_mean) / MODEL[kernel].input.pixel_std
        if geometry.flip:
            mirrored = mirrored[:, ::-1]
        top, left, height, width = geometry.window
        got = transform_image(image, geometry, None, MODEL[kernel])
        np.testing.assert_allclose(got, mirrored[top : top + height, left : left + width], atol=1e-5)


def test_turned_images_are_bilinear_and_agree_with_masks():
    """Filled corners are exactly the pixels that no mask can reach."""
    rng = np.random.default_rng(5)
    for angle in (-17.3, 4.1, 33.0):
        for size in SIZES[:4]:
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            marked = np.ascontiguousarray(image | 1)
            turned = rotate_image(marked, angle, (0, 0, 0))
            assert (rotate_image(image, angle, (9, 8, 7))[~turned.any(axis=-1)] == (9, 8, 7)).all()
            geometry = Geometry((0, 0, *size), angle, size, False, (0, 0, *size))
            reach = placed(MaskGrid(geometry, "pil")(tighten(0, 0, np.ones(size, bool))), size)
            np.testing.assert_array_equal(turned.any(axis=-1), reach)
            smooth = np.full((*size, 3), 0.0)
            for y, x in np.ndindex(*size):
                row, column = turned_back(angle, y, x, *size)
                rows = np.clip([np.floor(row - 0.5), np.floor(row - 0.5) + 1], 0, size[0] - 1).astype(int)
                columns = np.clip([np.floor(column - 0.5), np.floor(column - 0.5) + 1], 0, size[1] - 1)
                across = column - 0.5 - np.floor(column - 0.5)
                down = row - 0.5 - np.floor(row - 0.5)
                four = marked[rows][:, columns.astype(int)].astype(float)
                mixed = four[:, 0] * (1 - across) + four[:, 1] * across
                smooth[y, x] = mixed[0] * (1 - down) + mixed[1] * down
            assert np.abs(turned - smooth)[reach].max() <= 1.01


def test_a_quarter_turn_goes_counter_clockwise():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    turned = rotate_image(image, 90, (0, 0, 0)).astype(int)
    assert np.abs(turned - np.rot90(image)).max() <= 1  # Pillow truncates
    mask = image[..., 0] > 20
    geometry = Geometry((0, 0, 4, 4), 90.0, (4, 4), False, (0, 0, 4, 4))
    np.testing.assert_array_equal(
        placed(MaskGrid(geometry, "pil")(tighten(0, 0, mask)), (4, 4)), np.rot90(mask)
    )


def test_sizes_and_crops_equal_detectron2():
    for (height, width, target, scale, uniform), expected in zip(
        GOLDEN["jitter"], GOLDEN["jittered"], strict=True
    ):
        size = jittered_size(int(height), int(width), int(target), scale)
        window = fixed_window(size, (int(target), int(target)), uniform)
        assert [*size, *window] == expected.tolist()
    for (height, width, share, *uniform), expected in zip(GOLDEN["crop"], GOLDEN["cropped"], strict=True):
        window = crop_window((int(height), int(width)), share, np.array(uniform))
        assert list(window) == expected.tolist()
    assert crop_window((1, 1), 0.1, np.zeros(4)) == (0, 0, 1, 1)
    assert jittered_size(1, 100, 32, 0.1) == (1, 3)


def test_colours_equal_torchvision():
    image = GOLDEN["image"]
    assert len({result.tobytes() for result in GOLDEN["distorted"]}) > 30
    for row, expected in zip(GOLDEN["distortions"], GOLDEN["distorted"], strict=True):
        channels = tuple(int(channel) for channel in row[5:])
        got = distort(image, Distortion(*row[:4], bool(row[4]), channels))
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(distort(image, Distortion()), image)
    np.testing.assert_array_equal(distort(image[:, ::-1], Distortion()), image[:, ::-1])


def test_distortions_are_drawn_from_their_ranges():
    uniform = np.random.default_rng(6).random((4000, 11))
    assert {draw_distortion(row, 0.0)._replace(contrast_first=True) for row in uniform} == {Distortion()}
    drawn = [draw_distortion(row, 0.5) for row in uniform]
    for field, low, high in (
        ("brightness", 0.875, 1.125),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -0.05, 0.05),
    ):
        values = np.array([getattr(d, field) for d in drawn])
        changed = values[values != getattr(Distortion(), field)]
        assert 0.45 < len(changed) / len(values) < 0.55
        assert low <= changed.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < changed.max() <= high
    assert len({d.channels for d in drawn}) == 6
    assert 0.45 < np.mean([d.contrast_first for d in drawn]) < 0.55


def scene_of(rng, size, count, crowd=(), largest=12):
    masks = blobs(rng, count, size, largest)
    pieces = tuple(tighten(0, 0, mask) for mask in masks)
    boxes = np.array([tight(mask) for mask in masks], np.float32).reshape(-1, 4) + np.float32(0.25)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = rng.integers(0, 5, len(masks)).astype(np.int32)
    is_crowd = np.isin(np.arange(len(masks)), crowd)
    fields = {"masks": Masks(pieces), "boxes": Boxes(boxes)}
    return Scene(image, ImageObjects(labels, is_crowd, None, fields)), masks


def test_pasting_equals_brute_force():
    rng = np.random.default_rng(7)
    counts = {"covered": 0, "cut": 0, "whole": 0}
    for _ in range(40):
        size = (50, 60)
        scene, masks = scene_of(rng, size, 5, crowd=(1,))
        other, above = scene_of(rng, tuple(rng.integers(20, 51, 2).tolist()), 4, crowd=(2,), largest=30)
        before = scene.image.copy()
        chosen = choose_pasted(other.objects.crowd, int(rng.integers(1000)))
        assert 2 not in chosen
        result = paste(scene, other, chosen)
        np.testing.assert_array_equal(scene.image, before)
        padded = np.zeros((len(above), *size), bool)
        padded[:, : other.image.shape[0], : other.image.shape[1]] = above
        cover = padded[chosen].any(axis=0)
        for y, x in np.ndindex(*size):
            expected = other.image[y, x] if cover[y, x] else scene.image[y, x]
            assert (result.image[y, x] == expected).all()
        boxes, labels, crowd, left = [], [], [], []
        for g, mask in enumerate(masks):
            rest = mask & ~cover
            counts["covered" if not rest.any() else "cut" if (rest != mask).any() else "whole"] += 1
            if rest.any():
                boxes.append(scene.objects.boxes[g] if (rest == mask).all() else tight(rest))
                labels.append(scene.objects.labels[g])
                crowd.append(scene.objects.crowd[g])
                left.append(rest)
        boxes += list(other.objects.boxes[chosen])
        np.testing.assert_array_equal(result.objects.boxes, np.array(boxes, np.float32).reshape(-1, 4))
        assert result.objects.labels.tolist() == labels + other.objects.labels[chosen].tolist()
        assert result.objects.crowd.tolist() == crowd + [False] * len(chosen)
        for piece, mask in zip(
            result.objects.fields["masks"].pieces, left + list(padded[chosen]), strict=True
        ):
            np.testing.assert_array_equal(placed(piece, size), mask)
    assert min(counts.values()) > 5


def test_objects_to_paste():
    assert not len(choose_pasted(np.ones(3, bool), 0)) and not len(choose_pasted(np.zeros(0, bool), 0))
    crowd = np.array([True, False, False, True, False])
    drawn = [choose_pasted(crowd, seed) for seed in range(300)]
    assert {g for chosen in drawn for g in chosen} == {1, 2, 4}
    assert all(len(chosen) and (np.diff(chosen) > 0).all() for chosen in drawn)
    # three draws with replacement from three take 3 (1 - (2 / 3)^3) different ones on average
    assert abs(np.mean([len(chosen) for chosen in drawn]) - 19 / 9) < 0.1
    np.testing.assert_array_equal(choose_pasted(crowd, 5), choose_pasted(crowd, 5))
    scene, _ = scene_of(np.random.default_rng(0), (20, 20), 2)
    assert paste(scene, scene, np.zeros(0, int)) is scene


@pytest.mark.parametrize("canvas", [(50, 60), (64, 61)])
def test_scenes_fill_the_slots(canvas):
    rng = np.random.default_rng(8)
    for slots in (2, 4, 8):
        scene, masks = scene_of(rng, (50, 60), 5, crowd=(0,))
        targets = empty_targets(2, slots, canvas, {"masks": 1, "boxes": 1})
        fill_targets(targets, 1, scene.objects)
        areas = masks.sum(axis=(1, 2))
        largest = sorted(sorted(range(len(masks)), key=lambda g: (-areas[g], g))[:slots])
        count = len(largest)
        assert targets.valid.tolist() == [[False] * slots, [True] * count + [False] * (slots - count)]
        np.testing.assert_array_equal(targets.boxes[1, :count], scene.objects.boxes[largest])
        np.testing.assert_array_equal(targets.labels[1, :count], scene.objects.labels[largest])
        np.testing.assert_array_equal(targets.crowd[1, :count], scene.objects.crowd[largest])
        whole = np.asarray(unpack_masks(targets.masks, canvas[1])).astype(bool)
        np.testing.assert_array_equal(whole[1, :count, :50, :60], masks[largest])
        assert whole.sum() == masks[largest].sum()
        boxes = empty_targets(1, slots, canvas, {"boxes": 1})
        fill_targets(boxes, 0, scene.objects)
        assert boxes.masks is None and boxes.valid.sum() == count
        np.testing.assert_array_equal(boxes.boxes, targets.boxes[1:])


def test_the_fill_colour_is_the_mean():
    assert fill_colour(ModelConfig()) == (124, 116, 104)
    caffe = ModelConfig().replace(
        {
            "input.channel_order": "bgr",
            "input.pixel_scale": 1.0,
            "input.pixel_mean": (103.53, 116.28, 123.675),
            "input.pixel_std": (1.0, 1.0, 1.0),
        }
    )
    assert fill_colour(caffe) == (124, 116, 104)
