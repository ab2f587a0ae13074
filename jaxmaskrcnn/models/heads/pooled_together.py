"""What a training step pools of its first regions, all at once, before any head reads it.

The windows of the region proposal network's sampled anchors, the box head's regions and the mask head's are
read from the same maps. Pooled together, the maps are brought once into the order in which RoIAlign reads
them, and the gradients of all three are added in one array (docs/benchmarks.md).

Shapes: B images, R regions of an image, Q those among them that can be positive, S and s the sides of pooled
regions and windows, C channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.losses import Regions
from jaxmaskrcnn.models.heads.keypoint import KeypointHead
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.heads.mask_scoring import MaskScoringHead
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.models.pooling import pool_together, region_taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps

Array = jax.Array

# Heads whose losses take regions as ``config.pool`` of the head pools them. One of a derived class that has
# losses of its own may pool other boxes.
_LOSSES = {MaskHead.loss_terms, KeypointHead.loss_terms, MaskScoringHead.loss_terms}


class PooledTogether(NamedTuple):
    """What was pooled; None is what its reader pools itself.

    Attributes:
        windows: [B, S, s, s, C].
        box: [B * R, S, S, C], of the first stage's regions, without the trunk.
        heads: For each region head [B * Q, S, S, C], of the first Q of these regions, or None.

    Example:
        >>> PooledTogether._fields
        ('windows', 'box', 'heads')
    """

    windows: Array | None
    box: Array | None
    heads: tuple[Array | None, ...]


def pool_first_regions(
    levels: Sequence[Array],
    pooler: Pooler,
    regions: Regions,
    windows: RegionTaps | None,
    heads: Sequence[tuple[Any, Pooler]],
    config: ModelConfig,
) -> PooledTogether:
    """Pool the regions of the first stage and windows of the maps.

    Args:
        levels: One map for each of ``config.levels``, [B, h, w, C].
        pooler: The features of the batch for the box head.
        regions: R regions of the first stage, with a leading B.
        windows: Windows of the levels with a leading B, or None.
        heads: The region heads, each with the features of the batch for it.
        config: Configuration of the model.

    Returns:
        See `PooledTogether`.
    """
    lists: dict[Any, RegionTaps] = {} if windows is None else {"windows": windows}

    def add(key, boxes, pool):
        plain = type(pooler) is Pooler and pooler.levels is levels and pooler.extractor is None
        if plain and pool.method == "align":
            lists[key] = region_taps(pooler.batch, pooler.strides, boxes, pool)

    def own_pool(head, own):  # the settings by which a head's regions are pooled here, or None
        takes_pooled = getattr(type(head), "loss_terms", None) in _LOSSES and own is pooler
        here = takes_pooled and pooler.trunk is None and config.regions.head_boxes == "sampled"
        return head.config.pool if here else None

    pools = [own_pool(*head) for head in heads]
    add("box", regions.boxes, config.box.pool)
    for pool in filter(None, pools):
        add(pool, regions.boxes[:, : config.regions.positive_slots], pool)
    maps = levels[: len(pooler.strides)] if windows is None else levels
    found = dict(zip(lists, pool_together(maps, list(lists.values())), strict=True)) if lists else {}

    def flat(key):
        return found[key].reshape(-1, *found[key].shape[2:]) if key in found else None

    return PooledTogether(found.get("windows"), flat("box"), tuple(map(flat, pools)))
