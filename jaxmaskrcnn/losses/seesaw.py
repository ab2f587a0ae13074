"""The seesaw loss for data in which few classes are frequent and most are rare (Wang et al., 2021).

In a softmax every region of a frequent class pushes down the logits of all others. The seesaw loss weights
how strongly: less on a class that was seen more rarely (mitigation), more on one whose score is higher than
that of the region's own (compensation). Whether a region is an object at all is learned apart, with two
further logits, so that the background is none of the classes.

Shapes: R regions, K object classes, whose logits are followed by those of an object and of the background.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.class_scores import ClassScores, Given

Array = jax.Array

FLOOR = 0.01  # of a region's own score, by which others are divided (MMDetection's ``eps``)


def two_softmaxes(logits: Array) -> Array:
    """Scores of the classes and of the background, which add up to 1.

    Source: MMDetection ``SeesawLoss.get_activation``.

    Args:
        logits: float [..., K + 2].

    Returns:
        float [..., K + 1]: the softmax of the classes times the probability of an object, and that of the
        background.

    Example:
        >>> two_softmaxes(jnp.log(jnp.array([1.0, 3.0, 4.0, 1.0]))).round(3).tolist()
        [0.2, 0.6, 0.2]
    """
    objects = jax.nn.softmax(logits[..., -2:])
    classes = jax.nn.softmax(logits[..., :-2]) * objects[..., :1]
    return jnp.concatenate([classes, objects[..., 1:]], -1)


def object_losses(logits: Array, positive: Array) -> Array:
    """Cross entropy of being an object.

    Args:
        logits: float [R, K + 2].
        positive: bool [R], regions of an object.

    Returns:
        float [R].

    Example:
        >>> object_losses(jnp.zeros((1, 5)), jnp.array([True])).round(3).tolist()  # log(2)
        [0.693]
    """
    log_probability = jax.nn.log_softmax(logits[:, -2:])
    return -jnp.where(positive, log_probability[:, 0], log_probability[:, 1])


def seesaw_losses(
    logits: Array, labels: Array, counts: Array, mitigation: float, compensation: float
) -> Array:
    """Cross entropy of each region's class, in which the other classes have weights.

    The weight of class j for a region of class i is min(1, n_j / n_i) ** p, where n are numbers of regions,
    times max(1, s_j / s_i) ** q, where s are the scores of a softmax. No gradient flows through the weights.

    Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", 2021; MMDetection
    ``seesaw_ce_loss``, which takes numbers of at least 1 and own scores of at least 0.01.

    Args:
        logits: float [R, K] or more; those after the classes' are not used.
        labels: int [R], 0 to K - 1.
        counts: float [K], the regions of each class so far, with these.
        mitigation: The exponent p; 0 leaves the factor out.
        compensation: The exponent q, likewise.

    Returns:
        float [R].

    Example:
        >>> counts = jnp.array([100.0, 1.0])
        >>> frequent, rare = seesaw_losses(jnp.zeros((2, 2)), jnp.array([0, 1]), counts, 0.8, 2.0)
        >>> round(float(frequent), 3), round(float(rare), 3)  # which pushes the other one less
        (0.025, 0.693)
    """
    logits = logits[:, : counts.shape[0]]
    own = jax.nn.one_hot(labels, counts.shape[0], dtype=bool)
    log_weights = jnp.zeros_like(logits)
    if mitigation:
        log_counts = jnp.log(jnp.maximum(counts, 1))
        log_weights += mitigation * jnp.minimum(log_counts[None] - log_counts[labels][:, None], 0)
    if compensation:
        log_scores = jax.lax.stop_gradient(jax.nn.log_softmax(logits))
        log_own = jnp.take_along_axis(log_scores, labels[:, None], axis=1)
        log_weights += compensation * jnp.maximum(log_scores - jnp.maximum(log_own, jnp.log(FLOOR)), 0)
    log_probability = jax.nn.log_softmax(logits + jnp.where(own, 0, log_weights))
    return -jnp.take_along_axis(log_probability, labels[:, None], axis=1)[:, 0]


def _losses(logits: Array, regions: Regions, classes: Classes, config: BoxConfig, given: Given) -> Array:
    """The seesaw loss of regions with an object; `object_losses` has the other part."""
    assert given.counts is not None, "the seesaw loss needs the counts of the regions so far"
    factors = (config.class_loss.mitigation, config.class_loss.compensation)
    entropy = seesaw_losses(logits, regions.labels, given.counts[: classes.count], *factors)
    return jnp.where(regions.positive, entropy, 0)


TWO_SOFTMAXES = ClassScores(
    two_softmaxes,
    _losses,
    lambda logits, regions: {"objectness": object_losses(logits, regions.positive)},
    same_order=False,
)
