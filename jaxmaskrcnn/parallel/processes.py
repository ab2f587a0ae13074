"""Join several processes into one run, and exchange small values between them."""

import json
import logging
import os
import zlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxmaskrcnn.errors import UserError

log = logging.getLogger(__name__)

_CHUNK = 2**24  # bytes that a process sends at a time, because collectives copy through device memory


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes of a run. This must happen before JAX initialises its devices.

    Without arguments, a step of several SLURM tasks, a Cloud TPU and ``mpirun`` are recognised and
    joined by ``jax.distributed.initialize()``; anything else is a single process.

    Args:
        coordinator_address: ``host:port`` of process 0, with a free port that it can listen on.
        num_processes: Number of processes.
        process_id: Number of this process, from 0.

    Raises:
        UserError: Only some of the three are given, or they contradict each other.

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
            if found != "TPU":  # a TPU that is not part of a Cloud TPU slice is a single process
                raise UserError(
                    f"{found} started several processes, but the address of the first of them cannot be "
                    f"found; give {', '.join(given)}."
                ) from None
    if jax.process_count() > 1:
        if jax.default_backend() == "cpu":
            # Only the first process would find its programs in the cache. It would then wait for the others,
            # which compile, for longer than the 30 seconds after which JAX gives up.
            jax.config.update("jax_enable_compilation_cache", False)
        log.info(
            "Process %d of %d, with %d of %d devices.",
            jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
        )  # fmt: skip


def cluster(environment) -> str | None:
    """Recognise from environment variables which launcher started this process as one of several.

    Args:
        environment: ``os.environ`` or the like, after JAX was imported (which marks a Cloud TPU in it).

    Returns:
        "SLURM", "Open MPI", "TPU", or None.

    Example:
        >>> cluster({"OMPI_COMM_WORLD_SIZE": "4"})
        'Open MPI'
    """

    def count(name):
        value = environment.get(name, "")
        return int(value) if value.isdigit() else 0

    # A shell inside an allocation has SLURM's variables too, but is not a step of several tasks.
    if "SLURM_STEP_NODELIST" in environment and count("SLURM_NTASKS") > 1:
        return "SLURM"
    if count("OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    return "TPU" if "TPU_ML_PLATFORM" in environment else None


def is_first() -> bool:
    """Return whether this process is the one that writes files and logs."""
    return jax.process_index() == 0


def gather_json(value: Any) -> list[Any]:
    """Exchange one value of every process, so that all processes have all values.

    Args:
        value: A value that json can hold, of any size.

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
    """Gather an array that is split over the processes by row; all processes must call it."""
    return multihost_utils.process_allgather(x, tiled=True) if jax.process_count() > 1 else np.asarray(x)
