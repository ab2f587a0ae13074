"""Detectors made from a configuration: with random weights, with zeros, or with shapes alone."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.parts import import_for
from jaxmaskrcnn.utils.random_keys import TracedRngs, random_key

# What training, evaluation and prediction use of a detector; a `MaskRCNN` with replaced parts has all of it.
_METHODS = ("loss_terms", "detect", "categories")


def build_model(config: ModelConfig, *, rngs: nnx.Rngs) -> MaskRCNN:
    """Make the detector of a configuration: by its ``build_model``, or else a `MaskRCNN`.

    Everything that needs a detector makes it here, so that a run, an evaluation and a file have the same one.

    Args:
        config: Architecture and conventions.
        rngs: Random keys of the initial weights.

    Returns:
        The detector.

    Raises:
        ConfigError: There is no such function, or it returns something else than a detector.

    Example:
        >>> make = lambda: build_model(model.config, rngs=nnx.Rngs(0))
        >>> type(nnx.eval_shape(make)).__name__
        'MaskRCNN'
    """
    made = _builder(config)(config, rngs=rngs)
    lacking = [name for name in _METHODS if not hasattr(type(made), name)]
    if not isinstance(made, nnx.Module) or lacking:
        what = f"a {type(made).__name__}" + (f" without {lacking[0]}" if isinstance(made, nnx.Module) else "")
        raise ConfigError(
            f"{config.build_model} returns {what}; return a MaskRCNN, with parts of it replaced, or a module "
            f"of a class derived from it."
        )
    made = typing.cast(MaskRCNN, made)
    if made.config != config:
        raise ConfigError(
            f"{config.build_model} returns a detector with another config than it was given; make it of the "
            "config that it gets, as files are written with that, and give other settings in the recipe."
        )
    return made


def _builder(config: ModelConfig) -> Callable[..., Any]:
    if not config.build_model:
        return MaskRCNN
    place, _, name = config.build_model.partition(":")
    module = import_for(
        config, "build_model", place, "the place of the function as 'package.module:function'"
    )
    if not callable(builder := getattr(module, name, None)):
        raise ConfigError(
            f"ModelConfig.build_model is {config.build_model!r}, and {place} has no function {name}; give "
            "the place of the function as 'package.module:function'."
        )
    try:
        inspect.signature(builder).bind(config, rngs=None)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{config.build_model} cannot be called with (config, rngs=...); define it as "
            "build_model(config, *, rngs)."
        ) from None
    return builder


def init_model(config: ModelConfig, seed: int = 0) -> MaskRCNN:
    """A model with random weights, initialised in one compiled call.

    Args:
        config: Architecture and conventions.
        seed: Seed of the weights.

    Returns:
        The same model as ``build_model(config, rngs=nnx.Rngs(key))``, in less time.

    Example:
        >>> model = init_model(jmr.model_config("jaxmaskrcnn/shapes"))  # doctest: +SKIP
    """
    # Runs once, so compile time dominates: XLA's optimisation is skipped on CPU.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    build = jax.jit(lambda key: build_model(config, rngs=TracedRngs(key)), compiler_options=options)
    return build(random_key(seed))


def abstract_model(config: ModelConfig) -> MaskRCNN:
    """A detector with shapes instead of arrays, which takes no memory."""
    parts = _abstract_parts(config, jax.config.read("jax_enable_x64"), _builder(config))
    return nnx.merge(*parts, copy=True)


def check_is_detector(model: Any, what: str = "a detector") -> None:
    """Refuses what cannot detect.

    Args:
        model: What was given as a model.
        what: What may be given, for the message.

    Raises:
        UserError: It has no ``detect``, no ``config`` or no ``categories``.
    """
    if any(not hasattr(model, name) for name in ("detect", "config", "categories")):
        raise UserError(f"The model is {_in_words(model)}; give {what}.")


def _in_words(value: Any) -> str:
    """A wrong argument, shortly."""
    return repr(value) if isinstance(value, str | int | float | type(None)) else f"a {type(value).__name__}"


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
def _abstract_parts(
    config: ModelConfig, x64: bool, builder: Callable[..., Any]
) -> tuple[nnx.GraphDef, nnx.State]:
    """What `abstract_model` is made of; tracing takes some tenths of a second, and commands need several."""
    del x64, builder  # the types of the arrays depend on the one; the other may be defined again
    return nnx.split(nnx.eval_shape(lambda: build_model(config, rngs=TracedRngs(0))))
