"""What XLA is told when it compiles a model, by platform."""

import jax

_BY_PLATFORM = {
    # XLA:TPU otherwise splits the rows of small batches' maps into a larger batch, and copies the maps around
    # most convolutions for it. Of a convolution of four images it then expects five times as many cycles
    # (docs/benchmarks.md).
    # It does so if either of the two is on.
    "tpu": {"xla_tpu_run_space_to_batch": False, "xla_tpu_run_space_to_batch_on_new_platforms": False},
}


def compiler_options(platform: str | None = None) -> dict[str, bool] | None:
    """Return the options with which ``jax.jit`` compiles a model.

    Args:
        platform: ``jax.Device.platform`` of the devices; None for that of JAX's default ones.

    Returns:
        ``compiler_options`` for ``jax.jit``, None if there are none.

    Example:
        >>> sorted(compiler_options("tpu"))
        ['xla_tpu_run_space_to_batch', 'xla_tpu_run_space_to_batch_on_new_platforms']
        >>> compiler_options("cpu") is None
        True
    """
    return _BY_PLATFORM.get(jax.default_backend() if platform is None else platform)
