"""The annotations of a large json as the text that they are, parsed where they are needed.

Parsed by Python or msgspec, a hundred thousand images' annotations take several times the file's size, and
most of the time of reading them. So they stay text, in parts of some hundred, which other processes parse
(`drawing.draw_part`), and only what is not written as COCO writes it becomes dictionaries in this one.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import msgspec
import numpy as np

TOGETHER = 1000  # annotations of a part


class Part(NamedTuple):
    """Some annotations that follow each other in a json.

    Attributes:
        text: A json list of them, in UTF-8.
        ends: int64, where the text of each of them ends, before a comma or a bracket.
    """

    text: bytes
    ends: np.ndarray

    def entry(self, number: int) -> dict:
        """An annotation as Python's json reads it."""
        start = 1 + (int(self.ends[number - 1]) if number else 0)
        text = self.text[start : self.ends[number]]
        try:
            return _decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # What Python's json takes all the same, such as numbers that no float reaches, as infinite.
            return json.loads(text.decode("utf-8", "surrogatepass"))


class Head(msgspec.Struct, gc=False):
    """What an annotation says of itself, before its box and mask are looked at.

    Attributes:
        id: As the json has it; None where it has none, as for the others.
        image_id: The image it belongs to.
        category_id: Its class.
    """

    id: Any = None
    image_id: Any = None
    category_id: Any = None


_heads = msgspec.json.Decoder(list[Head]).decode
_decode = msgspec.json.Decoder().decode


class Entries(Sequence[dict]):
    """A json's 'annotations', each of which becomes a dictionary anew whenever it is asked for.

    Args:
        texts: The json texts of all of them, each that of an object.

    Attributes:
        parts: The annotations in their order; a caller that needs them once may take them out.

    Raises:
        UnicodeDecodeError: A text is not in UTF-8.

    Example:
        >>> Entries([msgspec.Raw(b'{"id": 1}'), msgspec.Raw(b'{"id": 5}')])[-1]
        {'id': 5}
    """

    def __init__(self, texts: Sequence[msgspec.Raw]):
        self.parts: list[Part] = []
        for start in range(0, len(texts), TOGETHER):
            some = texts[start : start + TOGETHER]
            text = b"".join((b"[", b",".join(some), b"]"))
            if not text.isascii():
                text.decode("utf-8", "surrogatepass")
            lengths = np.fromiter((memoryview(one).nbytes for one in some), np.int64, len(some))
            self.parts.append(Part(text, np.cumsum(lengths + 1)))
        self._count = len(texts)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        index = range(self._count)[index]
        return self.parts[index // TOGETHER].entry(index % TOGETHER)

    def __iter__(self) -> Iterator[dict]:
        for part in self.parts:
            yield from map(part.entry, range(len(part.ends)))


def ids_of(entries: Sequence[dict]) -> Iterator[Any]:
    """The ids of annotations; None where one has none."""
    if isinstance(entries, Entries):  # without the rest, which takes most of the time
        return itertools.chain.from_iterable((head.id for head in heads(part)) for part in entries.parts)
    return (entry.get("id") for entry in entries)


def heads(part: Part) -> list[Head]:
    """What the annotations of a part say of themselves."""
    try:
        return _heads(part.text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = map(part.entry, range(len(part.ends)))
        return [Head(e.get("id"), e.get("image_id"), e.get("category_id")) for e in found]
