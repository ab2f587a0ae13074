"""The boxes of objects.

Shape legend: G objects of an image, B images, XYXY in pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.field import BadAnnotation, Field, TargetImage, is_number
from jaxmaskrcnn.data.transforms import Geometry, clip_boxes, not_degenerate
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets


@dataclass(frozen=True, eq=False)
class Boxes(Field):
    """The boxes of an image's objects.

    Attributes:
        boxes: float32 [G, 4], XYXY in pixels.
    """

    boxes: np.ndarray

    name = "boxes"
    COLUMNS = {"bbox": (np.float32, 4)}

    @classmethod
    def parse(cls, entry: Mapping, size: tuple[float, float], columns: Mapping, required: bool) -> dict:
        value, (height, width) = entry.get("bbox"), size
        if value is None and columns["rle"]:
            value = mask_utils.toBbox({"size": list(size), "counts": columns["rle"]}).tolist()
        if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
            raise BadAnnotation(
                "bad box", f"has the bbox {value!r}; give four finite numbers x, y, width, height"
            )
        x, y, box_width, box_height = value
        if box_width <= 0 or box_height <= 0:
            raise BadAnnotation(
                "bad box",
                f"has a bbox of width {box_width:g} and height {box_height:g}; make both positive or "
                "remove it",
            )
        box = (max(x, 0), max(y, 0), min(x + box_width, width), min(y + box_height, height))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise BadAnnotation(
                "bad box",
                f"has the bbox {value!r} outside of its {width} x {height} image; correct or remove it",
            )
        return {"bbox": tuple(map(float, box))}

    @classmethod
    def annotated_area(cls, columns: Mapping, size: tuple[int, int]) -> float:
        x1, y1, x2, y2 = columns["bbox"]
        return (x2 - x1) * (y2 - y1)

    @classmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Boxes":
        return cls(np.asarray(columns["bbox"], np.float32).reshape(-1, 4))

    @classmethod
    def is_required(cls, target: Mapping, model) -> bool:
        return True

    @classmethod
    def from_target(cls, target: Mapping, image: TargetImage, fields: Mapping[str, Field]) -> "Boxes":
        boxes, count, i = np.asarray(target["boxes"]), len(image.crowd), image.number
        if boxes.shape != (count, 4) and not (count == 0 and boxes.size == 0):
            raise UserError(
                f"the target of image {i} has boxes {list(boxes.shape)} for {count} labels; "
                f"give [{count}, 4]."
            )
        boxes = boxes.reshape(-1, 4).astype(np.float32)
        for g, (x1, y1, x2, y2) in enumerate(boxes):
            if not (x2 > x1 and y2 > y1 and np.isfinite(boxes[g]).all()):
                raise UserError(
                    f"box {g} of image {i} is [{x1:g}, {y1:g}, {x2:g}, {y2:g}]; give finite x1, y1, x2, y2 "
                    "with x2 > x1 and y2 > y1."
                )
            height, width = image.size
            if not (x1 < width and y1 < height and x2 > 0 and y2 > 0):
                raise UserError(
                    f"box {g} of image {i} is [{x1:g}, {y1:g}, {x2:g}, {y2:g}], outside of the image, which "
                    f"is {width} wide and {height} high; give a box in its pixels that overlaps it."
                )
        return cls(boxes)

    def transform(self, geometry: Geometry, model: ModelConfig) -> "Boxes":
        return Boxes(geometry.boxes(self.boxes))

    def clip(self, size: tuple[int, int]) -> "Boxes":
        return Boxes(clip_boxes(self.boxes, size))

    def replaced(self, where: np.ndarray, others: np.ndarray) -> "Boxes":
        """Replaces the boxes of the objects given by ``where``, bool [G], by ``others``, float32 [G, 4]."""
        return Boxes(np.where(where[:, None], others, self.boxes))

    def move(self, top: int, left: int) -> "Boxes":
        return Boxes(self.boxes + np.float32([left, top, left, top]))

    def take(self, chosen: np.ndarray) -> "Boxes":
        return Boxes(self.boxes[chosen])

    def join(self, other: "Boxes") -> "Boxes":
        return Boxes(np.concatenate([self.boxes, other.boxes]))

    def remains(self) -> np.ndarray:
        return not_degenerate(self.boxes)

    def areas(self) -> np.ndarray:
        return (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)

    @classmethod
    def room(cls, counts: Mapping[str, int], model, *, augmented: bool) -> int:
        return 1

    @classmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict:
        return {"boxes": np.zeros((batch, objects, 4), np.float32)}

    def fill(self, targets: Targets, image: int) -> None:
        targets.boxes[image, : len(self.boxes)] = self.boxes
