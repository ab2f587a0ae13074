"""Keep compiled programs on disk, so that a second start does not compile again."""

import os
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
    # The default of one second leaves out the many small programs of a start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return Path(directory)
