"""Keypoints in labelme's json: points that share the ``group_id`` of an object's outline.

A point's label is the keypoint's name. It is hidden if its flag "hidden" is set, or its ``difficult``, which
X-AnyLabeling has for that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmaskrcnn.data.fields.polygons import is_far
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.keypoint_names import Point
from jaxmaskrcnn.data.importers.shapes import number
from jaxmaskrcnn.errors import UserError

_HIDDEN, _SEEN = 1, 2  # COCO's visibilities


class GroupedPoints:
    """The points of a file that belong to a group.

    Args:
        builder: Collects problems, and counts what is left out.
        known: The names that keypoints can have; None takes any.
    """

    def __init__(self, builder: Builder, known: frozenset[str] | None):
        self._builder, self._known = builder, known
        self._groups: dict[str, list[tuple[str, str, Point]]] = {}  # place, name and point, by group

    def takes(self, shape: Mapping[str, Any], place: str) -> bool:
        """Keeps a shape if it is a point of a group.

        Args:
            shape: The shape.
            place: Where it is, for messages.

        Raises:
            UserError: It has no name that a keypoint can have, or no place.
        """
        group = shape.get("group_id")
        if shape.get("shape_type") != "point" or group is None:
            return False
        name = shape.get("label")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{place} is a keypoint without a name; give its label.")
        name = name.strip()
        if self._known is not None and name not in self._known:
            raise UserError(
                f"{place} is the keypoint {name!r}, which is not among those of --keypoints; add it to them, "
                "or correct the label."
            )
        points = shape.get("points")
        if not isinstance(points, list) or len(points) != 1 or not isinstance(points[0], list):
            raise UserError(f"{place} is a point without one pair of x and y; draw it again.")
        values = [number(value, "the coordinate", place) for value in points[0]]
        if len(values) != 2 or any(map(is_far, values)):
            raise UserError(f"{place} has the coordinates {values!r:.60}; give x and y in its image.")
        flags = shape.get("flags")
        hidden = (isinstance(flags, dict) and flags.get("hidden") is True) or shape.get("difficult") is True
        point = (values[0], values[1], _HIDDEN if hidden else _SEEN)
        self._groups.setdefault(str(group), []).append((place, name, point))
        return True

    def of_objects(self, objects: Sequence[tuple[str | None, str]]) -> list[dict[str, Point]]:
        """The keypoints of each object; points that belong to none are problems or are counted.

        Args:
            objects: Group (None for none) and place of each object.
        """
        found: list[dict[str, Point]] = [{} for _ in objects]
        for group, points in self._groups.items():
            own = [i for i, (other, _) in enumerate(objects) if other == group]
            for place, name, point in points:
                if not own:
                    self._builder.leave_out("shape_type 'point' in a group without an outline", place)
                elif len(own) > 1:
                    self._problem(
                        f"{place} belongs to several objects of the group {group} ({objects[own[0]][1]}; "
                        f"{objects[own[1]][1]}); give each object a group_id of its own"
                    )
                elif name in found[own[0]]:
                    self._problem(f"{place} is the second {name!r} of the group {group}; delete one of them")
                else:
                    found[own[0]][name] = point
        return found

    def _problem(self, message: str) -> None:
        self._builder.problems.add("bad keypoint", message)
