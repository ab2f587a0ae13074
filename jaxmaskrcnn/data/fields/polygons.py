"""The polygons of objects: from COCO's lists to the padded arrays that targets carry.

Shape legend: G objects of an image, B images, V vertex slots, n vertices of one object.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.field import BadAnnotation, Field, TargetImage, is_number
from jaxmaskrcnn.data.fields.packed import pack, vertex_count
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets

_FEWEST = 16  # vertex slots
_FARTHEST = 1e6  # pixels; drawing takes time in proportion to the length of the outline


@dataclass(frozen=True, eq=False)
class Polygons(Field):
    """The polygons of an image's objects, as one row of vertices for each object.

    Attributes:
        vertices: G arrays float64 [n, 2], x and y in pixels, every polygon's first vertex again as its
            last; n is 0 for an object without polygons.
        parts: G arrays int32 [n], the number of the polygon that each vertex belongs to.
    """

    vertices: tuple[np.ndarray, ...]
    parts: tuple[np.ndarray, ...]

    name = "polygons"
    COLUMNS = {"polygons": str}  # the original polygons as json text; empty where the mask came as RLE
    COUNTS = ("vertex_counts",)  # the most vertices of an object's closed polygons, ignoring crowd regions

    @classmethod
    def parse(cls, entry: Mapping, size: tuple[float, float], columns: Mapping, required: bool) -> dict:
        value = entry.get("segmentation")
        if not isinstance(value, list) or not value:
            return {"polygons": ""}
        check_polygons(value)
        return {"polygons": pack(value)}

    @classmethod
    def count(cls, objects: Sequence) -> dict[str, int]:
        vertices = [vertex_count(item.packed) for item in objects if not item.crowd]
        return {"vertex_counts": max(vertices, default=0)}

    @classmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Polygons":
        # Crowd regions have no target.
        return cls.from_lists([
            json.loads(text) if len(text) and not crowd else []
            for text, crowd in zip(columns["polygons"], columns["is_crowd"], strict=True)
        ])  # fmt: skip

    @classmethod
    def from_lists(cls, objects: Sequence[Sequence[Sequence[float]]]) -> "Polygons":
        """Makes the field from each object's polygons, each a list ``x, y, x, y, ...`` in pixels."""
        vertices, parts = [], []
        for polygons in objects:
            rings = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
            closed = [np.concatenate([ring, ring[:1]]) for ring in rings]
            vertices.append(np.concatenate([np.zeros((0, 2)), *closed]))
            parts.append(np.repeat(np.arange(len(closed), dtype=np.int32), list(map(len, closed))))
        return cls(tuple(vertices), tuple(parts))

    @classmethod
    def from_target(
        cls, target: Mapping, image: TargetImage, fields: Mapping[str, Field]
    ) -> "Polygons | None":
        if not given_polygons(target, image.model):
            return None
        return cls.from_lists(_checked(target["polygons"], image))

    def counts(self) -> dict[str, int]:
        return {"vertex_counts": max(map(len, self.parts), default=0)}

    def missing(self) -> np.ndarray:
        """Which objects have no polygons, bool [G]."""
        return np.asarray([not len(parts) for parts in self.parts], bool)

    def transform(self, geometry: Geometry, model: ModelConfig) -> "Polygons":
        # In float64, each axis by its own ratio and mirrored afterwards, as Detectron2's transforms do it.
        if not self.vertices:
            return self
        moved = geometry.points(np.concatenate(self.vertices))
        ends = np.cumsum([len(vertices) for vertices in self.vertices])
        return Polygons(tuple(np.split(moved, ends[:-1])), self.parts)

    def move(self, top: int, left: int) -> "Polygons":
        return Polygons(tuple(vertices + (left, top) for vertices in self.vertices), self.parts)

    def take(self, chosen: np.ndarray) -> "Polygons":
        return Polygons(tuple(self.vertices[g] for g in chosen), tuple(self.parts[g] for g in chosen))

    def join(self, other: "Polygons") -> "Polygons":
        return Polygons(self.vertices + other.vertices, self.parts + other.parts)

    @classmethod
    def room(cls, counts: Mapping[str, int], model: ModelConfig, *, augmented: bool) -> int:
        # Cropping and pasting turn an object into a bitmap, so augmented objects have no polygons.
        if augmented or not needs_polygons(model) or not counts["vertex_counts"]:
            return 0
        return vertex_slots(counts["vertex_counts"])

    @classmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict:
        return {
            "polygons": np.zeros((batch, objects, room, 4), np.float32) if room else None,
            "polygon_parts": np.full((batch, objects, room), -1, np.int32) if room else None,
        }

    def fill(self, targets: Targets, image: int) -> None:
        if targets.polygons is None:
            return
        for g, (vertices, parts) in enumerate(zip(self.vertices, self.parts, strict=True)):
            nearest = vertices.astype(np.float32)
            targets.polygons[image, g, : len(parts), :2] = nearest
            targets.polygons[image, g, : len(parts), 2:] = vertices - nearest
            targets.polygon_parts[image, g, : len(parts)] = parts


