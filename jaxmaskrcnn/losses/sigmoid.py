"""Class scores that are a sigmoid for each class; the background's logit is not used.

Shapes: R regions, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.class_scores import ClassScores, Given
from jaxmaskrcnn.losses.federated import federated_classes
from jaxmaskrcnn.losses.focal import quality_focal, sigmoid_focal
from jaxmaskrcnn.losses.terms import binary_cross_entropy

Array = jax.Array


def _losses(logits: Array, regions: Regions, classes: Classes, config: BoxConfig, given: Given) -> Array:
    """Binary losses of each region, [R], summed over the object classes that count."""
    loss = config.class_loss
    own = logits[:, classes.offset : classes.offset + classes.count]
    labels = jnp.where(regions.positive, regions.labels, classes.count)  # no class is that of the background
    targets = jax.nn.one_hot(labels, classes.count, dtype=own.dtype)
    if loss.form == "focal":
        entropy = sigmoid_focal(own, targets, loss.alpha, loss.gamma)
    elif loss.form == "quality_focal":
        assert given.quality is not None, "the form 'quality_focal' needs the IoUs of the predicted boxes"
        entropy = quality_focal(own, targets * given.quality[:, None], loss.gamma)
    else:
        entropy = binary_cross_entropy(own, targets)
    if loss.class_weights:
        entropy = jnp.where(targets > 0, jnp.asarray(loss.class_weights, own.dtype) * entropy, entropy)
    if config.federated is not None:
        counting = federated_classes(
            regions.labels, regions.positive, regions.valid, classes, config.federated, given.key
        )
        entropy = jnp.where(counting, entropy, 0)
    return entropy.sum(-1)


SIGMOID = ClassScores(jax.nn.sigmoid, _losses)
