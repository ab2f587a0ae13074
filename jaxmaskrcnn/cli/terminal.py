"""What commands print: names out of files must not command the terminal."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from jaxmaskrcnn.utils.texts import harmless


class _Harmless:
    """A stream that shows codes in what is written instead of sending them."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(harmless(text))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def harmless_output() -> Iterator[None]:
    """Make ``sys.stdout`` and ``sys.stderr`` safe for any name within the block.

    A file name or a class name of somebody else's json may hold escape codes, which could clear the screen or
    forge lines, and characters that the terminal's encoding lacks.
    """
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (_Harmless(stream) for stream in streams)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
