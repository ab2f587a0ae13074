"""What a predictor found in a picture: a dictionary of arrays, with what people ask of it next.

Shape legend: N objects, H, W height and width of the image, h, w those of a part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.rle import check_mask_sizes, decode_mask
from jaxmaskrcnn.inference.formats import coco_annotations
from jaxmaskrcnn.inference.postprocess import encode_mask
from jaxmaskrcnn.structures import Category


class Result(dict[str, Any]):
    """The objects of a picture, as ``Predictor`` describes them: ``boxes``, ``scores``, ``labels``,
    ``masks``.

    Args:
        values: The arrays by name.
        categories: The model's categories, whose ids are the labels.

    Attributes:
        categories: The model's categories.

    Example:
        >>> box, score = np.float32([[2, 1, 6, 4]]), np.float32([0.9])
        >>> values = {"boxes": box, "scores": score, "labels": np.array([3])}
        >>> result = Result(values, [Category(3, "cat")])
        >>> result.names, result.counts()
        (['cat'], {'cat': 1})
        >>> result.crop(np.zeros((8, 8, 3), np.uint8), 0).shape
        (3, 4, 3)
    """

    def __init__(self, values: Mapping[str, Any], categories: Sequence[Category]):
        super().__init__(values)
        self.categories = tuple(categories)

    @property
    def names(self) -> list[str]:
        """The name of each object's class."""
        known = dict(self.categories)
        return [known.get(int(label), f"class {label}") for label in self["labels"]]

    def counts(self) -> dict[str, int]:
        """The number of objects of each class that there is, in the order of the categories."""
        names = self.names
        return {c.name: names.count(c.name) for c in self.categories if c.name in names}

    def crop(self, image: Any, i: int, *, masked: bool = False, margin: int = 0) -> np.ndarray:
        """Cuts an object out of its picture.

        Args:
            image: The picture: a path, a PIL image or uint8 RGB [H, W, 3].
            i: Index of the object.
            masked: Whether pixels outside of its mask become transparent.
            margin: Pixels around its box.

        Returns:
            uint8 [h, w, 3] of its box, or with ``masked`` RGBA [h, w, 4].

        Raises:
            UserError: The picture has another size than the masks.
            ValueError: ``masked`` is set and there are no masks.
        """
        pixels = read_image(image)
        height, width = pixels.shape[:2]
        check_mask_sizes(self.get("masks"), height, width)
        low, high = np.floor(self["boxes"][i][:2]) - margin, np.ceil(self["boxes"][i][2:]) + margin
        (x0, y0), (x1, y1) = np.clip([low, high], 0, [width, height]).astype(int).tolist()
        part = pixels[y0:y1, x0:x1]
        if not masked:
            return part.copy()
        if "masks" not in self:
            raise ValueError("The result has no masks; crop it without masked.")
        alpha = np.where(self.mask(i)[y0:y1, x0:x1], 255, 0).astype(np.uint8)
        return np.concatenate([part, alpha[..., None]], -1)

    def mask(self, i: int) -> np.ndarray:
        """The mask of an object, bool [H, W], whatever the form of ``masks`` is."""
        mask = self["masks"][i]
        if isinstance(mask, Mapping):
            return decode_mask(mask["counts"].encode("ascii"), *mask["size"]).T
        return np.asarray(mask) if mask.dtype == bool else np.asarray(mask) >= 0.5

    def to_coco(self, image_id: int = 1, file_name: str = "", first_id: int = 1) -> list[dict[str, Any]]:
        """Makes COCO annotations, with names and scores, as ``predictions.json`` has them.

        Args:
            image_id: Of the image.
            file_name: Of the image.
            first_id: ``id`` of the first entry.

        Returns:
            N entries that json can hold.
        """
        values = dict(self)
        if "masks" in self:
            masks = [
                m if isinstance(m, Mapping) else encode_mask(self.mask(i))
                for i, m in enumerate(self["masks"])
            ]
            values["masks"] = masks
        image = {"id": image_id, "file_name": file_name}
        names = {int(label): name for label, name in zip(self["labels"], self.names, strict=True)}
        return coco_annotations(values, image, names, first_id)
