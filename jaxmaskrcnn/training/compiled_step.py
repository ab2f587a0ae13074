"""Compiles the training step for a layout of devices, once for each canvas.

Shapes: B images of a global batch, D devices.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import PartitionSpec

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.parallel.layout import AXIS, Layout
from jaxmaskrcnn.training.gradients import slices_of
from jaxmaskrcnn.training.step import jit_train_step, train_step


def make_train_step(
    graphdef, optimizer, schedule, layout: Layout, *, batch_size: int, device_batch: int = 0,
    compile_sooner: bool = False,
) -> Callable:  # fmt: skip
    """Maps `train_step` over the layout's devices; it is compiled once for each canvas and donates its state.

    Args:
        graphdef: From `init_state`.
        optimizer: From `init_state`.
        schedule: Learning rate by step.
        layout: The devices, and how they share a batch.
        batch_size: B.
        device_batch: Largest number of images that a device computes at a time; 0 sets no limit. A
            larger batch is computed in slices, whose gradients are added.
        compile_sooner: Whether a shorter compilation is worth a slower step, on TPUs
            (`utils/compiler_options.py`).

    Returns:
        ``step(state, batch, key) -> (state, metrics)``: a state from `Layout.place_state` (which
        is donated), a batch from `Layout.place_batch`, and the run's key.

    Raises:
        ConfigError: The devices cannot share the batch equally, or ``compile_sooner`` has no effect on them.
    """
    layout.check_batch(batch_size)
    if device_batch < 0:
        raise ConfigError(
            f"train.device_batch is {device_batch}; give a number of images, or 0 for no limit."
        )
    if compile_sooner:
        check_compile_sooner(layout)
    jit = functools.partial(layout.jit, gradients=True, sooner=compile_sooner)
    slices = slices_of(batch_size // len(layout.devices), device_batch)
    if layout.mode == "jit":
        return jit_train_step(graphdef, optimizer, schedule, slices, jit)
    step = functools.partial(
        train_step,
        graphdef=graphdef,
        optimizer=optimizer,
        schedule=schedule,
        axis_name=AXIS,
        slices=slices,
    )
    whole, rows = PartitionSpec(), PartitionSpec(AXIS)
    if layout.mode == "shard_map":
        # check_vma=False, because with it JAX itself sums the gradients of replicated parameters over the
        # devices, and `loss_gradients` would sum them a second time.
        mapped = jax.shard_map(
            step, mesh=layout.mesh, in_specs=(whole, rows, whole), out_specs=whole, check_vma=False
        )
        return jit(mapped, donate_argnums=0)
    if layout.mode == "sharded":
        return _sharded_step(step, layout, jit)
    local = [device for device in layout.devices if device.process_index == jax.process_index()]
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=None,
        donate_argnums=0,
        devices=layout.devices,
    )

    def by_device(batch):
        return jax.tree.map(lambda x: np.reshape(x, (len(local), -1, *np.shape(x)[1:])), batch)

    def run(state, batch, key):
        state, metrics = mapped(state, by_device(batch), key)
        # pmap returns arrays of this process alone, but checkpoints and evaluation take global arrays.
        return layout.replicate(state), metrics

    run.lower = lambda state, batch, key: mapped.lower(state, by_device(batch), key)
    return run


def check_compile_sooner(layout: Layout) -> None:
    """Refuses ``train.compile_sooner`` where it would change nothing.

    Args:
        layout: The devices of the run.

    Raises:
        ConfigError: They are no TPUs, or are used through ``jax.pmap``.
    """
    platform = layout.devices[0].platform
    if platform != "tpu":
        raise ConfigError(
            f"train.compile_sooner is for TPUs, but the devices of this run are of the platform {platform}; "
            "leave it False."
        )
    if layout.mode == "pmap":
        raise ConfigError(
            "train.compile_sooner has no effect with train.parallel=pmap, which takes no options for the "
            "compiler; set train.parallel to shard_map."
        )


def _sharded_step(step: Callable, layout: Layout, jit: Callable) -> Callable:
    """Return the step of a state that is split over the devices.

    The variables are gathered for the gradients, which every device computes of its images as in the mode
    "shard_map". Each device then updates its share of the parameters and of the optimizer's state.
    """
    whole, rows = PartitionSpec(), PartitionSpec(AXIS)

    def over_devices(gradients):
        mapped = jax.shard_map(
            gradients,
            mesh=layout.mesh,
            in_specs=(whole, whole, rows, whole),
            out_specs=whole,
            check_vma=False,
        )

        def run(params, rest, batch, key):
            result = mapped(params, rest, batch, key)
            # Nothing after this needs whole gradients, so that they are freed.
            shared = jax.lax.with_sharding_constraint(result.grads, layout.state_shardings(result.grads))
            return result._replace(grads=shared)

        return run

    def run(state, batch, key):
        state, metrics = step(state, batch, key, over_devices=over_devices)
        return jax.lax.with_sharding_constraint(state, layout.state_shardings(state)), metrics

    return jit(run, donate_argnums=0)
