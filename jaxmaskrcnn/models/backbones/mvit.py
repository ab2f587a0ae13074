"""Multiscale vision transformers (MViTv2, Li et al., 2022), with Detectron2's module names.

Keys and values of attention are pooled, the more so the finer the map; queries are where a stage begins,
which halves the map. In most blocks a cell attends to its window, whose side is halved with the map's. The
last block of each later stage attends to the whole map.

Shapes: B images, H and W of the canvas, h and w of a map, C channels, A heads of d channels each.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.mvit import MViTConfig
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, linear
from jaxmaskrcnn.models.norm import LayerNorm, param_dtype
from jaxmaskrcnn.models.padding import feature_extent, zero_outside
from jaxmaskrcnn.models.transformer import (
    MLP,
    add_changes,
    apply_again,
    drop_rates,
    join_windows,
    small_normal,
    split_windows,
)
from jaxmaskrcnn.ops.attention import attend_in_pieces
from jaxmaskrcnn.ops.depthwise import depthwise_convolution
from jaxmaskrcnn.ops.positions import relative_table
from jaxmaskrcnn.ops.window_pooling import max_pool

Array = jax.Array


class HeadPool(nnx.Module):
    """A depthwise 3x3 convolution with a stride, and the same kernel for every head.

    Attributes:
        kernel: [3, 3, 1, d].
    """

    def __init__(self, features: int, stride: int, *, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(small_normal(rngs.params(), (3, 3, 1, features), param_dtype(dtype)))
        self.stride, self.dtype = stride, dtype

    def __call__(self, x: Array, heads: int) -> Array:
        """[B, h, w, A * d] -> [B, h / stride, w / stride, A * d], rounded up."""
        kernel = jnp.tile(self.kernel[...].astype(self.dtype), heads)
        return depthwise_convolution(x, kernel, self.stride)


class MultiScaleAttention(nnx.Module):
    """Attention between pooled queries and pooled keys, in windows or over the whole map.

    Attributes:
        qkv: Linear layer to queries, keys and values, one after the other.
        pool_q, pool_k, pool_v: What makes their maps smaller.
        norm_q, norm_k, norm_v: Norms behind that, over the channels of a head.
        rel_pos_h, rel_pos_w: Vectors by difference of rows and of columns.
        proj: Linear layer of the result.
    """

    def __init__(
        self, features_in: int, features: int, heads: int, *, strides: tuple[int, int], window: int,
        grid: int, epsilon: float, dtype: str, rngs: nnx.Rngs,
    ):  # fmt: skip
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        d = features // heads
        self.qkv = linear(features_in, 3 * features, init=small_normal, **c)
        self.proj = linear(features, features, init=small_normal, **c)
        for name, stride in zip("qkv", (strides[0], strides[1], strides[1]), strict=True):
            setattr(self, f"pool_{name}", HeadPool(d, stride, **c))
            setattr(self, f"norm_{name}", LayerNorm(d, epsilon=epsilon, **c))
        length = 2 * max(grid // strides[0], grid // strides[1]) - 1
        self.rel_pos_h = nnx.Param(jnp.zeros((length, d), param_dtype(dtype)))
        self.rel_pos_w = nnx.Param(jnp.zeros((length, d), param_dtype(dtype)))
        self.heads, self.strides = heads, strides
        self.windows = tuple(window // stride for stride in strides) if window else None

    def __call__(self, x: Array, stride: int, pass_: Pass) -> Array:
        """Attend.

        Args:
            x: [B, h, w, C].
            stride: Input pixels per cell of the map.
            pass_: Gives the images' extents.

        Returns:
            [B, h / stride of the queries, w / the same, C of the result].
        """
        b = x.shape[0]
        mask = pass_.inside(stride, x.shape[1:3])
        pooled = []
        for name, part in zip("qkv", jnp.split(self.qkv(x), 3, -1), strict=True):
            part = getattr(self, f"pool_{name}")(zero_outside(part, mask), self.heads)
            part = getattr(self, f"norm_{name}")(part.reshape(*part.shape[:3], self.heads, -1))
            pooled.append(part.reshape(*part.shape[:3], -1))
        strides = (stride * self.strides[0], stride * self.strides[1])
        masks = [pass_.inside(s, y.shape[1:3]) for s, y in zip(strides, pooled, strict=False)]
        size = pooled[0].shape[1:3]
        if self.windows is None:
            q, k, v = pooled
            sizes = [(jnp.array([y.shape[1:3]])) for y in (q, k)]
            if pass_.extents is not None:
                sizes = [feature_extent(pass_.extents, s) for s in strides]
            seen = None if masks[1] is None else masks[1][..., 0]
        else:
            # Cells beside an image are zero, like those that fill its last windows, and are seen.
            sides = (self.windows[0], self.windows[1], self.windows[1])
            cut = [
                split_windows(zero_outside(y, m), side)
                for y, m, side in zip(pooled, (masks[0], masks[1], masks[1]), sides, strict=True)
            ]
            q, k, v = (y.reshape(-1, side, side, y.shape[-1]) for y, side in zip(cut, sides, strict=True))
            sizes = [jnp.array([[side, side]]) for side in self.windows]
            seen = None
        rows, columns = (
            relative_table(table[...], (q.shape[i], k.shape[i]), (sizes[0][:, i - 1], sizes[1][:, i - 1]))
            for i, table in ((1, self.rel_pos_h), (2, self.rel_pos_w))
        )
        q, k, v = (y.reshape(*y.shape[:3], self.heads, -1) for y in (q, k, v))
        y = attend_in_pieces(q, k, v, rows, columns, seen)
        if self.windows is not None:
            side = self.windows[0]
            y = join_windows(y.reshape(b, -1, side * side, pooled[0].shape[-1]), side, *size)
        return self.proj(y.reshape(pooled[0].shape) + pooled[0])


class Block(nnx.Module):
    """Attention and an MLP, each after a norm and added to its input, which changes where a stage begins."""

    def __init__(self, number: int, drop: float, config: MViTConfig, *, dtype, rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        stage = config.stage(number)
        begins = stage > 0 and config.stage_ends[stage - 1] == number - 1
        features = config.width * 2**stage
        features_in = features // 2 if begins else features
        ends = config.stage_ends
        pool = max(config.pool // 2**stage, 1) * (2 if number in ends[1:3] else 1)
        # The block that halves the map still has the window and the tables of the map before.
        before = stage - 1 if begins else stage
        window = 0 if number in ends[1:] else config.window // 2**before
        self.norm1 = LayerNorm(features_in, epsilon=config.norm_epsilon, **c)
        self.attn = MultiScaleAttention(
            features_in, features, config.heads * 2**stage, strides=(2 if begins else 1, pool), window=window,
            grid=config.grid // 2**before, epsilon=config.norm_epsilon, **c,
        )  # fmt: skip
        self.norm2 = LayerNorm(features, epsilon=config.norm_epsilon, **c)
        self.mlp = MLP(features, config.mlp_ratio * features, **c)
        self.proj = linear(features_in, features, init=small_normal, **c) if begins else None
        self.number, self.drop, self.stride = number, drop, 4 * 2**before

    def __call__(self, x: Array, pass_: Pass) -> Array:
        normed = self.norm1(x)
        y = self.attn(normed, self.stride, pass_)
        if self.proj is not None:
            x = self.proj(normed)
            mask = pass_.inside(self.stride, x.shape[1:3])
            x = x if mask is None else jnp.where(mask, x, -jnp.inf)
            x = max_pool(x)
            x = zero_outside(x, pass_.inside(2 * self.stride, x.shape[1:3]))
        return add_changes(self, x, y, pass_)


class PatchEmbedding(nnx.Module):
    """A convolution of 7 x 7 pixels with a stride of 4."""

    def __init__(self, features, *, dtype, rngs):
        self.proj = Conv(3, features, 7, stride=4, init=small_normal, dtype=dtype, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        return self.proj(images)


class MViT(nnx.Module):
    """MViTv2 with a norm on the output of each stage.

    Args:
        config: Gives the widths, blocks, heads and windows.
        dtype: Dtype of the activations.
        remat: Whether to recompute the blocks for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        patch_embed: From pixels to the first map.
        blocks: The blocks of all stages.
        norms: Norms of the outputs.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = MViTConfig(width=8, depth=4, stage_ends=(0, 1, 2, 3), window=8, grid=16)
        >>> body = nnx.eval_shape(lambda: MViT(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 8), (1, 8, 12, 16), (1, 4, 6, 32), (1, 2, 3, 64)]
    """

    def __init__(self, config: MViTConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs):
        c: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.patch_embed = PatchEmbedding(config.width, **c)
        rates = drop_rates(config.drop_path, config.depth)
        self.blocks = nnx.List([Block(i, rate, config, **c) for i, rate in enumerate(rates)])
        norms = [LayerNorm(level.channels, epsilon=config.norm_epsilon, **c) for level in config.levels]
        self.norms, self.ends = nnx.List(norms), config.stage_ends
        self.levels, self.remat = config.levels, remat

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            C2 [B, H/4, W/4, C] to C5 [B, H/32, W/32, C], rounded up.
        """
        x, outputs = self.patch_embed(images), []
        for i, block in enumerate(self.blocks):
            x = apply_again(block, x, pass_) if self.remat else block(x, pass_)
            if i in self.ends:
                outputs.append(self.norms[len(outputs)](x))
        return tuple(outputs)

    def frozen(self) -> tuple[str, ...]:
        """Nothing is."""
        return ()
