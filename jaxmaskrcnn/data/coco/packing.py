"""Holds a large json in less memory: lists of polygons as bytes while they wait to be read.

A coordinate takes 32 bytes as a Python number in a list and 9 as bytes. The bytes never leave the process.
"""

import contextlib
import gc
import marshal
from collections.abc import Iterator
from typing import Any

_VERSION = 2  # of marshal's format: the newest without a table of repeated values, which costs time


class Packed(bytes):
    """A list of polygons."""

    __slots__ = ()


def packed(entry: dict) -> dict:
    """Packs the polygons of an entry of a json's 'annotations', in place; other dictionaries stay.

    Args:
        entry: Any dictionary of the json, as ``json`` calls its ``object_hook``.

    Example:
        >>> unpacked(packed({"segmentation": [[0, 0.5, 4, 0, 4, 4]]})["segmentation"])
        [[0, 0.5, 4, 0, 4, 4]]
    """
    value = entry.get("segmentation")
    if type(value) is list and value and type(value[0]) is list and value[0]:
        if type(value[0][0]) in (int, float):
            entry["segmentation"] = Packed(marshal.dumps(value, _VERSION))
    return entry


def unpacked(value: Any) -> Any:
    """A segmentation as the json has it.

    Args:
        value: A segmentation, packed or not.
    """
    return marshal.loads(value) if type(value) is Packed else value


def freed(entries: list) -> Iterator:
    """Yields the entries of a list and frees each once it is used; the list is empty afterwards.

    Args:
        entries: The annotations of a json that nothing else needs.
    """
    entries.reverse()
    while entries:
        yield entries.pop()


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Pauses Python's search for cycles, which looks at all of a large json again and again as it grows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
