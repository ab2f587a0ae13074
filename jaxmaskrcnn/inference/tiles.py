"""Detection in large pictures by overlapping tiles, each computed as a separate picture.

Shape legend: H, W height and width of a picture, T tiles, N objects.
"""

import collections
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.regions import Regions, open_regions
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.join_tiles import join_tiles
from jaxmaskrcnn.inference.stream import Prediction, StreamingPredictor, ordered_futures, readable


class Tile(NamedTuple):
    """A rectangle of a picture in whole pixels; ``x1`` and ``y1`` are the first ones outside it."""

    y0: int
    x0: int
    y1: int
    x1: int


def make_tiles(height: int, width: int, size: int, overlap: int) -> list[Tile]:
    """Divides a picture into as few tiles as possible, all of one size and evenly spaced.

    Args:
        height: Height of the picture, in pixels.
        width: Width of the picture, in pixels.
        size: Side of a tile in pixels; a side of the picture that is shorter is not cut.
        overlap: Smallest overlap of neighbouring tiles in pixels.

    Returns:
        T tiles, row by row.

    Example:
        >>> make_tiles(100, 250, 100, 20)
        [Tile(y0=0, x0=0, y1=100, x1=100), Tile(y0=0, x0=75, y1=100, x1=175), \
Tile(y0=0, x0=150, y1=100, x1=250)]
    """
    rows, columns = _starts(height, size, overlap), _starts(width, size, overlap)
    return [Tile(y, x, min(y + size, height), min(x + size, width)) for y in rows for x in columns]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    count = -(-(length - overlap) // (size - overlap))
    return np.linspace(0, length - size, count).round().astype(int).tolist()


class TiledPredictor(StreamingPredictor):
    """A predictor that cuts large pictures into tiles and joins the results.

    Every tile is resized like a whole picture, so that small objects of a large picture appear larger. A
    picture that fits into one tile is not cut, and its result is the predictor's. Masks stay in COCO's
    run-length encoding until the end, which takes little memory for pictures of any size. Large TIFF files
    are decoded tile by tile where that is possible (`data/regions.py`); the ``pixels`` of their predictions
    are `Regions`, which ``np.asarray`` decodes.

    Args:
        predictor: `Predictor` or `AugmentedPredictor`; its limits apply to each tile.
        size: Side of a tile, in pixels of the picture.
        overlap: Smallest overlap of neighbouring tiles in pixels; None takes a quarter of the size.
            Objects smaller than the overlap are completely visible in some tile.

    Attributes:
        config: The predictor's configuration.
        categories: The model's categories, whose ids are the ``labels`` of results.

    Raises:
        UserError: The size or the overlap is out of range.

    Example:
        >>> tiled = TiledPredictor(jmr.Predictor(model), 1024)
        >>> tiled.categories == model.categories
        True
        >>> out = tiled("aerial.tif", masks="rle")  # doctest: +SKIP
        >>> len(make_tiles(4000, 6000, 1024, 256))  # of a picture of 6000 x 4000 pixels
        40
    """

    def __init__(self, predictor: StreamingPredictor, size: int, overlap: int | None = None):
        overlap = size // 4 if overlap is None else overlap
        if predictor.config.keypoints is not None:
            raise UserError(
                "Joined tiles have no keypoints, and the model has a keypoint head; predict without tiles."
            )
        if predictor.config.semantic is not None:
            raise UserError(
                "Joined tiles have no panoptic segmentation, and the model has a semantic head; predict "
                "without tiles."
            )
        if getattr(predictor, "has_extra", False):
            raise UserError(
                "Joined tiles have nothing of what further region heads predict, and the model has some; "
                "predict without tiles."
            )
        if size < 32:
            raise UserError(f"The tile size is {size}; give at least 32 pixels.")
        if not size // 16 <= overlap <= size // 2:
            raise UserError(f"The tiles' overlap is {overlap}; give {size // 16} to {size // 2} pixels.")
        self.config, self.categories = predictor.config, predictor.categories
        self._predictor, self._size, self._overlap = predictor, size, overlap

    def _stream(self, images, masks, on_error, name="images[{}]") -> Iterator[Prediction]:
        if masks == "probs":
            raise UserError("masks is 'probs', which joined tiles do not have; choose 'bool' or 'rle'.")
        cut: collections.deque[tuple[int, np.ndarray | Regions, list[Tile]]] = collections.deque()

        def tiles() -> Iterator[np.ndarray]:
            # Pictures may be large, so only one is read ahead while the previous one is computed.
            def read(numbered: tuple[int, Any]) -> np.ndarray | Regions:
                index, image = numbered
                return _read(image, self.config.input.pixels, name.format(index))

            futures = ordered_futures(read, enumerate(images), workers=1, ahead=1)
            for index, pixels in readable(futures, on_error):
                height, width = pixels.shape[:2]
                windows = make_tiles(height, width, self._size, self._overlap)
                cut.append((index, pixels, windows))
                for y0, x0, y1, x1 in windows:
                    yield pixels[y0:y1, x0:x1]

        found = []
        for prediction in self._predictor.stream(tiles(), masks="rle"):
            found.append(prediction.result)
            index, pixels, windows = cut[0]
            if len(found) == len(windows):
                cut.popleft()
                yield Prediction(index, pixels, _result(found, windows, pixels.shape[:2], masks))
                found = []


def _read(image: Any, pixels: PixelConfig, name: str) -> np.ndarray | Regions:
    """A picture, which is not decoded before it is cut where its file can be read by regions."""
    regions = open_regions(image, pixels) if isinstance(image, (str, os.PathLike)) else None
    return read_image(image, pixels, name) if regions is None else regions


def _result(found, windows, image_size, masks) -> dict:
    result = found[0] if len(windows) == 1 else join_tiles(found, windows, image_size)
    if masks == "bool" and "masks" in result:
        whole = np.zeros((len(result["masks"]), *image_size), bool)
        for mask, rle in zip(whole, result["masks"], strict=True):
            mask[:] = decode_mask(rle["counts"].encode("ascii"), *image_size).T
        result = {**result, "masks": whole}
    return result
