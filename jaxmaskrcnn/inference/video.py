"""Videos: frames in, frames with what was found out, and the same colour for the same object.

Shape legend: H, W height and width of a frame, N objects.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.files import complete_path
from jaxmaskrcnn.inference.drawing import palette_colour

SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .ogv".split())
_SAME = 0.3  # IoU of two boxes in neighbouring frames that show the same object
_QUALITY = "20"  # of H.264 (crf): small errors are not seen


def require_reader():
    """The library that reads and writes videos.

    Raises:
        UserError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("Videos are read with PyAV, which is missing; install it: pip install av") from error
    return av


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        pixels: uint8 RGB [H, W, 3], upright.
        seconds: When it is shown.
    """

    pixels: np.ndarray
    seconds: float


class VideoReader:
    """A video file, frame by frame.

    Args:
        path: Of the file.

    Attributes:
        count: Number of frames; None where the file does not tell.
        rate: Frames a second, on average.

    Raises:
        UserError: PyAV is missing, the file cannot be read or has no pictures.
    """

    def __init__(self, path: Path):
        self._av, self._path = require_reader(), path
        with self._open() as container:
            stream = container.streams.video[0]
            self.count: int | None = stream.frames or None
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)

    @contextlib.contextmanager
    def _open(self):
        try:
            with self._av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise UserError(f"{self._path} holds no video; give one that does.")
                yield container
        except (self._av.error.FFmpegError, OSError) as error:
            raise UserError(
                f"{self._path} cannot be read as a video ({error}); replace or remove the file."
            ) from error

    def __iter__(self) -> Iterator[Frame]:
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")
                # Phones store how they were held beside the pictures.
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                seconds = number / float(self.rate) if frame.time is None else frame.time
                yield Frame(np.ascontiguousarray(np.rot90(pixels, turns)), float(seconds))


class VideoWriter:
    """An mp4 (H.264) that takes its name when it is complete.

    Args:
        path: Of the file.
        rate: Frames a second.

    Example:
        >>> with VideoWriter(Path("out.mp4"), Fraction(25)) as video:  # doctest: +SKIP
        ...     video.add(np.zeros((480, 640, 3), np.uint8))
    """

    def __init__(self, path: Path, rate: Fraction):
        self._av, self._path, self._rate = require_reader(), path, rate
        self._stream = self._container = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> "VideoWriter":
        temporary = self._closing.enter_context(complete_path(self._path))
        self._container = self._closing.enter_context(self._av.open(str(temporary), "w", format="mp4"))
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        return self._closing.__exit__(kind, error, traceback)

    def add(self, pixels: np.ndarray) -> None:
        """Appends a frame, uint8 RGB [H, W, 3]; all have the first one's size."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": _QUALITY})
            # Colours are stored for two by two pixels.
            self._stream.height, self._stream.width = (side - side % 2 for side in pixels.shape[:2])
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(pixels[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))


class ColourTracker:
    """Colours of objects that keep them from frame to frame."""

    def __init__(self):
        self._boxes, self._labels, self._numbers = np.zeros((0, 4)), np.zeros(0, int), []

    def __call__(self, result: dict[str, Any]) -> list[tuple[int, int, int]]:
        """Colours of a frame's N objects.

        An object takes the colour of the one in the last frame that has the same class and whose
        box overlaps its own most; the better score chooses first. A new one takes the first
        colour that is free.

        Args:
            result: Of ``Predictor``, best first.
        """
        boxes, labels = np.asarray(result["boxes"], np.float64), np.asarray(result["labels"])
        overlap = _iou(boxes, self._boxes) * (labels[:, None] == self._labels[None])
        numbers: list[int] = []
        for row in overlap:
            row = np.where(np.isin(self._numbers, numbers), 0, row)
            best = int(row.argmax()) if row.size else -1
            if best >= 0 and row[best] >= _SAME:
                numbers.append(self._numbers[best])
                continue
            used = {*self._numbers, *numbers}
            numbers.append(next(n for n in range(len(used) + 1) if n not in used))
        self._boxes, self._labels, self._numbers = boxes, labels, numbers
        return [palette_colour(n) for n in numbers]


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float [N, M] of boxes on the host; a handful, for which JAX would compile anew each time."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], 1) for boxes in (a, b)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)
