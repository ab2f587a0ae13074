"""Checks the shapes of arguments, and gives empty arrays a row if one is read.

An array of a wrong shape often gives a wrong result without an error, because indexing and broadcasting
accept it: the first four of five columns, for example. Shapes are static, so these checks cost no time in a
compiled program.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A number for each axis, height first: numbers, traced scalars, or an array [2].
Pair = Sequence[float | jax.Array] | jax.Array | np.ndarray


def check_shapes(function: str, **arrays: tuple[Any, str]) -> None:
    """Checks that arrays have the shapes that a function documents.

    Under ``vmap`` the shapes are those of one element.

    Args:
        function: Name of the function, for the message.
        **arrays: By the argument's name, the array (None is skipped) and its shape as axes separated by
            spaces: numbers; letters, which denote the same length throughout a call; and "..." in
            front, for any leading axes.

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> check_shapes("nms", boxes=(jnp.zeros((3, 4)), "N 4"), scores=(jnp.zeros(2), "N"))
        Traceback (most recent call last):
            ...
        ValueError: nms: scores has the shape [2]; give it the shape [N] with N = 3.
    """
    lengths: dict[str, int] = {}
    for name, (array, pattern) in arrays.items():
        if array is None:
            continue
        shape, expected = shape_of(array), pattern.split()
        free = expected[0] == "..."
        axes = expected[1:] if free else expected
        last = shape[max(0, len(shape) - len(axes)) :] if free else shape
        known = {axis: lengths[axis] for axis in axes if axis in lengths}
        fits = len(last) == len(axes)
        for axis, length in zip(axes, last, strict=False):
            fits &= length == (int(axis) if axis.isdigit() else lengths.setdefault(axis, length))
        if not fits:
            meaning = " and ".join(f"{axis} = {length}" for axis, length in known.items())
            raise ValueError(
                f"{function}: {name} has the shape {list(shape)}; give it the shape "
                f"[{', '.join(expected)}]{meaning and f' with {meaning}'}."
            )


def shape_of(array: Any) -> tuple[int, ...]:
    """The shape of an array, or of lists and tuples of numbers and traced scalars.

    Args:
        array: An array or a sequence.

    Returns:
        The shape.

    Example:
        >>> shape_of([(1, 2, 3), (4, 5, 6)])
        (2, 3)
    """
    if isinstance(array, (list, tuple)):
        return (len(array), *(shape_of(array[0]) if array else ()))
    return tuple(getattr(array, "shape", ()))


def to_rank(array: Any, rank: int) -> jax.Array:
    """Gives an array axes of length 1 in front, as broadcasting would.

    With ``jax_numpy_rank_promotion`` set to "raise", JAX refuses arrays with different numbers of axes.

    Args:
        array: An array.
        rank: The number of axes, at least those that it has. A scalar stays one, as it is always broadcast.

    Returns:
        The array with ``rank`` axes.

    Example:
        >>> to_rank(jnp.zeros(4), 3).shape
        (1, 1, 4)
    """
    array = jnp.asarray(array)
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim else array


def one_row_if_empty(tree: Any) -> Any:
    """Gives arrays without rows a row of zeros, so that an index can read one.

    Args:
        tree: A pytree of arrays that share their first axis.

    Returns:
        The tree, with one row in each array that had none. A row of zeros is not ``valid``.

    Example:
        >>> one_row_if_empty((jnp.zeros((0, 4)), jnp.ones((2, 3))))[0].shape
        (1, 4)
    """

    def fill(array):
        return array if array.shape[0] else jnp.zeros((1, *array.shape[1:]), array.dtype)

    return jax.tree.map(fill, tree)
