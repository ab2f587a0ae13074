"""The largest batch that fits the memory of the devices, for ``data.batch_size=0``.

The training step is compiled for a few batch sizes, and XLA says how much memory each of them needs.

Shapes: B images of a global batch, D devices.
"""

import dataclasses
import logging
import os
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import Config, ConfigError
from jaxmaskrcnn.data import train_iterator
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.optimizer import make_optimizer
from jaxmaskrcnn.training.run_config import stored_setting

log = logging.getLogger(__name__)

_SHARE = 0.9  # of the memory; the rest is for batches that wait, and for what evaluations keep


def with_batch_size(
    config: Config, workdir: str | os.PathLike, source, model_config, layout: Layout, limit: int | None = None
) -> Config:
    """Replaces a ``data.batch_size`` of 0 by a number.

    Args:
        config: The run's settings; not changed.
        workdir: The run's folder. A run that goes on there keeps its number.
        source: The training data.
        model_config: The model's configuration in the run.
        layout: The devices, and how they share a batch.
        limit: Bytes that a device has; by default what it reports.

    Returns:
        The settings with a number; unchanged if they have one.

    Raises:
        ConfigError: The device does not report its memory, not even one image a device fits, or the run has
            a layout whose memory is not known.
    """
    if config.data.batch_size:
        return config
    found = stored_setting(workdir, "data.batch_size")
    return _with(config, found or _largest(config, source, model_config, layout, limit))


def largest_fit(need: Callable[[int], float], limit: float, most: int) -> int:
    """The largest number whose need is within a limit, with few calls if the need grows about linearly.

    Args:
        need: Called with a number from 1 on; must not decrease.
        limit: Largest need.
        most: Largest number.

    Returns:
        The number; 0 if not even 1 fits.

    Example:
        >>> largest_fit(lambda count: 100 + 7 * count, 1000, 10_000)
        128
    """
    needs: dict[int, float] = {}

    def fits(count: int) -> bool:
        needs[count] = need(count)
        return needs[count] <= limit

    if not fits(1):
        return 0
    low, high = 1, most + 1  # low fits, high does not
    while high - low > 1:
        guess = low + 1 if len(needs) == 1 else _along_the_line(needs, low, limit)
        guess = min(max(guess, low + 1), high - 1)
        low, high = (guess, high) if fits(guess) else (low, guess)
    return low


def _along_the_line(needs: dict[int, float], low: int, limit: float) -> int:
    """Where a line through the need of ``low`` and the one measured next to it reaches the limit."""
    finite = [count for count, need in needs.items() if count != low and np.isfinite(need)]
    if not finite:
        return low + 1
    other = min(finite, key=lambda count: abs(count - low))
    slope = (needs[other] - needs[low]) / (other - low)
    return low + int((limit - needs[low]) / slope) if slope > 0 else 2 * low


def step_bytes(config: Config, source, model_config, layout: Layout) -> float:
    """The memory that a training step needs on each device, in bytes.

    Args:
        config: The run's settings, with a batch size.
        source: The training data, of which one image for each device is read.
        model_config: The model's configuration in the run.
        layout: The devices, and how they share a batch.

    Returns:
        What XLA plans for arguments, results and everything in between; infinity where it says that there
        is too little memory.
    """
    model = abstract_model(model_config)
    graphdef, params, rest = nnx.split(model, trainable(model, tuple(config.optimizer.freeze)), ...)
    optimizer = make_optimizer(
        config.optimizer, lambda step: 0.0, params, model_config, seed=config.train.seed
    )
    state = jax.eval_shape(
        lambda params, rest: {
            "step": np.int32(0), "params": params, "rest": rest, "opt_state": optimizer.init(params)
        },
        params, rest,
    )  # fmt: skip
    state = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        state, layout.state_shardings(state),
    )  # fmt: skip
    step = make_train_step(
        graphdef, optimizer, lambda step: 0.0, layout,
        batch_size=config.data.batch_size, device_batch=config.train.device_batch,
        compile_sooner=config.train.compile_sooner,
    )  # fmt: skip
    batch = _shapes(config, source, model_config, len(layout.devices))
    try:
        compiled = step.lower(state, batch, jax.eval_shape(jax.random.key, 0)).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return float("inf")
        raise
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )  # fmt: skip


def _shapes(config: Config, source, model_config, devices: int):
    """The arrays of a batch on the largest canvas, as shapes."""
    data = dataclasses.replace(config.data, batch_size=devices)
    batches = train_iterator(source, model_config, data, seed=config.train.seed)
    plan = batches.plan
    batches.set_state({"step": max(range(plan.steps_per_epoch), key=lambda i: np.prod(plan(i).canvas))})
    batch = next(batches)
    batches.close()
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((config.data.batch_size, *x.shape[1:]), x.dtype), batch
    )


def _largest(config: Config, source, model_config, layout: Layout, limit: int | None) -> int:
    device, count = layout.devices[0], len(layout.devices)
    advice = "give data.batch_size a number of images"
    if jax.process_count() > 1:
        raise ConfigError(f"data.batch_size is 0, which is for runs of one process; {advice}.")
    if layout.mode == "pmap":
        raise ConfigError(
            f"data.batch_size is 0, and train.parallel is 'pmap', which does not tell its memory; {advice}."
        )
    if limit is None:
        limit = (device.memory_stats() or {}).get("bytes_limit")
    if not limit:
        raise ConfigError(
            f"data.batch_size is 0, but the device {device.device_kind} does not tell how much memory it "
            f"has; {advice}."
        )
    log.info("data.batch_size is 0: compiling the training step for several numbers of images ...")

    def need(each: int) -> float:
        found = step_bytes(_with(config, each * count), source, model_config, layout)
        log.info("  %d images: %.0f of %.0f MiB on each device", each * count, found / 2**20, limit / 2**20)
        return found

    most = max(len(source) // count, 1)
    largest = largest_fit(need, _SHARE * limit, most)
    if not largest:
        raise ConfigError(
            f"not even one image fits the {limit / 2**20:.0f} MiB of {device.device_kind}; make images "
            'smaller (data.min_sizes, data.max_size), or see docs/training.md, "Memory".'
        )
    log.info("data.batch_size: %d.", largest * count)
    return largest * count


def _with(config: Config, batch_size: int) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=batch_size))
