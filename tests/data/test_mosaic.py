"""Mosaics of four images, against MMDetection's and against brute force."""

import dataclasses

import numpy as np
import pytest
from data_helpers import masks_of, random_set, same
from folders import GOLDENS
from test_augment import MODEL as MODELS
from test_augment import blobs, placed
from test_turns_and_pixels import MODEL, SIZES, config

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.augment.geometry import fill_colour, transform_image
from jaxmaskrcnn.data.augment.mosaic import join_tiles, meeting_point, place_tile
from jaxmaskrcnn.data.augment.scene import Scene, transform_scene
from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.pieces import tighten
from jaxmaskrcnn.data.fields.polygons import Polygons
from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.data.transforms import Geometry

CANVAS = 48, 64


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("set")
    return prepare(*random_set(directory, SIZES), directory / "cache")


def objects_of(**fields):
    count = len(fields["boxes"].boxes)
    return ImageObjects(np.arange(count), np.zeros(count, bool), None, fields)


@pytest.mark.parametrize("case", range(3))
def test_the_middle_of_mmdetections_mosaic(case):
    golden = np.load(GOLDENS / "mosaic.npz")
    point = tuple(golden[f"point_{case}"].tolist())
    scenes, places, count = [], [], 0
    for corner in range(4):
        image, boxes = golden[f"given_image_{case}_{corner}"], golden[f"given_boxes_{case}_{corner}"]
        geometry, place = place_tile(Geometry.resize(image.shape[:2], image.shape[:2]), corner, point, CANVAS)
        objects = objects_of(boxes=Boxes(boxes)).transform(geometry, MODEL)
        kept = objects.clip(geometry.result)
        # MMDetection clips boxes to the canvas and leaves them under the other images.
        unclipped = objects.take(kept.labels).move(*place, CANVAS)
        labels, wanted = golden[f"labels_{case}"], golden[f"boxes_{case}"]
        chosen = np.flatnonzero(np.isin(labels, 10 * corner + kept.labels))
        np.testing.assert_allclose(unclipped.boxes, wanted[chosen], atol=1e-5)
        # Those that are left out have no part among the image's own pixels.
        (y, x), (height, width) = place, geometry.result
        overlap = np.minimum(wanted[:, 2:], [x + width, y + height]) - np.maximum(wanted[:, :2], [x, y])
        own = labels // 10 == corner
        np.testing.assert_array_equal(np.flatnonzero(own & (overlap > 1e-3).all(1)), chosen)
        scenes.append(Scene(transform_image(image, geometry, None, MODEL), kept))
        places.append(place)
        count += len(kept)
    model = MODEL.replace({"input.pixel_mean": (99 / 255,) * 3})
    whole = join_tiles(scenes, places, CANVAS, model)
    np.testing.assert_array_equal(whole.image, golden[f"image_{case}"])
    assert len(whole.objects) == count >= 8


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_tiles_equal_brute_force(flip, turns):
    """Every field of the objects, from whole arrays that are mirrored, turned and copied."""
    rng = np.random.default_rng(turns)
    # The offset is added once, however often the points are moved.
    model = MODEL.replace({"keypoints": KeypointConfig(points=("centre",), offset=0.5)})
    point = meeting_point(CANVAS, rng.random(2))
    image, masks = rng.integers(0, 256, (40, 52, 3), np.uint8), blobs(rng, 6, (40, 52))
    labels = rng.integers(0, 3, (40, 52)).astype(np.uint8)
    flat = Geometry((0, 0, 40, 52), 0.0, (40, 52), flip, (0, 0, 40, 52), turns)
    centres = np.stack([mask_centre(mask) for mask in masks])
    fields = {
        "boxes": Boxes(np.array([tighten(0, 0, mask).box for mask in masks], np.float32)),
        "masks": Masks(tuple(tighten(0, 0, mask) for mask in masks)),
        "keypoints": Keypoints(
            np.concatenate([centres[:, None] - 0.5, np.full((len(masks), 1, 1), 2.0)], -1)
        ),
        "polygons": Polygons(tuple(c[None] for c in centres), (np.zeros(1, np.int32),) * len(masks)),
    }
    objects = dataclasses.replace(objects_of(**fields), semantic=SemanticMap(labels))
    scenes, places, wanted, seen = [], [], np.tile(np.array(fill_colour(MODEL), np.uint8), (*CANVAS, 1)), []
    where = np.full(CANVAS, 255, np.uint8)
    y, x = point
    parts = (slice(0, y), slice(0, x)), (slice(0, y), slice(x, 64)), (slice(y, 48), slice(0, x)), (
        slice(y, 48), slice(x, 64))  # fmt: skip

    def turned(array):
        return np.rot90(array[:, ::-1] if flip else array, turns)

    for corner, (rows, columns) in enumerate(parts):
        geometry, place = place_tile(flat, corner, point, CANVAS)
        clipped = objects.transform(geometry, model).clip(geometry.result)
        scenes.append(Scene(transform_image(image, geometry, None, MODEL), clipped))
        places.append(place)
        height, width = turned(image).shape[:2]
        top, left = (y - height if corner < 2 else y), (x - width if corner % 2 == 0 else x)

        def onto(canvas, array, top=top, left=left, rows=rows, columns=columns):
            for row, column in np.ndindex(*array.shape[:2]):
                r, c = top + row, left + column
                if rows.start <= r < rows.stop and columns.start <= c < columns.stop:
                    canvas[r, c] = array[row, column]

        onto(wanted, turned(image))
        onto(where, turned(labels))
        for g, mask in enumerate(masks):
            canvas = np.zeros(CANVAS, bool)
            onto(canvas, turned(mask))
            if canvas.any():
                seen.append((g, canvas, flat.points(centres[g : g + 1])[0] + (left, top), (rows, columns)))
    whole = join_tiles(scenes, places, CANVAS, MODEL)
    np.testing.assert_array_equal(whole.image, wanted)
    np.testing.assert_array_equal(whole.objects.semantic.labels, where)
    assert whole.objects.labels.tolist() == [g for g, *_ in seen]
    fields = whole.objects.fields
    for i, (_, mask, centre, (rows, columns)) in enumerate(seen):
        np.testing.assert_array_equal(placed(fields["masks"].pieces[i], CANVAS), mask)
        np.testing.assert_allclose(fields["polygons"].vertices[i][0], centre, atol=1e-5)
        inside = rows.start <= centre[1] <= rows.stop and columns.start <= centre[0] <= columns.stop
        np.testing.assert_allclose(
            fields["keypoints"].points[i, 0], [*centre, 2] if inside else [0, 0, 0], atol=1e-5
        )
        assert np.abs(whole.objects.boxes[i] - tighten(0, 0, mask).box).max() <= 1e-2


