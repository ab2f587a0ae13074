"""The semantic labels of an image's pixels, which go with its objects through all transforms.

They are a property of the image and of no object, so this is none of the fields of `table.py`.

Shape legend: H, W an image, B images of a batch.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.semantic import IGNORED
from jaxmaskrcnn.data.fields.pieces import MaskGrid
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets

SEMANTIC = "semantic"  # its key in targets, and among the names of what is read of a record
THINGS = 0  # the label of all things; those of stuff follow


@dataclass(frozen=True, eq=False)
class SemanticMap:
    """The labels of an image's pixels; every method returns a new map and changes nothing.

    Attributes:
        labels: uint8 [H, W], 0 for all things, from 1 on for stuff, 255 where nothing is learned.
    """

    labels: np.ndarray

    @classmethod
    def decode(cls, png: bytes) -> "SemanticMap":
        """Reads the map of a record, which `encode` has written."""
        with Image.open(io.BytesIO(png)) as image:
            return cls(np.asarray(image, np.uint8))

    def encode(self) -> bytes:
        """The map as a PNG of one channel."""
        file = io.BytesIO()
        Image.fromarray(self.labels).save(file, "PNG")
        return file.getvalue()

    @classmethod
    def from_target(
        cls, target: Mapping[str, Any], number: int, size: tuple[int, int], model: ModelConfig
    ) -> "SemanticMap | None":
        """Checks the map of a target given to ``make_batch``.

        Args:
            target: The mapping that the user gives.
            number: The image's position in the batch, for messages.
            size: The image's height and width.
            model: Configuration of the model.

        Returns:
            The map, or None where the model does not need it.

        Raises:
            UserError: It is missing, or has the wrong type, shape or values.
        """
        if model.semantic is None:
            return None
        if "semantic" not in target:
            raise UserError(
                f"the target of image {number} has no 'semantic'; give the class of each pixel, uint8 "
                f"[{size[0]}, {size[1]}]: 0 for things, from 1 on for stuff, {IGNORED} for none."
            )
        labels, stuff = np.asarray(target["semantic"]), len(model.semantic.stuff)
        if labels.shape != tuple(size) or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"the target of image {number} has {labels.dtype} semantic labels {list(labels.shape)}; give "
                f"whole numbers [{size[0]}, {size[1]}], at the image's own size."
            )
        wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels > stuff))]
        if wrong.size:
            raise UserError(
                f"the target of image {number} has the semantic label {wrong[0]}; the model's are 0 for "
                f"things, 1 to {stuff} for stuff, and {IGNORED} for none."
            )
        return cls(labels.astype(np.uint8))

    def transform(self, geometry: Geometry, model: ModelConfig) -> "SemanticMap":
        """Applies an image's transforms; what they uncover has no label.

        Args:
            geometry: The transforms.
            model: Gives how pixels are resized.
        """
        return SemanticMap(MaskGrid(geometry, model.input.resize_kernel).whole(self.labels, IGNORED))

    def move(self, top: int, left: int, canvas: tuple[int, int]) -> "SemanticMap":
        """Puts the map on a canvas of ``(height, width)``, where nothing else has a label."""
        labels = np.full(canvas, IGNORED, np.uint8)
        height, width = self.labels.shape
        labels[top : top + height, left : left + width] = self.labels
        return SemanticMap(labels)

    def hide(self, cover: np.ndarray) -> "SemanticMap":
        """Replaces what pasted objects cover, bool [H, W], by things."""
        return SemanticMap(np.where(cover, np.uint8(THINGS), self.labels))

    @staticmethod
    def slots(batch: int, canvas: tuple[int, int], needed: bool) -> np.ndarray | None:
        """The array of ``Targets``, with no label anywhere; None for a model that needs none."""
        return np.full((batch, *canvas), IGNORED, np.uint8) if needed else None

    def fill(self, targets: Targets, image: int) -> None:
        """Writes the map of an image; ``targets`` is changed in place."""
        if targets.semantic is not None:
            height, width = self.labels.shape
            targets.semantic[image, :height, :width] = self.labels
