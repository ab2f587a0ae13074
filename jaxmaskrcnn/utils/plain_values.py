"""A limit on what a config file may hold, before anything goes over all of it.

A few lines can name the same list again and again (yaml's aliases, Python's variables) and so describe more
values than a machine can count; each copy, comparison or message about them would go on for hours.
"""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.errors import UserError

LIMIT = 100_000  # values of a file; the largest config of Detectron2 or MMDetection has about a thousand
_BITS = 64  # of a whole number


def check_size(value: Any, source: str) -> None:
    """Check that a value is of a size that a config can have.

    Args:
        value: Dictionaries, lists, tuples and plain values. Parts that are used several times count as often.
        source: The file, for the message.

    Raises:
        UserError: It holds more than ``LIMIT`` values, or a number of more than 64 bits.
        RecursionError: It holds itself, or is nested too deeply.

    Example:
        >>> a = [0] * 1000
        >>> check_size([a, a], "a.yaml")
        >>> check_size([[a] * 1000], "a.yaml")
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.errors.UserError: a.yaml holds more than 100000 values; give a config without repetitions.
    """
    if _count(value, source, {}) > LIMIT:
        raise UserError(f"{source} holds more than {LIMIT} values; give a config without repetitions.")


def _count(value: Any, source: str, known: dict[int, int]) -> int:
    """The number of values, with parts that were counted by their identity."""
    if isinstance(value, Mapping):
        parts = value.values()
        for key in value:
            _count(key, source, known)
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise UserError(
                f"{source} has a whole number of {value.bit_length()} bits; give a config with plain numbers."
            )
        return 1
    if id(value) not in known:
        known[id(value)] = 1 + sum(_count(part, source, known) for part in parts)
    return known[id(value)]
