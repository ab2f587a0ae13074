"""Class scores that are a softmax over the classes and the background (Fast R-CNN, section 2.3).

Shapes: R regions, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import BoxConfig, Classes
from jaxmaskrcnn.losses.assignment import Regions
from jaxmaskrcnn.losses.class_scores import ClassScores, Given
from jaxmaskrcnn.losses.focal import softmax_focal

Array = jax.Array


def _losses(logits: Array, regions: Regions, classes: Classes, config: BoxConfig, given: Given) -> Array:
    del given
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


SOFTMAX = ClassScores(jax.nn.softmax, _losses)
