"""The optimizers' methods: what becomes of a gradient before and after it is multiplied by the learning rate.

A method is a line in `METHODS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from jaxmaskrcnn.config import OptimizerConfig

Transforms = list[optax.GradientTransformation]


class Method(NamedTuple):
    """The transformations of a method.

    Attributes:
        before: Those before the multiplication by the learning rate, in their order.
        after: Those behind it.
    """

    before: Transforms
    after: Transforms


def sgd(config: OptimizerConfig, decay: Transforms) -> Method:
    """``g += decay * p``, ``buf = momentum * buf + g``, ``p -= rate * buf`` (``torch.optim.SGD``)."""
    return Method([*decay, *_momentum(config)], [])


def adamw(config: OptimizerConfig, decay: Transforms) -> Method:
    """``p -= rate * (adam(g) + decay * p)`` (``torch.optim.AdamW``)."""
    return Method([optax.scale_by_adam(config.momentum, config.beta2, eps=1e-8), *decay], [])


def lars(config: OptimizerConfig, decay: Transforms) -> Method:
    """SGD whose rate is in proportion to ``|p| / |g + decay * p|`` (``optax.lars``).

    Source: You et al., "Large Batch Training of Convolutional Networks", 2017. The momentum is of the
    updates, behind the learning rate.
    """
    return Method([*decay, trust_ratio(config.trust_coefficient)], _momentum(config))


def lamb(config: OptimizerConfig, decay: Transforms) -> Method:
    """AdamW whose rate is in proportion to ``|p| / |update|`` (``optax.lamb``).

    Source: You et al., "Large Batch Optimization for Deep Learning", 2020.
    """
    adam = optax.scale_by_adam(config.momentum, config.beta2, eps=1e-6)
    return Method([adam, *decay, trust_ratio(1.0)], [])


METHODS: dict[str, Callable[[OptimizerConfig, Transforms], Method]] = {
    "sgd": sgd,
    "adamw": adamw,
    "lars": lars,
    "lamb": lamb,
}


def trust_ratio(coefficient: float) -> optax.GradientTransformation:
    """Multiply every update by ``coefficient * |p| / |update|``.

    Vectors, which are biases and the scales of norm layers, keep their update, as in the implementations of
    the papers' authors: a bias of 0 would never change.

    Args:
        coefficient: Factor of the ratio.

    Example:
        >>> params, updates = {"w": jnp.full((1, 4), 2.0)}, {"w": jnp.ones((1, 4))}
        >>> trust_ratio(0.5).update(updates, optax.EmptyState(), params)[0]["w"].tolist()
        [[1.0, 1.0, 1.0, 1.0]]
    """
    whole = optax.scale_by_trust_ratio(trust_coefficient=coefficient)

    def update(updates, params):
        scaled, _ = whole.update(updates, optax.EmptyState(), params)
        return jax.tree.map(lambda old, new: new if old.ndim > 1 else old, updates, scaled)

    return optax.stateless(update)


def _momentum(config: OptimizerConfig) -> Transforms:
    return [optax.trace(config.momentum, nesterov=config.nesterov)] if config.momentum else []