def needs_polygons(model: ModelConfig) -> bool:
    """Whether a model draws its mask targets from polygons."""
    return model.mask is not None and model.mask.targets == "polygon"


def given_polygons(target: Mapping, model: ModelConfig) -> bool:
    """Whether a target given to ``make_batch`` has polygons that the model draws its mask targets from."""
    return needs_polygons(model) and "polygons" in target


def vertex_slots(count: int) -> int:
    """V for objects of up to ``count`` vertices: powers of two, so that few programs are compiled."""
    return max(_FEWEST, 1 << max(count - 1, 0).bit_length())


def _checked(objects, image: TargetImage) -> list:
    """The checked polygons of each object of a target given to ``make_batch``; crowd regions get none."""
    crowd, i = image.crowd, image.number
    if len(objects) != len(crowd):
        raise UserError(
            f"the target of image {i} has polygons of {len(objects)} objects for {len(crowd)} labels; give "
            "a list for each object, empty where there is none."
        )
    objects = [[] if is_crowd else list(p or []) for p, is_crowd in zip(objects, crowd, strict=True)]
    for g, polygons in enumerate(objects):
        for polygon in map(np.asarray, polygons):
            numbers = np.issubdtype(polygon.dtype, np.number)
            if polygon.ndim != 1 or polygon.size < 6 or polygon.size % 2 or not numbers:
                raise UserError(
                    f"object {g} of image {i} has a polygon of {polygon.dtype} {list(polygon.shape)}; give "
                    "at least three points as one flat list x, y, x, y, ..."
                )
            if not np.isfinite(polygon).all():
                raise UserError(f"object {g} of image {i} has a polygon with a value that is not finite.")
    return objects


def check_polygons(polygons: list) -> None:
    """Checks the polygons of an object before they are drawn; pycocotools trusts its input.

    Args:
        polygons: A json's list of polygons, each ``x, y, x, y, ...`` in pixels.

    Raises:
        BadAnnotation: One is no list of finite numbers, has fewer than three points, or reaches millions of
            pixels beyond any image.
    """
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise BadAnnotation(
                "bad polygon",
                f"has a {type(polygon).__name__} where a polygon is expected; its segmentation is a "
                "list of polygons, each a list x, y, x, y, ...",
            )
        if not are_numbers(polygon):
            raise BadAnnotation(
                "bad polygon", "has a polygon with a value that is not a finite number; correct it"
            )
        if len(polygon) % 2:
            raise BadAnnotation(
                "bad polygon",
                f"has a polygon of {len(polygon)} numbers; give pairs of x and y",
            )
        if len(polygon) < 6:
            raise BadAnnotation(
                "bad polygon",
                f"has a polygon of {len(polygon) // 2} points; give at least 3 or remove it",
            )
        farthest = max(polygon, key=abs)
        if is_far(farthest):
            raise BadAnnotation(
                "bad polygon",
                f"has a polygon with the coordinate {farthest:g}, which lies far outside of any image; "
                "correct or remove it",
            )


def is_far(values: Any) -> Any:
    """Whether coordinates lie so far outside of any image that polygons must not be drawn; a NaN does.

    It is the one rule for annotations that are read and for those that are imported.

    Args:
        values: One coordinate in pixels, or an array of them.

    Returns:
        A bool, or an array of them.

    Example:
        >>> bool(is_far(-2e6)), is_far(np.array([0, 1e6, 1e8])).tolist()
        (True, [False, False, True])
    """
    # Not by the absolute value, as that of the least whole number of 64 bits is negative.
    return np.logical_not((values >= -_FARTHEST) & (values <= _FARTHEST))


def are_numbers(values: list) -> bool:
    """Whether all values of a json list are finite numbers (numbers in texts are none)."""
    # Checking values one by one takes longer than drawing the polygon; a finite sum contains no NaN.
    with contextlib.suppress(OverflowError):  # a whole number beyond the largest float beside a float
        if set(map(type, values)) <= {int, float} and abs(sum(values)) < 1e15:
            return True
    return all(map(is_number, values))
