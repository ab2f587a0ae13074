"""What a json's categories say of keypoints: their names and the lines between them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmaskrcnn.config.keypoints import point_names
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import Object
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.fields.field import BadAnnotation
from jaxmaskrcnn.data.fields.keypoints import check_keypoints, count_annotated
from jaxmaskrcnn.structures import Skeleton

_LOOKED_AT = 1000  # annotations of a json whose categories name no keypoints


def has_keypoints(content: Mapping[str, Any]) -> bool:
    """Whether any category or one of the first annotations of a json has keypoints, in whatever form.

    Args:
        content: The json.

    Example:
        >>> has_keypoints({"categories": [{"id": 1, "keypoints": ["head"]}], "annotations": []})
        True
    """
    entries = (*content["categories"], *content["annotations"][:_LOOKED_AT])
    return any(entry.get("keypoints") for entry in entries)


def read_skeleton(
    content: Mapping[str, Any], notes: Notes, path: object = "", problems: Problems | None = None
) -> Skeleton | None:
    """The keypoints of a json's objects, which are the same for all classes that have some.

    Args:
        content: The json.
        notes: Counts what is read although it is not written as COCO writes it.
        path: Its path, for messages.
        problems: Collects categories whose keypoints are no list of names; None leaves them out.

    Returns:
        None where no object can have keypoints, or categories have different ones, which is noted.
        Where only the annotations have keypoints, they have COCO's names if there are 17, or numbers.

    Example:
        >>> person = {"id": 1, "name": "a", "keypoints": ["head", "foot"], "skeleton": [[1, 2]]}
        >>> read_skeleton({"categories": [person], "annotations": []}, Notes())
        Skeleton(points=('head', 'foot'), lines=((0, 1),))
    """
    found = {}
    for entry in content["categories"]:
        points = entry.get("keypoints")
        named = isinstance(points, list) and all(isinstance(point, (str, int, float)) for point in points)
        if points is not None and not named:
            if problems is not None:
                problems.refuse(
                    "bad category",
                    f"{path}: category {entry.get('id')!r} has the keypoints {points!r:.60}; give a list of "
                    "their names",
                )
        elif isinstance(points, list) and points:
            names = tuple(str(point).strip() for point in points)
            found.setdefault(names, _lines(entry.get("skeleton"), len(names), entry, notes))
    if len(found) > 1:
        notes.add(
            "categories with other keypoints than another one, of which a model has only one list; none are "
            "read", f"{list(found)[1][0]!r} and {list(found)[0][0]!r}",
        )  # fmt: skip
        return None
    if not found:
        lists = (entry.get("keypoints") for entry in content["annotations"])
        count = max((len(values) // 3 for values in lists if isinstance(values, list)), default=0)
        if not count:
            _refuse_others(content, path, problems)
            return None
        notes.add("keypoints without names in 'categories', called by their numbers", f"{count} keypoints")
        return Skeleton(point_names(count), ())
    ((points, lines),) = found.items()
    if len(set(points)) != len(points):
        notes.add("names of keypoints that several have, replaced by numbers", repr(points[0]))
        points = tuple(f"keypoint {i}" for i in range(len(points)))
    return Skeleton(points, lines)


def _refuse_others(content: Mapping[str, Any], path: object, problems: Problems | None) -> None:
    """Refuses annotations whose keypoints are something, but no list, where none has a list."""
    if problems is None:
        return
    for entry in content["annotations"]:
        try:
            check_keypoints(entry.get("keypoints") or [])
        except BadAnnotation as bad:
            problems.refuse(bad.reason, f"{path}: annotation {entry.get('id')!r} {bad.found}")


def _lines(value: Any, count: int, entry: Mapping, notes: Notes) -> tuple[tuple[int, int], ...]:
    """Pairs of numbers from 0 of COCO's pairs of numbers from 1."""
    lines = []
    for pair in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        numbers = map(whole_number, pair if isinstance(pair, list) else ())
        ends = [end - 1 for end in numbers if end is not None and 1 <= end <= count]
        if isinstance(pair, list) and len(pair) == len(ends) == 2:
            lines.append((ends[0], ends[1]))
        else:
            notes.add("lines of skeletons that are no pairs of keypoints, left out", f"{pair!r}")
    return tuple(lines)


def check_points(entry: Mapping[str, Any], item: Object, skeleton: Skeleton, notes: Notes) -> None:
    """Checks the keypoints of an object against those that its category has.

    Args:
        entry: The annotation.
        item: What was read of it.
        skeleton: The keypoints that objects have.
        notes: Counts annotations whose ``num_keypoints`` is another number than that of their keypoints.

    Raises:
        BadAnnotation: It has another number of keypoints.
    """
    values = entry.get("keypoints")
    if isinstance(values, list) and values and len(values) != 3 * len(skeleton.points):
        raise BadAnnotation(
            "bad keypoints",
            f"has {len(values) // 3} keypoints, but objects here have {len(skeleton.points)}; give x, y and "
            "visibility of each, with zeros for those that are not annotated",
        )
    written = entry.get("num_keypoints")
    if written is not None and written != count_annotated(item.keypoints):
        notes.add(
            "values of 'num_keypoints' that are not the number of keypoints, which is taken",
            f"annotation {item.id}",
        )
