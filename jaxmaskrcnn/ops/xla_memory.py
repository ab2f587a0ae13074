"""Keeps XLA from holding arrays in memory before they are needed, or only because of their shape.

On a CPU, XLA computes values that depend only on parameters or constants at the start of a program, and
values that depend on kept activations at the start of the backward pass, and holds them until then: hundreds
of megabytes of zeros, padded maps and transformed kernels in a training step (jaxlib 0.10.2). A data
dependency on a later array delays them. `test_a_stack_of_layers_keeps_one_map_a_layer` measures the effect.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def zero_depending_on(x: Array) -> Array:
    """Zero with a data dependency on ``x``: an expression that contains it cannot be computed before ``x``.

    It is the minimum of 0 and the bits of one element without the sign, because ``0 * x`` would be NaN for
    infinities and NaN.

    Args:
        x: An array that is not empty.

    Returns:
        A scalar 0 of the dtype of ``x``.

    Example:
        >>> zero_depending_on(jnp.array([-2.0, jnp.inf]))
        Array(0., dtype=float32)
    """
    bits = jax.lax.bitcast_convert_type(x[(0,) * x.ndim].astype(jnp.float32), jnp.int32)
    return jnp.minimum(bits & 0x7FFFFFFF, 0).astype(x.dtype)


def empty_depending_on(shape: tuple[int, ...], *inputs: Array | None) -> Array:
    """Allocates an array for a loop that writes all its elements, but only once the loop's inputs exist.

    Args:
        shape: Shape of the array.
        inputs: Arrays of one dtype that the loop reads; None is skipped.

    Returns:
        An array of ``shape`` with arbitrary values.

    Example:
        >>> empty_depending_on((2, 3), jnp.ones(4)).shape
        (2, 3)
    """
    first = sum(x[(0,) * x.ndim] for x in inputs if x is not None)
    return jnp.broadcast_to(first, shape)


def without_elements(x: Array) -> Array:
    """An empty array that carries the shape (except the last axis) and the dtype of ``x``.

    It serves gradients that need the shape and the dtype but no values: residuals of `jax.custom_vjp` must be
    arrays, and this one takes no memory.

    Args:
        x: [..., C].

    Returns:
        [..., 0] of the dtype of ``x``.

    Example:
        >>> without_elements(jnp.ones((5, 4, 3))).shape
        (5, 4, 0)
    """
    return x[..., :0]
