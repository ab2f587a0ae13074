"""What follows a convolution, and how to keep XLA from making arrays long before they are needed.

On a CPU, XLA computes what depends on parameters or constants alone at the start of a program, and what
depends on kept activations at the start of the backward pass, and holds it until it is needed: hundreds
of megabytes of zeros, padded maps and transformed kernels in a training step.

Shapes: D channels.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def finish(y: Array, bias: Array | None, shortcut: Array | None, relu: bool) -> Array:
    """``relu(y + bias + shortcut)``.

    Args:
        y: [..., D].
        bias: [D], or None.
        shortcut: Of the shape of ``y``, or None.
        relu: Whether negative results become 0.

    Returns:
        [..., D].

    Example:
        >>> finish(jnp.array([1.0, -3.0]), jnp.array([0.5, 0.5]), None, relu=True)
        Array([1.5, 0. ], dtype=float32)
    """
    y = y if bias is None else y + bias
    y = y if shortcut is None else y + shortcut
    return jax.nn.relu(y) if relu else y


def zero_after(x: Array) -> Array:
    """A zero that XLA takes for a function of ``x``; what it is a part of cannot be made before ``x``.

    Args:
        x: Not empty.

    Returns:
        A scalar 0 of the type of ``x``.

    Example:
        >>> zero_after(jnp.array([-2.0, jnp.inf]))
        Array(0., dtype=float32)
    """
    bits = jax.lax.bitcast_convert_type(x[(0,) * x.ndim].astype(jnp.float32), jnp.int32)
    return jnp.minimum(bits & 0x7FFFFFFF, 0).astype(x.dtype)


def unwritten(shape: tuple[int, ...], *inputs: Array | None) -> Array:
    """An array for a loop that writes every element of it, not made before the loop's inputs.

    Args:
        shape: Of the array.
        inputs: What the loop reads, arrays of one type; None is passed over.

    Returns:
        An array of ``shape``, with values that mean nothing.

    Example:
        >>> unwritten((2, 3), jnp.ones(4)).shape
        (2, 3)
    """
    first = sum(x[(0,) * x.ndim] for x in inputs if x is not None)
    return jnp.broadcast_to(first, shape)
