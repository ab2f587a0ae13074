"""Elementwise losses, and the reduction of sums and counts to scalars."""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.structures import LossTerm

Array = jax.Array


def smooth_l1(error: Array, beta: float) -> Array:
    """Huber-like loss: ``0.5 e^2 / beta`` below ``beta``, ``|e| - 0.5 beta`` above; L1 for beta 0.

    Source: Fast R-CNN, equation 3, with torchvision's and Detectron2's ``beta``.

    Args:
        error: [...], differences.
        beta: Error at which the quadratic part ends, at least 0.

    Returns:
        [...], elementwise.

    Example:
        >>> smooth_l1(jnp.array([0.5, -2.0]), 1.0).tolist()
        [0.125, 1.5]
    """
    size = jnp.abs(error)
    if beta == 0:
        return size
    return jnp.where(size < beta, 0.5 * error * error / beta, size - 0.5 * beta)


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """Binary cross entropy with logits (Mask R-CNN, section 3), in a form that does not overflow.

    Args:
        logits: [...].
        targets: [...] in 0 to 1.

    Returns:
        [...], elementwise.

    Example:
        >>> binary_cross_entropy(jnp.array([-1000.0, 1000.0]), jnp.array([1.0, 1.0])).tolist()
        [1000.0, 0.0]
    """
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def reduce_terms(terms: dict[str, LossTerm], axis_name: str | None = None) -> dict[str, Array]:
    """Reduces sums and counts to scalars, over all devices of an axis.

    Args:
        terms: Scalar totals and counts.
        axis_name: Name of a mapped axis to add over, or None.

    Returns:
        ``total / count`` by name, scalars; 0 where nothing was counted.

    Example:
        >>> reduce_terms({"loss_mask": LossTerm(6.0, 4.0)})["loss_mask"].item()
        1.5
    """
    if axis_name is not None:
        terms = jax.lax.psum(terms, axis_name)
    return {name: term.total / jnp.maximum(term.count, 1) for name, term in terms.items()}
