"""The choices that a user has about how annotations are read."""

from typing import NamedTuple

from jaxmaskrcnn.errors import UserError

CROWD = ("ignore", "objects", "drop")


class Reading(NamedTuple):
    """How annotations are read, the same in training, evaluation, ``inspect`` and ``report``.

    Attributes:
        crowd: What annotations with ``iscrowd`` are: "ignore" (regions that are neither learned nor
            background, as in COCO), "objects" (objects like the others) or "drop" (nothing).
        class_name: A name that all objects get as their only class; empty takes the json's categories.
        allow_outside: Whether file names may lead out of the image folder, by ``..`` or as absolute paths.
        stuff: What tells the stuff of the images where the json has the objects alone: path of a COCO json
            of stuff, or of a folder of pictures whose values are labels; empty for none.
        stuff_names: Names of the labels from 1 on of such pictures; () where nobody knows them.
    """

    crowd: str = "ignore"
    class_name: str = ""
    allow_outside: bool = False
    stuff: str = ""
    stuff_names: tuple[str, ...] = ()

    def check(self, prefix: str = "data.") -> "Reading":
        """Checks the values and returns them.

        Args:
            prefix: What stands before the settings' names in messages.

        Raises:
            UserError: ``crowd`` has another value.
        """
        if self.crowd not in CROWD:
            raise UserError(f"{prefix}crowd is {self.crowd!r}; choose one of {', '.join(map(repr, CROWD))}.")
        return self
