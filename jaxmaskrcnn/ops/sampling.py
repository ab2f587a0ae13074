"""Samples the anchors and proposals that a loss is computed on.

Shape legend: N candidates. Counts are static; unused slots are marked by ``valid``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_numbers, check_whole
from jaxmaskrcnn.ops.top_k import top_k

_LARGEST = 2**24  # of the whole numbers of which float32 has all


class Samples(NamedTuple):
    """Chosen candidates: the foreground ones first, then the background ones.

    Attributes:
        index: int32 [count], into the candidates; 0 in an unused slot.
        positive: bool [count], True for a foreground candidate.
        valid: bool [count], False in an unused slot.

    Example:
        >>> chosen = sample(jnp.array([0, 1]), index_priority(2), 3, 0.5)
        >>> chosen.positive.tolist(), chosen.valid.tolist()
        ([True, False, False], [True, True, False])
    """

    index: jax.Array
    positive: jax.Array
    valid: jax.Array


def index_priority(n: int) -> Array:
    """Priorities that make :func:`sample` take the lowest indices first.

    Args:
        n: Number of candidates, at most 2^24 (float32 does not represent all larger whole numbers).

    Returns:
        float32 [n].

    Raises:
        ValueError: ``n`` is no such number.

    Example:
        >>> index_priority(3).tolist()
        [-0.0, -1.0, -2.0]
    """
    check_whole("index_priority", 0, n=n)
    if n > _LARGEST:
        raise ValueError(f"index_priority: n is {n}; give at most {_LARGEST}.")
    return -jnp.arange(n, dtype=jnp.float32)


def random_priority(rng: Array, n: int) -> Array:
    """Priorities that make :func:`sample` draw without replacement, all subsets equally likely.

    The first m values do not depend on n, so that more padding changes no draw. This relies on
    JAX's partitionable threefry generator, which is its default.

    Args:
        rng: A JAX random key, a scalar.
        n: Number of candidates.

    Returns:
        float32 [n] in 0 to 1.

    Raises:
        ValueError: ``n`` is no whole number of at least 0.

    Example:
        >>> key = jax.random.key(0)
        >>> (random_priority(key, 3) == random_priority(key, 8)[:3]).all()
        Array(True, dtype=bool)
    """
    check_whole("random_priority", 0, n=n)
    return jax.random.uniform(rng, (n,), jnp.float32)


def sample(labels: Array, priority: Array, count: int, positive_fraction: float) -> Samples:
    """Choose foreground and background candidates in a limited proportion.

    ``min(#foreground, int(count * positive_fraction))`` foreground candidates are taken, and
    the rest is filled with background: the rule of torchvision, Detectron2 and MMDetection.

    Args:
        labels: int [N], 1 foreground, 0 background, anything else is never chosen.
        priority: float [N], finite; in each group the candidates with the largest are taken first, and
            among equal ones the lower index.
        count: Number of slots, static.
        positive_fraction: Largest share of foreground candidates, static.

    Returns:
        Samples of ``count`` slots.

    Raises:
        ValueError: An array has another shape, ``count`` is no whole number of at least 0, or
            ``positive_fraction`` is not from 0 to 1.

    Example:
        >>> sample(jnp.array([0, 1, -1, 0]), index_priority(4), 3, 0.5).index
        Array([1, 0, 3], dtype=int32)
    """
    check_shapes("sample", labels=(labels, "N"), priority=(priority, "N"))
    check_whole("sample", 0, count=count)
    check_numbers("sample", 0, 1, positive_fraction=positive_fraction)
    n = labels.shape[0]
    foreground, background = labels == 1, labels == 0
    positives = jnp.minimum(foreground.sum(), int(count * positive_fraction))
    negatives = jnp.minimum(background.sum(), count - positives)

    slots = jnp.arange(count)
    if n == 0:
        index = jnp.zeros(count, jnp.int32)
    else:
        first = _by_priority(foreground, priority, count)
        second = _by_priority(background, priority, count)
        index = jnp.where(slots < positives, first, jnp.roll(second, positives))
    valid = slots < positives + negatives
    return Samples(jnp.where(valid, index, 0).astype(jnp.int32), slots < positives, valid)


def _by_priority(member, priority, count):
    """Indices of the ``count`` members of the highest priority; any indices follow if there are fewer."""
    k = min(count, member.shape[0])
    index = top_k(jnp.where(member, priority, -jnp.inf), k)[1]
    return jnp.pad(index, (0, count - k))
