"""What XLA is told when it compiles a model, by platform."""

import functools
import logging

import jax

logger = logging.getLogger(__name__)

_BY_PLATFORM = {
    # XLA:TPU otherwise splits the rows of small batches' maps into a larger batch, and copies the maps around
    # most convolutions for it. Of a convolution of four images it then expects five times as many cycles
    # (docs/benchmarks.md). It does so if either of the two is on. (libtpu 0.0.42)
    "tpu": {"xla_tpu_run_space_to_batch": False, "xla_tpu_run_space_to_batch_on_new_platforms": False},
}


def compiler_options(platform: str | None = None) -> dict[str, bool] | None:
    """Return the options with which ``jax.jit`` compiles a model.

    Args:
        platform: ``jax.Device.platform`` of the devices; None for that of JAX's default ones.

    Returns:
        ``compiler_options`` for ``jax.jit``, None if there are none, or if the compiler at hand does not know
        them.

    Example:
        >>> sorted(compiler_options("tpu"))
        ['xla_tpu_run_space_to_batch', 'xla_tpu_run_space_to_batch_on_new_platforms']
        >>> compiler_options("cpu") is None
        True
    """
    present = jax.default_backend()
    platform = platform or present
    options = _BY_PLATFORM.get(platform)
    if options is None or (platform == present and not accepts(tuple(options.items()))):
        return None
    return options


@functools.cache
def accepts(options: tuple[tuple[str, bool], ...]) -> bool:
    """Whether the compiler of JAX's default platform knows these options, which differ between versions.

    Args:
        options: Names and values.

    Example:
        >>> accepts((("xla_an_option_of_another_version", True),))
        False
    """
    try:
        jax.jit(lambda x: x + 1, compiler_options=dict(options)).lower(1).compile()
    except jax.errors.JaxRuntimeError as error:
        logger.warning("XLA compiles without %s: %s.", ", ".join(name for name, _ in options), error)
        return False
    return True
