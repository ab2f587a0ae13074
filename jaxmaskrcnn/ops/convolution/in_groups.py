"""Convolutions of channels in groups on CPUs: one group after the other, each an ordinary convolution.

XLA on a CPU (jaxlib 0.10.2) computes a convolution in groups three to nine times more slowly than the
convolutions of the groups by themselves (docs/benchmarks.md, "Convolutions in groups").

Shapes: N maps of h x w cells, C and D channels in and out, in groups of C / groups and D / groups.
"""

from collections.abc import Callable

import jax

from jaxmaskrcnn.ops.xla_memory import empty_depending_on

Array = jax.Array


def convolve(
    of_group: Callable,
    x: Array,
    kernel: Array,
    bias: Array | None,
    shortcut: Array | None,
    shape: tuple[int, ...],
    groups: int,
) -> Array:
    """Compute a convolution group by group.

    Args:
        of_group: Computes ``(x, kernel, bias, shortcut)`` of one group.
        x: [N, height, width, C].
        kernel: [size, size, C / groups, D].
        bias: [D], or None.
        shortcut: An array of the result's shape that is added to it, or None.
        shape: Shape of the result.
        groups: Number of groups, the same for C and D.

    Returns:
        [N, h, w, D].

    Example:
        >>> double = lambda x, kernel, bias, shortcut: 2 * x
        >>> convolve(double, jnp.ones((1, 1, 1, 4)), jnp.ones((1, 1, 2, 4)), None, None, (1, 1, 1, 4), 2)
        Array([[[[2., 2., 2., 2.]]]], dtype=float32)
    """

    def one(index, y):
        parts = (_group(array, index, groups) for array in (kernel, bias, shortcut))
        return _written(y, of_group(_group(x, index, groups), *parts), index)

    return jax.lax.fori_loop(0, groups, one, empty_depending_on(shape, x, kernel, bias, shortcut))


def gradients(
    of_group: Callable, x: Array, kernel: Array, cotangent: Array, groups: int
) -> tuple[Array, Array]:
    """Gradients of `convolve` with respect to ``x`` and ``kernel``.

    Args:
        of_group: Computes both from ``(x, kernel, cotangent)`` of one group.
        x: [N, height, width, C].
        kernel: [size, size, C / groups, D].
        cotangent: [N, h, w, D], of the result before the ReLU.
        groups: As in `convolve`.

    Returns:
        Arrays of the shapes of ``x`` and ``kernel``.
    """
    arrays = (x, kernel, cotangent)

    def one(index, found):
        parts = of_group(_group(x, index, groups), *(_group(a, index, groups) for a in arrays[1:]))
        return tuple(_written(whole, part, index) for whole, part in zip(found, parts, strict=True))

    return jax.lax.fori_loop(0, groups, one, tuple(empty_depending_on(a.shape, *arrays) for a in arrays[:2]))


def _group(x: Array | None, index: Array, groups: int) -> Array | None:
    """The channels of one group, which are the last axis."""
    if x is None:
        return None
    size = x.shape[-1] // groups
    return jax.lax.dynamic_slice_in_dim(x, index * size, size, x.ndim - 1)


def _written(whole: Array, part: Array, index: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(whole, part, index * part.shape[-1], whole.ndim - 1)
