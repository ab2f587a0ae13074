"""Upsampling of maps by the nearest cell.

XLA:TPU repeats cells slowly, and sums windows quickly (docs/benchmarks.md). So TPUs upsample with sums, in
which every cell is by itself.

Shapes: N maps of h x w cells, C channels.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


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
    return jax.lax.platform_dependent(x, tpu=sum_of_windows, default=repeated)


def repeated(x: Array) -> Array:
    """Define `upsample`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def sum_of_windows(x: Array) -> Array:
    """`upsample`: of 2 x 2 cells between which there are zeros, each sum has one cell of the map."""
    zero, border = np.array(0, x.dtype), (1, 1)
    return jax.lax.reduce_window(
        x, zero, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), ((0, 0), border, border, (0, 0)), (1, 2, 2, 1)
    )
