"""An exponential moving average of the parameters, kept beside the optimizer's state.

It wraps the optimizer, so that the train step, the checkpoints and the handling of non-finite steps treat
it like any other optimizer state. The statistics of batch norm are not averaged, because they are moving
averages already.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class EmaState(NamedTuple):
    """State of `with_ema`.

    Attributes:
        inner: State of the wrapped optimizer.
        count: int32, updates so far.
        average: A tree like the parameters.
    """

    inner: Any
    count: jax.Array
    average: Any


def ema_decay(decay: float, count: jax.Array) -> jax.Array:
    """The decay of one update: small at first, so that the initial parameters are soon forgotten.

    ``min(decay, (1 + count) / (10 + count))``, the rule of TensorFlow's
    ``ExponentialMovingAverage(num_updates=...)``.

    Args:
        decay: The decay in the long run, below 1.
        count: Updates so far, counted from 0.

    Returns:
        float32 scalar.
    """
    count = jnp.asarray(count, jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1.0 + count) / (10.0 + count))


def with_ema(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Wraps an optimizer so that it also averages the parameters after each update.

    Args:
        optimizer: The optimizer, whose updates are passed on unchanged.
        decay: ``average = decay * average + (1 - decay) * parameters``, warmed up by `ema_decay`.

    Returns:
        A transformation whose state is an `EmaState`.

    Example:
        >>> optimizer = with_ema(optax.sgd(0.5), decay=0.9)
        >>> state = optimizer.init(jnp.ones(2))
        >>> updates, state = optimizer.update(jnp.ones(2), state, jnp.ones(2))
        >>> [round(float(x), 3) for x in state.average]  # 0.1 * 1 + 0.9 * 0.5
        [0.55, 0.55]
    """

    def init(params):
        # Copies, because the state holds the parameters too, and a step that donates its state must not
        # donate one array twice.
        return EmaState(optimizer.init(params), jnp.int32(0), jax.tree.map(jnp.copy, params))

    def update(updates, state, params=None):
        updates, inner = optimizer.update(updates, state.inner, params)
        share = 1.0 - ema_decay(decay, state.count)
        after = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: a + share.astype(a.dtype) * (p - a), state.average, after)
        return updates, EmaState(inner, state.count + 1, average)

    return optax.GradientTransformation(init, update)


def weights_to_use(state: dict[str, Any]):
    """The parameters to evaluate and to save: the averaged ones if there are any.

    Args:
        state: State of the train step.

    Returns:
        A tree like ``state["params"]``.
    """
    opt_state = state["opt_state"]
    return opt_state.average if isinstance(opt_state, EmaState) else state["params"]
