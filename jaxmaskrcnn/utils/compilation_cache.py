"""Keeps compiled programs on disk, and returns the memory used by compilation to the system."""

import ctypes
import functools
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import jax


def enable(directory: str | os.PathLike | None = None) -> Path:
    """Turn on JAX's persistent compilation cache.

    Args:
        directory: Folder of the cache. None uses the environment variable
            JAX_COMPILATION_CACHE_DIR, or else ``jaxmaskrcnn/xla`` in the user's cache folder
            ($XDG_CACHE_HOME or ~/.cache).

    Returns:
        The directory.
    """
    if directory is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path(home) / "jaxmaskrcnn" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(directory))
    # By default JAX stores only programs that took at least a second to compile. The many small ones at the
    # start of a run take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return Path(directory)


def release_after_compiling(function: Callable, trim: Callable[[], None] | None = None) -> Callable:
    """Wraps a jitted function so that the memory used by its compilation is returned to the system.

    After the compilation of a training step, the C library keeps about a gigabyte of freed memory for the
    process although nothing uses it.

    Args:
        function: A function that compiles when it is called with arrays of new shapes, as a jitted one does.
        trim: Returns freed memory to the system; by default by the C library's ``malloc_trim``.

    Returns:
        A function that does the same, and frees memory after its first call with new shapes. Threads that
        need the same program at a time wait for one of them to compile it.

    Example:
        >>> import jax.numpy as jnp
        >>> double = release_after_compiling(jax.jit(lambda x: 2 * x))
        >>> double(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """
    seen = set()
    compiling = threading.Lock()

    @functools.wraps(function)
    def call(*args):
        shapes = tuple(jax.numpy.shape(x) for x in jax.tree.leaves(args))
        if shapes in seen:
            return function(*args)
        with compiling:
            result = function(*args)
            if shapes not in seen:
                seen.add(shapes)
                gc.collect()
                (trim or trim_memory)()
        return result

    return call


def trim_memory() -> None:
    """Returns freed memory of the C library to the system, if it has a function for that."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # only glibc has this function
    except (AttributeError, OSError, TypeError):
        pass
