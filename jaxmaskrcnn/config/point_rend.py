"""Settings of PointRend's mask head, which refines a coarse mask at points (Kirillov et al., 2019).

The defaults are those of Detectron2's and MMDetection's models.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, ClassVar, Literal

from jaxmaskrcnn.config.heads import MaskHeadConfig
from jaxmaskrcnn.config.values import ConfigError, Count, Fraction, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointRendConfig(MaskHeadConfig):
    """PointRend's mask head (`models/heads/point_rend.py`, `losses/points.py`, `ops/points.py`).

    A point is a place in a region, with coordinates from 0 to 1.

    Example:
        >>> head = PointRendConfig()
        >>> head.map_sides, PointRendConfig(subdivision_points=100).map_sides
        ((28, 56, 112, 224), (7, 14, 28, 56, 112, 224))
    """

    kind: ClassVar[str] = "point_rend"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.point_rend:PointRendHead"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.point_rend_names"
    # -- coarse head
    grid: Count = 14  # its input is the features at a grid of points, with this many a side
    grid_levels: Count = 1  # the finest feature maps, whose features of a point are put side by side
    channel_conv: bool = True  # a 1x1 convolution comes first where features have more than dim channels
    dim: Count = 256  # channels of the convolution that halves the grid
    fcs: Count = 2
    fc_dim: Count = 1024
    coarse_side: Count = 7  # side of the coarse masks
    # -- point head
    point_levels: Count = 1  # as grid_levels
    point_fcs: Count = 3
    point_dim: Count = 256
    coarse_each_layer: bool = True  # each layer reads the coarse masks' values too, not the first alone
    class_agnostic: bool = False  # of the points; coarse masks are always predicted for each class
    # -- training
    targets: Literal["soft", "threshold"] = "threshold"  # of the coarse masks, as in MaskConfig
    train_points: Count = 196  # points of a region
    oversampling: Annotated[float, Range(1)] = 3.0  # as many times train_points are drawn to choose from
    importance: Fraction = 0.75  # share of train_points that are the least certain of these
    # -- prediction
    subdivisions: Annotated[int, Range(1, 8)] = 5  # each doubles the side of the masks
    subdivision_points: Count = 784  # points that are predicted anew after a subdivision
    # The first map, where subdivision_points are fewer than its cells after one subdivision
    first_map: Literal["points", "coarse"] = "points"

    def __post_init__(self):
        super().__post_init__()
        if self.grid % 2:
            raise ConfigError(
                f"PointRendConfig.grid is {self.grid}, but a convolution halves it; give an even number."
            )

    @property
    def map_sides(self) -> tuple[int, ...]:
        """Sides of the masks that are predicted one after the other, each twice as fine as the one before.

        The first ones, of which each cell would be predicted anew after the subdivision, are left out.
        """
        side, last = self.coarse_side, self.coarse_side * 2**self.subdivisions
        while side < last and 4 * side * side <= self.subdivision_points:
            side *= 2
        sides = [side]
        while sides[-1] < last:
            sides.append(2 * sides[-1])
        return tuple(sides)
