"""Losses of predicted masks beside the cross entropy of their cells.

A loss is a line in `MASK_LOSSES`; its factor is a setting of `MaskLossConfig` of the same name.

Shapes: Q masks, M their side.
"""

from collections.abc import Callable

import jax

from jaxmaskrcnn.ops.distances import signed_distances

Array = jax.Array


def dice(logits: Array, targets: Array, epsilon: float = 1e-3) -> Array:
    """One minus the Dice coefficient of each mask, with squares in the denominator.

    Source: Milletari et al., "V-Net", 2016, section 3; MMDetection's ``DiceLoss``.

    Args:
        logits: float [Q, M, M].
        targets: float [Q, M, M] in 0 to 1.
        epsilon: Added to both sums of the denominator.

    Returns:
        float [Q] in 0 to 1.

    Example:
        >>> full = jnp.ones((1, 4, 4))
        >>> float(dice(100 * full, full)[0]) < 1e-3, round(float(dice(-100 * full, full)[0]), 3)
        (True, 1.0)
    """
    probability = jax.nn.sigmoid(logits)
    shared = (probability * targets).sum((-2, -1))
    squares = (probability**2).sum((-2, -1)) + epsilon + (targets**2).sum((-2, -1)) + epsilon
    return 1 - 2 * shared / squares


def boundary(logits: Array, targets: Array) -> Array:
    """The mean over the cells of each mask of its probability times the distance from the object's edge.

    Below 0 for a good mask, as distances are negative inside the object. It needs another loss beside it,
    because it says little while a mask is far from its object.

    Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", 2019, equation 5.

    Args:
        logits: float [Q, M, M].
        targets: float [Q, M, M]; an object covers cells of at least 0.5.

    Returns:
        float [Q] in cells.

    Example:
        >>> half = jnp.array([[[1.0, 0], [1, 0]]])
        >>> boundary(jnp.full((1, 2, 2), 100.0), half)  # 0 inside, 1 outside
        Array([0.5], dtype=float32)
    """
    distance = jax.vmap(signed_distances)(targets >= 0.5)
    return (jax.nn.sigmoid(logits) * distance).mean((-2, -1))


MASK_LOSSES: dict[str, Callable[[Array, Array], Array]] = {"dice": dice, "boundary": boundary}
