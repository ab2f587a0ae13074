"""The courses of the learning rate over a run: each a factor of the base rate, without the warm-up.

A schedule is a line in `SCHEDULES`. The step is the number of completed updates, as in ``torch.optim``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import OptimizerConfig

Array = jax.Array
Factor = Callable[[Array], Array | float]


def by_steps(config: OptimizerConfig, steps: int) -> Factor:
    """``decay_factor`` to the number of ``decay_steps`` that have passed (``torch`` ``MultiStepLR``)."""
    decays = jnp.asarray(config.decay_steps, jnp.int32)
    # A decay at n applies to the update after n completed ones, as in torch.
    return lambda step: jnp.float32(config.decay_factor) ** jnp.sum(step >= decays)


def constant(config: OptimizerConfig, steps: int) -> Factor:
    """1 throughout."""
    return lambda step: 1.0


def cosine(config: OptimizerConfig, steps: int) -> Factor:
    """Half a cosine from 1 to ``end_factor`` at the end of the run (``torch`` ``CosineAnnealingLR``)."""
    return lambda step: _to_end(config, _half_cosine(_share(step, steps)))


def polynomial(config: OptimizerConfig, steps: int) -> Factor:
    """``(1 - step / steps) ** power`` from 1 to ``end_factor`` (``torch`` ``PolynomialLR``)."""
    return lambda step: _to_end(config, (1.0 - _share(step, steps)) ** config.power)


def exponential(config: OptimizerConfig, steps: int) -> Factor:
    """``decay_factor`` after every ``decay_every`` steps, smoothly (``torch`` ``ExponentialLR``)."""
    return lambda step: jnp.float32(config.decay_factor) ** (step / config.decay_every)


def cosine_restarts(config: OptimizerConfig, steps: int) -> Factor:
    """Half cosines, each ``restart_factor`` times as long as the one before.

    Source: SGDR (Loshchilov and Hutter, 2017); ``torch`` ``CosineAnnealingWarmRestarts``.
    """
    length, factor = config.restart_steps, config.restart_factor
    if factor == 1:
        return lambda step: _to_end(config, _half_cosine((step % length) / length))
    starts, lengths = [0], [length]
    while starts[-1] + lengths[-1] <= steps:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * factor)

    def restarted(step: Array) -> Array:
        cycle = jnp.sum(step >= jnp.asarray(starts, jnp.int32)) - 1
        done = (step - jnp.asarray(starts, jnp.int32)[cycle]) / jnp.asarray(lengths, jnp.float32)[cycle]
        return _to_end(config, _half_cosine(jnp.clip(done, 0.0, 1.0)))

    return restarted


SCHEDULES: dict[str, Callable[[OptimizerConfig, int], Factor]] = {
    "step": by_steps,
    "cosine": cosine,
    "constant": constant,
    "polynomial": polynomial,
    "exponential": exponential,
    "cosine_restarts": cosine_restarts,
}


def _share(step: Array, steps: int) -> Array:
    """The share of the run that is done."""
    return jnp.clip(step / max(steps, 1), 0.0, 1.0)


def _half_cosine(share: Array) -> Array:
    return 0.5 * (1.0 + jnp.cos(jnp.pi * share))


def _to_end(config: OptimizerConfig, factor: Array) -> Array:
    """Brings a factor that ends at 0 to an end at ``end_factor``."""
    if not config.end_factor:
        return factor
    return config.end_factor + (1.0 - config.end_factor) * factor
