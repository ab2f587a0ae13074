"""Normal noise in the gradient, whose variance falls from step to step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class NoiseState(NamedTuple):
    """The state of `gradient_noise`.

    Attributes:
        count: int32, the number of updates so far.
    """

    count: jax.Array


def gradient_noise(variance: float, decay: float, seed: int) -> optax.GradientTransformation:
    """Add noise with the variance ``variance / step ** decay`` to every value, with steps counted from 1.

    Source: Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015; as
    ``optax.add_noise``, but that its state is the number of the step alone, which any checkpoint can hold.

    Args:
        variance: At the first step.
        decay: Exponent of the decay; the paper's is 0.55.
        seed: Seed of the noise.
    """

    def init(params):
        del params
        return NoiseState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        deviation = jnp.sqrt(variance / count.astype(jnp.float32) ** decay)
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), count), len(leaves))
        noisy = [
            g + deviation.astype(g.dtype) * jax.random.normal(key, g.shape, g.dtype)
            for g, key in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(structure, noisy), NoiseState(count)

    return optax.GradientTransformation(init, update)
