"""Keep compiled programs on disk, and not the memory that compiling them took."""

import ctypes
import functools
import os
from pathlib import Path

import jax

# Shorter compilations leave little behind.
_LONG_S = 1.0


def enable(directory: str | os.PathLike | None = None) -> Path:
    """Turn on JAX's persistent compilation cache; memory that compiling took goes back to the system.

    Compiling a training step on a CPU leaves some two gigabytes with the C library, which keeps them for
    the process although nothing uses them.

    Args:
        directory: Where to keep it. None: the environment variable JAX_COMPILATION_CACHE_DIR,
            else ``jaxmaskrcnn/xla`` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache).

    Returns:
        The directory.
    """
    if directory is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path(home) / "jaxmaskrcnn" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(directory))
    # The default of one second leaves out the many small programs of a start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    _release_after_compiling()
    return Path(directory)


@functools.cache  # a second listener would do it twice
def _release_after_compiling() -> None:
    try:
        trim = ctypes.CDLL(None).malloc_trim  # glibc has it, other C libraries do not
    except (AttributeError, OSError, TypeError):
        return

    def listen(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and seconds > _LONG_S:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
