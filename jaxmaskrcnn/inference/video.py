"""Reads and writes video files frame by frame.

Shape legend: H, W height and width of a frame.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_path

SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .ogv".split())
_QUALITY = "20"  # H.264's constant rate factor; errors are hardly visible


def require_reader():
    """Imports the library that reads and writes videos.

    Raises:
        UserError: The library is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("Videos are read with PyAV, which is missing; install it: pip install av") from error
    return av


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        pixels: uint8 RGB [H, W, 3], upright.
        seconds: Its time in the video.
    """

    pixels: np.ndarray
    seconds: float


class VideoReader:
    """A video file, frame by frame.

    Args:
        path: Path of the file.

    Attributes:
        count: Number of frames; None if the file does not give it.
        rate: Frames per second, on average.

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
            with self._av.open(str(self._path), metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UserError(f"{self._path} has no video stream; give a video file.")
                yield container
        except (self._av.error.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise UserError(
                f"{self._path} cannot be read as a video ({reason}); replace or remove the file."
            ) from error

    def __iter__(self) -> Iterator[Frame]:
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")
                # Phones store the orientation as metadata of the frames.
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                seconds = number / float(self.rate) if frame.time is None else frame.time
                yield Frame(np.ascontiguousarray(np.rot90(pixels, turns)), float(seconds))


class VideoWriter:
    """An mp4 (H.264) that gets its final name when it is complete.

    Args:
        path: Path of the file.
        rate: Frames per second.

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

    def __exit__(self, error_type, error, traceback):
        if error_type is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        return self._closing.__exit__(error_type, error, traceback)

    def add(self, pixels: np.ndarray) -> None:
        """Appends a frame, uint8 RGB [H, W, 3]; all frames must have the same size."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": _QUALITY})
            # The format yuv420p stores colours for blocks of two by two pixels.
            self._stream.height, self._stream.width = (side - side % 2 for side in pixels.shape[:2])
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(pixels[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))
