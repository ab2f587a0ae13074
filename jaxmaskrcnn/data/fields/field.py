"""What every field of an object can do: the interface of boxes, masks and polygons.

A `Field` holds the values of all objects of one image and is never changed: every method returns a new one.

Shape legend: G objects of an image, H, W the height and width of the canvas.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.structures import Targets


class BadAnnotation(Exception):
    """An unusable annotation: the reason it is counted under, and what is wrong."""

    def __init__(self, reason: str, found: str):
        self.reason, self.found = reason, found


class TargetImage(NamedTuple):
    """The image that a target given to ``make_batch`` belongs to.

    Attributes:
        number: Its position in the batch, for messages.
        size: ``(height, width)`` in pixels, before it is resized.
        crowd: bool [G], which of its objects are crowd regions.
        model: What the model needs.
    """

    number: int
    size: tuple[int, int]
    crowd: np.ndarray
    model: ModelConfig


class Field:
    """One property of the objects of an image.

    Attributes:
        name: The field's key in the targets that ``make_batch`` takes, and in ``ImageObjects.fields``.
        COLUMNS: What a record stores of each object: the dtype and the length of a vector, or ``str``.
        COUNTS: Names of the figures that ``count`` gives.
    """

    name: ClassVar[str]
    COLUMNS: ClassVar[Mapping[str, Any]] = {}
    COUNTS: ClassVar[tuple[str, ...]] = ()

    # From an annotation to a record.

    @classmethod
    def parse(cls, entry: Mapping, size: tuple[int, int], columns: Mapping, required: bool) -> dict:
        """Checks what an entry of a json's 'annotations' says of this field.

        Args:
            entry: The entry.
            size: ``(height, width)`` of the image in pixels.
            columns: What the fields before this one have made of the entry.
            required: Whether the data set has to have this field.

        Returns:
            A value for each of ``COLUMNS``.

        Raises:
            BadAnnotation: It cannot be used.
        """
        raise NotImplementedError

    @classmethod
    def annotated_area(cls, columns: Mapping, size: tuple[int, int]) -> float | None:
        """Area of an annotated object in square pixels; None where this field does not know it."""
        return None

    @classmethod
    def count(cls, objects: Sequence) -> dict[str, int]:
        """Figures of an annotated image, stored beside the records, from which ``room`` is derived.

        Args:
            objects: The image's ``Object``s.
        """
        return {}

    # From a record, or from the arrays that a user gives, to objects.

    @classmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Field":
        """The field of a record's objects.

        Args:
            columns: The record's objects, by column.
            size: ``(height, width)`` of the image in pixels.
        """
        raise NotImplementedError

    @classmethod
    def is_required(cls, target: Mapping, model: ModelConfig) -> bool:
        """Whether a target given to ``make_batch`` has to have this field."""
        return False

    @classmethod
    def from_target(
        cls, target: Mapping, image: TargetImage, fields: Mapping[str, "Field"]
    ) -> "Field | None":
        """Checks this field of a target given to ``make_batch``.

        Args:
            target: As the user gives it.
            image: The image it belongs to.
            fields: The fields read before this one.

        Returns:
            The field, or None where the model does not need it.

        Raises:
            UserError: It has the wrong type, shape or values.
        """
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """The figures of ``count``, of these objects."""
        return {}

    # What happens to an image happens to the fields of its objects.

    def transform(self, geometry: Geometry, kernel: str) -> "Field":
        """Follows an image's crop, rotation, resize, flip and window.

        Args:
            geometry: The transforms.
            kernel: ``InputConfig.resize_kernel``, for a field that is sampled.
        """
        raise NotImplementedError

    def clip(self, size: tuple[int, int]) -> "Field":
        """Without what lies outside of an image of ``(height, width)``."""
        return self

    def hide(self, cover: np.ndarray) -> "Field":
        """Without what pasted objects cover.

        Args:
            cover: bool [H, W], True where something has been pasted.
        """
        return self

    def take(self, chosen: np.ndarray) -> "Field":
        """Of some objects only; ``chosen`` int [chosen]."""
        raise NotImplementedError

    def join(self, other: "Field") -> "Field":
        """Of these objects and then of the other's."""
        raise NotImplementedError

    # What the fields know of the objects.

    def remains(self) -> np.ndarray | None:
        """Which objects something is left of, bool [G]; None where this field does not decide it."""
        return None

    def tight_boxes(self) -> np.ndarray | None:
        """Boxes around what is left of the objects, float32 [G, 4]; None where this field has none."""
        return None

    def areas(self) -> np.ndarray | None:
        """Areas of the objects in square pixels, [G]; None where this field does not know them."""
        return None

    # From objects to targets.

    @classmethod
    def room(cls, counts: Mapping[str, int], model: ModelConfig, *, augmented: bool) -> int:
        """How much room an object needs for this field in the targets; 0 where the model needs none.

        Args:
            counts: The largest of each of the figures of ``count``.
            model: What the model learns from.
            augmented: Whether objects are cropped, turned and pasted.
        """
        raise NotImplementedError

    @classmethod
    def is_loaded(cls, room: int, has_masks: bool, augmented: bool) -> bool:
        """Whether records are read for this field; augmentations may need what the model does not."""
        return room > 0

    @classmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict[str, Any]:
        """This field's arrays of ``Targets``, with every slot free; None where there is no room.

        Args:
            batch: Number of images.
            objects: Slots per image.
            canvas: Height and width in pixels.
            room: From ``room``.
        """
        raise NotImplementedError

    def fill(self, targets: Targets, image: int) -> None:
        """Writes the objects into the first slots of an image.

        Args:
            targets: With arrays from ``slots``; changed in place.
            image: The image's position in the batch.
        """
        raise NotImplementedError


def is_number(value) -> bool:
    """Whether a json value is a finite number (true and false are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
