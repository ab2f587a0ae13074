"""Values of a json as people write them: numbers as text, flags as lists, ids as floats."""

import re
from typing import Any

_WHOLE = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*")
_FLAGS = {
    "0": False, "false": False, "no": False, "n": False, "f": False, "": False, "none": False, "null": False,
    "1": True, "true": True, "yes": True, "y": True, "t": True,
}  # fmt: skip
_LARGEST = 2**63 - 1  # records store ids in 64 bits


def whole_number(value: Any) -> int | None:
    """A whole number that is written as a number or as text; None where the value is none.

    Args:
        value: A json value. True and false are no numbers.

    Example:
        >>> whole_number(7), whole_number(7.0), whole_number("7"), whole_number("7.0"), whole_number("a7")
        (7, 7, 7, 7, None)
    """
    if type(value) is int:
        return value if -_LARGEST <= value <= _LARGEST else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.strip().split(".")[0])
    return None


def number(value: Any) -> float | int | None:
    """A finite number that is written as a number, as text, or as a list of one; None where it is none.

    Args:
        value: A json value. True and false are no numbers.

    Example:
        >>> number("2.5"), number([675]), number(float("nan")), number(True)
        (2.5, 675, None, None)
    """
    if type(value) in (int, float):
        return value if abs(value) < 1e300 else None  # NaN compares as False
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return number(float(value))
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
        return number(value[0])
    return None


def flag(value: Any) -> bool | None:
    """A flag such as ``iscrowd``, in any of its usual spellings; None where it is none of them.

    Args:
        value: A json value: 0, 1, true, false, null, their texts, or a list of one of them.

    Example:
        >>> flag("0"), flag("false"), flag([0]), flag(None), flag(1), flag("maybe")
        (False, False, False, False, True, None)
    """
    if value is None or value is False or value is True:
        return bool(value)
    if type(value) in (int, float):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        text = value.strip().lower()
        return _FLAGS.get(text[:-2] if text in ("0.0", "1.0") else text)
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
        return flag(value[0])
    return None
