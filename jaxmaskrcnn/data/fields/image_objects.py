"""The objects of one image, with all their fields.

Shape legend: G objects of the image, H, W the height and width of the canvas.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.extra import EXTRA, Extra
from jaxmaskrcnn.data.fields.field import Field
from jaxmaskrcnn.data.fields.semantic import SEMANTIC, SemanticMap
from jaxmaskrcnn.data.fields.table import FIELDS
from jaxmaskrcnn.data.transforms import Geometry

_CUT = 1e-2  # pixels by which a box has to reach over the border to count as cut


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """The objects of one image; every method returns new ones and changes nothing.

    Attributes:
        labels: int32 [G].
        crowd: bool [G].
        areas: [G], annotated areas; None where augmentations have changed them.
        fields: The fields by their names. Boxes are always among them.
        semantic: The labels of the image's pixels, or None.
        extra: Extra ground truth, or None.
    """

    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray | None
    fields: Mapping[str, Field]
    semantic: SemanticMap | None = None
    extra: Extra | None = None

    @classmethod
    def read(cls, example, names: Collection[str]) -> "ImageObjects":
        """The objects of a record.

        Args:
            example: The record.
            names: Which fields to read, "semantic" for the labels of the image's pixels, and "extra" for
                extra ground truth.
        """
        fields = {f.name: f.read(example.columns, example.size) for f in FIELDS if f.name in names}
        semantic = SemanticMap.decode(example.semantic) if SEMANTIC in names else None
        extra = Extra.decode(example.extra) if EXTRA in names else None
        return cls(example.labels, example.crowd, example.areas, fields, semantic, extra)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> np.ndarray:
        """float32 [G, 4], XYXY in pixels."""
        return self.fields["boxes"].boxes

    def transform(self, geometry: Geometry, model: ModelConfig) -> "ImageObjects":
        """Applies an image's transforms; parts outside the window are kept.

        Args:
            geometry: The transforms.
            model: As in ``Field.transform``.
        """
        moved = self._each(lambda field: field.transform(geometry, model))
        if moved.semantic is None:
            return moved
        return dataclasses.replace(moved, semantic=moved.semantic.transform(geometry, model))

    def clip(self, size: tuple[int, int], *, turned: bool = False) -> "ImageObjects":
        """Removes the parts that lie outside the image, and objects of which nothing remains.

        With masks, an object that was turned or cut gets the tight box of the mask that remains
        (Detectron2's ``recompute_boxes``); any other keeps its annotated box, moved with the image.
        Without masks boxes are clipped (torchvision's rule); a turned one is first replaced by the box
        around its corners.

        Args:
            size: ``(height, width)`` of the image in pixels.
            turned: Whether the image was rotated.
        """
        clipped = self._each(lambda field: field.clip(size))
        changed = (np.abs(clipped.boxes - self.boxes) > _CUT).any(axis=1) | turned
        return clipped._with_tight_boxes(changed)._remaining()

    def hide(self, cover: np.ndarray) -> "ImageObjects":
        """Removes the parts that pasted objects cover.

        Objects of which nothing remains are dropped; one that loses pixels gets the tight box of the
        remaining mask.

        Args:
            cover: bool [H, W], True where something has been pasted.
        """
        left = self._each(lambda field: field.hide(cover))
        if left.semantic is not None:
            left = dataclasses.replace(left, semantic=left.semantic.hide(cover))
        pieces = zip(self.fields["masks"].pieces, left.fields["masks"].pieces, strict=True)
        changed = np.asarray([before is not after for before, after in pieces], bool)
        return left._with_tight_boxes(changed)._remaining()

    def move(self, top: int, left: int, canvas: tuple[int, int]) -> "ImageObjects":
        """Moves the objects with their image, which is put on a larger canvas.

        Args:
            top: Row of the image's first pixel.
            left: Its column.
            canvas: ``(height, width)`` of the canvas in pixels.
        """
        moved = self._each(lambda field: field.move(top, left))
        if moved.semantic is None:
            return moved
        return dataclasses.replace(moved, semantic=moved.semantic.move(top, left, canvas))

    def take(self, chosen: np.ndarray) -> "ImageObjects":
        """Some of the objects; ``chosen`` int [chosen]."""
        taken = self._each(lambda field: field.take(chosen))
        areas = None if self.areas is None else self.areas[chosen]
        extra = None if self.extra is None else self.extra.take(chosen)
        return dataclasses.replace(
            taken, labels=self.labels[chosen], crowd=self.crowd[chosen], areas=areas, extra=extra
        )

    def join(self, other: "ImageObjects") -> "ImageObjects":
        """These objects and then those of another image, which has the same fields."""
        return ImageObjects(
            labels=np.concatenate([self.labels, other.labels]),
            crowd=np.concatenate([self.crowd, other.crowd]),
            areas=None,
            fields={name: field.join(other.fields[name]) for name, field in self.fields.items()},
            semantic=self.semantic,
            extra=None if self.extra is None else self.extra.join(other.extra),
        )

    def largest(self, count: int) -> "ImageObjects":
        """At most ``count`` objects, the largest; they keep their order.

        They are compared by annotated area. Where augmentations have changed it, by the area of the
        remaining masks, or of the boxes where there are no masks.
        """
        if len(self) <= count:
            return self
        areas = self.areas
        if areas is None:
            measured = (field.areas() for field in self.fields.values())
            areas = next(values for values in measured if values is not None)
        return self.take(np.sort(np.argsort(-areas, kind="stable")[:count]))

    def _each(self, change: Callable[[Field], Field]) -> "ImageObjects":
        fields = {name: change(field) for name, field in self.fields.items()}
        return dataclasses.replace(self, fields=fields)

    def _with_tight_boxes(self, changed: np.ndarray) -> "ImageObjects":
        """Gives the changed objects the tight boxes of their other fields, where these have some."""
        boxes = self.fields["boxes"]
        if changed.any():
            for field in self.fields.values():
                tight = field.tight_boxes()
                if tight is not None:
                    boxes = boxes.replaced(changed, tight)
        return dataclasses.replace(self, fields={**self.fields, "boxes": boxes})

    def _remaining(self) -> "ImageObjects":
        remains = np.ones(len(self), bool)
        for field in self.fields.values():
            of_field = field.remains()
            if of_field is not None:
                remains &= of_field
        return self if remains.all() else self.take(np.flatnonzero(remains))
