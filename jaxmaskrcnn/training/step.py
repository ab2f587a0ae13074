"""One training step, as a pure function of one replica.

The function is what every way of running it wraps: ``jax.jit`` on one device, and anything that
gives the batch axis a name (``pmap``, ``shard_map``, ``vmap``) on several. State is a dict of
``step`` (int32, completed steps), ``params`` (what is trained), ``rest`` (frozen parameters,
constants and batch statistics) and ``opt_state``.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxmaskrcnn.losses import reduce_terms
from jaxmaskrcnn.structures import Batch, LossTerm

State = dict[str, Any]
Metrics = dict[str, jax.Array]


def init_state(model: nnx.Module, trainable, make_optimizer: Callable) -> tuple[Any, Any, State]:
    """Split a model into what a training run carries from step to step.

    Args:
        model: The detector, in training mode.
        trainable: NNX filter of the parameters to train (``jaxmaskrcnn.models.trainable``).
        make_optimizer: Called with the trainable ``params``, returns the optax transformation.

    Returns:
        ``(graphdef, optimizer, state)``. The arrays are copies: a step that donates its state
        does not take the model's arrays away.
    """
    graphdef, params, rest = nnx.split(model, trainable, ...)
    params, rest = jax.tree.map(jnp.copy, (params, rest))
    optimizer = make_optimizer(params)
    state = {"step": jnp.int32(0), "params": params, "rest": rest, "opt_state": optimizer.init(params)}
    return graphdef, optimizer, state


def train_step(
    state: State,
    batch: Batch,
    key: jax.Array,
    *,
    graphdef,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    axis_name: str | None = None,
) -> tuple[State, Metrics]:
    """Losses, gradients and one update of the parameters.

    Every loss is divided by its count over the whole batch, so the result does not depend on how
    the batch is split over devices. Where the loss or the gradient is not finite, parameters,
    optimizer state and batch statistics stay as they were, so the state is still worth saving.

    Args:
        state: Of `init_state`.
        batch: This replica's images, with targets.
        key: The run's random key; the step is folded in here, an image's position in the model.
        graphdef: Of `init_state`.
        optimizer: Of `init_state`.
        schedule: Learning rate by step, for the metrics (the optimizer has its own copy).
        axis_name: Name of the axis over which replicas are summed, None for a single one.

    Returns:
        The next state, and the metrics: ``loss``, one entry per loss term, ``grad_norm`` (before
        clipping), ``learning_rate``, and ``finite`` (bool).
    """
    everywhere = functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda tree: tree
    step_key = jax.random.fold_in(key, state["step"])
    # Random draws follow an image's place in the global batch, not the device it is on.
    first = jax.lax.axis_index(axis_name) * batch.images.shape[0] if axis_name else 0

    def loss_fn(params):
        # A copy, as batch statistics cannot be changed in place under the gradient's trace.
        model = nnx.merge(graphdef, params, state["rest"], copy=True)
        terms = model.loss_terms(batch, step_key, first_position=first)
        # Counts are summed over the replicas, totals are not: each replica differentiates its
        # share of the loss, and the sum of the gradients is the gradient of the whole. Summing
        # the totals here would differentiate the sum once per replica.
        counts = everywhere({name: term.count for name, term in terms.items()})
        shares = reduce_terms({name: LossTerm(term.total, counts[name]) for name, term in terms.items()})
        return sum(shares.values()), (shares, nnx.state(model, nnx.BatchStat))

    (_, (shares, statistics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state["params"])
    shares, grads = everywhere((shares, grads))
    if axis_name:
        statistics = jax.lax.pmean(statistics, axis_name)
    loss = sum(shares.values())
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

    updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
    proposed = {
        "params": optax.apply_updates(state["params"], updates),
        "rest": nnx.merge_state(state["rest"], statistics),
        "opt_state": opt_state,
    }
    kept = {name: state[name] for name in proposed}
    new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), proposed, kept)
    metrics = {
        "loss": loss,
        **shares,
        "grad_norm": grad_norm,
        "learning_rate": schedule(state["step"]),
        "finite": finite,
    }
    return {"step": state["step"] + 1, **new_state}, metrics


def jit_train_step(
    graphdef, optimizer, schedule
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """`train_step` for one device: compiled once per canvas, its state donated.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``; the state passed in is used up.
    """
    step = functools.partial(train_step, graphdef=graphdef, optimizer=optimizer, schedule=schedule)
    return jax.jit(step, donate_argnums=0)
