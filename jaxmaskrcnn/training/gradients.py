"""The losses of a batch and their gradient, over devices and over successive slices.

Every loss is a sum over the whole batch divided by a count over the whole batch. Shapes: B images
of this device, S slices, B / S images of a slice.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.losses import reduce_terms
from jaxmaskrcnn.models.norm import sum_over, synchronise
from jaxmaskrcnn.structures import Batch, LossTerm


class Gradients(NamedTuple):
    """The results of one batch, equal on all devices.

    Attributes:
        losses: Scalar by name; their sum is the loss.
        grads: Gradient of the sum of the losses, in the structure of the parameters.
        statistics: ``nnx.BatchStat`` variables after the batch.
    """

    losses: dict[str, jax.Array]
    grads: Any
    statistics: Any


def loss_gradients(
    graphdef, params, rest, batch: Batch, key: jax.Array, *, axis_name: str | None = None, slices: int = 1
) -> Gradients:
    """Losses, their gradient, and batch statistics.

    With several slices only the activations of one slice are in memory at a time, yet the result is the
    gradient of the whole batch. This requires the counts of the whole batch before the first gradient is
    computed, and the number of sampled regions is known only after the proposals. So a first forward
    pass computes only the counts, up to the proposals (XLA removes the code that the counts do not
    need), and then the gradients of the slices, each divided by the final counts, are added. The cost
    is that forward pass; a separate gradient for each count would instead multiply the memory for
    gradients and the number of backward passes by the number of counts. Only batch norm differs from
    computing the whole batch at once: it uses the statistics of each slice; and the state of class scores,
    such as counts, which is that up to a slice.

    Args:
        graphdef: The model's structure.
        params: The parameters to differentiate with respect to.
        rest: The model's other variables.
        batch: This device's images, with targets.
        key: Random key of the step; the model folds in an image's position in the global batch.
        axis_name: Axis over which devices are summed, None for a single device.
        slices: S, a divisor of B.

    Returns:
        Losses and gradients, summed over devices and slices.
    """
    everywhere = sum_over(axis_name)
    images = batch.images.shape[0]
    # Random draws depend on an image's position in the global batch, not on its device.
    first = jax.lax.axis_index(axis_name) * images if axis_name else 0

    def loss_terms(params, statistics, batch, first):
        # copy=True, because Flax does not let a variable that was made outside of the gradient's trace be
        # changed inside of it, and batch norm changes its statistics.
        model = nnx.merge(graphdef, params, nnx.merge_state(rest, statistics), copy=True)
        synchronise(model, axis_name)
        terms = model.loss_terms(batch, key, first_position=first)
        return terms, nnx.state(model, nnx.BatchStat)

    def loss_of_slice(params, statistics, batch, first, counts):
        terms, statistics = loss_terms(params, statistics, batch, first)
        # Counts are summed over the replicas, totals are not: each replica differentiates its own share of
        # the loss, and the gradients are summed afterwards. If the totals were summed here, every replica
        # would differentiate the loss of all of them, and the gradient would be too large by their number.
        if counts is None:
            counts = everywhere({name: term.count for name, term in terms.items()})
        shares = reduce_terms({name: LossTerm(term.total, counts[name]) for name, term in terms.items()})
        return sum(shares.values()), (shares, statistics)

    gradient = jax.value_and_grad(loss_of_slice, has_aux=True)
    statistics = nnx.filter_state(rest, nnx.BatchStat)
    if slices == 1:
        (_, (shares, statistics)), grads = gradient(params, statistics, batch, first, None)
    else:
        size = images // slices
        parts = jax.tree.map(lambda x: x.reshape(slices, size, *x.shape[1:]), batch)
        places = first + size * jnp.arange(slices)

        def count(part):
            terms, _ = loss_terms(params, statistics, *part)
            return {name: term.count for name, term in terms.items()}

        counts = jax.tree.map(lambda x: x.sum(0), jax.lax.map(count, (parts, places)))
        counts = everywhere(counts)

        def add(carry, part):
            statistics, sums = carry
            (_, (shares, statistics)), grads = gradient(params, statistics, *part, counts)
            return (statistics, jax.tree.map(jnp.add, sums, (shares, grads))), None

        shapes = jax.eval_shape(lambda: gradient(params, statistics, *_first(parts, places), counts))
        (_, (shares, _)), grads = shapes
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shares, grads))
        (statistics, (shares, grads)), _ = jax.lax.scan(add, (statistics, zeros), (parts, places))
    shares, grads = everywhere((shares, grads))
    if axis_name:
        statistics = jax.lax.pmean(statistics, axis_name)
    return Gradients(shares, grads, statistics)


def _first(*stacked):
    return jax.tree.map(lambda x: x[0], stacked)


def slices_of(images: int, at_a_time: int) -> int:
    """The number of equal slices in which a device computes its share of a batch.

    Args:
        images: Number of images of the device, B.
        at_a_time: Largest number that it may compute at a time; 0 sets no limit.

    Returns:
        The smallest divisor S of ``images`` with ``images / S <= at_a_time``.

    Example:
        >>> slices_of(8, 0), slices_of(8, 4), slices_of(8, 3), slices_of(6, 4)
        (1, 2, 4, 2)
    """
    if not at_a_time:
        return 1
    return next(s for s in range(1, images + 1) if images % s == 0 and images // s <= at_a_time)
