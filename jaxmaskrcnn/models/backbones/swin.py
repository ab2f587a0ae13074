"""Swin transformers (Liu et al., 2021), with the module names of their authors.

Every cell attends to the cells of its window of 7 x 7. In every second block the windows are shifted by half
their side, so that they join what the others separate: the map is rolled by that many cells, and where a
window then holds parts of two borders, cells only attend to those of their own part.

Shapes: B images, H and W of the canvas, h and w of a map, C channels, M windows of s x s = T cells, A heads.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmaskrcnn.config.swin import SwinConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import linear
from jaxmaskrcnn.models.norm import LayerNorm, param_dtype
from jaxmaskrcnn.models.padding import feature_extent, zero_outside
from jaxmaskrcnn.models.transformer import (
    MLP,
    add_changes,
    apply_again,
    drop_rates,
    join_windows,
    patches,
    small_normal,
    split_windows,
)

Array = jax.Array


class WindowAttention(nnx.Module):
    """Multi-head attention within windows, with a learned bias for each relative position of two cells.

    Args:
        features: Number of channels C.
        heads: Number of heads A.
        side: Side of a window, s.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        qkv: Linear layer to queries, keys and values, one after the other.
        bias_table: [(2s - 1) * (2s - 1), A], by difference of rows and of columns.
        proj: Linear layer of the result.

    Example:
        >>> layer = WindowAttention(8, 2, 3, rngs=nnx.Rngs(0))
        >>> layer(jnp.zeros((1, 4, 9, 8))).shape
        (1, 4, 9, 8)
    """

    def __init__(self, features: int, heads: int, side: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        c: dict[str, Any] = dict(init=small_normal, dtype=dtype, rngs=rngs)
        self.qkv = linear(features, 3 * features, **c)
        self.bias_table = nnx.Param(
            small_normal(rngs.params(), ((2 * side - 1) ** 2, heads), param_dtype(dtype))
        )
        self.proj = linear(features, features, **c)
        self.heads, self.side = heads, side

    def __call__(self, x: Array, seen: Array | None = None) -> Array:
        """Attend.

        Args:
            x: [B, M, T, C].
            seen: bool [B or 1, M, T, T], whether a cell (third axis) sees another one; None for all.

        Returns:
            [B, M, T, C].
        """
        b, m, t, features = x.shape
        qkv = self.qkv(x).reshape(b * m, t, 3, self.heads, features // self.heads)
        bias = self.bias_table[...][relative_positions(self.side)]  # [T, T, A]
        if seen is not None:
            seen = jnp.broadcast_to(seen, (b, m, t, t)).reshape(b * m, 1, t, t)
        x = jax.nn.dot_product_attention(
            qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], bias=bias.transpose(2, 0, 1)[None].astype(qkv.dtype),
            mask=seen,
        )  # fmt: skip
        return self.proj(x.reshape(b, m, t, features))


def relative_positions(side: int) -> np.ndarray:
    """Return the row of a bias table for each two cells of a window.

    Args:
        side: Side of the window, s.

    Returns:
        int [T, T].

    Example:
        >>> relative_positions(2)[0]
        array([4, 3, 1, 0])
    """
    y, x = np.divmod(np.arange(side * side), side)
    rows, columns = y[:, None] - y + side - 1, x[:, None] - x + side - 1
    return rows * (2 * side - 1) + columns


def seen_when_shifted(side: int, shift: int, size: Sequence[int], inside: Array | None) -> Array:
    """Find which cells see each other in shifted windows.

    An image's windows end with the multiple of ``side`` that holds its own extent. Rolled, its last ``side -
    shift`` rows share windows with its first ``shift`` ones (on a larger canvas, they are with cells outside
    and the first ones at the end of the canvas), but do not see them; the same holds for columns.

    Args:
        side: Side of a window, s.
        shift: By how many cells the map is rolled.
        size: Height and width of the map.
        inside: int [B, 2], rows and columns of each image's own part of the map; None for all of it.

    Returns:
        bool [B or 1, M, T, T].
    """
    parts = []
    for axis, length in enumerate(size):
        cells = jnp.arange(-(-length // side) * side)[None]
        own = jnp.array([length]) if inside is None else inside[:, axis]
        end = (-(-own // side) * side)[:, None]
        part = jnp.where(cells >= end - (side - shift), 2, jnp.where(cells < shift, 0, 1))
        parts.append(jnp.where(cells < end, part, 3))  # [B, h]
    part = 4 * parts[0][:, :, None] + parts[1][:, None, :]
    part = split_windows(jnp.roll(part, (-shift, -shift), (1, 2))[..., None], side)[..., 0]  # [B, M, T]
    return part[..., :, None] == part[..., None, :]


class Block(nnx.Module):
    """Attention within windows and an MLP, each after a norm and added to its input."""

    def __init__(self, features, heads, config: SwinConfig, *, shift, drop, number, dtype, rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.norm1 = LayerNorm(features, epsilon=config.norm_epsilon, **c)
        self.attn = WindowAttention(features, heads, config.window, **c)
        self.norm2 = LayerNorm(features, epsilon=config.norm_epsilon, **c)
        self.mlp = MLP(features, config.mlp_ratio * features, **c)
        self.side, self.shift, self.drop, self.number = config.window, shift, drop, number

    def __call__(self, x: Array, mask: Array | None, seen: Array | None, pass_: Pass) -> Array:
        # Cells beside an image are zero after the norm, like those that fill its last windows, and are seen.
        y, side = zero_outside(self.norm1(x), mask), self.side
        h, w = -(-x.shape[1] // side) * side, -(-x.shape[2] // side) * side
        if self.shift:
            y = jnp.pad(y, ((0, 0), (0, h - x.shape[1]), (0, w - x.shape[2]), (0, 0)))
            y = jnp.roll(y, (-self.shift, -self.shift), (1, 2))
        y = join_windows(self.attn(split_windows(y, side), seen if self.shift else None), side, h, w)
        if self.shift:
            y = jnp.roll(y, (self.shift, self.shift), (1, 2))
        return add_changes(self, x, y[:, : x.shape[1], : x.shape[2]], pass_)


class PatchMerging(nnx.Module):
    """Makes one cell of four, with twice the channels."""

    def __init__(self, features, config: SwinConfig, *, dtype, rngs):
        self.norm = LayerNorm(4 * features, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.reduction = linear(
            4 * features, 2 * features, init=small_normal, dtype=dtype, rngs=rngs, bias=False
        )

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """[B, h, w, C] -> [B, h / 2, w / 2, 2C], rounded up."""
        x = zero_outside(x, mask)
        b, h, w, features = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        x = x.reshape(b, -(-h // 2), 2, -(-w // 2), 2, features)
        x = x.transpose(0, 1, 3, 4, 2, 5)  # of the four cells, those of the left column come first
        return self.reduction(self.norm(x.reshape(*x.shape[:3], -1)))


class PatchEmbedding(nnx.Module):
    """Makes a cell of each square of pixels, with a convolution whose stride is its size, and a norm."""

    def __init__(self, features, size, *, epsilon, dtype, rngs):
        self.proj = linear(3 * size * size, features, init=small_normal, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(features, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.size = size

    def __call__(self, images: Array) -> Array:
        """[B, H, W, 3] -> [B, H / size, W / size, C], rounded up."""
        return self.norm(self.proj(patches(images, self.size)))


class Stage(nnx.Module):
    """The blocks of a stage, and the layer that halves its map for the next one."""

    def __init__(self, blocks: list[Block], downsample: PatchMerging | None):
        self.blocks = nnx.List(blocks)
        self.downsample = downsample


class Swin(nnx.Module):
    """Swin transformer with a norm on the output of each stage.

    Args:
        config: Gives the widths, blocks, heads and windows.
        dtype: Dtype of the activations.
        remat: Whether to recompute the blocks for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        patch_embed: From pixels to the first map.
        layers: The stages.
        norms: Norms of the outputs.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = SwinConfig(width=8, heads=(1, 1, 2, 2))
        >>> body = nnx.eval_shape(lambda: Swin(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 8), (1, 8, 12, 16), (1, 4, 6, 32), (1, 2, 3, 64)]
    """

    def __init__(self, config: SwinConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.patch_embed = PatchEmbedding(config.width, 4, epsilon=config.norm_epsilon, **c)
        rates = drop_rates(config.drop_path, sum(config.blocks))
        stages, norms, number = [], [], 0
        for i, (_, features) in enumerate(config.levels):
            blocks = []
            for k in range(config.blocks[i]):
                # As in the libraries, nothing is left out in stages that are not trained.
                drop = rates[number] if config.freeze_at < i + 2 else 0.0
                shift = config.window // 2 if k % 2 else 0
                blocks.append(
                    Block(features, config.heads[i], config, shift=shift, drop=drop, number=number, **c)
                )
                number += 1
            stages.append(Stage(blocks, PatchMerging(features, config, **c) if i < 3 else None))
            norms.append(LayerNorm(features, epsilon=config.norm_epsilon, **c))
        self.layers, self.norms = nnx.List(stages), nnx.List(norms)
        self.levels, self.remat, self.freeze_at = config.levels, remat, config.freeze_at
        self.side = config.window

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            C2 [B, H/4, W/4, C] to C5 [B, H/32, W/32, C], rounded up.
        """
        x = self.patch_embed(images)
        outputs = []
        for stage, norm, level in zip(self.layers, self.norms, self.levels, strict=True):
            mask = pass_.inside(level.stride, x.shape[1:3])
            own = None if pass_.extents is None else feature_extent(pass_.extents, level.stride)
            seen = seen_when_shifted(self.side, self.side // 2, x.shape[1:3], own)
            for block in stage.blocks:
                arguments = (x, mask, seen, pass_)
                x = apply_again(block, *arguments) if self.remat else block(*arguments)
            outputs.append(norm(x))
            if stage.downsample is not None:
                x = stage.downsample(x, mask)
        return tuple(outputs)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that ``freeze_at`` freezes, as paths in this module."""
        stem = ("patch_embed.*",) if self.freeze_at >= 1 else ()
        stages = range(self.freeze_at - 1)
        return (*stem, *(f"{part}.{i}.*" for i in stages for part in ("layers", "norms")))
