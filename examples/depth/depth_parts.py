"""Parts of a detector of your own: a backbone, a box head, and a head that estimates how far objects are.

Shapes: B images, G ground-truth slots of an image, Q regions, D detections, S the side of a pooled region,
C channels.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import BackboneConfig, HeadConfig, Level
from jaxmaskrcnn.models import BoxHead, Pass
from jaxmaskrcnn.models.padding import zero_outside
from jaxmaskrcnn.structures import LossTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallConvNeXtConfig(BackboneConfig):
    """Settings of `SmallConvNeXt`: ``--config.model.backbone.widths=16,32,64,128``."""

    kind: ClassVar[str] = "small_convnext"
    module: ClassVar[str] = f"{__name__}:SmallConvNeXt"
    widths: tuple[int, ...] = (16, 32, 64, 128)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps that it returns, at strides 4, 8, 16 and 32."""
        return tuple(Level(4 * 2**i, width) for i, width in enumerate(self.widths))

    def layer_of(self, path: str) -> int:
        """The number of a parameter's layer for ``optimizer.layer_decay``: that of its stage."""
        parts = path.split(".")
        return int(parts[1]) if parts[0] in ("patches", "blocks") else len(self.widths)


class SmallConvNeXt(nnx.Module):
    """Four stages of one block each, as of a ConvNeXt (Liu et al., 2022)."""

    def __init__(self, config, *, dtype="float32", remat=False, rngs):
        widths = config.widths
        sides = zip((4, 2, 2, 2), (3, *widths[:-1]), widths, strict=True)
        self.levels = config.levels
        self.patches = nnx.List(
            [nnx.Conv(a, b, (n, n), strides=n, padding="VALID", dtype=dtype, rngs=rngs) for n, a, b in sides]
        )
        self.blocks = nnx.List([Block(width, dtype=dtype, rngs=rngs) for width in widths])

    def __call__(self, images, pass_=Pass()):  # noqa: B008 (Pass is frozen)
        x, stages = images, []
        for level, patch, block in zip(self.levels, self.patches, self.blocks, strict=True):
            x = patch(x)
            x = block(x, pass_.inside(level.stride, x.shape[1:3]))
            stages.append(x)
        return tuple(stages)

    def frozen(self):
        return ()


class Block(nnx.Module):
    """Depthwise 7x7, layer norm, 1x1 to four times the channels and back."""

    def __init__(self, width, *, dtype, rngs):
        c = dict(dtype=dtype, rngs=rngs)
        self.depthwise = nnx.Conv(width, width, (7, 7), feature_group_count=width, **c)
        self.norm = nnx.LayerNorm(width, **c)
        self.wide, self.narrow = nnx.Linear(width, 4 * width, **c), nnx.Linear(4 * width, width, **c)

    def __call__(self, x, mask):
        # What lies outside of an image has to look as if the canvas ended there.
        y = self.norm(self.depthwise(zero_outside(x, mask)))
        return x + self.narrow(nnx.gelu(self.wide(y)))


class SeparateBoxHead(nnx.Module):
    """A box head whose classes and boxes have layers of their own."""

    def __init__(self, config, channels, side, classes, *, dtype="float32", rngs):
        c = dict(dtype=dtype, rngs=rngs)
        self.scores = BoxHead(config, channels, side, classes, **c)
        self.boxes = BoxHead(config, channels, side, classes, **c)

    def __call__(self, regions, mask=None, train=False):
        return self.scores(regions, mask, train)[0], self.boxes(regions, mask, train)[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig(HeadConfig):
    """Settings of `DepthHead`."""

    kind: ClassVar[str] = "depth"
    module: ClassVar[str] = f"{__name__}:DepthHead"
    dim: int = 64  # width of the hidden layer


class DepthHead(nnx.Module):
    """Estimates the logarithm of the depth of each object.

    It is trained on the positive regions, whose objects have their depth in ``targets.extra["depth"]``.
    """

    def __init__(self, config, channels, classes, *, dtype="float32", rngs):
        self.config = config
        side = config.pool.size
        self.hidden = nnx.Linear(channels * side * side, config.dim, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(config.dim, 1, rngs=rngs)

    def of_boxes(self, pooler, boxes):
        """The logarithms of the depths of boxes [B, Q, 4], [B, Q]."""
        pooled = pooler(boxes, self.config.pool)  # [B * Q, S, S, C]
        x = nnx.relu(self.hidden(pooled.reshape(pooled.shape[0], -1)))
        return self.out(x)[:, 0].astype(jnp.float32).reshape(boxes.shape[:2])

    def loss_terms(self, pooler, regions, pass_, features=None):
        """The mean distance of the logarithms, as a sum and a count for each image."""
        depths = pooler.batch.targets.extra["depth"]  # [B, G]
        wanted = jnp.log(jnp.maximum(jnp.take_along_axis(depths, regions.matched, axis=1), 1e-3))
        error = jnp.abs(self.of_boxes(pooler, regions.boxes) - wanted)
        positive = regions.positive & regions.valid
        return {"loss_depth": LossTerm(jnp.where(positive, error, 0.0).sum(1), positive.sum(1))}

    def predict(self, pooler, found):
        """The depths of the final boxes, [B, D]; they are in ``out["extra"]["depth"]`` of a prediction."""
        depths = jnp.exp(jax.lax.clamp(-10.0, self.of_boxes(pooler, found.boxes), 10.0))
        return {"depth": jnp.where(found.valid, depths, 0.0)}
