"""Checks static arguments: numbers of bins, samples and pixels, thresholds, sizes and types of arrays.

Many of them cannot work and give a result all the same, or an error far away from the call. What is traced is
not checked, because its value is not known. These checks cost no time in a compiled program.
"""

import math
import numbers
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.ops.shapes import shape_of


def check_whole(function: str, least: int, **values: Any) -> None:
    """Checks that arguments are whole numbers.

    Args:
        function: Name of the function, for the message.
        least: The smallest number allowed.
        **values: By the argument's name, a number or a sequence of numbers. JAX arrays are skipped.

    Raises:
        ValueError: An argument is something else.

    Example:
        >>> check_whole("roi_align", 0, sampling_ratio=1.5)
        Traceback (most recent call last):
            ...
        ValueError: roi_align: sampling_ratio is 1.5; give a whole number of at least 0.
    """
    for name, value in values.items():
        for item in _numbers(value):
            if not isinstance(item, numbers.Integral) or isinstance(item, bool) or item < least:
                several = "whole numbers" if _has_several(value) else "a whole number"
                raise ValueError(f"{function}: {name} is {value!r}; give {several} of at least {least}.")


def check_numbers(
    function: str, least: float, most: float = float("inf"), *, above: bool = False, **values: Any
) -> None:
    """Checks that arguments are finite numbers within limits.

    Args:
        function: Name of the function, for the message.
        least: The smallest number allowed.
        most: The largest one.
        above: Whether ``least`` itself is not allowed.
        **values: As in :func:`check_whole`.

    Raises:
        ValueError: An argument is something else.

    Example:
        >>> check_numbers("sample", 0, 1, positive_fraction=2.0)
        Traceback (most recent call last):
            ...
        ValueError: sample: positive_fraction is 2.0; give a number from 0 to 1.
    """
    for name, value in values.items():
        for item in _numbers(value):
            number = isinstance(item, numbers.Real) and not isinstance(item, bool)
            found = float(item) if number else math.nan
            if not math.isfinite(found) or not least <= found <= most or (above and found == least):
                several = "numbers" if _has_several(value) else "a number"
                limits = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
                limits = f"above {least:g}" if above else limits
                raise ValueError(f"{function}: {name} is {value!r}; give {several} {limits}.")


def check_broadcast(function: str, **arrays: Any) -> None:
    """Checks that two arrays broadcast.

    Args:
        function: Name of the function, for the message.
        **arrays: The two arrays by their arguments' names.

    Raises:
        ValueError: They do not.

    Example:
        >>> check_broadcast("encode_boxes", a=jnp.zeros((2, 4)), b=jnp.zeros((3, 4)))
        Traceback (most recent call last):
            ...
        ValueError: encode_boxes: b has the shape [3, 4]; give it one that broadcasts with that of a, [2, 4].
    """
    (first, one), (second, other) = ((name, list(shape_of(array))) for name, array in arrays.items())
    try:
        np.broadcast_shapes(tuple(one), tuple(other))
    except ValueError:
        raise ValueError(
            f"{function}: {second} has the shape {other}; give it one that broadcasts with that of {first}, "
            f"{one}."
        ) from None


def check_type(function: str, kind: str, **arrays: Any) -> None:
    """Checks the types of arrays whose values would be lost in another one.

    Args:
        function: Name of the function, for the message.
        kind: "uint8", or "int" for whole numbers of any size.
        **arrays: Arrays by their arguments' names.

    Raises:
        ValueError: An array has another type.

    Example:
        >>> check_type("unpack_masks", "uint8", packed=jnp.zeros((2, 1)))
        Traceback (most recent call last):
            ...
        ValueError: unpack_masks: packed has the type float32; give it the type uint8.
    """
    for name, array in arrays.items():
        found = jnp.result_type(array)
        fine = jnp.issubdtype(found, jnp.integer) if kind == "int" else found == kind
        if not fine and 0 not in np.shape(array):  # a list without items has no type
            raise ValueError(f"{function}: {name} has the type {found}; give it the type {kind}.")


def float_if_whole(array: Any) -> jax.Array:
    """Converts whole numbers and truth values to float32, in which fractions are not cut off.

    Args:
        array: An array.

    Returns:
        The array in float32, or as it is if it is of floats.

    Example:
        >>> float_if_whole(jnp.array([1, 2])).dtype, float_if_whole(jnp.ones(1, jnp.bfloat16)).dtype
        (dtype('float32'), dtype(bfloat16))
    """
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)


def _numbers(value: Any) -> Iterator[Any]:
    """Yields the numbers of an argument without those in JAX arrays; what is no number is yielded too."""
    if isinstance(value, jax.Array):
        return
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    else:
        yield value


def _has_several(value: Any) -> bool:
    return isinstance(value, list | tuple) or np.ndim(value) > 0
