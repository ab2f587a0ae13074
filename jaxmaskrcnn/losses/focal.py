"""Focal losses: cross entropies in which well classified examples count little."""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.losses.terms import binary_cross_entropy

Array = jax.Array


def sigmoid_focal(logits: Array, targets: Array, alpha: float, gamma: float) -> Array:
    """Binary cross entropy times ``(1 - p_t) ** gamma``, where ``p_t`` is the probability of the target.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 5; torchvision's
    ``sigmoid_focal_loss``.

    Args:
        logits: [...].
        targets: [...], 0 or 1.
        alpha: Factor where the target is 1; where it is 0 the factor is ``1 - alpha``.
        gamma: Exponent, at least 0.

    Returns:
        [...], elementwise.

    Example:
        >>> sigmoid_focal(jnp.zeros(2), jnp.array([0.0, 1.0]), alpha=0.25, gamma=2.0) / jnp.log(2)
        Array([0.1875, 0.0625], dtype=float32)
    """
    # The logarithm of 1 - p_t, which neither underflows nor has a gradient that overflows.
    rest = jax.nn.log_sigmoid(jnp.where(targets > 0, -logits, logits))
    balance = jnp.where(targets > 0, alpha, 1 - alpha)
    return balance * jnp.exp(gamma * rest) * binary_cross_entropy(logits, targets)


def softmax_focal(log_probability: Array, gamma: float) -> Array:
    """Cross entropy times ``(1 - p_t) ** gamma``, from the logarithm of the target's probability.

    Source: Lin et al., 2017, equation 4, for a softmax.

    Args:
        log_probability: [...], of each target, at most 0.
        gamma: Exponent, at least 0.

    Returns:
        [...], elementwise.

    Example:
        >>> softmax_focal(jnp.log(jnp.array([0.5])), gamma=2.0) / jnp.log(2)
        Array([0.25], dtype=float32)
    """
    # A little above 0, where the gradient of a power below 1 would be infinite.
    rest = jnp.maximum(-jnp.expm1(log_probability), 1e-12)
    return -(rest**gamma) * log_probability


def quality_focal(logits: Array, targets: Array, gamma: float) -> Array:
    """Binary cross entropy times ``|target - p| ** gamma``, for targets between 0 and 1.

    Source: Li et al., "Generalized Focal Loss", 2020, equation 2; MMDetection's ``QualityFocalLoss``.

    Args:
        logits: [...].
        targets: [...] in 0 to 1, such as the IoU of the predicted box for the own class.
        gamma: Exponent, at least 0.

    Returns:
        [...], elementwise.

    Example:
        >>> loss = quality_focal(jnp.zeros(2), jnp.array([0.5, 1.0]), gamma=2.0)
        >>> bool(loss[0] < 1e-6), round(float(loss[1] / jnp.log(2)), 3)
        (True, 0.25)
    """
    distance = jnp.maximum(jnp.abs(targets - jax.nn.sigmoid(logits)), 1e-12)
    return distance**gamma * binary_cross_entropy(logits, targets)
