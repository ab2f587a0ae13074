"""One training step, as a pure function of one replica.

Every way of running it wraps this function: ``jax.jit`` on one device, and a transformation that names the
batch axis (``pmap``, ``shard_map``, ``vmap``) on several. The state is a dict of
``step`` (int32, completed steps), ``params`` (the parameters that are trained), ``rest`` (frozen parameters,
constants and batch statistics) and ``opt_state``.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxmaskrcnn.structures import Batch, State
from jaxmaskrcnn.training.gradients import loss_gradients

Metrics = dict[str, jax.Array]


def init_state(model: nnx.Module, trainable, make_optimizer: Callable) -> tuple[Any, Any, State]:
    """Split a model into the state of a training run, and make its optimizer.

    Args:
        model: The detector, in training mode.
        trainable: NNX filter of the parameters to train (``jaxmaskrcnn.models.trainable``).
        make_optimizer: Called with the trainable ``params``, returns the optax transformation.

    Returns:
        ``(graphdef, optimizer, state)``. The arrays are copies, so that a step that donates its state
        does not delete the model's arrays.
    """
    graphdef, params, rest = nnx.split(model, trainable, ...)
    optimizer = make_optimizer(params)

    # One program: made one by one, the arrays of each shape would be compiled by themselves.
    @jax.jit
    def first(params, rest):
        params, rest = jax.tree.map(jnp.copy, (params, rest))
        return {"step": jnp.int32(0), "params": params, "rest": rest, "opt_state": optimizer.init(params)}

    return graphdef, optimizer, first(params, rest)


def train_step(
    state: State,
    batch: Batch,
    key: jax.Array,
    *,
    graphdef,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    axis_name: str | None = None,
    slices: int = 1,
    over_devices: Callable[[Callable], Callable] = lambda function: function,
) -> tuple[State, Metrics]:
    """Losses, gradients and one update of the parameters.

    Every loss is divided by its count over the whole batch, so the result does not depend on how
    the batch is split over devices. If the loss or the gradient is not finite, parameters,
    optimizer state and batch statistics stay as they were, so the state can still be saved.

    Args:
        state: From `init_state`.
        batch: This replica's images, with targets.
        key: The run's random key. This function folds in the step, and the model an image's position.
        graphdef: From `init_state`.
        optimizer: From `init_state`.
        schedule: Learning rate by step, for the metrics (the optimizer has its own copy).
        axis_name: Name of the axis over which replicas are summed, None for a single one.
        slices: Number of parts in which this replica's images are computed successively
            (gradient accumulation, see `loss_gradients`).
        over_devices: Maps the computation of gradients, whose arguments are the trained and the other
            variables, the batch and the key, over devices; for a step that is not mapped as a whole.

    Returns:
        The next state, and the metrics: ``loss``, one entry per loss term, ``grad_norm`` (before
        clipping), ``learning_rate``, and ``finite`` (bool).
    """
    step_key = jax.random.fold_in(key, state["step"])
    gradients = functools.partial(loss_gradients, graphdef, axis_name=axis_name, slices=slices)
    losses, grads, statistics = over_devices(gradients)(state["params"], state["rest"], batch, step_key)
    loss = sum(losses.values())
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

    def update(kept):
        updates, opt_state = optimizer.update(grads, kept["opt_state"], kept["params"])
        return {
            "params": optax.apply_updates(kept["params"], updates),
            "rest": nnx.merge_state(kept["rest"], statistics),
            "opt_state": opt_state,
        }

    # lax.cond, because jnp.where would keep old and new parameters alive through the whole step: they are
    # donated and updated in place, so XLA would copy the old values for jnp.where at the start of the step.
    # A branch makes copies only when it runs.
    kept = {name: state[name] for name in ("params", "rest", "opt_state")}
    new_state = jax.lax.cond(finite, update, lambda kept: kept, kept)
    metrics = {
        "loss": loss,
        **losses,
        "grad_norm": grad_norm,
        "learning_rate": schedule(state["step"]),
        "finite": finite,
    }
    return {"step": state["step"] + 1, **new_state}, metrics


def jit_train_step(
    graphdef, optimizer, schedule, slices: int = 1, jit: Callable = jax.jit
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """Compiles `train_step` for one device, once for each canvas, with its state donated.

    ``jit`` is ``jax.jit`` or that of a `Layout`.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``; the state passed in cannot be used again.
    """
    step = functools.partial(
        train_step, graphdef=graphdef, optimizer=optimizer, schedule=schedule, slices=slices
    )
    return jit(step, donate_argnums=0)
