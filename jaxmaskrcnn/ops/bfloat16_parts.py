"""Numbers of float32 as sums of numbers of bfloat16, which is what TPUs multiply.

A product of float32 with precision "highest" takes a TPU six products of bfloat16. Where one factor is in
bfloat16 already, or has zeros and ones alone, two or three are enough, for as many parts of the other one.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def bfloat16_parts(x: Array, count: int) -> list[Array]:
    """Split numbers into parts of 8 significant bits each, of which the sum of all three is exact.

    Args:
        x: Finite float32 of any shape.
        count: Number of parts, 1 to 3. Two leave out the last 8 of 24 bits.

    Returns:
        ``count`` arrays of bfloat16, the largest part first.

    Example:
        >>> high, low = bfloat16_parts(jnp.float32(1.01), 2)
        >>> float(high), float(low)
        (1.0078125, 0.002182...)
    """
    parts = []
    for _ in range(count):
        # XLA may leave out a conversion to bfloat16 that is followed by one back.
        part = jax.lax.reduce_precision(x, 8, 7)
        parts.append(part.astype(jnp.bfloat16))
        x = x - part
    return parts
