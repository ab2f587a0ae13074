"""How many regions of each class a box head has been trained on, for the seesaw loss.

Shapes: B images, R sampled regions of an image, K object classes.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.models.norm import Synchronised, sum_over

Array = jax.Array


class RegionCounts(Synchronised):
    """Numbers of the regions so far, which every training step adds its own to.

    They belong to the state of a run like batch norm's statistics: checkpoints have them, a run goes on with
    them, and those of a batch that is split over devices are those of the whole batch. If a batch is computed
    in several slices (gradient accumulation), each slice knows those before it and its own.

    Source: MMDetection ``SeesawLoss``, whose ``cum_samples`` every GPU has of its own.

    Args:
        classes: Number of object classes, K.

    Attributes:
        counts: float32 [K + 1], of the object classes and of the background.
        axis_name: Axis of the devices to sum over; None for those of the local batch.

    Example:
        >>> from jaxmaskrcnn.losses import Regions
        >>> box, yes = jnp.zeros((1, 3, 4)), jnp.ones((1, 3), bool)
        >>> labels, positive = jnp.array([[1, 1, 0]]), jnp.array([[True, True, False]])
        >>> seen = RegionCounts(2)
        >>> seen(Regions(box, labels, labels, positive, yes), jnp.array([True]), train=True)
        Array([0., 2., 1.], dtype=float32)
    """

    def __init__(self, classes: int):
        super().__init__()
        self.counts = nnx.BatchStat(jnp.zeros(classes + 1, jnp.float32))

    def __call__(self, regions: Regions, valid: Array, train: bool) -> Array:
        """Count the regions of a batch.

        Args:
            regions: R sampled regions, with a leading B.
            valid: bool [B], images that count.
            train: Whether to add the regions; if not, nothing changes.

        Returns:
            float32 [K + 1], the numbers so far.
        """
        if not train:
            return self.counts[...]
        background = self.counts.shape[0] - 1
        labels = jnp.where(regions.positive, regions.labels, background)
        counted = (regions.valid & valid[:, None]).astype(jnp.float32)
        found = jnp.zeros(background + 1, jnp.float32).at[labels.reshape(-1)].add(counted.reshape(-1))
        counts = jax.lax.stop_gradient(self.counts[...] + sum_over(self.axis_name)(found))
        self.counts[...] = counts
        return counts
