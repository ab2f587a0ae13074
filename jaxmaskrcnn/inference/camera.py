"""Reads the pictures of a camera until the user ends it with Ctrl-C.

OpenCV reads it, because PyAV's packages are built without the cameras of Linux (PyAV 18.1 has no ``v4l2``).
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.video import Frame

_NOTICE = b"\nThe camera ends; what was found is written. Press Ctrl-C again to stop at once, without it.\n"
_RATE = 25  # frames per second of a camera that does not say how many it gives


def open_camera(number: int) -> Any:
    """OpenCV's ``VideoCapture`` of a camera.

    Raises:
        UserError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "Cameras are read with OpenCV, which is missing; install it: pip install opencv-python-headless"
        ) from error
    return cv2.VideoCapture(number)


class CameraReader:
    """A camera, frame by frame, as `VideoReader` is of a file.

    Args:
        number: 0 for the first camera of the computer.
        opening: Opens a camera of a number; what it returns has the methods of OpenCV's ``VideoCapture``.

    Attributes:
        count: None, because a camera has no end.
        rate: Frames per second that the camera says it gives, or 25.

    Raises:
        UserError: OpenCV is missing, or there is no such camera. While frames are read: it gives no more.

    Example:
        >>> for frame in CameraReader(0):  # doctest: +SKIP
        ...     print(frame.seconds, frame.pixels.shape)
    """

    count = None

    def __init__(self, number: int, opening: Callable[[int], Any] = open_camera):
        self._number, self._capture = number, opening(number)
        if not self._capture.isOpened():
            self._capture.release()
            raise UserError(
                f"camera {number} cannot be opened; connect one, give another number, or end the program "
                "that uses it."
            )
        rate = self._capture.get(5)  # cv2.CAP_PROP_FPS
        self.rate = Fraction(rate if 1 <= rate <= 1000 else _RATE).limit_denominator(1001)

    def __iter__(self) -> Iterator[Frame]:
        began = None
        try:
            with until_interrupted() as interrupted:
                while not interrupted():
                    good, pixels = self._capture.read()
                    now = time.monotonic()
                    began = now if began is None else began
                    if not good:
                        raise UserError(f"camera {self._number} gives no more pictures; connect it again.")
                    yield Frame(np.ascontiguousarray(pixels[..., ::-1]), now - began)
        finally:
            self._capture.release()


@contextlib.contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C within the block is only noted; the second one is a KeyboardInterrupt.

    Threads other than the main one cannot handle signals, and are never interrupted.

    Yields:
        Tells whether Ctrl-C was pressed.

    Example:
        >>> with until_interrupted() as interrupted:
        ...     interrupted()
        False
    """
    pressed = threading.Event()

    def notice(_number, _frame) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        # Not print, which may be what the signal has interrupted.
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE)

    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, notice)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
