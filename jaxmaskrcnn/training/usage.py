"""The memory that a run uses, for its record."""

import resource
import sys
from pathlib import Path

import jax

_MEBIBYTE = 2**20


def memory_usage() -> dict[str, float]:
    """The memory of this process, and the most that its first device has used so far.

    Returns:
        "host_memory" and, where the device counts it (a GPU or TPU), "device_memory", in MiB.

    Example:
        >>> memory_usage()["host_memory"] > 10
        True
    """
    found = {"host_memory": _host_bytes() / _MEBIBYTE}
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        found["device_memory"] = statistics["peak_bytes_in_use"] / _MEBIBYTE
    return found


def _host_bytes() -> float:
    """The resident memory; where a system does not tell it, the most it has been."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
