"""The steps after a convolution: bias, shortcut and ReLU.

Shapes: D channels.
"""

import jax

from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


def finish(y: Array, bias: Array | None, shortcut: Array | None, relu: bool) -> Array:
    """``relu(y + bias + shortcut)``.

    Args:
        y: [..., D].
        bias: [D], or None.
        shortcut: An array of the shape of ``y``, or None.
        relu: Whether negative results become 0.

    Returns:
        [..., D].

    Example:
        >>> finish(jnp.array([1.0, -3.0]), jnp.array([0.5, 0.5]), None, relu=True)
        Array([1.5, 0. ], dtype=float32)
    """
    y = y if bias is None else y + to_rank(bias, y.ndim)
    y = y if shortcut is None else y + shortcut
    return jax.nn.relu(y) if relu else y
