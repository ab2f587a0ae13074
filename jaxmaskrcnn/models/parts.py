"""Build modules from the parts of a configuration."""

import importlib
from typing import Any

from jaxmaskrcnn.config import ConfigError


def build(config: Any, *arguments: Any, **keywords: Any) -> Any:
    """Build the module that a part of a configuration describes.

    Args:
        config: A part whose class names its module, such as `ResNetConfig`.
        *arguments: Further arguments of the module.
        **keywords: Further keyword arguments of the module.

    Raises:
        ConfigError: There is no such module, or no such class in it.

    Example:
        >>> body = nnx.eval_shape(lambda: build(model.config.backbone, rngs=nnx.Rngs(0)))
        >>> type(body).__name__
        'ResNet'
    """
    place, _, name = config.module.partition(":")
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ConfigError(
            f"{type(config).__name__}.module is {config.module!r}, and there is no module {error.name}; give "
            "the place of the class as 'package.module:Class'."
        ) from None
    if not hasattr(module, name):
        raise ConfigError(
            f"{type(config).__name__}.module is {config.module!r}, and {place} has no {name}; give the place "
            "of the class as 'package.module:Class'."
        )
    return getattr(module, name)(config, *arguments, **keywords)
