"""Detectors made from a configuration: with random weights, with zeros, or with shapes alone."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN


def init_model(config: ModelConfig, seed: int = 0) -> MaskRCNN:
    """A model with random weights, initialised in one compiled call.

    Args:
        config: Architecture and conventions.
        seed: Seed of the weights.

    Returns:
        The same model as ``MaskRCNN(config, rngs=nnx.Rngs(key))``, in less time.

    Example:
        >>> model = init_model(jmr.model_config("jaxmaskrcnn/shapes"))  # doctest: +SKIP
    """
    # Runs once, so compile time dominates: XLA's optimisation is skipped on CPU.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    build = jax.jit(lambda key: MaskRCNN(config, rngs=nnx.Rngs(key)), compiler_options=options)
    return build(jax.random.key(seed))


def abstract_model(config: ModelConfig) -> MaskRCNN:
    """A detector with shapes instead of arrays, which takes no memory."""
    return nnx.merge(*_abstract_parts(config, jax.config.read("jax_enable_x64")), copy=True)


def with_dtype(model: MaskRCNN, dtype: str) -> MaskRCNN:
    """The same model, with the same weights, computed in another type.

    Args:
        model: The detector, which stays as it is.
        dtype: A value of ``compute.dtype``, such as "bfloat16".

    Returns:
        A detector that shares the arrays of ``model``.

    Raises:
        UserError: The type is unknown, or parts of the model were replaced, so that its configuration does
            not describe them.
    """
    config = model.config.replace({"compute.dtype": dtype})
    graphdef, state = nnx.split(model)
    if graphdef != nnx.split(abstract_model(model.config))[0]:
        raise UserError(
            f"dtype is {dtype!r}, but parts of the model were replaced, and their type is their own; leave "
            "dtype out, or build the model with it."
        )
    return nnx.merge(nnx.split(abstract_model(config))[0], state)


def zero_model(config: ModelConfig) -> MaskRCNN:
    """A detector of zeros, all of which a checkpoint replaces; initialising one takes seconds."""
    graphdef, state = nnx.split(abstract_model(config))
    return nnx.merge(graphdef, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state))


@functools.lru_cache(maxsize=64)
def _abstract_parts(config: ModelConfig, x64: bool) -> tuple[nnx.GraphDef, nnx.State]:
    """What `abstract_model` is made of; tracing takes a second, and runs and commands need several."""
    del x64  # the types of the arrays depend on it
    return nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
