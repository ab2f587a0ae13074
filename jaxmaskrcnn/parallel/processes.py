"""Several processes: joining them, and exchanging small values between them."""

import contextlib
import json
import logging
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxmaskrcnn.errors import UserError

log = logging.getLogger(__name__)

_CHUNK = 2**24  # bytes that one process sends at a time; a collective's copies are on the devices


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes of a run, before anything asks JAX for its devices.

    With nothing given, a step of several SLURM tasks, a Cloud TPU and ``mpirun`` are recognised and
    joined as ``jax.distributed.initialize()`` finds them; anything else is a single process.

    Args:
        coordinator_address: ``host:port`` of process 0, free for it to listen on.
        num_processes: How many there are.
        process_id: Number of this one, from 0.

    Raises:
        UserError: Some of the three are given and some are not, or they do not fit together.

    Example:
        >>> initialize()  # a single process on an ordinary machine
    """
    given = {
        "--coordinator_address": coordinator_address,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if not missing:
        if num_processes < 1 or not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id is {process_id} and --num_processes is {num_processes}; number the processes "
                "from 0 to one less than there are."
            )
        if not coordinator_address.rpartition(":")[2].isdigit() or ":" not in coordinator_address:
            raise UserError(
                f"--coordinator_address is {coordinator_address!r}; give the host of process 0 and a free "
                "port on it, such as node0:12345."
            )
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    elif len(missing) < len(given):
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; give all of "
            f"{', '.join(given)}, or none of them."
        )
    else:
        found = cluster(os.environ)
        if found is None:
            return
        try:
            jax.distributed.initialize()
        except ValueError:
            if found != "TPU":  # a TPU outside of Google's clouds is a machine like any other
                raise UserError(
                    f"{found} started several processes, but not in a way that tells where the first of "
                    f"them is; give {', '.join(given)}."
                ) from None
    if jax.process_count() > 1:
        if jax.default_backend() == "cpu":
            # Only the first process would find its programs there, and be done so much earlier than
            # the others that its 30 seconds of waiting for them are over.
            jax.config.update("jax_enable_compilation_cache", False)
        log.info(
            "Process %d of %d, with %d of %d devices.",
            jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
        )  # fmt: skip


def cluster(environment) -> str | None:
    """What started this process as one of several, by its environment variables.

    Args:
        environment: As ``os.environ``, after JAX was imported (which marks a Cloud TPU there).

    Returns:
        "SLURM", "Open MPI", "TPU", or None.

    Example:
        >>> cluster({"OMPI_COMM_WORLD_SIZE": "4"})
        'Open MPI'
    """

    def count(name):
        value = environment.get(name, "")
        return int(value) if value.isdigit() else 0

    # A shell inside of an allocation has SLURM's variables too, but is no step of several tasks.
    if "SLURM_STEP_NODELIST" in environment and count("SLURM_NTASKS") > 1:
        return "SLURM"
    if count("OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    return "TPU" if "TPU_ML_PLATFORM" in environment else None


def is_first() -> bool:
    """Whether this process is the one that writes files and logs."""
    return jax.process_index() == 0


def gather_json(value: Any) -> list[Any]:
    """One value of every process, in all processes.

    Args:
        value: What json can hold, of any size.

    Returns:
        The values in the order of the processes.
    """
    if jax.process_count() == 1:
        return [value]
    sent = np.frombuffer(zlib.compress(json.dumps(value).encode()), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(sent.size))
    parts: list[list[np.ndarray]] = [[] for _ in lengths]
    for start in range(0, int(lengths.max()), _CHUNK):
        size = min(_CHUNK, int(lengths.max()) - start)
        piece = np.zeros(size, np.uint8)
        piece[: sent[start : start + size].size] = sent[start : start + size]
        for part, row in zip(parts, multihost_utils.process_allgather(piece), strict=True):
            part.append(row)
    return [
        json.loads(zlib.decompress(np.concatenate(part)[: int(length)].tobytes()))
        for part, length in zip(parts, lengths, strict=True)
    ]


def all_rows(x) -> np.ndarray:
    """An array that is split over the processes by row, whole; all processes ask for it."""
    return multihost_utils.process_allgather(x, tiled=True) if jax.process_count() > 1 else np.asarray(x)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[int], bool]]:
    """A question to ask after every step: is the run to be saved and ended, as SIGTERM wants?

    Several processes get the signal at different times, if all of them get it. JAX makes them agree on
    a step that none has passed yet, so that all save the same one.

    Yields:
        A function of the number of completed steps, to be asked by all processes.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: requested.is_set()  # only the main thread may handle signals
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: requested.set())
    try:
        yield lambda step: requested.is_set()
    finally:
        signal.signal(signal.SIGTERM, previous)
