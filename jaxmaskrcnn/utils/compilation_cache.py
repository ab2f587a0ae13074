"""Keeps compiled programs on disk, and returns the memory that compiling took to the system."""

import ctypes
import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path

import jax


def enable(directory: str | os.PathLike | None = None) -> Path:
    """Turn on JAX's persistent compilation cache.

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
    # By default JAX stores programs that took a second or longer, which the many small ones at the start of a
    # run do not.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return Path(directory)


def release_after_compiling(function: Callable) -> Callable:
    """Returns the memory that compiling took to the system.

    Compiling a training step leaves about a gigabyte of freed memory with the C library, which keeps it
    for the process although nothing uses it.

    Args:
        function: Compiles when it is called with arrays of new shapes, as a jitted one does.

    Returns:
        A function that does the same, and after its first call with new shapes tidies up.

    Example:
        >>> import jax.numpy as jnp
        >>> double = release_after_compiling(jax.jit(lambda x: 2 * x))
        >>> double(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """
    seen = set()

    @functools.wraps(function)
    def call(*args):
        result = function(*args)
        shapes = tuple(jax.numpy.shape(x) for x in jax.tree.leaves(args))
        if shapes not in seen:
            seen.add(shapes)
            gc.collect()
            _trim()
        return result

    return call


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)  # only glibc has this function
    except (AttributeError, OSError, TypeError):
        pass
