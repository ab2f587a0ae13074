"""The interface that every field of an object implements: boxes, masks, polygons and keypoints.

A `Field` holds the values of all objects of one image and is never changed: every method returns a new one.

Shape legend: G objects of an image, H, W the height and width of the canvas.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.structures import Targets
from jaxmaskrcnn.utils.json_values import is_finite


class BadAnnotation(Exception):
    """An annotation that cannot be used: the reason it is counted under, and a description of the fault."""

    def __init__(self, reason: str, found: str):
        self.reason, self.found = reason, found


class TargetImage(NamedTuple):
    """The image that a target given to ``make_batch`` belongs to.

    Attributes:
        number: Its position in the batch, for messages.
        size: ``(height, width)`` in pixels, before it is resized.
        crowd: bool [G], which of its objects are crowd regions.
        model: Configuration of the model.
    """

    number: int
    size: tuple[int, int]
    crowd: np.ndarray
    model: ModelConfig


class Field(abc.ABC):
    """One property of the objects of an image.

    Attributes:
        name: The field's key in the targets that ``make_batch`` takes, and in ``ImageObjects.fields``.
        COLUMNS: Columns that a record stores for each object: dtype and length of a vector, or ``str``.
        COUNTS: Names of the figures that ``count`` returns.
    """

    name: ClassVar[str]
    COLUMNS: ClassVar[Mapping[str, Any]] = {}
    COUNTS: ClassVar[tuple[str, ...]] = ()

    # From an annotation to a record.

    @classmethod
    @abc.abstractmethod
    def parse(cls, entry: Mapping, size: tuple[float, float], columns: Mapping, required: bool) -> dict:
        """Checks this field of an entry of a json's 'annotations'.

        Args:
            entry: The entry.
            size: ``(height, width)`` of the image in pixels.
            columns: The columns that the fields before this one have made of the entry.
            required: Whether the data set must have this field.

        Returns:
            A value for each of ``COLUMNS``.

        Raises:
            BadAnnotation: The entry cannot be used.
        """

    @classmethod
    def annotated_area(cls, columns: Mapping, size: tuple[int, int]) -> float | None:
        """Area of an annotated object in square pixels; None where this field does not know it."""
        return None

    @classmethod
    def count(cls, objects: Sequence) -> dict[str, int]:
        """Figures of an annotated image that are stored beside the records; ``room`` is derived from them.

        Args:
            objects: The image's ``Object``s.
        """
        return {}

    # From a record, or from the arrays that a user gives, to objects.

    @classmethod
    @abc.abstractmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Field":
        """The field of a record's objects.

        Args:
            columns: The record's objects, by column.
            size: ``(height, width)`` of the image in pixels.
        """

    @classmethod
    def is_required(cls, target: Mapping, model: ModelConfig) -> bool:
        """Whether a target given to ``make_batch`` must have this field."""
        return False

    @classmethod
    @abc.abstractmethod
    def from_target(
        cls, target: Mapping, image: TargetImage, fields: Mapping[str, "Field"]
    ) -> "Field | None":
        """Checks this field of a target given to ``make_batch``.

        Args:
            target: The mapping that the user gives.
            image: The image it belongs to.
            fields: The fields read before this one.

        Returns:
            The field, or None where the model does not need it.

        Raises:
            UserError: It has the wrong type, shape or values.
        """

    def counts(self) -> dict[str, int]:
        """The same figures as ``count``, for these objects."""
        return {}

    # The transforms of an image also transform the fields of its objects.

    @abc.abstractmethod
    def transform(self, geometry: Geometry, model: ModelConfig) -> "Field":
        """Applies an image's crop, rotation, resize, flip and window.

        Args:
            geometry: The transforms.
            model: Gives how pixels are resized, and which keypoints change places in a mirrored image.
        """

    def clip(self, size: tuple[int, int]) -> "Field":
        """Removes the parts that lie outside an image of ``(height, width)``."""
        return self

    def hide(self, cover: np.ndarray) -> "Field":
        """Removes the parts that pasted objects cover.

        Args:
            cover: bool [H, W], True where something has been pasted.
        """
        return self

    @abc.abstractmethod
    def move(self, top: int, left: int) -> "Field":
        """Moves the objects down and to the right by whole pixels, with their image on a larger canvas."""

    @abc.abstractmethod
    def take(self, chosen: np.ndarray) -> "Field":
        """The field of some objects only; ``chosen`` int [chosen]."""

    @abc.abstractmethod
    def join(self, other: "Field") -> "Field":
        """The field of these objects followed by those of ``other``."""

    # Properties of the objects that the fields can compute.

    def remains(self) -> np.ndarray | None:
        """Which objects have a part left, bool [G]; None if this field does not decide it."""
        return None

    def tight_boxes(self) -> np.ndarray | None:
        """Boxes around the remaining parts of the objects, float32 [G, 4]; None if this field has none."""
        return None

    def areas(self) -> np.ndarray | None:
        """Areas of the objects in square pixels, [G]; None where this field does not know them."""
        return None

    # From objects to targets.

    @classmethod
    @abc.abstractmethod
    def room(cls, counts: Mapping[str, int], model: ModelConfig, *, augmented: bool) -> int:
        """How much room an object needs for this field in the targets; 0 where the model needs none.

        Args:
            counts: The largest value of each figure of ``count``.
            model: Configuration of the model.
            augmented: Whether objects are cropped, turned and pasted.
        """

    @classmethod
    def is_loaded(cls, room: int, has_masks: bool, augmented: bool) -> bool:
        """Whether records are read for this field; augmentations may need one that the model does not."""
        return room > 0

    @classmethod
    @abc.abstractmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict[str, Any]:
        """This field's arrays of ``Targets``, with every slot free; None where there is no room.

        Args:
            batch: Number of images.
            objects: Slots per image.
            canvas: Height and width in pixels.
            room: From ``room``.
        """

    @abc.abstractmethod
    def fill(self, targets: Targets, image: int) -> None:
        """Writes the objects into the first slots of an image.

        Args:
            targets: Targets with arrays from ``slots``; changed in place.
            image: The image's position in the batch.
        """


def is_number(value) -> bool:
    """Whether a json value is a finite number (true and false are not)."""
    return is_finite(value)
