"""The loss of the box head's classes, region by region.

Shapes: R regions, K object classes.
"""

import jax

from jaxmaskrcnn.config import BoxConfig, Classes, ConfigError
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.class_scores import Given, class_scores

Array = jax.Array


def class_losses(
    logits: Array,
    regions: Regions,
    classes: Classes,
    config: BoxConfig,
    quality: Array | None = None,
    key: Array | None = None,
    counts: Array | None = None,
) -> Array:
    """The loss of each region's class.

    Source: Fast R-CNN, section 2.3; with sigmoids Detectron2's
    ``FastRCNNOutputLayers.sigmoid_cross_entropy_loss``; ``torch.nn.functional.cross_entropy`` for weights of
    classes and label smoothing.

    Args:
        logits: float [R, logits].
        regions: R regions.
        classes: Gives the number of classes and the position of the background.
        config: Gives the scores and their loss.
        quality: float [R] in 0 to 1, IoUs of the predicted boxes; for the form "quality_focal".
        key: Key of the draw of a federated loss, a scalar; None takes the most frequent classes.
        counts: float [K + 1], for scores that have a state: what that returned (`BoxHead.seen`).

    Returns:
        float [R], without the factor of the loss; of scores that have further losses, without these.

    Raises:
        ConfigError: The number of weights of classes is not the number of classes.

    Example:
        >>> one = jnp.ones(1, bool)
        >>> regions = Regions(jnp.zeros((1, 4)), jnp.array([2]), jnp.array([0]), one, one)
        >>> class_losses(jnp.zeros((1, 4)), regions, Classes(3, "first"), BoxConfig())  # log(4)
        Array([1.3862944], dtype=float32)
    """
    weights = config.class_loss.class_weights
    if weights and len(weights) != classes.count:
        raise ConfigError(
            f"box.class_loss.class_weights has {len(weights)} numbers, but the number of classes is "
            f"{classes.count}; give one for each class, in the order of the labels, or none."
        )
    return class_scores(config.scores).losses(logits, regions, classes, config, Given(quality, key, counts))
