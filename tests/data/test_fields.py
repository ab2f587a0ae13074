"""Fields of objects: each follows its image, and all end in one writer of targets."""

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from data_helpers import TRIANGLE, encode, random_set

from jaxmaskrcnn.config import DataConfig, MaskConfig, ModelConfig
from jaxmaskrcnn.data import prepare, train_iterator
from jaxmaskrcnn.data.augment.copy_paste import paste
from jaxmaskrcnn.data.augment.scene import Scene
from jaxmaskrcnn.data.fields.field import Field
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.table import COLUMNS, FIELDS
from jaxmaskrcnn.data.fields.targets import empty_targets, fill_targets, room_for, to_targets
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.structures import Targets

SIZE = (32, 40)
OUTLINES = [TRIANGLE, [[22.0, 4.0, 38.0, 4.0, 38.0, 20.0, 22.0, 20.0]], [[4.0, 22.0, 14.0, 22.0, 9.0, 30.0]]]
PIL = ModelConfig().replace({"input.resize_kernel": "pil", "input.normalise_before_resize": False})
ROOM = {"boxes": 1, "masks": 1, "polygons": 16}


@dataclass(frozen=True, eq=False)
class Centres(Field):
    """A field that the library does not have: a point of each object, [G, 2]."""

    points: np.ndarray
    name = "centres"

    @classmethod
    def parse(cls, entry, size, columns, required):
        return {"centres": entry["centre"]}

    @classmethod
    def read(cls, columns, size):
        return cls(np.float32(columns["centres"]))

    @classmethod
    def from_target(cls, target, image, fields):
        return cls(np.float32(target["centres"]))

    @classmethod
    def room(cls, counts, model, *, augmented):
        return 1

    @classmethod
    def slots(cls, batch, objects, canvas, room):
        return {"centres": np.zeros((batch, objects, 2), np.float32)}

    def transform(self, geometry, model):
        return Centres(geometry.points(self.points))

    def move(self, top, left):
        return Centres(self.points + np.float32([left, top]))

    def take(self, chosen):
        return Centres(self.points[chosen])

    def join(self, other):
        return Centres(np.concatenate([self.points, other.points]))

    def fill(self, targets, image):
        targets.centres[image, : len(self.points)] = self.points


def bitmap(outline):
    corners = np.reshape(outline[0], (-1, 2)).astype(int)
    mask = np.zeros(SIZE, bool)
    mask[corners[:, 1].min() : corners[:, 1].max(), corners[:, 0].min() : corners[:, 0].max()] = True
    return mask


def some_objects():
    """Three objects with all fields, and one that the library does not have: the centres of the boxes."""
    masks = np.stack([bitmap(outline) for outline in OUTLINES])
    corners = [np.reshape(outline[0], (-1, 2)) for outline in OUTLINES]
    boxes = np.float32([[*points.min(0), *points.max(0)] for points in corners])
    columns = {
        "bbox": boxes,
        "rle": [encode(mask)["counts"].encode() for mask in masks],
        "polygons": [str(outline).encode() for outline in OUTLINES],
        "is_crowd": np.zeros(3, bool),
    }
    crowd, areas = columns["is_crowd"], np.float32([144, 256, 40])
    example = SimpleNamespace(size=SIZE, labels=np.arange(3), crowd=crowd, areas=areas, columns=columns)
    objects = ImageObjects.read(example, ("boxes", "masks", "polygons"))
    centres = Centres(boxes.reshape(-1, 2, 2).mean(1))
    return ImageObjects(objects.labels, objects.crowd, objects.areas, {**objects.fields, "centres": centres})


def extents(objects):
    """The box around each field of every object, [fields, G, 4]."""
    fields = objects.fields
    corners = [[*v.min(0), *v.max(0)] for v in fields["polygons"].vertices]
    return np.array([fields["boxes"].boxes, fields["masks"].tight_boxes(), corners])


