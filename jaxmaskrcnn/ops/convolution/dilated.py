"""Dilated convolutions with stride 1, as ordinary ones.

With a dilation of 2, an output cell reads every second row and column from its own. So cells whose rows and
columns are both even have nothing to do with the others, and likewise the other three parts of the map. Each
is a smaller map with an ordinary convolution, for which the fast implementations and their gradients are
used.

Source: the "à trous algorithm" (Holschneider et al., 1989).

Shapes: N maps of h x w cells, C and D channels in and out.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.convolution.api import convolution

Array = jax.Array


def dilated_convolution(
    x: Array,
    kernel: Array,
    bias: Array | None,
    shortcut: Array | None,
    groups: int,
    relu: bool,
    dilation: int,
) -> Array:
    """Like `convolution` with stride 1, with ``dilation`` cells from tap to tap and as much more border.

    Args:
        x: [N, h, w, C].
        kernel: [size, size, C / groups, D] with an odd size.
        bias: [D], or None.
        shortcut: [N, h, w, D] that is added, or None.
        groups: Channels are convolved in this many groups.
        relu: Whether negative results become 0.
        dilation: Cells from tap to tap.

    Returns:
        [N, h, w, D].

    Example:
        >>> x = jnp.zeros((1, 1, 5, 1)).at[0, 0, 2].set(1)
        >>> dilated_convolution(x, jnp.ones((3, 3, 1, 1)), None, None, 1, False, dilation=2)[0, 0, :, 0]
        Array([1., 0., 1., 0., 1.], dtype=float32)
    """
    n, h, w, _ = x.shape
    parts = convolution(
        _separate(x, dilation),
        kernel,
        bias,
        None if shortcut is None else _separate(shortcut, dilation),
        1,
        groups,
        relu,
    )
    # Back from [N, d, d, rows, columns, D] to rows and columns in turns.
    parts = parts.reshape(n, dilation, dilation, *parts.shape[1:])  # pyright: ignore[reportAttributeAccessIssue] (custom_vjp hides the type)
    whole = parts.transpose(0, 3, 1, 4, 2, 5)
    return whole.reshape(n, whole.shape[1] * dilation, -1, whole.shape[5])[:, :h, :w]


def _separate(x: Array, dilation: int) -> Array:
    """[N, h, w, C] to [N d d, h / d, w / d, C]; rows and columns of zeros fill up the parts."""
    n, h, w, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % dilation), (0, -w % dilation), (0, 0)))
    x = x.reshape(n, -(-h // dilation), dilation, -(-w // dilation), dilation, channels)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(-1, x.shape[1], x.shape[3], channels)
