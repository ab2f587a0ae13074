"""What every pixel of a data set's images belongs to, whatever files say it.

COCO's panoptic json is one way to keep it (`panoptic`), stuff apart from the objects another
(`stuff_apart`).

Shape legend: H, W height and width of an image.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.structures import Category


class AnnotatedSegment(NamedTuple):
    """A region of an image: an object, a crowd region, or one kind of stuff.

    Attributes:
        id: The segment's number, from 1 on.
        category_id: Its category's id.
        crowd: Whether it is a crowd region.
    """

    id: int
    category_id: int
    crowd: bool


class ImageSegments(Protocol):
    """The segments of an image."""

    @property
    def segments(self) -> tuple[AnnotatedSegment, ...]:
        """The segments."""
        ...

    def numbers(self) -> np.ndarray:
        """The number of each pixel's segment, int64 [H, W]; 0 for none.

        Raises:
            UserError: The file that it is in cannot be read any more.
        """
        ...


class Segments(Protocol):
    """The segments of a data set."""

    @property
    def things(self) -> tuple[Category, ...]:
        """Categories of things, in ascending order of id."""
        ...

    @property
    def stuff(self) -> tuple[Category, ...]:
        """Categories of stuff, in the order of their labels from 1 on."""
        ...

    @property
    def images(self) -> Mapping[Any, ImageSegments]:
        """The segments of images by their ids, as the json has these."""
        ...

    def semantic(self, image_id: Any) -> SemanticMap:
        """The labels of an image's pixels: 0 for things, from 1 on for stuff.

        Args:
            image_id: Its id, as the json has it.

        Raises:
            UserError: Its picture cannot be read any more.
        """
        ...
