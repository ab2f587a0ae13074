"""The loss of the box head's classes, region by region.

Shapes: R regions, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes, ConfigError
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.federated import federated_classes
from jaxmaskrcnn.losses.focal import quality_focal, sigmoid_focal, softmax_focal
from jaxmaskrcnn.losses.seesaw import seesaw_losses
from jaxmaskrcnn.losses.terms import binary_cross_entropy

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
        logits: float [R, K + 1].
        regions: R regions.
        classes: Gives the number of classes and the position of the background.
        config: Gives the scores and their loss.
        quality: float [R] in 0 to 1, IoUs of the predicted boxes; for the form "quality_focal".
        key: Key of the draw of a federated loss, a scalar; None takes the most frequent classes.
        counts: float [K + 1], for a seesaw loss: regions of each class and of none so far.

    Returns:
        float [R], without the factor of the loss. With the scores "two_softmaxes" it is 0 for regions without
        an object; `seesaw.object_losses` has the other part.

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
    if config.scores == "sigmoid":
        return _of_sigmoids(logits, regions, classes, config, quality, key)
    if config.scores == "two_softmaxes":
        assert counts is not None, "the scores 'two_softmaxes' need the counts of the regions so far"
        factors = (config.class_loss.mitigation, config.class_loss.compensation)
        entropy = seesaw_losses(logits, regions.labels, counts[: classes.count], *factors)
        return jnp.where(regions.positive, entropy, 0)
    return _of_softmax(logits, regions, classes, config)


def _of_softmax(logits: Array, regions: Regions, classes: Classes, config: BoxConfig) -> Array:
    loss = config.class_loss
    target = jnp.where(regions.positive, regions.labels + classes.offset, classes.background_channel)
    log_probability = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_probability, target[:, None], axis=1)[:, 0]
    entropy = softmax_focal(own, loss.gamma) if loss.form == "focal" else -own
    weights = None
    if loss.class_weights or loss.background_weight != 1:
        of_classes = list(loss.class_weights or (1.0,) * classes.count)
        of_classes.insert(classes.background_channel, loss.background_weight)
        weights = jnp.asarray(of_classes, entropy.dtype)
        entropy = weights[target] * entropy
    if loss.label_smoothing:
        # As torch, which weights every class's part by the class's own weight.
        spread = -(log_probability if weights is None else weights * log_probability).mean(-1)
        entropy = (1 - loss.label_smoothing) * entropy + loss.label_smoothing * spread
    return entropy


def _of_sigmoids(
    logits: Array,
    regions: Regions,
    classes: Classes,
    config: BoxConfig,
    quality: Array | None,
    key: Array | None,
) -> Array:
    """Binary losses of each region, [R], summed over the object classes that count."""
    loss = config.class_loss
    own = logits[:, classes.offset : classes.offset + classes.count]
    labels = jnp.where(regions.positive, regions.labels, classes.count)  # no class is that of the background
    targets = jax.nn.one_hot(labels, classes.count, dtype=own.dtype)
    if loss.form == "focal":
        entropy = sigmoid_focal(own, targets, loss.alpha, loss.gamma)
    elif loss.form == "quality_focal":
        assert quality is not None, "the form 'quality_focal' needs the IoUs of the predicted boxes"
        entropy = quality_focal(own, targets * quality[:, None], loss.gamma)
    else:
        entropy = binary_cross_entropy(own, targets)
    if loss.class_weights:
        entropy = jnp.where(targets > 0, jnp.asarray(loss.class_weights, own.dtype) * entropy, entropy)
    if config.federated is not None:
        counting = federated_classes(
            regions.labels, regions.positive, regions.valid, classes, config.federated, key
        )
        entropy = jnp.where(counting, entropy, 0)
    return entropy.sum(-1)
