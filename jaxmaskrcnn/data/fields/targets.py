"""Writes the objects of images into the padded arrays of `Targets`; no other module does.

Shape legend: B images, G ground-truth slots, H, W the canvas.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxmaskrcnn.config import ExtraConfig, ModelConfig
from jaxmaskrcnn.data.fields.extra import Extra
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.semantic import SEMANTIC, SemanticMap
from jaxmaskrcnn.data.fields.table import FIELDS
from jaxmaskrcnn.structures import Targets


def room_for(counts: Mapping[str, int], model: ModelConfig, *, augmented: bool = False) -> dict[str, int]:
    """How much room an object needs in the targets, by field; 0 for a field that the model does not need.

    "semantic" is 1 if the image needs room for the labels of its pixels.

    Args:
        counts: The largest value of each figure of the fields (``Field.COUNTS``).
        model: Configuration of the model.
        augmented: Whether objects are cropped, turned and pasted.
    """
    room = {field.name: field.room(counts, model, augmented=augmented) for field in FIELDS}
    return {**room, SEMANTIC: int(model.semantic is not None)}


def empty_targets(
    batch: int,
    objects: int,
    canvas: tuple[int, int],
    room: Mapping[str, int],
    extra: Sequence[ExtraConfig] = (),
) -> Targets:
    """Targets with every slot free, to be filled in.

    Args:
        batch: Number of images.
        objects: Slots per image.
        canvas: Height and width in pixels.
        room: Room of each field, from ``room_for``; a field that is not named has none.
        extra: Extra ground truth, ``config.extra``.
    """
    arrays = {}
    for field in FIELDS:
        arrays |= field.slots(batch, objects, canvas, room.get(field.name, 0))
    return Targets(
        labels=np.zeros((batch, objects), np.int32),
        crowd=np.zeros((batch, objects), bool),
        valid=np.zeros((batch, objects), bool),
        semantic=SemanticMap.slots(batch, canvas, bool(room.get(SEMANTIC, 0))),
        extra=Extra.slots(batch, objects, extra),
        **arrays,
    )


def fill_targets(targets: Targets, image: int, objects: ImageObjects) -> None:
    """Writes the objects of one image; if there are more than slots, only the largest.

    Args:
        targets: As returned by ``empty_targets``; changed in place.
        image: The image's position in the batch.
        objects: The objects, at the scale of the network's input.
    """
    objects = objects.largest(targets.valid.shape[1])
    count = len(objects)
    targets.labels[image, :count] = objects.labels
    targets.crowd[image, :count] = objects.crowd
    targets.valid[image, :count] = True
    for field in objects.fields.values():
        field.fill(targets, image)
    if objects.semantic is not None:
        objects.semantic.fill(targets, image)
    if objects.extra is not None:
        objects.extra.fill(targets, image)


def to_targets(
    images: Sequence[ImageObjects],
    slots: int,
    canvas: tuple[int, int],
    room: Mapping[str, int],
    extra: Sequence[ExtraConfig] = (),
) -> Targets:
    """The objects of a whole batch as padded arrays.

    Args:
        images: The objects of each image, at the scale of the network's input.
        slots: Ground-truth slots per image.
        canvas: Height and width in pixels.
        room: Room of each field, from ``room_for``.
        extra: Extra ground truth, ``config.extra``.
    """
    targets = empty_targets(len(images), slots, canvas, room, extra)
    for i, objects in enumerate(images):
        fill_targets(targets, i, objects)
    return targets
