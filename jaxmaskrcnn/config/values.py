"""What a setting may hold, by the type of its field: checked when it is made, and read from a command line.

A field's type says everything: ``Literal["rgb", "bgr"]`` is a choice, ``Count`` a whole number from 1 on,
``tuple[float, ...]`` any number of numbers. Nothing here imports JAX.
"""

import ast
import dataclasses
import math
import numbers
import types
import typing
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from jaxmaskrcnn.errors import UserError


class ConfigError(UserError):
    """A setting that cannot work; the message names the field, the value and what is allowed.

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
        more: Whether ``least`` itself is too small.
    """

    least: float
    most: float | None = None
    more: bool = False


Count = Annotated[int, Range(1)]  # how many of something that there has to be
Whole = Annotated[int, Range(0)]  # how many of something that may be left out
Fraction = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, more=True)]


class Part:
    """Base of the parts of a `ModelConfig`: checks the type and the range of every field when it is made.

    A part whose fields have to fit each other extends ``__post_init__``.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every part is a dataclass

    def __post_init__(self):
        name = type(self).__name__
        for field in dataclasses.fields(self):
            value = checked(getattr(self, field.name), field.type, f"{name}.{field.name}")
            object.__setattr__(self, field.name, value)


def checked(value: Any, expected: Any, name: str) -> Any:
    """A value as a field of a type holds it.

    Args:
        value: A list is taken as a tuple, a whole number as a float where one is expected.
        expected: The field's type.
        name: Of the field, for the message.

    Returns:
        The value, of plain Python types (a NumPy number would not go into json).

    Raises:
        ConfigError: The value is of another type or outside of its limits.

    Example:
        >>> checked([1, 2], tuple[float, ...], "sizes")
        (1.0, 2.0)
    """
    try:
        return _convert(value, expected)
    except ValueError:
        raise ConfigError(f"{name} is {value!r}; give {describe(expected)}.") from None


def parse(text: str, expected: Any, name: str) -> Any:
    """A value from a command line.

    Args:
        text: ``none`` for nothing; numbers or texts with commas between them where the field holds several.
        expected: The field's type.
        name: Of the field, for the message.

    Returns:
        The value.

    Raises:
        ConfigError: The text is no such value.

    Example:
        >>> parse("0.5,2", tuple[float, ...], "ratios"), parse("true", bool, "remat")
        ((0.5, 2.0), True)
    """
    try:
        return _convert(_read(text, expected), expected)
    except (ValueError, TypeError, AttributeError, SyntaxError, MemoryError, RecursionError):
        raise ConfigError(f"{name} is {text!r}; give {describe(expected)}.") from None


def describe(expected: Any) -> str:
    """A field's type in words, as the end of "give ...".

    Example:
        >>> describe(Count), describe(Literal["rgb", "bgr"])
        ('a whole number from 1 on', "'rgb' or 'bgr'")
    """
    base, limits = _split(expected)
    if limits is not None:
        number = "a whole number" if base is int else "a number"
        if limits.most is not None:
            return f"{number} from {limits.least:g} to {limits.most:g}"
        return f"{number} above {limits.least:g}" if limits.more else f"{number} from {limits.least:g} on"
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return (
            f"{_PLURALS.get(arguments[0], f'several of {describe(arguments[0])}')} with commas between them"
        )
    if origin is tuple:
        return f"{len(arguments)} values: {', '.join(map(describe, arguments))}"
    return _WORDS.get(base, f"a {getattr(base, '__name__', base)}")


_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}
_PLURALS = {
    int: "whole numbers", float: "numbers", str: "texts",
    tuple[float, ...]: "groups of numbers in parentheses,",
}  # fmt: skip


def _split(expected: Any) -> tuple[Any, Range | None]:
    if typing.get_origin(expected) is Annotated:
        base, *limits = typing.get_args(expected)
        return base, limits[0]
    return expected, None


def _convert(value: Any, expected: Any) -> Any:
    base, limits = _split(expected)
    if limits is not None:
        value = _convert(value, base)
        low = value <= limits.least if limits.more else value < limits.least
        if low or (limits.most is not None and value > limits.most):
            raise ValueError
        return value
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin is Literal:
        # True == 1, but a flag is no number.
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
        groups = typing.get_origin(arguments[0]) is tuple  # in which a number is a group of one
        items = [(x,) if groups and isinstance(x, numbers.Real) else x for x in value]
        return tuple(_convert(item, arguments[0]) for item in items)
    if base is bool:
        if not isinstance(value, bool):
            raise ValueError
        return value
    if base in (int, float):
        wanted = numbers.Integral if base is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value):
            raise ValueError
        return base(value)  # pyright: ignore[reportArgumentType] (a Real that passes for int is Integral)
    if not isinstance(value, base):
        raise ValueError
    return value


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
    if origin is tuple and arguments[0] is str:
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
