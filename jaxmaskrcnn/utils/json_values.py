"""Reads json that somebody else may have written: one kind of error for whatever is wrong with it."""

import json
import math
from typing import Any


def parse_json(data: str | bytes) -> Any:
    """Read a json text.

    Args:
        data: The text, or its bytes.

    Raises:
        ValueError: It is not json or no text, is nested too deeply, or has a number of too many digits.

    Example:
        >>> parse_json("[1, 2]")
        [1, 2]
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it has too many brackets in each other") from None


def is_finite(value: Any) -> bool:
    """Whether a json value is a number that a float can hold; true and false are not.

    Example:
        >>> is_finite(2), is_finite(True), is_finite(10**400), is_finite(float("nan"))
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False
