"""Holds a large json in less memory: polygons are packed as they are parsed, entries freed once read."""

import contextlib
import gc
from collections.abc import Iterator

from jaxmaskrcnn.data.fields.packed import Packed as Packed
from jaxmaskrcnn.data.fields.packed import pack
from jaxmaskrcnn.data.fields.packed import unpacked as unpacked


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
            entry["segmentation"] = pack(value)
    return entry


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


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Leaves what exists now, such as a large json's objects, out of Python's search for cycles."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
