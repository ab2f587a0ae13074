"""The anchors of an image and of a batch: every level is a grid of cells with the same anchors.

Shapes: B images, L levels (P2 to P6 of a pyramid), A anchors per cell, N anchors of an image over all levels
(level by level, then row, column, anchor of the cell).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.config import AnchorConfig, ModelConfig
from jaxmaskrcnn.models.padding import feature_extent
from jaxmaskrcnn.ops.anchors import base_anchors, grid_anchors
from jaxmaskrcnn.structures import Anchors

Array = jax.Array


class Grid(NamedTuple):
    """The anchors of one level of one image.

    Attributes:
        base: float32 [A, 4], the anchors of the cell at the origin.
        size: Height and width of the level's map on the canvas.
        step: int [2], from a cell to the next one below and beside it, in pixels of the network's input.
        stride: Stride of the level.
        end: int [2], the pixels from which on cells have no anchors.
    """

    base: np.ndarray
    size: tuple[int, int]
    step: Array
    stride: int
    end: Array

    def valid(self, per_cell: int) -> Array:
        """Whether cells have anchors, each cell so many times in a row: bool [h * w * per_cell]."""
        return _cells_before(self.end, self.size, self.stride, per_cell)


def image_grids(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    extent: Array,
    config: AnchorConfig,
    whole: Sequence[bool] | None = None,
) -> list[Grid]:
    """Return the grids of one image; arguments as of `image_anchors`."""
    grids = []
    levels = zip(level_sizes, strides, whole or [False] * len(strides), config.per_level, strict=True)
    for size, stride, only_whole, (lengths, ratios) in levels:
        unit = stride if config.base == "stride" else None
        base = base_anchors(lengths, ratios, config.rounding, config.order, unit) + config.offset * stride
        own = extent // stride if only_whole else feature_extent(extent, stride)
        step = extent // own if config.stride == "derived" else jnp.full((2,), stride)
        end = extent - (stride - 1) if only_whole else extent
        grids.append(Grid(base, size, step, stride, end))
    return grids


def image_anchors(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    extent: Array,
    config: AnchorConfig,
    box_edges: str = "outer",
    whole: Sequence[bool] | None = None,
) -> Anchors:
    """Anchors of one image over all levels.

    Args:
        level_sizes: Height and width of each level's feature map on the canvas.
        strides: Strides of the levels, in pixels of the network's input.
        extent: int [2], the image's own height and width with padding. torchvision derives an
            anchor's stride from it as padded size // feature size, for example 61 instead of 64 for P6 of
            an image with a height of 800.
        config: Gives the sizes, ratios, rounding and the stride rule.
        box_edges: See ModelConfig; "last_pixel" makes them end one pixel earlier.
        whole: Of each level, whether cells that the image fills only in part have no anchors, see `Level`;
            None for no level.

    Returns:
        Anchors of N = sum of h * w * A.
    """
    grids = image_grids(level_sizes, strides, extent, config, whole)
    boxes = [grid_anchors(grid.base, grid.size, (grid.step[0], grid.step[1])) for grid in grids]
    valid = [grid.valid(len(grid.base)) for grid in grids]
    shorter = jnp.array([[0.0, 0, 1, 1]]) if box_edges == "last_pixel" else 0.0
    return Anchors(jnp.concatenate(boxes) - shorter, jnp.concatenate(valid))


def batch_anchors(extents: Array, level_sizes: Sequence[tuple[int, int]], config: ModelConfig) -> Anchors:
    """Anchors of the images of a batch, in the network's coordinates.

    Args:
        extents: int [B, 2], as of `image_anchors`.
        level_sizes: As of `image_anchors`, for each of ``config.levels``.
        config: The whole model's.

    Returns:
        Anchors with a leading B.
    """
    strides, whole = zip(*((level.stride, level.whole) for level in config.levels), strict=True)

    def place(extent):
        return image_anchors(level_sizes, strides, extent, config.rpn.anchors, config.box_edges, whole)

    return jax.vmap(place)(extents)


def _cells_before(end: Array, size: tuple[int, int], stride: int, per_cell: int) -> Array:
    """Whether the first pixel of an anchor's cell is before an end [2], as in `inside`; bool [h * w * A]."""
    # A column stands once for each of its anchors from the start: XLA:TPU takes two minutes to compile the
    # repetition of a long row of cells, and four seconds to compile this (docs/benchmarks.md).
    row, column = jnp.arange(size[0]), jnp.asarray(np.repeat(np.arange(size[1]), per_cell))
    return ((row * stride < end[0])[:, None] & (column * stride < end[1])[None, :]).reshape(-1)


def in_own_padding(
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    image_size: Array,
    divisor: int,
    per_cell: int,
) -> Array:
    """Find the anchors of one image that it would have without the other images of its batch.

    A batch's images are padded to its largest height and width. MMDetection learns from anchors of cells that
    begin before an image's own size, rounded up to the divisor; in predictions all cells count.

    Source: MMDetection ``AnchorGenerator.valid_flags`` and ``DetDataPreprocessor``.

    Args:
        level_sizes: Height and width of each level's feature map on the canvas.
        strides: Strides of the levels, in pixels of the network's input.
        image_size: int [2], the image without padding.
        divisor: Of which the sides of a padded image are multiples.
        per_cell: Number of anchors of a cell, A.

    Returns:
        bool [N].

    Example:
        >>> in_own_padding([(2, 3), (1, 2)], (16, 32), jnp.array([20, 31]), 32, 1)
        Array([ True,  True, False,  True,  True, False,  True, False],      dtype=bool)
    """
    own = feature_extent(image_size, divisor) * divisor
    levels = zip(level_sizes, strides, strict=True)
    return jnp.concatenate([_cells_before(own, size, stride, per_cell) for size, stride in levels])
