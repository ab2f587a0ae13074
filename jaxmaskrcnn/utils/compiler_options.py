"""What XLA is told when it compiles a model, by platform."""

import functools
import logging

import jax

logger = logging.getLogger(__name__)

Options = dict[str, bool | int | str]

_BY_PLATFORM: dict[str, Options] = {
    # XLA:CPU otherwise gives products of matrices to YNNPACK; with an empty list none. Those of Winograd's
    # convolutions are 10 to 50 % faster with Eigen, and the others of a prediction as fast. The gradient of
    # the box head's first layer takes twice as long, but a whole step is no slower, and both compile in four
    # fifths of the time (docs/benchmarks.md). (jaxlib 0.10.2)
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
    # XLA:TPU otherwise splits the rows of small batches' maps into a larger batch, and copies the maps around
    # most convolutions for it. Of a convolution of four images it then expects five times as many cycles
    # (docs/benchmarks.md). It does so if either of the two is on. (libtpu 0.0.42)
    "tpu": {"xla_tpu_run_space_to_batch": False, "xla_tpu_run_space_to_batch_on_new_platforms": False},
}
_WITHOUT_GRADIENTS: dict[str, Options] = {
    # How much a kernel may hold in vector memory, 16 MiB unless something else is asked for. With 12 MiB a
    # prediction compiles in three fifths of the time, for 2 % more cycles (docs/benchmarks.md). (libtpu
    # 0.0.42)
    "tpu": {"xla_tpu_scoped_vmem_limit_kib": 12 * 1024},
}
_SOONER: dict[str, Options] = {
    # A training step compiles in half of the time, for an eighth more cycles (docs/benchmarks.md). (libtpu
    # 0.0.42)
    "tpu": {"xla_tpu_scoped_vmem_limit_kib": 8 * 1024},
}


def compiler_options(
    platform: str | None = None, gradients: bool = False, sooner: bool = False
) -> Options | None:
    """Return the options with which ``jax.jit`` compiles a model.

    Args:
        platform: ``jax.Device.platform`` of the devices; None for that of JAX's default ones.
        gradients: Whether the program computes gradients, as a training step does.
        sooner: Whether a shorter compilation is worth a slower program; only TPUs have an option for it.

    Returns:
        ``compiler_options`` for ``jax.jit``, None if there are none, or if the compiler at hand does not know
        them.

    Example:
        >>> compiler_options("tpu", gradients=True, sooner=True)["xla_tpu_scoped_vmem_limit_kib"]
        8192
    """
    present = jax.default_backend()
    platform = platform or present
    options = _BY_PLATFORM.get(platform, {}) | ({} if gradients else _WITHOUT_GRADIENTS.get(platform, {}))
    options |= _SOONER.get(platform, {}) if sooner else {}
    if not options or (platform == present and not accepts(tuple(options.items()))):
        return None
    return options


@functools.cache
def accepts(options: tuple[tuple[str, bool | int | str], ...]) -> bool:
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
