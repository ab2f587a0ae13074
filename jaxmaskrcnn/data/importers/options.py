"""What a user can choose about the import of a source."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Options(NamedTuple):
    """Options that a user can give for a source; each format reads some of them.

    Attributes:
        names: Class names in the order of their ids; None takes those that occur, sorted.
        class_name: The class of every object.
        class_attribute: Region attribute that holds the class.
        split: Name of a list of images, or of one of the parts that the source is divided into.
        ids: How the values of instance pictures hold the class.
        crowd: What annotations marked as crowd are: one of `CROWD`; None is "ignore".
        rename: New names of classes by their old ones.
        boxes_only: Whether objects need no masks.
        relative: Whether polygons are shares of their images' width and height.
        keypoints: Names of the keypoints in their order; None takes those that occur.
        first_pixel: The number of the first row and column of an image, "0" or "1"; None looks at the boxes.
    """

    names: Sequence[str] | None = None
    class_name: str | None = None
    class_attribute: str | None = None
    split: str | None = None
    ids: str | None = None
    crowd: str | None = None
    rename: Mapping[str, str] | None = None
    boxes_only: bool = False
    relative: bool = False
    keypoints: Sequence[str] | None = None
    first_pixel: str | None = None
