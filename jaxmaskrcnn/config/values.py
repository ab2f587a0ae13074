"""Check values of settings, and read them from a command line, by the types of their fields.

``Literal["rgb", "bgr"]`` is a choice, ``Count`` a whole number of at least 1, ``tuple[float, ...]`` any
number of numbers. Nothing here imports JAX.
"""

import ast
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from jaxmaskrcnn.errors import UserError


class ConfigError(UserError):
    """An invalid setting; the message has the field, the value and the allowed values.

    Example:
        >>> try:
        ...     jmr.ModelConfig(background="middle")
        ... except jmr.ConfigError as error:
        ...     print(error)
        ModelConfig.background is 'middle'; give 'first' or 'last'.
    """


class Range(NamedTuple):
    """Limits of a number.

    Attributes:
        least: The smallest value allowed.
        most: The largest value allowed, or None.
        more: Whether values must be greater than ``least``.
        less: Whether values must be smaller than ``most``.
    """

    least: float
    most: float | None = None
    more: bool = False
    less: bool = False

    def accepts(self, value: float) -> bool:
        """Return whether a number is within the limits."""
        low = value <= self.least if self.more else value < self.least
        if self.most is None:
            return not low
        return not low and (value < self.most if self.less else value <= self.most)


class Rule(NamedTuple):
    """A condition that a type has no words for, such as that numbers ascend.

    Attributes:
        accepts: A function of the value, which already has the type.
        words: What is accepted, as the end of "give ...".
    """

    accepts: Callable[[Any], bool]
    words: str


def ascending(values: Sequence[float]) -> bool:
    """Return whether each value is greater than the one before.

    Example:
        >>> ascending((2, 3, 5)), ascending((2, 2))
        (True, False)
    """
    return all(a < b for a, b in zip(values, values[1:], strict=False))


BelowOne = Annotated[float, Range(0, 1, less=True)]
Count = Annotated[int, Range(1)]  # a number of items that must not be 0
Odd = Annotated[int, Rule(lambda x: x > 0 and x % 2 == 1, "an odd number of at least 1")]
Whole = Annotated[int, Range(0)]  # a number of items that may be 0
Fraction = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, more=True)]

_LARGEST = 2**31 - 1  # arrays of JAX hold whole numbers of 32 bits
_MOST_CHARACTERS = 200  # of a value in a message


def checked(value: Any, expected: Any, name: str) -> Any:
    """Check a field's value and convert it to the field's type.

    Args:
        value: The value. A list is accepted as a tuple, and a whole number as a float.
        expected: The field's type.
        name: The field's name, for the message.

    Returns:
        The value, of plain Python types (NumPy numbers cannot be written as JSON).

    Raises:
        ConfigError: The value has another type or is outside its limits.

    Example:
        >>> checked([1, 2], tuple[float, ...], "sizes")
        (1.0, 2.0)
    """
    try:
        return _convert(value, expected)
    except (ValueError, TypeError, OverflowError):
        large = _split(expected)[0] is int and isinstance(value, int) and abs(value) > _LARGEST
        limit = f", at most {_LARGEST}" if large else ""
        raise ConfigError(f"{name} is {shown(value)}; give {describe(expected)}{limit}.") from None


