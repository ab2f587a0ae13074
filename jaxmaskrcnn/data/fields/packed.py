"""Lists of polygons as bytes, while they wait to be read or written.

A coordinate takes 32 bytes as a Python number in a list and 9 as bytes, and the bytes are made and read in a
fraction of the time that json text takes. They never leave the process.
"""

import hashlib
import json
import marshal
from collections.abc import Sequence
from typing import Any

import numpy as np

_VERSION = 2  # of marshal's format: the newest without a table of repeated values, which costs time
_ONE_LIST = b"[\1\0\0\0["  # how a list of one list begins; the length of that follows in four bytes
_LIST, _FLOAT = b"[g"  # the kinds of values that polygons of floats are made of
_COUNT = 4  # bytes of an outline that are the number of vertices
_HEAD, _ITEM = 5, 9  # bytes of a list's kind and length, and of a float with its kind
NUMBER = np.dtype([("kind", "u1"), ("value", "<f8")])  # a number of `number_bytes`


class Packed(bytes):
    """A list of polygons; equal lists of the same numbers have equal bytes."""

    __slots__ = ()


class Outline(bytes):
    """In the place of polygons that nobody will ask for: the number of their vertices, and a hash of them."""

    __slots__ = ()


def outline(value: Packed) -> Outline:
    """What is kept of polygons that are not needed themselves.

    Equal polygons have equal outlines, and others have different ones.

    Args:
        value: Packed polygons.
    """
    rings = [np.frombuffer(part, NUMBER)["value"].copy() for part in number_bytes(value)]
    return outline_of(rings) if rings else _outline(vertex_count(value), value)


def outline_of(rings: Sequence[np.ndarray]) -> Outline:
    """`outline` of polygons whose numbers are arrays already, which takes a third of the time.

    Args:
        rings: float64 arrays x, y, x, y, ..., at least one.

    Example:
        >>> outline_of([np.array([0, 0.5, 4, 0, 4, 4])]) == outline(pack([[0, 0.5, 4, 0, 4, 4]]))
        True
    """
    if len(rings) == 1:
        return _outline(len(rings[0]) // 2 + 1, rings[0])
    lengths = np.array([len(ring) for ring in rings])
    return _outline(
        int((lengths // 2 + 1).sum()), b"".join((lengths.tobytes(), *(r.tobytes() for r in rings)))
    )


def _outline(vertices: int, numbers: bytes | np.ndarray) -> Outline:
    digest = hashlib.blake2b(numbers, digest_size=8).digest()
    return Outline(vertices.to_bytes(_COUNT, "little") + digest)


def outline_counts(values: Sequence[Outline]) -> np.ndarray:
    """`vertex_count` of many outlines.

    Returns:
        int64 [n].
    """
    rows = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    return rows[:, :_COUNT].copy().view("<u4")[:, 0].astype(np.int64)


def pack(polygons: list) -> Packed:
    """Packs lists of numbers.

    Args:
        polygons: ``[[x, y, ...], ...]``, or any other value of a json.

    Example:
        >>> unpacked(pack([[0, 0.5, 4, 0, 4, 4]]))
        [[0, 0.5, 4, 0, 4, 4]]
    """
    return Packed(marshal.dumps(polygons, _VERSION))


def unpacked(value: Any) -> Any:
    """A segmentation as the json has it.

    Args:
        value: A segmentation, packed or not.
    """
    return marshal.loads(value) if type(value) is Packed else value


def polygon_text(value: Packed | Outline | str) -> str:
    """Polygons as json text; a text is returned as it is.

    Args:
        value: Packed polygons of finite numbers, or their text.
    """
    if type(value) is Packed:
        return json.dumps(unpacked(value))
    if type(value) is Outline:
        raise TypeError("the polygons were not kept")
    return value


def vertex_count(value: Packed | Outline | str) -> int:
    """Number of the vertices of closed polygons, each polygon's first one counted twice.

    Args:
        value: Packed polygons of pairs of numbers or their outline, or an empty text where there are none.
    """
    if type(value) is Outline:
        return int.from_bytes(value[:_COUNT], "little")
    if value[:6] == _ONE_LIST:
        return int.from_bytes(value[6:10], "little") // 2 + 1
    return sum(len(ring) // 2 + 1 for ring in unpacked(value)) if value else 0


def number_bytes(value: bytes) -> list[bytes]:
    """The numbers of each polygon, nine bytes for each, of which the last eight are a little-endian float64.

    Args:
        value: The bytes of a packed segmentation.

    Returns:
        One text of bytes for each polygon; nothing if the segmentation is no list of lists of numbers.

    Example:
        >>> [len(part) for part in number_bytes(pack([[0, 0.5, 4, 0, 4, 4], [1.0, 2.0]]))]
        [54, 18]
    """
    found = []
    place = _HEAD  # behind the head of the outer list
    for _ in range(int.from_bytes(value[1:_HEAD], "little")):
        count = int.from_bytes(value[place + 1 : place + _HEAD], "little")
        start = place + _HEAD
        place = start + _ITEM * count
        # The first item that is no float stands where the kind of one would.
        if value[start - _HEAD] != _LIST or value[start:place:_ITEM].count(_FLOAT) != count:
            return _converted(marshal.loads(value))
        found.append(value[start:place])
    return found if place == len(value) else _converted(marshal.loads(value))


def _converted(polygons: Any) -> list[bytes]:
    """`number_bytes` of polygons that are not all of floats."""
    try:
        if not all(type(ring) is list and set(map(type, ring)) <= {int, float} for ring in polygons):
            return []
        return [marshal.dumps(list(map(float, ring)), _VERSION)[_HEAD:] for ring in polygons]
    except OverflowError:  # a whole number that no float reaches
        return []
