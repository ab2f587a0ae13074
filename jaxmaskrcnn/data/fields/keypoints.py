"""The keypoints of objects: from COCO's flat lists to the arrays that targets carry.

Shape legend: G objects of an image, B images, K keypoints.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.field import BadAnnotation, Field, TargetImage, is_number
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets

_VISIBILITIES = (0, 1, 2)  # not annotated, hidden, seen


@dataclass(frozen=True, eq=False)
class Keypoints(Field):
    """The keypoints of an image's objects.

    Attributes:
        points: float64 [G, K, 3], x and y in pixels and COCO's visibility; zeros where there is no keypoint.
    """

    points: np.ndarray

    name = "keypoints"
    COLUMNS = {"keypoints": str}  # x, y, visibility, x, ... as json text; empty without keypoints
    COUNTS = ("keypoint_counts",)  # number of annotated keypoints, not counting crowd regions

    @classmethod
    def parse(cls, entry: Mapping, size: tuple[float, float], columns: Mapping, required: bool) -> dict:
        value = entry.get("keypoints")
        if not required or value is None or value == []:
            return {"keypoints": ""}
        check_keypoints(value)
        return {"keypoints": json.dumps(value, separators=(",", ":")) if any(value[2::3]) else ""}

    @classmethod
    def count(cls, objects: Sequence) -> dict[str, int]:
        return {"keypoint_counts": sum(count_annotated(x.keypoints) for x in objects if not x.crowd)}

    @classmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Keypoints":
        lists = [json.loads(text) if len(text) else [] for text in columns["keypoints"]]
        count = max(map(len, lists), default=0) // 3
        points = np.zeros((len(lists), count, 3))
        for own, values in zip(points, lists, strict=True):
            own[: len(values) // 3] = np.reshape(values, (-1, 3))
        return cls(_without_places(points))

    @classmethod
    def is_required(cls, target: Mapping, model: ModelConfig) -> bool:
        return model.keypoints is not None

    @classmethod
    def from_target(
        cls, target: Mapping, image: TargetImage, fields: Mapping[str, Field]
    ) -> "Keypoints | None":
        if image.model.keypoints is None:
            return None
        points, shape = (
            np.asarray(target["keypoints"]),
            (len(image.crowd), len(image.model.keypoints.points), 3),
        )
        if points.size == 0 and shape[0] == 0:
            points = np.zeros(shape)
        if points.shape != shape or not np.issubdtype(points.dtype, np.number):
            raise UserError(
                f"the target of image {image.number} has {points.dtype} keypoints {list(points.shape)}; give "
                f"{list(shape)}: x, y and visibility of each."
            )
        points = points.astype(np.float64)
        if not np.isfinite(points).all() or not np.isin(points[..., 2], _VISIBILITIES).all():
            raise UserError(
                f"the target of image {image.number} has keypoints with a value that is not finite, or a "
                "visibility other than 0, 1 and 2; correct them."
            )
        return cls(_without_places(points))

    def transform(self, geometry: Geometry, model: ModelConfig) -> "Keypoints":
        part = model.keypoints
        if part is None:
            return self
        moved = self.points.copy()
        moved[..., :2] = geometry.points(moved[..., :2] + part.offset).reshape(moved[..., :2].shape)
        if geometry.flip and moved.shape[1] == len(part.points):
            moved = moved[:, list(part.flip_order)]
        return Keypoints(_without_places(moved))

    def move(self, top: int, left: int) -> "Keypoints":
        return Keypoints(_without_places(self.points + (left, top, 0)))

    def clip(self, size: tuple[int, int]) -> "Keypoints":
        height, width = size
        x, y, visibility = np.moveaxis(self.points, -1, 0)
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        return self._with_visibility(np.where(inside, visibility, 0))

    def hide(self, cover: np.ndarray) -> "Keypoints":
        """Keypoints that are covered are hidden: they keep their place."""
        x, y, visibility = np.moveaxis(self.points, -1, 0)
        row, column = (np.clip(v.astype(int), 0, n - 1) for v, n in zip((y, x), cover.shape, strict=True))
        return self._with_visibility(np.where(cover[row, column], np.minimum(visibility, 1), visibility))

    def _with_visibility(self, visibility: np.ndarray) -> "Keypoints":
        return Keypoints(_without_places(np.concatenate([self.points[..., :2], visibility[..., None]], -1)))

    def take(self, chosen: np.ndarray) -> "Keypoints":
        return Keypoints(self.points[chosen])

    def join(self, other: "Keypoints") -> "Keypoints":
        # An image of which no object has keypoints does not know how many there are.
        count = max(self.points.shape[1], other.points.shape[1])
        padded = [np.pad(x, ((0, 0), (0, count - x.shape[1]), (0, 0))) for x in (self.points, other.points)]
        return Keypoints(np.concatenate(padded))

    @classmethod
    def room(cls, counts: Mapping[str, int], model: ModelConfig, *, augmented: bool) -> int:
        return 0 if model.keypoints is None else len(model.keypoints.points)

    @classmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict:
        return {"keypoints": np.zeros((batch, objects, room, 3), np.float32) if room else None}

    def fill(self, targets: Targets, image: int) -> None:
        if targets.keypoints is not None:
            objects, count, _ = self.points.shape
            targets.keypoints[image, :objects, :count] = self.points


def _without_places(points: np.ndarray) -> np.ndarray:
    """The points with zeros for those that are not annotated, as COCO has them."""
    return np.where(points[..., 2:] > 0, points, 0.0)


def count_annotated(text: str) -> int:
    """The number of annotated keypoints in a record's json text.

    Example:
        >>> count_annotated("[1,2,2,0,0,0,5,6,1]"), count_annotated("")
        (2, 0)
    """
    return sum(value > 0 for value in json.loads(text)[2::3]) if text else 0


def check_keypoints(value) -> None:
    """Checks the keypoints of an annotation.

    Args:
        value: A json's value of ``keypoints``.

    Raises:
        BadAnnotation: It is no flat list of x, y and visibility, of finite numbers.

    Example:
        >>> check_keypoints([12, 30.5, 2, 0, 0, 0])
    """
    if not isinstance(value, list) or len(value) % 3:
        found = f"a list of {len(value)} numbers" if isinstance(value, list) else type(value).__name__
        raise BadAnnotation(
            "bad keypoints", f"has keypoints that are {found}; give a flat list x, y, visibility, x, ..."
        )
    if not all(map(is_number, value)):
        raise BadAnnotation(
            "bad keypoints", "has keypoints with a value that is not a finite number; correct it"
        )
    wrong = [v for v in value[2::3] if v not in _VISIBILITIES]
    if wrong:
        raise BadAnnotation(
            "bad keypoints",
            f"has a keypoint with the visibility {wrong[0]:g}; give 0 (not annotated), 1 (hidden) or 2 "
            "(seen)",
        )