def shown(value: Any) -> str:
    """Return a value as it stands in a message: in one line, and not too long.

    Example:
        >>> shown([1, "a"]), len(shown("a" * 10_000))
        ("[1, 'a']", 203)
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's class may do anything; Python refuses to write very large numbers
        text = f"a value of the type {type(value).__name__} that cannot be shown"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def parse(text: str, expected: Any, name: str) -> Any:
    """Read a value from a command line.

    Args:
        text: The text; ``none`` for None, and commas between the items of a tuple.
        expected: The field's type.
        name: The field's name, for the message.

    Returns:
        The value.

    Raises:
        ConfigError: The text is not such a value.

    Example:
        >>> parse("0.5,2", tuple[float, ...], "ratios"), parse("true", bool, "remat")
        ((0.5, 2.0), True)
    """
    try:
        return _convert(_read(text, expected), expected)
    except (ValueError, TypeError, OverflowError, AttributeError, SyntaxError, MemoryError, RecursionError):
        raise ConfigError(f"{name} is {shown(text)}; give {describe(expected)}.") from None


def describe(expected: Any) -> str:
    """Describe a field's type in words, as the end of "give ...".

    Example:
        >>> describe(Count), describe(Literal["rgb", "bgr"])
        ('a whole number of at least 1', "'rgb' or 'bgr'")
    """
    base, limits = _split(expected)
    if isinstance(limits, Rule):
        return limits.words
    if limits is not None:
        number = "a whole number" if base is int else "a number"
        if limits.most is not None and not limits.more and not limits.less:
            return f"{number} from {limits.least:g} to {limits.most:g}"
        least = f"{number} {'above' if limits.more else 'of at least'} {limits.least:g}"
        if limits.most is None:
            return least
        return f"{least} and {'below' if limits.less else 'at most'} {limits.most:g}"
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"{_PLURALS.get(arguments[0], f'several of {describe(arguments[0])}')} separated by commas"
    if origin is tuple:
        return f"{len(arguments)} values: {', '.join(map(describe, arguments))}"
    return _WORDS.get(base) or _with_article(type_name(base))


def type_name(expected: Any) -> str:
    """Return a type as it stands in a message, such as ``dict[str, int]``."""
    if isinstance(expected, type) and not typing.get_args(expected):
        return expected.__name__
    return str(expected).replace("typing.", "")


def _with_article(name: str) -> str:
    """Put "a" or "an" in front of a name; two capital letters are spoken one by one."""
    vowels = "AEFHILMNORSX" if name[:2].isupper() else "AEIOUaeiou"
    return f"an {name}" if name[0] in vowels else f"a {name}"


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a string",
    type(None): "None",
    Any: "a value",
}
_PLURALS = {
    int: "whole numbers", float: "numbers", str: "strings",
    tuple[float, ...]: "groups of numbers in parentheses,",
}  # fmt: skip


def _split(expected: Any) -> tuple[Any, Range | Rule | None]:
    """Separate a type from its limits, if it has any."""
    if typing.get_origin(expected) is Annotated:
        base, *limits = typing.get_args(expected)
        return base, limits[0]
    return expected, None


# The same few types are taken apart for every field of every part. Without the cache, that and the checks of
# abstract numbers took half of the time in which a configuration is made: 4.5 ms in place of 2.3 (Python
# 3.11).
@functools.lru_cache(maxsize=1000)
def _taken_apart(expected: Any) -> tuple[Any, Range | Rule | None, Any, tuple[Any, ...]]:
    """Return a type without its limits, the limits, and the origin and arguments of a generic one."""
    base, limits = _split(expected)
    return base, limits, typing.get_origin(base), typing.get_args(base)


def _convert(value: Any, expected: Any) -> Any:
    base, limits, origin, arguments = _taken_apart(expected)
    if limits is not None:
        value = _convert(value, base)
        if not limits.accepts(value):
            raise ValueError
        return value
    if origin is Literal:
        # True == 1, but a flag is not a number.
        found = [a for a in arguments if a == value and isinstance(a, bool) == isinstance(value, bool)]
        if not found:
            raise ValueError
        return found[0]
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            try:
                return _convert(value, argument)
            except ValueError:
                continue
        raise ValueError
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError
        if arguments[-1] is not Ellipsis:
            return tuple(_convert(item, kind) for item, kind in zip(value, arguments, strict=True))
        if arguments[0] not in (bool, int, float) and all(type(item) is arguments[0] for item in value):
            return tuple(value)  # as below, in less time: a model may have 1203 categories
        groups = typing.get_origin(arguments[0]) is tuple  # a single number is then a group of one
        items = [(x,) if groups and isinstance(x, numbers.Real) else x for x in value]
        return tuple(_convert(item, arguments[0]) for item in items)
    if base is bool:
        if not isinstance(value, bool):
            raise ValueError
        return value
    if base in (int, float):
        kind = numbers.Integral if base is int else numbers.Real
        of_kind = type(value) is base or (isinstance(value, kind) and not isinstance(value, bool))
        if not of_kind or not math.isfinite(value):
            raise ValueError
        number = base(value)  # pyright: ignore[reportArgumentType] (for int, the Real is Integral)
        if base is int and abs(number) > _LARGEST:
            raise ValueError
        return number
    if not isinstance(value, base):
        raise ValueError
    return value


def _is_word(kind: Any) -> bool:
    """Return whether a type is that of strings, or a choice among some."""
    return kind is str or (typing.get_origin(kind) is Literal and isinstance(typing.get_args(kind)[0], str))


def _python_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.startswith("["):  # a glob pattern, such as [ab]*.bias
            return text.split(",")
        raise


def _read(text: str, expected: Any) -> Any:
    base, _ = _split(expected)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        for argument in arguments:
            if argument is not type(None):
                try:
                    return _convert(_read(text, argument), argument)
                except (ValueError, SyntaxError):
                    continue
        raise ValueError
    if origin is Literal:
        return next((choice for choice in arguments if str(choice) == text), text)
    if origin is tuple and _is_word(arguments[0]):
        words = _python_value(text) if text.startswith(("(", "[", "'", '"')) else text.split(",")
        words = (words,) if isinstance(words, str) else words
        return tuple(word.strip() for word in words if word.strip())
    if origin is tuple:
        if not text.strip():
            return ()
        value = ast.literal_eval(text)
        return value if isinstance(value, (list, tuple)) else (value,)
    if base is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if base is str:
        return text
    return ast.literal_eval(text)
