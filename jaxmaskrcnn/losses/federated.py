"""Which classes count in an image's loss, where not all of its classes are annotated.

An image of LVIS is annotated for some classes only. A federated loss leaves the others alone: it counts the
classes of the image's regions and a few more, drawn by how often they occur. Detectron2 draws once for all
images of a GPU, here each image has a draw of its own, which is the same with one image on each GPU and
depends on no number of devices.

Shapes: R regions, K object classes.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import Classes, FederatedConfig

Array = jax.Array


def federated_classes(
    labels: Array,
    positive: Array,
    valid: Array,
    classes: Classes,
    config: FederatedConfig,
    key: Array | None = None,
) -> Array:
    """Choose the classes that count in the loss of one image.

    The classes of its regions count, and so does the background, which is one of them, in their number. If
    they are fewer than ``config.classes``, others are drawn without replacement, with probabilities
    proportional to a power of the number of training images of a class.

    Source: Zhou, Koltun and Kraehenbuehl, "Probabilistic two-stage detection" (2021); Detectron2
    ``FastRCNNOutputLayers.get_fed_loss_classes``.

    Args:
        labels: int [R], 0 to K - 1.
        positive: bool [R], regions of an object.
        valid: bool [R], all regions that count.
        classes: Gives K.
        config: Gives the number of classes and the weights.
        key: Key of the draw, a scalar; None takes the most frequent classes first.

    Returns:
        bool [K].

    Example:
        >>> labels, yes = jnp.array([2, 0]), jnp.array([True, True])
        >>> config = FederatedConfig(classes=3, image_counts=(9, 1, 1, 4))
        >>> positive = jnp.array([True, False])
        >>> federated_classes(labels, positive, yes, Classes(4, "last"), config)  # of 2, background, and 0
        Array([ True, False,  True, False], dtype=bool)
    """
    present = jnp.zeros(classes.count, bool).at[labels].max(positive & valid)
    number = present.sum() + (valid & ~positive).any().astype(jnp.int32)
    counts = jnp.asarray(config.image_counts or (1,) * classes.count, jnp.float32)
    weights = jnp.where(present | (counts == 0), -jnp.inf, config.power * jnp.log(jnp.maximum(counts, 1)))
    # The largest of weights with Gumbel noise are a draw without replacement.
    noise = 0.0 if key is None else jax.random.gumbel(key, weights.shape)
    ranks = jnp.argsort(jnp.argsort(-(weights + noise)))
    return present | ((ranks < config.classes - number) & (weights > -jnp.inf))
