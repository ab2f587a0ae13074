"""The information that every layer of a backbone receives, and a backbone with its neck.

Shapes: B images, H and W of the canvas, L levels, h and w of a level, C channels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.levels import check_maps, check_stated
from jaxmaskrcnn.models.padding import inside
from jaxmaskrcnn.models.parts import build

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass of a batch through the network.

    Attributes:
        extents: int [B, 2], see `padding.py`; None if all images fill the canvas.
        keys: One random key per image, [B], for layers that draw random numbers; None if none draws any.
        train: Whether batch norm (the norm "bn") uses and updates the batch's statistics.

    Example:
        >>> Pass(extents=jnp.array([[32, 64]])).inside(16, (4, 4)).sum()
        Array(8, dtype=int32)
    """

    extents: Array | None = None
    keys: Array | None = None
    train: bool = dataclasses.field(default=False, metadata={"static": True})

    def inside(self, stride: int, size: Sequence[int], whole: bool = False) -> Array | None:
        """Find the cells of a feature map that lie in the image's extent.

        Args:
            stride: Input pixels per feature cell.
            size: Height and width of the feature map.
            whole: Whether to leave out cells that are only partly in it.

        Returns:
            bool [B, h, w, 1], or None if all images fill the canvas.
        """
        return inside(self.extents, stride, size, whole)


class Backbone(nnx.Module):
    """A backbone and its neck: from images to the levels that the rest of the detector reads.

    Args:
        config: Gives ``backbone``, ``neck`` and ``compute``.
        rngs: Random keys of the initial weights.

    Attributes:
        body: The backbone, or any module that is called in the same way and has its ``levels``.
        fpn: The neck, likewise; None if the backbone's maps are the levels.

    Raises:
        ConfigError: A module of the configuration says to return other levels than the configuration does.

    Example:
        >>> levels = jax.eval_shape(model.backbone, jnp.zeros((1, 64, 96, 3)))
        >>> [level.shape[1:] for level in levels]
        [(16, 24, 8), (8, 12, 8), (4, 6, 8), (2, 3, 8), (1, 2, 8)]
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        compute = config.compute
        # Only backbones that have the argument can have another number of channels than three.
        pictures = {} if (count := config.input.pixels.channels) == 3 else {"channels": count}
        self.body = build(config.backbone, dtype=compute.dtype, remat=compute.remat, rngs=rngs, **pictures)
        self.fpn = config.neck and build(config.neck, config.backbone.levels, dtype=compute.dtype, rngs=rngs)
        parts: list[tuple[Any, Any]] = [(self.body, config.backbone.levels), (self.fpn, config.levels)]
        for part, levels in parts:
            if hasattr(part, "levels"):
                check_stated(type(part).__name__, part.levels, levels)
            elif part is not None:
                part.levels = levels

    def __call__(self, images: Array, pass_: Pass = Pass()) -> tuple[Array, ...]:  # noqa: B008 (Pass is frozen)
        """Compute the features of a batch.

        Args:
            images: [B, H, W, 3], normalised, zero outside of each image.
            pass_: See `Pass`.

        Returns:
            One map for each of ``config.levels``, [B, h, w, C].

        Raises:
            ConfigError: The maps of the body or the neck are not those of its ``levels``.
        """
        maps = self.body(images, pass_)
        _check(self.body, maps, images)
        if self.fpn is not None:
            maps = self.fpn(maps, pass_)
            _check(self.fpn, maps, images)
        return maps


def _check(part: Any, maps: Any, images: Array) -> None:
    if (levels := getattr(part, "levels", None)) is not None:  # None: assigned by hand, and without them
        check_maps(type(part).__name__, maps, levels, images)
