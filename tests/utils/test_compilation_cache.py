"""Compiled programs on disk, and memory given back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.utils import compilation_cache


@pytest.mark.slow  # half a minute
def test_memory_is_released_after_the_first_call_with_new_shapes():
    done = []
    jitted = jax.jit(lambda tree, y: tree["x"] + y)
    add = compilation_cache.release_after_compiling(jitted, trim=lambda: done.append(1))
    for size, calls in [(2, 1), (2, 1), (3, 2), (2, 2), (3, 2)]:
        x = jnp.arange(size, dtype=jnp.float32)
        np.testing.assert_array_equal(add({"x": x}, 1), x + 1)
        assert len(done) == calls


def test_trimming_needs_no_glibc(monkeypatch):
    # Stands for a C library without malloc_trim.
    monkeypatch.setattr(compilation_cache.ctypes, "CDLL", lambda name: object())
    compilation_cache.trim_memory()


def test_the_folder_is_the_environments_or_the_users(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "given"))
        assert compilation_cache.enable() == tmp_path / "given"
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert compilation_cache.enable() == tmp_path / "jaxmaskrcnn" / "xla"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jaxmaskrcnn" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
