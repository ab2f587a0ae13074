"""Conversions of setting values, from a library's to ModelConfig's and back."""

import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

_short = reprlib.Repr()
_short.maxstring, _short.maxother = 80, 160
_short.maxlist = _short.maxtuple = _short.maxdict = 8


def short(value: Any) -> str:
    """Format a value for a message, shortened if it is long."""
    return _short.repr(value)


def same(value: Any) -> Any:
    """Return the value unchanged."""
    return value


class Conversion(NamedTuple):
    """The supported values of a setting, and their values here.

    Attributes:
        text: Description of the supported values, for errors.
        read: Converts the library's value to ModelConfig's; raises ValueError if it is unsupported.
        write: Converts ModelConfig's value to the library's; raises ValueError if it has none.
    """

    text: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = same

    def reads(self, value: Any) -> bool:
        """Whether a value of the library is supported."""
        try:
            self.read(value)
        except (ValueError, OverflowError):  # the second for a whole number beyond the largest float
            return False
        return True


def only(*values: Any) -> Conversion:
    """One of these values, unchanged; lists and tuples are equivalent."""
    return choice({_hashable(value): value for value in values}, [short(value) for value in values])


def choice(values: Mapping[Any, Any], texts: Iterable[str] | None = None) -> Conversion:
    """A key of ``values``, converted to its value; of several keys with one value, the first is written."""

    def read(value):
        key = _hashable(value)
        for known, result in values.items():
            if _equal(known, key):
                return result
        raise ValueError

    def write(value):
        for known, result in values.items():
            if _equal(result, value):
                return known
        raise ValueError

    return Conversion(" or ".join(texts or map(repr, values)), read, write)


def present(with_part: Any, without: Any) -> Conversion:
    """Whether a model has a part: read as True or False, written from the part or None.

    Example:
        >>> kinds = present("MaskRCNN", "FasterRCNN")
        >>> kinds.read("MaskRCNN"), kinds.write(None)
        (True, 'FasterRCNN')
    """
    known = choice({with_part: True, without: False})
    return known._replace(write=lambda part: known.write(part is not None))


def number(minimum: float = 0.0, maximum: float | None = None) -> Conversion:
    """A finite number."""

    def read(value):
        if not _is_number(value) or not minimum <= value < float("inf"):
            raise ValueError
        if maximum is not None and value > maximum:
            raise ValueError
        return float(value)

    return Conversion(
        f"numbers of at least {minimum:g}" if maximum is None else f"numbers from {minimum:g} to {maximum:g}",
        read,
    )


def whole(minimum: int, maximum: int | None = None) -> Conversion:
    """A whole number."""
    numbers_ = number(minimum, maximum)

    def read(value):
        if not numbers_.read(value).is_integer():
            raise ValueError
        return int(value)

    return Conversion(f"whole {numbers_.text}", read)


def odd() -> Conversion:
    """An odd number of at least 1."""
    count = whole(1)

    def read(value):
        if (number_ := count.read(value)) % 2 == 0:
            raise ValueError
        return number_

    return Conversion("odd numbers", read)


def several(item: Conversion, count: int | None = None, text: str = "") -> Conversion:
    """A list of values, converted to a tuple; of length ``count`` unless that is None."""

    def read(value):
        if not isinstance(value, (list, tuple)) or not value or count not in (None, len(value)):
            raise ValueError
        return tuple(item.read(x) for x in value)

    return Conversion(
        text or f"a list of {'' if count is None else f'{count} '}{item.text}",
        read,
        lambda values: [item.write(x) for x in values],
    )


def optional(item: Conversion) -> Conversion:
    """A value or None."""
    return Conversion(
        f"None or {item.text}",
        lambda value: None if value is None else item.read(value),
        lambda value: None if value is None else item.write(value),
    )


def alone(item: Conversion, text: str) -> Conversion:
    """A list of one value, converted to the value itself."""
    listed = several(item, 1, text)
    return Conversion(text, lambda value: listed.read(value)[0], lambda value: [item.write(value)])


def rounded(value: float) -> float:
    """Round to nine digits, which is enough for float32; more would contain a division's rounding error."""
    return float(f"{value:.9g}")


FLAG = choice({True: True, False: False})
FRACTION = number(0, 1)
# Detectron2's norm layers; batch norm over several devices is batch norm.
DETECTRON2_BN = dict.fromkeys(("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"), "bn")
DETECTRON2_NORM = choice({"": "none", "GN": "gn", **DETECTRON2_BN})


def _equal(a: Any, b: Any) -> bool:
    """Whether two values are the same; True == 1, but a flag is not a number."""
    return a == b and (type(a) is type(b) or _is_number(a) and _is_number(b))


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, (list, tuple)) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
