"""The interface of heads that predict something for each region, such as masks.

Shapes: B images of a batch, L levels, h and w a level's height and width, C channels, R regions of an image,
Q those among them that can be positive, D detections of an image, S the side of a pooled region, s its side
behind the trunk (S without one).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import PoolConfig
from jaxmaskrcnn.losses import Regions
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.frames import Frame
from jaxmaskrcnn.models.pooling import pool_all_levels, pool_regions
from jaxmaskrcnn.structures import Batch, Detections, LossTerm

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Pooler:
    """The feature maps of one batch, from which heads pool the features of their regions.

    Attributes:
        batch: Gives extents and image sizes.
        levels: Feature maps, [B, h, w, C] each.
        strides: Strides of the maps that regions are pooled from, the first ones of ``levels``.
        trunk: Layers that are applied to all regions after the pooling, or None.
        train: See `Pass`.
        frame: The coordinates of the boxes; None if they are those of the images.
        extractor: A head's layers that merge what is pooled from all levels; None pools from one level.

    Example:
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> levels = [jnp.zeros((1, 64 // s, 64 // s, 8)) for s in (4, 8, 16, 32)]
        >>> Pooler(batch, levels, (4, 8, 16, 32))(jnp.zeros((1, 5, 4)), model.config.box.pool).shape
        (5, 7, 7, 8)
    """

    batch: Batch
    levels: Sequence[Array]
    strides: tuple[int, ...]
    trunk: Callable | None = None
    train: bool = False
    frame: Frame | None = None
    extractor: Callable | None = None

    @property
    def limits(self) -> Array:
        """What boxes are clipped to: the image sizes, int [B, 2], or windows, [B, 4] XYXY."""
        return jnp.asarray(self.batch.image_sizes) if self.frame is None else self.frame.image

    def __call__(
        self, boxes: Array, config: PoolConfig, valid: Array | None = None, pooled: Array | None = None
    ) -> Array:
        """Pool the features of boxes.

        Args:
            boxes: [B, R, 4], XYXY in the network's coordinates (`models/frames.py`).
            config: Pooling settings of the head.
            valid: bool [B, R], regions that count for batch norm; None for all.
            pooled: [B * R, S, S, C], if the boxes are pooled already; see `pooled_together.py`.

        Returns:
            [B * R, s, s, C], the output of the trunk if there is one.
        """
        place = (self.batch, self.levels, self.strides, boxes, config)
        if self.extractor is not None:
            return self.extractor(pool_all_levels(*place))
        pooled = pool_regions(*place) if pooled is None else pooled
        if self.trunk is None:
            return pooled
        return self.trunk(pooled, None if valid is None else valid.reshape(-1, 1, 1, 1), self.train)


class RegionHead(Protocol):
    """A module that learns and predicts something for each region, beside its class and box.

    `MaskHead` is an example.

    Example:
        >>> head: RegionHead = model.mask_head
        >>> [name for name in vars(RegionHead) if hasattr(head, name) and not name.startswith("_")]
        ['loss_terms', 'predict']
    """

    def loss_terms(
        self, pooler: Pooler, regions: Regions, pass_: Pass, features: Array | None = None
    ) -> dict[str, LossTerm]:
        """Compute the head's losses, image by image.

        Args:
            pooler: Features of the batch, which has targets.
            regions: The first Q regions with a leading B, which include all positive ones.
            pass_: See `Pass`.
            features: [B * Q, s, s, C], the features of these regions, if there are any already: the trunk's
                output, or, for the heads that `pooled_together.py` names, what their ``config.pool`` pools.

        Returns:
            Losses by name, such as "loss_mask", with totals and counts [B].
        """
        ...

    def predict(self, pooler: Pooler, found: Detections) -> dict[str, Any]:
        """Predict for the final boxes.

        Args:
            pooler: Features of the batch.
            found: Detections with a leading B.

        Returns:
            Fields of `Detections` by name, such as "masks".
        """
        ...
