"""Streams of pictures: read ahead in threads, returned in order, never all in memory.

Shape legend: H, W height and width of an image.
"""

import abc
import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.regions import Regions
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import MASK_FORMATS
from jaxmaskrcnn.inference.result import Result
from jaxmaskrcnn.structures import Category

WORKERS = min(os.cpu_count() or 1, 8)


class Prediction(NamedTuple):
    """The result of one of several pictures.

    Attributes:
        index: Position of the picture in the input.
        pixels: uint8 RGB [H, W, 3]; of a large TIFF in tiles `Regions`, which ``np.asarray`` decodes.
        result: As returned by ``Predictor`` for one picture.
    """

    index: int
    pixels: np.ndarray | Regions
    result: dict[str, Any]


OnError = Callable[[int, UserError], None]


class StreamingPredictor(abc.ABC):
    """Base class of predictors, which take one picture, a list of pictures, or a stream of them.

    Attributes:
        config: Configuration of the model, with the predictor's own thresholds.
        categories: The model's categories, whose ids are the ``labels`` of results.
    """

    config: ModelConfig
    categories: tuple[Category, ...]

    def __call__(self, images: Any, masks: str = "bool") -> dict[str, Any] | list[dict[str, Any]]:
        """Detects the objects in one picture or in several.

        Args:
            images: A picture, or a list of pictures of any sizes. A picture is a path, the bytes of an image
                file, a PIL image, or an array: [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (alpha is
                dropped) of uint8, uint16 or floats from 0 to 1. Files and PIL images of any mode are
                converted, and turned upright by their EXIF orientation.
            masks: ``"bool"``, ``"probs"`` (probabilities) or ``"rle"`` (COCO RLE, the smallest).

        Returns:
            For one picture a dictionary, at the picture's own scale, best first: ``boxes``
            float32 [N, 4] XYXY in pixels, ``scores`` float32 [N], ``labels`` int64 [N]
            (ids of ``categories``), and with a mask head ``masks``: bool or float32
            [N, H, W], or a list of N RLE dictionaries. It is a `Result`, which has the ``names`` too. For a
            list, a list of such dictionaries.

        Raises:
            UserError: A picture cannot be read, or ``masks`` is not a known format.
        """
        if not isinstance(images, (list, tuple)):
            self._check(masks)
            [prediction] = self._stream([images], masks, None, "images")
            return Result(prediction.result, self.categories)
        return [Result(p.result, self.categories) for p in self.stream(images, masks)]

    def stream(
        self, images: Iterable[Any], masks: str = "bool", *, on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """Detects the objects in a stream of pictures.

        While the device computes, threads read the next pictures and paste the masks of the last ones.
        Only a few pictures and results are in memory at a time, however long the stream is.

        Args:
            images: Pictures in any form that a call accepts; they are taken from the iterable when needed.
            masks: As in a call.
            on_error: Called with the index and the error of a picture that cannot be read, which
                is then left out. None raises the error.

        Returns:
            An iterator of a ``Prediction`` for each picture, in their order.

        Raises:
            UserError: ``masks`` is not a known format; a picture cannot be read and ``on_error``
                is None (raised while iterating).

        Example:
            >>> for prediction in predictor.stream(paths, masks="rle"):  # doctest: +SKIP
            ...     print(paths[prediction.index], prediction.result["scores"])
        """
        self._check(masks)
        return self._stream(images, masks, on_error)

    def _check(self, masks: str) -> None:
        if masks not in MASK_FORMATS:
            raise UserError(f"masks is {masks!r}; choose one of {', '.join(map(repr, MASK_FORMATS))}.")

    @abc.abstractmethod
    def _stream(self, images, masks, on_error, name="images[{}]") -> Iterator[Prediction]:
        """Implements `stream`, after its checks; ``name`` is what errors call the picture of an index."""


def ordered_futures(
    function: Callable, items: Iterable[Any], *, workers: int = WORKERS, ahead: int = WORKERS
) -> Iterator[Future]:
    """Calls a function for each of many items in threads.

    Args:
        function: A function of an item.
        items: The items, taken one at a time in the caller's thread.
        workers: Number of threads.
        ahead: Number of items that are taken before the first future is yielded.

    Yields:
        The futures, in the order of the items.

    Example:
        >>> [future.result() for future in ordered_futures(abs, [-2, 1])]
        [2, 1]
    """
    waiting: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:  # also if the caller stops iterating
            for future in waiting:
                future.cancel()


def readable(
    futures: Iterable[Future], on_error: OnError | None, skipped: Callable[[int], object] = lambda index: None
) -> Iterator[tuple[int, Any]]:
    """Yields the results with their indices, without those that failed with a `UserError`.

    Args:
        futures: The futures in order.
        on_error: Called with the index and the error; None raises the error.
        skipped: Called with the index of a result that is left out.

    Yields:
        Index and result.
    """
    for index, future in enumerate(futures):
        try:
            result = future.result()
        except UserError as error:
            if on_error is None:
                raise
            skipped(index)
            on_error(index, error)
            continue
        yield index, result
