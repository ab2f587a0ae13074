"""Pooling by the maximum, and upsampling by the nearest cell, in the ways that suit each platform.

XLA:TPU computes windows quickly if each of them is along one axis, and repeats cells slowly. So TPUs pool the
columns of a map after its rows, and upsample with windows. Every value is one of the map's, exactly as in the
other ways.

Shapes: N maps of h x w cells, C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]


def max_pool(x: Array, padding: Padding = ((1, 1), (1, 1))) -> Array:
    """The maximum of 3 x 3 cells with a stride of 2, as behind the stem of a ResNet.

    Args:
        x: [N, h, w, C].
        padding: Cells of minus infinity before and behind the rows, and the columns.

    Returns:
        [N, h / 2, w / 2, C], with the default padding rounded up.

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    functions = {"tpu": max_of_rows_and_columns, "default": max_of_windows}
    return _on_platform(x, functions, padding=padding)


def max_of_windows(x: Array, padding: Padding) -> Array:
    """Define `max_pool`."""
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=padding)  # pyright: ignore[reportArgumentType] (Flax accepts pairs too)


def max_of_rows_and_columns(x: Array, padding: Padding) -> Array:
    """`max_pool`, first of three rows, then of three columns."""
    rows, columns = padding
    x = nnx.max_pool(x, (3, 1), strides=(2, 1), padding=(rows, (0, 0)))  # pyright: ignore[reportArgumentType]
    return nnx.max_pool(x, (1, 3), strides=(1, 2), padding=((0, 0), columns))  # pyright: ignore[reportArgumentType]


def upsample(x: Array) -> Array:
    """Repeat every cell, as torch's nearest interpolation by a factor of two does.

    Args:
        x: [N, h, w, C].

    Returns:
        [N, 2 h, 2 w, C].

    Example:
        >>> upsample(jnp.array([[1.0, 2.0]]).reshape(1, 1, 2, 1))[0, :, :, 0].tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    return _on_platform(x, {"tpu": sum_of_windows, "default": repeated})


def repeated(x: Array) -> Array:
    """Define `upsample`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def sum_of_windows(x: Array) -> Array:
    """`upsample`: of 2 x 2 cells between which there are zeros, each sum has one cell of the map."""
    zero, border = np.zeros((), x.dtype)[()], (1, 1)
    return jax.lax.reduce_window(
        x, zero, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), ((0, 0), border, border, (0, 0)), (1, 2, 2, 1)
    )


def _on_platform(x, functions, **settings):
    chosen = {platform: functools.partial(function, **settings) for platform, function in functions.items()}
    return jax.lax.platform_dependent(x, **chosen)
