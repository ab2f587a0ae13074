"""What commands print: names out of files must not command the terminal."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from jaxmaskrcnn.stores.copies import with_addresses
from jaxmaskrcnn.utils.texts import harmless, visible


class _Harmless:
    """A stream that shows codes in what is written instead of sending them, and can cut long names."""

    def __init__(self, stream: TextIO, cut: bool):
        self._stream, self._shown = stream, harmless if cut else visible

    def write(self, text: str) -> int:
        # What the user gave as an address is named so, and not as the copy that is read.
        self._stream.write(self._shown(with_addresses(text)))
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
    # What another program reads, such as the json of inspect, is whole.
    shown: Any = _Harmless(sys.stdout, cut=sys.stdout.isatty()), _Harmless(sys.stderr, cut=True)
    sys.stdout, sys.stderr = shown
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextlib.contextmanager
def log_on_stderr() -> Iterator[None]:
    """Show what the library logs on ``sys.stderr`` within the block, from level INFO on."""
    log, handler = logging.getLogger("jaxmaskrcnn"), logging.StreamHandler(sys.stderr)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
