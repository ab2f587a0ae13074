"""Losses, gradients and steps of a small model, compared with what another library recorded."""

import jax
import numpy as np
import optax
from flax import nnx
from goldens.seeded_weights import sampled

from jaxmaskrcnn.config import OptimizerConfig
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.training.optimizer import learning_rate, make_optimizer


def check(what, errors, limit):
    """No error above the limit; ``pytest -s`` shows the largest."""
    worst = float(np.max(errors))
    print(f"{what}: {worst:.1e} (limit {limit:.0e})")
    assert worst <= limit, what


def gradient_function(model, wanted=nnx.Param):
    """``run(params, batch) -> (gradient, losses)``, every sampler taking the lowest indices; and params."""
    graphdef, params, rest = nnx.split(model, wanted, ...)

    @jax.jit
    def run(params, batch):
        def total(params):
            # copy=True, because batch norm changes its statistics.
            losses = nnx.merge(graphdef, params, rest, copy=True).losses(batch, None)
            return sum(losses.values()), losses

        return jax.grad(total, has_aux=True)(params)

    return run, params


def flat(state):
    """Arrays by this library's paths."""
    return {".".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(state)}


def twenty_steps(run, params, batch, config, rate, weight_decay):
    """SGD with momentum 0.9 from the library's own optimizer.

    Returns:
        The losses [20, 5] before each step, and the parameters' way by path.
    """
    settings = OptimizerConfig(
        learning_rate=rate, momentum=0.9, weight_decay=weight_decay, clip_norm=0.0, schedule="constant",
        warmup_steps=0, reference_batch_size=0,
    )  # fmt: skip
    optimizer = make_optimizer(settings, learning_rate(settings, 2, 20), params, config)

    @jax.jit
    def update(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    first, state, curve = params, optimizer.init(params), []
    for _ in range(20):
        gradient, losses = run(params, batch)
        curve.append([float(losses[name]) for name in LOSS_NAMES])
        params, state = update(gradient, state, params)
    return np.array(curve), flat(jax.tree.map(lambda new, old: new - old, params, first))


def check_gradients(case, gradient, expected, weights, table, *, whole=False):
    """Norms to 0.1 %, cosines above 0.9999.

    Args:
        case: For messages.
        gradient: By this library's paths.
        expected: By the other library's names: samples, and behind them the norm.
        weights: Arrays by the other library's names.
        table: Of that library's names.
        whole: ``expected`` has all values, in their order and up to a factor, instead of samples.
    """
    norms, cosines = {}, {}
    for name, weight in weights.items():
        path, transform = table.translate(name)
        if path not in gradient:  # frozen batch norm
            continue
        # Samples were drawn in torch's layout.
        places = transform.to_model(np.arange(weight.size).reshape(weight.shape))
        ours = np.empty(weight.size)
        ours[places.ravel()] = gradient[path].ravel()
        *values, norm = np.asarray(expected[name], np.float64)
        mine = ours if whole else sampled(name, ours, len(values))
        norms[path] = abs(np.linalg.norm(ours) / norm - 1)
        cosines[path] = 1 - mine @ values / np.linalg.norm(mine) / np.linalg.norm(values)
    assert norms.keys() == gradient.keys()
    check(f"{case}, norms of the gradients", list(norms.values()), 1e-3)
    check(f"{case}, 1 - cosine of the gradients", list(cosines.values()), 1e-4)
