"""One training step on one device or many, in one process or many.

The state is replicated, or split too, and the images of a batch are split over the devices by position. There
are four ways to run the same step:

- ``jit``: one device;
- ``shard_map``: a mesh of all devices of all processes; state and batches are global arrays;
- ``sharded``: the same, but every device keeps only its share of the state between the steps;
- ``pmap``: the same program with JAX's older interface; arrays belong to this process alone.

Shapes: B images of a global batch, D devices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.utils.compiler_options import compiler_options

AXIS = "batch"
MODES = ("auto", "jit", "pmap", "shard_map", "sharded")


class Layout:
    """Places the state and the batches of a run on devices, and maps a step over them.

    Args:
        mode: ``train.parallel``: "auto" is "jit" for one device and "shard_map" for several.
        devices: Devices of all processes; by default all that JAX has.

    Attributes:
        mode: "jit", "pmap", "shard_map" or "sharded".
        devices: The devices, in the order of their images.
        mesh: All devices along one axis, ``AXIS``.

    Raises:
        ConfigError: The mode is unknown, "jit" is to run on several devices, or "sharded" in several
            processes.

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
                "it to 'shard_map' or 'auto', or make only one visible (CUDA_VISIBLE_DEVICES=0)."
            )
        if mode == "sharded" and jax.process_count() > 1:
            raise ConfigError(
                "train.parallel is 'sharded', which runs in one process, and there are "
                f"{jax.process_count()}; set it to 'shard_map'."
            )
        self.mode = mode if mode != "auto" else "jit" if len(self.devices) == 1 else "shard_map"
        # Without axis_types JAX makes the axis Explicit, and then sorts and scans of the model fail. With
        # Auto the compiler chooses how the arrays in between are split.
        self.mesh = jax.make_mesh(
            (len(self.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._sharded = self.mode == "sharded"
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
        """Places arrays with the same values on every device; arrays that are replicated already stay.

        Args:
            tree: Arrays that are equal in all processes. The result may share their memory.

        Returns:
            The tree with committed arrays that all have one `NamedSharding` of the layout's mesh and are
            not weakly typed, which is what a training step returns too.
        """

        def place(x):
            # The shardings must be equal, not only equivalent. On one device a SingleDeviceSharding is
            # equivalent to the NamedSharding that a step returns, but jit (JAX 0.10.2) compiles a program for
            # each of them: the quickstart's first two steps compiled for 33 s and for 30 s on two CPU cores.
            if isinstance(x, jax.Array) and x.sharding == self._replicated:
                return x
            if isinstance(x, jax.Array) and set(x.devices()) == set(self._local) and x.is_fully_replicated:
                parts = [shard.data for shard in x.addressable_shards]
            else:
                parts = [jax.device_put(x, device) for device in self._local]
            return jax.make_array_from_single_device_arrays(np.shape(x), self._replicated, parts)

        return jax.tree.map(place, tree)

    def place_state(self, state: Any) -> Any:
        """Places the state of a run: replicated, or for "sharded" split by `state_shardings`."""
        return jax.device_put(state, self.state_shardings(state)) if self._sharded else self.replicate(state)

    def state_shardings(self, state: Any) -> Any:
        """How each array of a state lies on the devices.

        In the mode "sharded" it is split along the longest of its axes that the devices can share equally;
        arrays without such an axis, which are small ones, are replicated. Otherwise all are.

        Args:
            state: Arrays, or their shapes.

        Returns:
            The tree with a `NamedSharding` for each array.
        """

        def sharding(x):
            shared = [i for i, side in enumerate(np.shape(x)) if side and side % len(self.devices) == 0]
            if not self._sharded or not shared:
                return self._replicated
            longest = max(shared, key=lambda i: np.shape(x)[i])
            return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, AXIS))

        return jax.tree.map(sharding, state)

    def split(self, batch: Any) -> Any:
        """Splits the images of a batch over the devices.

        Args:
            batch: NumPy arrays with a leading axis of B / processes, this process's images.

        Returns:
            Global arrays with a leading axis of B, of which every device holds B / D.
        """
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._split, x), batch)

    def place_batch(self, batch: Any) -> Any:
        """Places a batch of NumPy arrays for the train step: split, or unchanged for "pmap"."""
        return batch if self.mode == "pmap" else self.split(batch)

    def local_rows(self, tree: Any) -> Any:
        """This process's rows, as NumPy arrays, of arrays that are split over the devices by row."""

        def rows(x):
            shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
            return np.concatenate(jax.device_get([shard.data for shard in shards]))

        return jax.tree.map(rows, tree)

    def jit(
        self, function: Callable, gradients: bool = False, sooner: bool = False, **options: Any
    ) -> Callable:
        """``jax.jit`` with the options of the devices' platform (`utils/compiler_options.py`).

        Args:
            function: What is compiled.
            gradients: Whether it computes gradients.
            sooner: Whether a shorter compilation is worth a slower program, on TPUs.
            **options: Further arguments of ``jax.jit``.
        """
        chosen = compiler_options(self.devices[0].platform, gradients, sooner)
        return jax.jit(function, compiler_options=chosen, **options)

    def map_rows(self, function: Callable, **options: Any) -> Callable:
        """Compiles ``function(replicated, batch)``, whose batch and results are split by row.

        Args:
            function: What is compiled.
            **options: Further arguments of ``jax.jit``.
        """
        if len(self.devices) == 1:
            return self.jit(function, **options)
        whole, rows = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=(whole, rows), out_specs=rows, check_vma=False
        )
        return self.jit(mapped, **options)
