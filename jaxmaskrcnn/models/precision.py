"""Check that JAX computes in the precision that a model asks for."""

import jax

from jaxmaskrcnn.config import ConfigError, ModelConfig


def check_precision(config: ModelConfig) -> None:
    """Check that float64 is computed in float64, which JAX otherwise replaces by float32.

    Args:
        config: Gives ``compute.dtype``.

    Raises:
        ConfigError: It is float64, and JAX is not set up for it.

    Example:
        >>> check_precision(ModelConfig())
    """
    if config.compute.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ConfigError(
            "compute.dtype is float64, which JAX computes only with JAX_ENABLE_X64=1 in the environment; set "
            "that or choose float32."
        )
