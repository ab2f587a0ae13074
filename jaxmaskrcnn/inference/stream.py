"""Many pictures one after the other: read ahead in threads, handed out in order, never all in memory.

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
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import MASK_FORMATS
from jaxmaskrcnn.structures import Category

WORKERS = min(os.cpu_count() or 1, 8)


class Prediction(NamedTuple):
    """What was found in one of many pictures.

    Attributes:
        index: The picture's place among those that were given.
        pixels: uint8 RGB [H, W, 3].
        result: What ``Predictor`` returns for it.
    """

    index: int
    pixels: np.ndarray
    result: dict[str, Any]


OnError = Callable[[int, UserError], None]


class StreamingPredictor(abc.ABC):
    """What can be called with one picture, with a list, and with a stream of them.

    Attributes:
        config: Of the model, with the predictor's own thresholds.
        categories: What ``labels`` are ids of.
    """

    config: ModelConfig
    categories: tuple[Category, ...]

    def __call__(self, images: Any, masks: str = "bool") -> dict[str, Any] | list[dict[str, Any]]:
        """Detects the objects in one picture or in several.

        Args:
            images: A path, a PIL image or a uint8 RGB array [H, W, 3], or a list of them. Files
                and PIL images of any mode are converted, and turned upright as EXIF says.
            masks: ``"bool"``, ``"probs"`` (probabilities) or ``"rle"`` (COCO RLE, the smallest).

        Returns:
            For a picture a dictionary, at the picture's own scale, best first: ``boxes``
            float32 [N, 4] XYXY in pixels, ``scores`` float32 [N], ``labels`` int64 [N]
            (ids of ``categories``), and with a mask head ``masks``: bool or float32
            [N, H, W], or a list of N RLE dictionaries. For a list, a list of them.

        Raises:
            UserError: A picture cannot be read, or ``masks`` is no known format.
        """
        if not isinstance(images, (list, tuple)):
            return self([images], masks)[0]
        return [prediction.result for prediction in self.stream(images, masks)]

    def stream(
        self, images: Iterable[Any], masks: str = "bool", *, on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """Detects the objects in pictures that come one after the other.

        While the device computes, the next pictures are read and the masks of the last ones
        pasted, in threads. A few pictures and results are in memory at a time, however many come.

        Args:
            images: Whatever a call takes, one at a time; asked for the next one when it is due.
            masks: As in a call.
            on_error: Called with the place and the error of a picture that cannot be read, which
                is then left out. None: the error is raised.

        Returns:
            An iterator of a ``Prediction`` for each picture, in their order.

        Raises:
            UserError: ``masks`` is no known format; while iterating, as ``on_error`` says.

        Example:
            >>> for prediction in predictor.stream(paths, masks="rle"):  # doctest: +SKIP
            ...     print(paths[prediction.index], prediction.result["scores"])
        """
        if masks not in MASK_FORMATS:
            raise UserError(f"masks is {masks!r}; choose one of {', '.join(map(repr, MASK_FORMATS))}.")
        return self._stream(images, masks, on_error)

    @abc.abstractmethod
    def _stream(self, images, masks, on_error) -> Iterator[Prediction]:
        """`stream` behind its checks."""


def ordered_futures(
    function: Callable, items: Iterable[Any], *, workers: int = WORKERS, ahead: int = WORKERS
) -> Iterator[Future]:
    """A function of many items, computed in threads.

    Args:
        function: Of an item.
        items: Taken one at a time, in the caller's thread.
        workers: Threads.
        ahead: How many items are taken before the first one's result is handed out.

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
        finally:  # also when nobody asks for the rest
            for future in waiting:
                future.cancel()


def readable(
    futures: Iterable[Future], on_error: OnError | None, skipped: Callable[[int], object] = lambda index: None
) -> Iterator[tuple[int, Any]]:
    """Results with their places, without those that ended in a `UserError`.

    Args:
        futures: In order.
        on_error: Gets the place and the error; None raises it.
        skipped: Called with the place of one that is left out.

    Yields:
        Place and result.
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
