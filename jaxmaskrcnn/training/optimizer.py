"""The optimizer of a run and its learning rate, in the order of operations of the PyTorch libraries.

The order matters for equal loss curves: clip the gradients, then what the method does (`methods`), then
multiply by the learning rate (`schedules`) and by the factors of groups and layers.
"""

import logging

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxmaskrcnn.config import ConfigError, ModelConfig, OptimizerConfig
from jaxmaskrcnn.config.functions import imported_function
from jaxmaskrcnn.config.groups import parse_groups
from jaxmaskrcnn.training.ema import with_ema
from jaxmaskrcnn.training.groups import add_decay, group_values, layer_factors, scale_by_factors
from jaxmaskrcnn.training.methods import METHODS
from jaxmaskrcnn.training.noise import gradient_noise
from jaxmaskrcnn.training.schedules import SCHEDULES

log = logging.getLogger(__name__)


def learning_rate(config: OptimizerConfig, batch_size: int, steps: int) -> optax.Schedule:
    """Learning rate as a function of the number of completed steps.

    A linear warm-up multiplies the schedule by a factor that goes from ``warmup_factor`` at
    step 0 to 1 at ``warmup_steps`` (Detectron2 ``WarmupMultiStepLR``; torchvision
    ``references/detection/engine.py``). The base rate is scaled linearly with the batch (Goyal
    et al., 2017, section 2.1), which is logged.

    Args:
        config: Gives the rate, schedule and warm-up.
        batch_size: Images per step over all devices.
        steps: Length of the run; cosine and polynomial reach their end there.

    Returns:
        ``schedule(step)``, a float32 scalar; takes Python and traced integers.

    Raises:
        ConfigError: Two settings do not go together.

    Example:
        >>> config = OptimizerConfig(learning_rate=0.02, schedule="constant", warmup_steps=0)
        >>> float(learning_rate(config, batch_size=8, steps=100)(0))  # doctest: +ELLIPSIS
        0.0099999...
    """
    config.check()
    factor = batch_size / config.reference_batch_size if config.reference_batch_size else 1.0
    base = config.learning_rate * factor
    if config.reference_batch_size:
        log.info(
            "Learning rate: %g for a batch of %d, times %g for this batch of %d, is %g.",
            config.learning_rate, config.reference_batch_size, factor, batch_size, base,
        )  # fmt: skip
    else:
        log.info("Learning rate: %g, not scaled with the batch of %d.", base, batch_size)
    _warn(config, steps)

    course = SCHEDULES[config.schedule](config, steps)

    def schedule(step):
        step = jnp.asarray(step, jnp.int32)
        rate = jnp.float32(base) * course(step)
        done = jnp.clip(step / config.warmup_steps, 0.0, 1.0) if config.warmup_steps else 1.0
        return jnp.asarray(rate * (config.warmup_factor * (1.0 - done) + done), jnp.float32)

    return schedule


def _warn(config: OptimizerConfig, steps: int) -> None:
    if config.warmup_steps > steps:
        log.warning(
            "The warm-up (optimizer.warmup_steps=%d) is longer than the run (train.steps=%d); the "
            "learning rate never reaches its value.", config.warmup_steps, steps,
        )  # fmt: skip
    if config.schedule == "step" and config.decay_steps and config.decay_steps[0] >= steps:
        log.warning(
            "The first decay (optimizer.decay_steps=%s) lies beyond the run (train.steps=%d); the "
            "learning rate is never lowered.", tuple(config.decay_steps), steps,
        )  # fmt: skip


def decay_mask(params, exempt_norm: bool):
    """Selects the parameters that are decayed.

    Args:
        params: Tree of parameters (an ``nnx.State`` or nested dicts).
        exempt_norm: Whether to leave out scale and bias of the norm layers (Detectron2
            ``SOLVER.WEIGHT_DECAY_NORM = 0``). Layers with a ``scale`` are norm layers.

    Returns:
        A tree of bools, a prefix of ``params`` (one bool per parameter).
    """

    flat, structure = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    paths = [tuple(str(getattr(part, "key", part)) for part in path) for path, _ in flat]
    norms = {path[:-1] for path in paths if path[-1] == "scale"}
    return jax.tree.unflatten(structure, [not (exempt_norm and path[:-1] in norms) for path in paths])


def make_optimizer(
    config: OptimizerConfig,
    schedule: optax.Schedule,
    params,
    model_config: ModelConfig,
    *,
    seed: int = 0,
) -> optax.GradientTransformation:
    """The optimizer that the settings describe, or that a function of the user's builds.

    Gradients are clipped by value, then by their norm, and noise is added; the method (`methods`) and the
    learning rate follow. Source: ``torch.nn.utils.clip_grad_value_``, ``clip_grad_norm_``,
    ``optax.add_noise``. The factors of a group and of a layer multiply the rate, as torch's parameter groups
    do; with ``ema_decay`` the state is an ``ema.EmaState``.

    Args:
        config: Gives the method, momentum, weight decay, clipping, noise, groups, layer decay and averaging;
            or in ``build_optimizer`` the function that is called instead, as ``f(config, schedule, params,
            model_config)``, and whose result is only averaged.
        schedule: From `learning_rate`.
        params: The parameters to train; their paths determine the weight decay.
        model_config: Gives ``compute.weight_decay_exempts_norm`` and the backbone, whose layers have rates of
            their own.
        seed: Seed of the noise.

    Returns:
        An optax transformation for trees like ``params``.

    Raises:
        ConfigError: Two settings do not go together, or ``build_optimizer`` does not return an optimizer.
    """
    config.check()
    if config.build_optimizer:
        optimizer = built_optimizer(config, schedule, params, model_config)
        return with_ema(optimizer, config.ema_decay) if config.ema_decay else optimizer
    parts = []
    if config.clip_value:
        parts.append(optax.clip(config.clip_value))
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.noise:
        parts.append(gradient_noise(config.noise, config.noise_decay, seed))
    mask = decay_mask(params, model_config.compute.weight_decay_exempts_norm)
    ordinary = [config.weight_decay * decayed for decayed in jax.tree.leaves(mask)]
    factors, decays = group_values(params, parse_groups(config.groups), ordinary)
    decay = [add_decay(decays)] if any(jax.tree.leaves(decays)) else []
    method = METHODS[config.method](config, decay)
    parts += [*method.before, optax.scale_by_learning_rate(schedule), *method.after]
    if config.layer_decay < 1:
        layers = layer_factors(params, model_config.backbone, config.layer_decay)
        factors = jax.tree.map(lambda a, b: a * b, factors, layers)
    if config.groups or config.layer_decay < 1:
        parts.append(scale_by_factors(factors))
    optimizer = optax.chain(*parts)
    return with_ema(optimizer, config.ema_decay) if config.ema_decay else optimizer


def built_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule, params, model_config: ModelConfig
) -> optax.GradientTransformation:
    """The optimizer that the function of ``optimizer.build_optimizer`` returns.

    Args:
        config: Names the function, and is its first argument.
        schedule: The learning rate by step.
        params: The parameters to train.
        model_config: The model's settings.

    Raises:
        ConfigError: There is no such function, or it does not return an optimizer.
    """
    build = imported_function(config.build_optimizer, "optimizer.build_optimizer")
    optimizer = build(config, schedule, params, model_config)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ConfigError(
            f"optimizer.build_optimizer={config.build_optimizer} returns {type(optimizer).__name__}; return "
            "an optax optimizer, such as optax.chain(...)."
        )
    return optimizer
