"""HRNet backbones (Sun et al., 2019): branches at strides 4, 8, 16 and 32, fused again and again.

Shapes: B images, H and W of the canvas, h and w of a map, C channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.backbones import ResNetConfig
from jaxmaskrcnn.config.hrnet import HRNetConfig
from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.models.backbones.resnet import BasicBlock, Bottleneck, run_blocks, run_blocks_again
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm
from jaxmaskrcnn.models.necks.fpn import upsample_nearest
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.ops.computed_once import computed_once

Array = jax.Array
Masks = Sequence[Array | None]
_STEM = 64  # channels of the stem


class HRModule(nnx.Module):
    """Blocks of each branch, then each branch's sum of all of them, brought to its size.

    A coarser branch is brought to the size of a finer one by a 1x1 convolution and nearest neighbours, a
    finer one to that of a coarser one by 3x3 convolutions with a stride of 2.

    Source: Sun et al., 2019, figure 3; MMDetection's ``HRModule``.

    Attributes:
        branches: For each branch, its blocks.
        fuse: ``fuse[i][j]`` has the convolutions from branch j to branch i: one if j is coarser, i - j if it
            is finer, and none if it is the same.
    """

    def __init__(self, config: HRNetConfig, count: int, *, dtype: str, rngs: nnx.Rngs):
        widths = [level.channels for level in config.levels[:count]]
        c: dict[str, Any] = dict(config=blocks_of(config), dtype=dtype, rngs=rngs)
        self.branches = nnx.List(
            [
                nnx.List([BasicBlock(width, width, 2, stride=1, **c) for _ in range(config.blocks)])
                for width in widths
            ]
        )
        n: dict[str, Any] = dict(norm=config.norm, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

        def chain(i: int, j: int) -> nnx.List:
            if j > i:
                return nnx.List([ConvNorm(widths[j], widths[i], 1, **n)])
            ends = [*[widths[j]] * (i - j), widths[i]]
            return nnx.List([ConvNorm(ends[k], ends[k + 1], 3, stride=2, **n) for k in range(i - j)])

        self.fuse = nnx.List([nnx.List([chain(i, j) for j in range(count)]) for i in range(count)])

    def __call__(self, maps: Sequence[Array], _: Masks, masks: Masks, train: bool) -> list[Array]:
        """Compute a module's maps, of the sizes of those that it is given; masks are those of `inside`."""
        maps = [
            run_blocks(blocks, x, mask, mask, train)
            for blocks, x, mask in zip(self.branches, maps, masks, strict=True)
        ]
        sums = [
            sum(self._brought(i, j, maps, masks, train) for j in range(len(maps))) for i in range(len(maps))
        ]
        return [computed_once(jax.nn.relu(x)) for x in sums]

    def _brought(self, i: int, j: int, maps: Sequence[Array], masks: Masks, train: bool) -> Any:
        x, chain = maps[j], self.fuse[i][j]
        if j > i:
            x = chain[0](x, masks[j], train)
            for k in range(j - 1, i - 1, -1):
                x = upsample_nearest(x, maps[k].shape[1:3])
            return x
        for k, layer in enumerate(chain, j):
            x = layer(zero_outside(x, masks[k]), masks[k + 1], train, relu=k + 1 < i)
        return x


class HRNet(nnx.Module):
    """Stem, a stage of bottlenecks, and three stages of modules, each with one branch more.

    Source: Sun et al., 2019, section 3; MMDetection's ``HRNet``, which returns the branches of the last
    stage.

    Args:
        config: Gives the widths, the numbers of blocks and modules, and the norm.
        dtype: Dtype of the activations.
        remat: Whether to recompute modules for the gradient, which saves memory.
        rngs: Random keys of the initial weights.

    Attributes:
        stem: Two 3x3 convolutions with a stride of 2.
        layer1: The bottlenecks.
        enter: From the bottlenecks to the first branch; None if it has as many channels.
        begin: The convolutions with a stride of 2 with which the second, third and fourth branch begin.
        stage2, stage3, stage4: Lists of HRModule.
        levels: Stride and channels of the maps that it returns.

    Example:
        >>> config = HRNetConfig(width=4, first_width=4, blocks=1, modules=(1, 1, 1))
        >>> body = nnx.eval_shape(lambda: HRNet(config, rngs=nnx.Rngs(0)))
        >>> [c.shape for c in jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 96, 3)))]
        [(1, 16, 24, 4), (1, 8, 12, 8), (1, 4, 6, 16), (1, 2, 3, 32)]
    """

    def __init__(self, config: HRNetConfig, *, dtype: str = "float32", remat: bool = False, rngs: nnx.Rngs):
        n: dict[str, Any] = dict(norm=config.norm, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.stem = nnx.List([ConvNorm(features, _STEM, 3, stride=2, **n) for features in (3, _STEM)])
        c: dict[str, Any] = dict(config=blocks_of(config), dtype=dtype, rngs=rngs)
        wide = 4 * config.first_width
        self.layer1 = nnx.List(
            [
                Bottleneck(wide if i else _STEM, config.first_width, 2, stride=1, **c)
                for i in range(config.blocks)
            ]
        )
        self.levels, self.remat = config.levels, remat
        widths = [level.channels for level in config.levels]
        self.enter = None if wide == widths[0] else ConvNorm(wide, widths[0], 3, **n)
        before = (wide, *widths[1:])
        self.begin = nnx.List([ConvNorm(before[i], widths[i + 1], 3, stride=2, **n) for i in range(3)])
        for count, modules in enumerate(config.modules, 2):
            stage = nnx.List([HRModule(config, count, dtype=dtype, rngs=rngs) for _ in range(modules)])
            setattr(self, f"stage{count}", stage)

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image; H and W are multiples of 32.
            pass_: See `Pass`.

        Returns:
            [B, H/4, W/4, C] to [B, H/32, W/32, 8 C].

        Raises:
            ConfigError: The sides of the canvas are no multiples of 32.
        """
        height, width = images.shape[1:3]
        if height % 32 or width % 32:
            raise ConfigError(
                f"An HRNet is given a canvas of {height} x {width} pixels, whose coarse maps cannot be "
                "enlarged to its fine ones; give sides that are multiples of 32 (input.pad_divisor)."
            )
        x = images
        for layer, stride in zip(self.stem, (2, 4), strict=True):
            mask = pass_.inside(stride, (height // stride, width // stride))
            x = zero_outside(layer(x, mask, pass_.train, relu=True), mask)
        masks = [pass_.inside(level.stride, (height // level.stride, width // level.stride))
                 for level in self.levels]  # fmt: skip
        apply: Any = run_blocks_again if self.remat else run_blocks
        x = zero_outside(apply(self.layer1, x, masks[0], masks[0], pass_.train), masks[0])
        fine = x if self.enter is None else self.enter(x, masks[0], pass_.train, relu=True)
        maps: list[Array] = [fine]
        for i, layer in enumerate(self.begin):
            last = x if i == 0 else zero_outside(maps[i], masks[i])
            maps.append(layer(last, masks[i + 1], pass_.train, relu=True))
            own = masks[: i + 2]
            maps = apply(getattr(self, f"stage{i + 2}"), maps, own, own, pass_.train)
        return tuple(maps)

    def frozen(self) -> tuple[str, ...]:
        """Patterns of the parameters that are frozen: none."""
        return ()


def blocks_of(config: HRNetConfig) -> ResNetConfig:
    """Return the settings of its blocks, which are a ResNet's."""
    return ResNetConfig(norm=config.norm, norm_epsilon=config.norm_epsilon)
