"""One training step on one device or many, in one process or many.

The state is replicated and the images of a batch are split over the devices by position. Three
ways to run the same step:

- ``jit``: one device;
- ``shard_map``: a mesh of all devices of all processes; state and batches are global arrays;
- ``pmap``: the same program by its older name, with arrays of this process alone.

Shapes: B images of a global batch, D devices.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.training.gradients import slices_of
from jaxmaskrcnn.training.step import jit_train_step, train_step

AXIS = "batch"
MODES = ("auto", "jit", "pmap", "shard_map")


class Layout:
    """On which devices the state and the batches of a run are, and how a step is mapped over them.

    Args:
        mode: ``train.parallel``: "auto" is "jit" for one device and "shard_map" for several.
        devices: Of all processes; default: all that JAX has.

    Attributes:
        mode: "jit", "pmap" or "shard_map".
        devices: The devices, in the order of their images.
        mesh: All devices along one axis, ``AXIS``.

    Raises:
        ConfigError: The mode is unknown, or "jit" is to run on several devices.

    Example:
        >>> import jax
        >>> layout = Layout("auto", jax.devices()[:1])
        >>> layout.mode, layout.mesh.size
        ('jit', 1)
    """

    def __init__(self, mode: str = "auto", devices: Sequence[jax.Device] | None = None):
        self.devices = tuple(jax.devices() if devices is None else devices)
        if mode not in MODES:
            raise ConfigError(f"train.parallel is {mode!r}; choose one of {', '.join(map(repr, MODES))}.")
        if mode == "jit" and len(self.devices) > 1:
            raise ConfigError(
                f"train.parallel is 'jit', which runs on one device, and there are {len(self.devices)}; set "
                "it to 'shard_map' or 'auto', or show the run a single one (CUDA_VISIBLE_DEVICES=0)."
            )
        self.mode = mode if mode != "auto" else "jit" if len(self.devices) == 1 else "shard_map"
        # Without axis_types JAX makes the axis Explicit, and then sorts and scans of the model fail. With
        # Auto the compiler chooses how the arrays in between are split.
        self.mesh = jax.make_mesh(
            (len(self.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._local = tuple(d for d in self.devices if d.process_index == jax.process_index())

    def check_batch(self, batch_size: int, field: str = "data.batch_size") -> None:
        """Raises a ConfigError unless every device gets equally many images of a batch."""
        count = len(self.devices)
        if batch_size % count:
            raise ConfigError(
                f"{field} is {batch_size}, which {count} devices cannot share equally; make it a multiple "
                f"of {count}."
            )

    def replicate(self, tree: Any) -> Any:
        """Global arrays with the same values on every device; what is one already stays as it is.

        Args:
            tree: Arrays that are equal in all processes. The result may share their memory.

        Returns:
            The tree with committed arrays that all have one `NamedSharding` of the layout's mesh and are
            not weakly typed, which is what a training step returns too.
        """

        def place(x):
            # Equal, not only equivalent. On one device a SingleDeviceSharding is equivalent to the
            # NamedSharding that a step returns, but jit (JAX 0.10.2) compiles a program for each of them:
            # the quickstart's first two steps compiled for 33 s and for 30 s on two CPU cores.
            if isinstance(x, jax.Array) and x.sharding == self._replicated:
                return x
            if isinstance(x, jax.Array) and set(x.devices()) == set(self._local) and x.is_fully_replicated:
                parts = [shard.data for shard in x.addressable_shards]
            else:
                parts = [jax.device_put(x, device) for device in self._local]
            return jax.make_array_from_single_device_arrays(np.shape(x), self._replicated, parts)

        return jax.tree.map(place, tree)

    def split(self, batch: Any) -> Any:
        """Splits the images of a batch over the devices.

        Args:
            batch: NumPy arrays with a leading axis of B / processes, this process's images.

        Returns:
            Global arrays with a leading axis of B, of which every device holds B / D.
        """
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._split, x), batch)

    def place_batch(self, batch: Any) -> Any:
        """A batch of NumPy arrays as the train step takes it: split, or for "pmap" left as it is."""
        return batch if self.mode == "pmap" else self.split(batch)

    def local_rows(self, tree: Any) -> Any:
        """The rows of this process, as NumPy, of arrays that are split over the devices by row."""

        def rows(x):
            shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
            return np.concatenate([np.asarray(shard.data) for shard in shards])

        return jax.tree.map(rows, tree)

    def map_rows(self, function: Callable) -> Callable:
        """Compiles ``function(replicated, batch)``, whose batch and results are split by row."""
        if len(self.devices) == 1:
            return jax.jit(function)
        whole, rows = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=(whole, rows), out_specs=rows, check_vma=False
        )
        return jax.jit(mapped)


def make_train_step(
    graphdef, optimizer, schedule, layout: Layout, *, batch_size: int, device_batch: int = 0
) -> Callable:
    """`train_step` as the layout runs it, compiled once for each canvas, its state donated.

    Args:
        graphdef: Of `init_state`.
        optimizer: Of `init_state`.
        schedule: Learning rate by step.
        layout: Devices, and how they are used.
        batch_size: B.
        device_batch: The most images that a device computes at a time; 0 sets no limit. The others
            follow in further slices, whose gradients add up.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``: the state of `Layout.replicate` (it is
        used up), a batch of `Layout.place_batch`, and the run's key.

    Raises:
        ConfigError: The devices cannot share the batch equally.
    """
    layout.check_batch(batch_size)
    if device_batch < 0:
        raise ConfigError(
            f"train.device_batch is {device_batch}; give a number of images, or 0 for no limit."
        )
    slices = slices_of(batch_size // len(layout.devices), device_batch)
    if layout.mode == "jit":
        return jit_train_step(graphdef, optimizer, schedule, slices)
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
        return jax.jit(mapped, donate_argnums=0)
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
