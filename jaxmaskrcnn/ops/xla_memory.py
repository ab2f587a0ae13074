"""How to keep XLA from holding arrays in memory: before they are needed, or only for their shape.

On a CPU, XLA computes what depends on parameters or constants alone at the start of a program, and what
depends on kept activations at the start of the backward pass, and holds it until it is needed: hundreds
of megabytes of zeros, padded maps and transformed kernels in a training step (jaxlib 0.10.2). A data
dependency on a later array delays them. `test_a_stack_of_layers_keeps_one_map_a_layer` measures the effect.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def zero_depending_on(x: Array) -> Array:
    """Zero with a data dependency on ``x``: XLA cannot compute what it is a part of before ``x``.

    It is made of the bits of one element without the sign, limited to 0, because ``0 * x`` would be NaN for
    infinities and NaN.

    Args:
        x: Not empty.

    Returns:
        A scalar 0 of the type of ``x``.

    Example:
        >>> zero_depending_on(jnp.array([-2.0, jnp.inf]))
        Array(0., dtype=float32)
    """
    bits = jax.lax.bitcast_convert_type(x[(0,) * x.ndim].astype(jnp.float32), jnp.int32)
    return jnp.minimum(bits & 0x7FFFFFFF, 0).astype(x.dtype)


def empty_depending_on(shape: tuple[int, ...], *inputs: Array | None) -> Array:
    """An array for a loop that writes every element of it, not made before the loop's inputs.

    Args:
        shape: Of the array.
        inputs: What the loop reads, arrays of one type; None is passed over.

    Returns:
        An array of ``shape``, with values that mean nothing.

    Example:
        >>> empty_depending_on((2, 3), jnp.ones(4)).shape
        (2, 3)
    """
    first = sum(x[(0,) * x.ndim] for x in inputs if x is not None)
    return jnp.broadcast_to(first, shape)


def without_elements(x: Array) -> Array:
    """What a gradient keeps of an array of which it needs the shape and the dtype, but no value.

    Residuals of `jax.custom_vjp` have to be arrays, and this one takes no memory.

    Args:
        x: [..., C].

    Returns:
        [..., 0] of the type of ``x``.

    Example:
        >>> without_elements(jnp.ones((5, 4, 3))).shape
        (5, 4, 0)
    """
    return x[..., :0]
