"""CARAFE's reassembly (Wang et al., 2019, section 3.2): maps of twice the size, of means with weights.

Each cell of a map becomes four. Each of these is a mean of the window around the cell, with weights of its
own that all channels share.

Shapes: N maps, h and w, C channels, a window of k x k cells.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def window_weights(logits: Array) -> Array:
    """Turn logits into the weights of windows: a softmax over the cells of each.

    Args:
        logits: [N, h, w, k * k * 4], the cells of a window first and the four new cells last, which is the
            order of torch's ``pixel_shuffle``.

    Returns:
        [N, h, w, k * k, 4], at least float32.

    Example:
        >>> window_weights(jnp.zeros((1, 1, 1, 100)))[0, 0, 0, :2, 0].tolist()
        [0.03999999910593033, 0.03999999910593033]
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.softmax(logits.reshape(*logits.shape[:-1], -1, 4), axis=-2)


def reassemble(x: Array, weights: Array) -> Array:
    """Make four cells of each one, as a sum over the window's places, which XLA turns into one loop.

    Beside the map are zeros, whose weights are lost. `reassemble_reference` is the definition.

    Source: Wang et al., 2019, equation 4; mmcv's ``carafe_naive``.

    Args:
        x: [N, h, w, C].
        weights: [N, h, w, k * k, 4], a window's cells row by row; number 2a + b of the four is at
            (2y + a, 2x + b).

    Returns:
        [N, h, w, 4, C] of the dtype of ``x``.

    Example:
        >>> weights = jnp.zeros((1, 1, 2, 9, 4)).at[..., 4, :].set(1.0)  # all of the cell itself
        >>> reassemble(jnp.array([[[[3.0], [5.0]]]]), weights)[0, 0, :, :, 0].tolist()
        [[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 5.0, 5.0]]
    """
    _, h, w, _ = x.shape
    side = round(weights.shape[-2] ** 0.5)
    padded = jnp.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2), (0, 0)))
    padded = padded.astype(weights.dtype)
    total: Any = 0
    for place in range(side**2):
        i, j = divmod(place, side)
        total += weights[..., place, :, None] * padded[:, i : i + h, j : j + w, None]
    return total.astype(x.dtype)


def reassemble_reference(x: Array, weights: Array) -> Array:
    """Define `reassemble` cell by cell of the result: the window is the one around the cell that it lies in.

    Args:
        x: [N, h, w, C].
        weights: [N, h, w, k * k, 4].

    Returns:
        [N, h, w, 4, C].
    """
    side = round(weights.shape[-2] ** 0.5)
    reach = jnp.arange(side) - side // 2

    def one_cell(x, weights, row, column):  # [h, w, C], [k * k]
        window = x.at[(row // 2 + reach)[:, None], column // 2 + reach].get(
            mode="fill", fill_value=0, wrap_negative_indices=False
        )
        return (window.reshape(side**2, -1) * weights[:, None]).sum(0)

    def one_map(x, weights):
        h, w, cells, _ = weights.shape
        wide = weights.reshape(h, w, cells, 2, 2).transpose(0, 3, 1, 4, 2).reshape(2 * h, 2 * w, cells)
        columns = jax.vmap(one_cell, (None, 0, None, 0))
        result = jax.vmap(columns, (None, 0, 0, None))(x, wide, jnp.arange(2 * h), jnp.arange(2 * w))
        return result.reshape(h, 2, w, 2, -1).swapaxes(1, 2).reshape(h, w, 4, -1)

    return jax.vmap(one_map)(x.astype(weights.dtype), weights).astype(x.dtype)
