"""What a kind of class scores computes: scores of logits, and losses.

Each kind is in a file of its own, such as `softmax.py`, and `config/class_scores.py` has the table of them.

Shapes: R regions, K object classes.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from jaxmaskrcnn.config import SCORES, BoxConfig, Classes
from jaxmaskrcnn.losses.assignment import Regions

Array = jax.Array


class Given(NamedTuple):
    """What some losses read beside the logits.

    Attributes:
        quality: float [R] in 0 to 1, IoUs of the predicted boxes, or None.
        key: Random key of the image, a scalar, or None.
        counts: What the box head's state returned, or None.
    """

    quality: Array | None = None
    key: Array | None = None
    counts: Array | None = None


def no_further_losses(logits: Array, regions: Regions) -> Mapping[str, Array]:
    """The further losses of most kinds."""
    del logits, regions
    return {}


class ClassScores(NamedTuple):
    """A kind of class scores.

    Attributes:
        probabilities: Makes float [..., K + 1] of logits [..., logits], with the background where it is among
            the logits.
        losses: The loss of each region's class, float [R], of logits [R, logits], regions, classes, the box
            head's configuration, and what else is given.
        further_losses: More losses of each region, by what follows "loss_classifier_" in their names.
        same_order: Whether logits have the same order as the probabilities, but without their ties.
    """

    probabilities: Callable[[Array], Array]
    losses: Callable[[Array, Regions, Classes, BoxConfig, Given], Array]
    further_losses: Callable[[Array, Regions], Mapping[str, Array]] = no_further_losses
    same_order: bool = True


@functools.cache
def class_scores(kind: str) -> ClassScores:
    """Return what a kind of class scores computes.

    Args:
        kind: The kind, as `box.scores`.

    Example:
        >>> class_scores("softmax").probabilities(jnp.zeros(4)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    module, _, name = SCORES[kind].computes.partition(":")
    return getattr(importlib.import_module(module), name)
