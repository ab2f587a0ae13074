"""Keeps XLA from computing a value again in each operation that reads it.

XLA on CPUs (jaxlib 0.10.2) computes sums, ReLUs and the like inside the operations that read them, and again
in each of these, instead of keeping the result. In a residual network every block's result is the next one's
shortcut, so the last block of a stage repeats the sums of all blocks before it. In an HRNet, whose branches
are chains of 32 blocks, these sums took most of the time: the backbone of HRNetV2p-W18 computed an image of
800 x 1088 in 3.8 seconds, and takes 2.2 since every sum is computed once (two cores).
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.ops.xla_memory import zero_depending_on

Array = jax.Array

_FEW = 2**16  # elements; fewer are computed again in less time than a program with more loops is compiled


def computed_once(x: Array) -> Array:
    """Return ``x`` as it is, and let XLA on a CPU compute it once and keep it, for all that reads it.

    `jax.lax.optimization_barrier` does not do it, as XLA removes it before it joins operations. A loop is
    never joined with others, so ``x`` goes through one whose number of turns, 0, is computed from ``x``, and
    which XLA therefore cannot remove. It copies nothing.

    Args:
        x: An array of floats. Small ones stay as they are.

    Returns:
        An array of the same values.

    Example:
        >>> computed_once(jnp.array([1.0, jnp.nan]))
        Array([ 1., nan], dtype=float32)
    """
    return x if wants_every_derivative() or x.size < _FEW else _computed_once(x)


@jax.custom_vjp
def _computed_once(x: Array) -> Array:
    return jax.lax.platform_dependent(x, cpu=_through_a_loop, default=lambda x: x)


_computed_once.defvjp(lambda x: (_computed_once(x), None), lambda _, cotangent: (cotangent,))


def _through_a_loop(x: Array) -> Array:
    turns = zero_depending_on(x).astype(jnp.int32)

    def turn(state: tuple[Array, Array]) -> tuple[Array, Array]:
        index, x = state
        return index + 1, -x  # anything that changes it, or XLA would see that it stays the same

    return jax.lax.while_loop(lambda state: state[0] < turns, turn, (jnp.int32(0), x))[1]
