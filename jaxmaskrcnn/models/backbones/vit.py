"""Plain vision transformers for detection (ViTDet, Li et al., 2022), with Detectron2's module names.

One map with a stride of 16 from the first block to the last. In most blocks a cell attends to the cells of
its window of 14 x 14, and in a few to all. Relative positions are two vectors, of the rows and of the
columns.

Shapes: B images, H and W of the canvas, h and w of the map, C channels, A heads of d channels each, M windows
of s x s = T cells.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.vit import ViTConfig
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
from jaxmaskrcnn.ops.attention import attend_in_pieces
from jaxmaskrcnn.ops.positions import relative_table, resized_positions

Array = jax.Array


class Attention(nnx.Module):
    """Multi-head attention between the cells of a map, or of each of many windows.

    Attributes:
        qkv: Linear layer to queries, keys and values, one after the other.
        rel_pos_h, rel_pos_w: [2 * side - 1, d], vectors by difference of rows and of columns.
        proj: Linear layer of the result.
    """

    def __init__(self, features: int, heads: int, side: int, *, dtype: str, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(init=small_normal, dtype=dtype, rngs=rngs)
        self.qkv = linear(features, 3 * features, **c)
        shape = (2 * side - 1, features // heads)
        self.rel_pos_h = nnx.Param(jnp.zeros(shape, param_dtype(dtype)))
        self.rel_pos_w = nnx.Param(jnp.zeros(shape, param_dtype(dtype)))
        self.proj = linear(features, features, **c)
        self.heads = heads

    def __call__(self, x: Array, own: Array, seen: Array | None = None) -> Array:
        """Attend.

        Args:
            x: [N, h, w, C].
            own: int [N or 1, 2], rows and columns of the map that count for the tables' sizes.
            seen: bool [N, h, w], cells that are attended to; None for all.

        Returns:
            [N, h, w, C].
        """
        n, h, w, features = x.shape
        qkv = self.qkv(x).reshape(n, h, w, 3, self.heads, -1)
        rows = relative_table(self.rel_pos_h[...], (h, h), (own[:, 0], own[:, 0]))
        columns = relative_table(self.rel_pos_w[...], (w, w), (own[:, 1], own[:, 1]))
        x = attend_in_pieces(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :], rows, columns, seen)
        return self.proj(x.reshape(n, h, w, features))


class Block(nnx.Module):
    """Attention and an MLP, each after a norm and added to its input."""

    def __init__(self, number: int, drop: float, config: ViTConfig, *, dtype, rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.window = 0 if number in config.global_blocks else config.window
        self.norm1 = LayerNorm(config.width, epsilon=config.norm_epsilon, **c)
        self.attn = Attention(config.width, config.heads, self.window or config.grid, **c)
        self.norm2 = LayerNorm(config.width, epsilon=config.norm_epsilon, **c)
        self.mlp = MLP(config.width, config.mlp_ratio * config.width, **c)
        self.number, self.drop = number, drop

    def __call__(self, x: Array, mask: Array | None, own: Array, pass_: Pass) -> Array:
        y, side = self.norm1(x), self.window
        if side:
            # Cells beside an image are zero after the norm, like those that fill its last windows.
            windows = split_windows(zero_outside(y, mask), side)
            b, m, _, features = windows.shape
            y = self.attn(windows.reshape(b * m, side, side, features), jnp.array([[side, side]]))
            y = join_windows(y.reshape(b, m, side * side, features), side, *x.shape[1:3])
        else:
            y = self.attn(y, own, None if mask is None else mask[..., 0])
        return add_changes(self, x, y, pass_)


class PatchEmbedding(nnx.Module):
    """Makes a cell of each square of pixels, with a convolution whose stride is its size."""

    def __init__(self, features, size, *, dtype, rngs):
        self.proj = linear(3 * size * size, features, init=small_normal, dtype=dtype, rngs=rngs)
        self.size = size

    def __call__(self, images: Array) -> Array:
        """[B, H, W, 3] -> [B, H / size, W / size, C], rounded up."""
        return self.proj(patches(images, self.size))


class ViT(nnx.Module):
    """Plain vision transformer with windowed and global blocks.

    Its published weights are for canvases of 1024 x 1024, all of which attends, also beside the image: that
    is an image's extent where ``input.pad_divisor`` is 1024.

    Args:
        config: Gives the width, depth, heads and windows.
        dtype: Dtype of the activations.
        remat: Whether to recompute the blocks for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        patch_embed: From pixels to the first map.
        pos_embed: [1, 1 + positions ** 2, C]; the first one is of ImageNet's class token, and unused.
        blocks: The blocks.
        levels: Stride and channels of the map that it returns.

    Example:
        >>> config = ViTConfig(width=8, depth=2, heads=2, global_blocks=(1,), grid=6)
        >>> body = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 4, 6, 8)]
    """

    def __init__(self, config: ViTConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.patch_embed = PatchEmbedding(config.width, config.patch, **c)
        shape = (1, 1 + config.positions**2, config.width)
        self.pos_embed = nnx.Param(small_normal(rngs.params(), shape, param_dtype(dtype)))
        rates = drop_rates(config.drop_path, config.depth)
        self.blocks = nnx.List([Block(i, rate, config, **c) for i, rate in enumerate(rates)])
        self.levels, self.remat, self.positions = config.levels, remat, config.positions

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            One map, [B, H/16, W/16, C], rounded up.
        """
        x = self.patch_embed(images)
        (height, width), stride = x.shape[1:3], self.levels[0].stride
        own = jnp.array([[height, width]]) if pass_.extents is None else feature_extent(pass_.extents, stride)
        table = self.pos_embed[...][0, 1:].reshape(self.positions, self.positions, -1)
        x = x + resized_positions(table, height, width, own).astype(x.dtype)
        mask = pass_.inside(stride, (height, width))
        for block in self.blocks:
            x = apply_again(block, x, mask, own, pass_) if self.remat else block(x, mask, own, pass_)
        return (x,)

    def frozen(self) -> tuple[str, ...]:
        """Nothing is."""
        return ()