GEOMETRIES = {
    "resized": Geometry.resize(SIZE, (64, 120)),
    "mirrored": Geometry.resize(SIZE, (64, 80), flip=True),
    "cropped": Geometry((2, 1, 29, 38), 0.0, (58, 76), True, (3, 2, 50, 70)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_all_fields_follow_an_image_alike(name):
    objects = some_objects()
    moved = objects.transform(GEOMETRIES[name], PIL)
    boxes, masks, polygons = extents(moved)
    assert np.abs(boxes - extents(objects)[0]).max() > 5
    np.testing.assert_allclose(boxes, polygons, atol=1e-4)
    if name == "mirrored":
        x1, y1, x2, y2 = 2 * extents(objects)[0].T
        np.testing.assert_allclose(boxes, np.stack([80 - x2, y1, 80 - x1, y2], 1), atol=1e-4)
    # Of a mask only what lies inside the window remains, in whole pixels.
    height, width = GEOMETRIES[name].window[2:]
    np.testing.assert_allclose(np.clip(boxes, 0, [width, height] * 2), masks, atol=2)
    np.testing.assert_allclose(moved.fields["centres"].points, boxes.reshape(-1, 2, 2).mean(1), atol=1e-4)


def test_a_field_that_no_other_file_names_stays_with_its_objects():
    objects = some_objects()
    # The window leaves the second object alone.
    geometry = Geometry((0, 0, *SIZE), 0.0, SIZE, False, (0, 21, 21, 19))
    left = objects.transform(geometry, PIL).clip((21, 19))
    assert left.labels.tolist() == [1] and left.fields["centres"].points.tolist() == [[9, 12]]
    cover = np.zeros(SIZE, bool)
    cover[:20, :21] = True
    hidden = objects.hide(cover)
    assert hidden.labels.tolist() == [1, 2] and len(hidden.fields["centres"].points) == 2
    both = hidden.join(objects.take(np.array([0])))
    assert both.labels.tolist() == [1, 2, 0]
    np.testing.assert_array_equal(both.fields["centres"].points, objects.fields["centres"].points[[1, 2, 0]])
    assert objects.largest(2).labels.tolist() == [0, 1]
    # Annotated areas decide; without them, what is left of the masks.
    assert both.areas is None and both.largest(1).labels.tolist() == [0]
    image = np.zeros((*SIZE, 3), np.uint8)
    pasted = paste(Scene(image, objects), Scene(image + 1, objects), np.array([1]))
    assert pasted.objects.labels.tolist() == [0, 2, 1] and len(pasted.objects.fields["centres"].points) == 3


def test_one_writer_fills_the_slots_of_all_fields():
    class WithCentres:
        """Targets with an array for the additional field."""

        def __init__(self, targets):
            self.centres = np.zeros((2, 4, 2))
            self.targets = targets

        def __getattr__(self, name):
            return getattr(self.targets, name)

    objects = some_objects()
    targets = WithCentres(empty_targets(2, 4, (32, 48), ROOM))
    fill_targets(targets, 1, objects)
    assert targets.valid.tolist() == [[False] * 4, [True] * 3 + [False]]
    assert targets.labels[1, :3].tolist() == [0, 1, 2] and not targets.crowd.any()
    np.testing.assert_array_equal(targets.boxes[1, :3], objects.boxes)
    unpacked = np.unpackbits(targets.masks, axis=-1)
    np.testing.assert_array_equal(unpacked[1, :3, :, :40], [bitmap(outline) for outline in OUTLINES])
    assert unpacked.sum() == sum(bitmap(outline).sum() for outline in OUTLINES)
    assert ((targets.polygon_parts >= 0).sum(-1)[1] == [4, 5, 4, 0]).all()
    np.testing.assert_array_equal(targets.polygons[1, 0, :3, :2].ravel(), TRIANGLE[0])
    np.testing.assert_array_equal(targets.centres[1, :3], objects.fields["centres"].points)


def test_every_array_of_targets_belongs_to_a_field():
    arrays = {name for field in FIELDS for name in field.slots(1, 1, (8, 8), 16)}
    assert {"labels", "crowd", "valid", "semantic", "extra"} | arrays == set(Targets._fields)
    stored = ["polygons", "rle", "bbox", "keypoints"]
    assert [name for field in FIELDS for name in field.COLUMNS] == list(COLUMNS) == stored


@pytest.mark.parametrize(
    ("head", "rule", "vertices", "bitmaps", "augmented", "expected"),
    [
        (True, "soft", 40, 0, False, (1, 0)),
        (True, "polygon", 40, 0, False, (0, 64)),
        (True, "polygon", 40, 2, False, (1, 64)),
        (True, "polygon", 0, 2, False, (1, 0)),
        (True, "polygon", 0, 0, False, (1, 0)),
        (True, "polygon", 40, 2, True, (1, 0)),
        (True, "polygon", 40, 0, True, (1, 0)),
        (False, "polygon", 40, 2, False, (0, 0)),
        (False, "polygon", 40, 2, True, (0, 0)),
    ],
)
def test_room_in_the_targets(head, rule, vertices, bitmaps, augmented, expected):
    model = ModelConfig(mask=MaskConfig(targets=rule) if head else None)
    counts = {"vertex_counts": vertices, "bitmap_counts": bitmaps}
    room = room_for(counts, model, augmented=augmented)
    assert (room["masks"], room["polygons"]) == expected and room["boxes"] == 1
    targets = empty_targets(2, 3, (16, 24), room)
    assert (targets.masks is not None, targets.polygons is not None) == tuple(map(bool, expected))
    loaded = {f.name for f in FIELDS if f.is_loaded(room[f.name], True, augmented)}
    # A cropped object's box is that of its mask, so masks are read even for a model without a mask head.
    assert ("masks" in loaded, "polygons" in loaded) == (bool(expected[0]) or augmented, expected[1] > 0)


def test_the_batch_writer_writes_every_image():
    objects = some_objects()
    plain = ImageObjects(
        objects.labels, objects.crowd, objects.areas, {n: objects.fields[n] for n in ("boxes", "masks")}
    )
    targets = to_targets([plain.take(np.array([2])), plain], 3, (32, 48), {"boxes": 1, "masks": 1})
    assert targets.polygons is None and targets.valid.sum(1).tolist() == [1, 3]
    np.testing.assert_array_equal(targets.boxes[0, 0], targets.boxes[1, 2])
    np.testing.assert_array_equal(targets.masks[0, 0], targets.masks[1, 2])


def test_objects_and_loaders_can_be_sent_to_other_processes(tmp_path):
    objects = some_objects()
    again = pickle.loads(pickle.dumps(objects))
    np.testing.assert_array_equal(again.boxes, objects.boxes)
    np.testing.assert_array_equal(extents(again), extents(objects))
    source = prepare(*random_set(tmp_path, [(30, 40), (40, 30)]), tmp_path / "cache")
    model = ModelConfig(num_classes=3).replace(
        {"input.test_min_size": 40, "input.test_max_size": 60, "input.pad_divisor": 16}
    )
    batches = train_iterator(source, model, DataConfig(batch_size=2, min_sizes=(40,), threads=0), seed=0)
    load = pickle.loads(pickle.dumps(batches._load))
    np.testing.assert_array_equal(load(0).targets.masks, next(batches).targets.masks)
    batches.close()
