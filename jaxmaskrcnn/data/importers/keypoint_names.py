"""The keypoints that the objects of a source have: their names in order, and the lines between them."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxmaskrcnn.structures import Skeleton

Point = tuple[float, float, int]  # x and y in pixels, and COCO's visibility


class KeypointNames:
    """Names of keypoints as they are found, which a json lists once for all objects.

    Args:
        names: Those that come first.

    Attributes:
        names: All of them, in their order.

    Example:
        >>> found = KeypointNames(["head"])
        >>> found.add({"tail": (4, 5, 2)})
        >>> found.fields({"tail": (4, 5, 2)})
        {'keypoints': [0, 0, 0, 4, 5, 2], 'num_keypoints': 1}
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names = list(names)
        self._lines: dict[tuple[str, str], None] = {}

    def add(self, names: Iterable[str]) -> None:
        """Appends the names that are new."""
        self.names += [name for name in names if name not in self.names]

    def add_skeleton(self, skeleton: Skeleton) -> None:
        """Adds the names of a source that lists them, and its lines."""
        self.add(skeleton.points)
        for first, last in skeleton.lines:
            self._lines[skeleton.points[first], skeleton.points[last]] = None

    def of_category(self) -> dict[str, Any]:
        """What COCO's entry of a category says of its keypoints."""
        place = {name: i for i, name in enumerate(self.names, 1)}
        return {
            "keypoints": self.names,
            "skeleton": [[place[first], place[last]] for first, last in self._lines],
        }

    def fields(self, found: Mapping[str, Point] | None) -> dict[str, Any]:
        """What COCO's entry of an object says of its keypoints: zeros for those that are not annotated.

        Args:
            found: Its annotated keypoints by name; None where it has no list of them.
        """
        if found is None:
            return {}
        flat = [value for name in self.names for value in found.get(name, (0, 0, 0))]
        return {"keypoints": flat, "num_keypoints": len(found)}