def mask_centre(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def test_normalised_images_are_filled_with_zeros():
    scene = Scene(np.ones((4, 4, 3), np.float32), objects_of(boxes=Boxes(np.zeros((0, 4), np.float32))))
    whole = join_tiles([scene] * 4, [(0, 0), (0, 4), (4, 0), (4, 4)], (8, 10), MODELS["torch"])
    assert whole.image[:8, :8].all() and not whole.image[:, 8:].any()


def test_batches_hold_what_the_plan_says(source, batches):
    """Half of the slots are mosaics, every image can be beside another one, and the others stay."""
    data = config(batch_size=4, mosaic=0.5, min_sizes=(24, 32), quarter_turns=0.5, flip=0.5)
    iterator = batches(source, MODEL, data)
    plain = batches(source, MODEL, dataclasses.replace(data, mosaic=0.0))
    mosaics, beside, points = 0, set(), set()
    for step in range(8):
        plan, batch, without = iterator.plan(step), next(iterator), plain.plan(step)
        same(plan.index, without.index)
        masks = masks_of(batch)
        for i, slot in enumerate(plan.augment):
            if not slot.beside:
                assert slot == without.augment[i] and slot.places == ((0, 0),)
                continue
            mosaics += 1
            beside |= {image.index for image in slot.beside}
            points.add(slot.places[3])
            scenes = [
                transform_scene(source[image.index].pixels(), source[image.index], image.geometry, None,
                                MODEL, ("masks", "boxes"))
                for image in (slot.image, *slot.beside)
            ]  # fmt: skip
            scene = join_tiles(scenes, slot.places, plan.canvas, MODEL)
            count = len(scene.objects)
            assert count == sum(len(part.objects) for part in scenes)
            assert batch.image_sizes[i].tolist() == list(plan.canvas) == batch.extents[i].tolist()
            same(batch.images[i], scene.image)
            assert batch.targets.valid[i].sum() == count
            same(batch.targets.boxes[i, :count], scene.objects.boxes)
            assert masks[i].sum() == sum(p.pixels.sum() for p in scene.objects.fields["masks"].pieces)
    assert 8 < mosaics < 24 and beside == set(range(len(SIZES))) and len(points) > mosaics / 2


def test_with_jitter_and_pasting(source, batches):
    data = config(batch_size=4, mosaic=1.0, copy_paste=1.0, jitter_size=64, jitter_scale=(0.3, 2.0), flip=0.5)
    iterator = batches(source, MODEL, data)
    for step in range(4):
        plan, batch = iterator.plan(step), next(iterator)
        assert batch.image_sizes.tolist() == [[64, 64]] * 4
        assert all(slot.beside and slot.pasted is not None for slot in plan.augment)
        boxes = batch.targets.boxes[batch.targets.valid]
        assert (boxes >= 0).all() and (boxes <= 64).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_room_for_the_objects_of_four_images(source, batches):
    largest = int(source.object_counts.max())
    assert batches(source, MODEL, config(mosaic=0.5)).max_objects == 4 * largest
