"""Layers of vision transformers, on maps with the channels last.

Shapes: B images, h and w of a map, C channels, M windows of s x s = T cells.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import linear
from jaxmaskrcnn.ops.computed_once import computed_once

Array = jax.Array

# Weights of all linear layers and tables of vision transformers.
small_normal = nnx.initializers.normal(0.02)


class MLP(nnx.Module):
    """Two linear layers with the exact GELU (by the error function) between them.

    Args:
        features: Number of channels C.
        hidden: Channels between the layers.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        fc1, fc2: The layers.

    Example:
        >>> MLP(8, 32, rngs=nnx.Rngs(0))(jnp.zeros((1, 4, 6, 8))).shape
        (1, 4, 6, 8)
    """

    def __init__(self, features: int, hidden: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        c: dict[str, Any] = dict(init=small_normal, dtype=dtype, rngs=rngs)
        self.fc1 = linear(features, hidden, **c)
        self.fc2 = linear(hidden, features, **c)

    def __call__(self, x: Array) -> Array:
        """Transform every cell separately.

        Args:
            x: [..., C].

        Returns:
            [..., C].
        """
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


def patches(images: Array, size: int) -> Array:
    """Put the pixels of each square side by side, after zeros below and on the right that fill the last ones.

    A linear layer of them is a convolution whose stride is its size, with a kernel of the order
    [size, size, 3, C].

    Args:
        images: [B, H, W, 3].
        size: Side of a square.

    Returns:
        [B, h, w, size * size * 3].

    Example:
        >>> patches(jnp.zeros((1, 10, 16, 3)), 4).shape
        (1, 3, 4, 48)
    """
    b, h, w, channels = images.shape
    images = jnp.pad(images, ((0, 0), (0, -h % size), (0, -w % size), (0, 0)))
    images = images.reshape(b, -(-h // size), size, -(-w // size), size, channels).swapaxes(2, 3)
    return images.reshape(*images.shape[:3], -1)


def drop_path(x: Array, rate: float, number: int, pass_: Pass) -> Array:
    """Leave out a block's change of some images in training, and enlarge the others' to the same mean.

    Source: Huang et al., 2016 ("stochastic depth").

    Args:
        x: The change, [B, h, w, C].
        rate: How often it is left out.
        number: The layer's number, which gives it random numbers of its own.
        pass_: Gives the images' random keys; without keys, or if it does not train, nothing is left out.

    Returns:
        [B, h, w, C].

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> drop_path(jnp.ones((2, 1, 1, 1)), 0.5, 3, Pass(keys=keys, train=True)).max()
        Array(2., dtype=float32)
    """
    if not rate or not pass_.train or pass_.keys is None:
        return x
    keys = jax.vmap(lambda key: jax.random.fold_in(key, _FIRST_NUMBER + number))(pass_.keys)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)[:, None, None, None]
    return jnp.where(kept, x / (1 - rate), 0)


_FIRST_NUMBER = 1 << 20  # other parts of the model derive their keys with small numbers


def add_changes(block: Any, x: Array, change: Array, pass_: Pass) -> Array:
    """Add to a map what a block's attention makes of it, and then what its MLP makes of the sum.

    Args:
        block: Gives ``norm2``, ``mlp``, the rate ``drop`` of random depth and its ``number``.
        x: The block's input, [B, h, w, C].
        change: The result of its attention, [B, h, w, C].
        pass_: See `Pass`.

    Returns:
        [B, h, w, C].
    """
    x = computed_once(x + drop_path(change, block.drop, 2 * block.number, pass_))
    change = block.mlp(block.norm2(x))
    return computed_once(x + drop_path(change, block.drop, 2 * block.number + 1, pass_))


def drop_rates(rate: float, count: int) -> list[float]:
    """Return the rates of ``count`` blocks, which grow linearly from 0 to ``rate``.

    Example:
        >>> drop_rates(0.2, 3)
        [0.0, 0.1, 0.2]
    """
    return [rate * i / max(count - 1, 1) for i in range(count)]


def split_windows(x: Array, side: int) -> Array:
    """Cut a map into windows, after zeros below and on the right that fill the last ones.

    Args:
        x: [B, h, w, C].
        side: Side of a window, s.

    Returns:
        [B, M, T, C], row by row.

    Example:
        >>> split_windows(jnp.zeros((1, 10, 14, 8)), 7).shape
        (1, 4, 49, 8)
    """
    b, h, w, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % side), (0, -w % side), (0, 0)))
    x = x.reshape(b, -(-h // side), side, -(-w // side), side, channels).swapaxes(2, 3)
    return x.reshape(b, -1, side * side, channels)


def join_windows(windows: Array, side: int, height: int, width: int) -> Array:
    """Undo `split_windows`.

    Args:
        windows: [B, M, T, C].
        side: Side of a window, s.
        height: Height of the map, h.
        width: Width of the map, w.

    Returns:
        [B, h, w, C].
    """
    b, channels = windows.shape[0], windows.shape[-1]
    rows, columns = -(-height // side), -(-width // side)
    x = windows.reshape(b, rows, columns, side, side, channels).swapaxes(2, 3)
    return x.reshape(b, rows * side, columns * side, channels)[:, :height, :width]


def apply_again(block: Callable, *arguments: Any) -> Any:
    """Apply a module without batch statistics and keep only its input; the gradient recomputes the rest.

    Args:
        block: The module.
        *arguments: Its arguments.
    """
    graphdef, state = nnx.split(block)
    return jax.checkpoint(lambda state, *given: nnx.merge(graphdef, state, copy=True)(*given))(
        state, *arguments
    )
