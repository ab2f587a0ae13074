"""Build modules from the parts of a configuration."""

import importlib
from types import ModuleType
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
    return class_at(config, "module", config.module)(config, *arguments, **keywords)


def class_at(config: Any, attribute: str, place: str) -> type[Any]:
    """Import a class that a part of a configuration names.

    Args:
        config: The part.
        attribute: The attribute that names the class.
        place: Its place, as "package.module:Class".

    Raises:
        ConfigError: There is no such module, or no such class in it.
    """
    module_name, _, name = place.partition(":")
    module = import_for(config, attribute, module_name, "the place of the class as 'package.module:Class'")
    if not hasattr(module, name):
        raise ConfigError(
            f"{type(config).__name__}.{attribute} is {place!r}, and {module_name} has no {name}; give the "
            "place of the class as 'package.module:Class'."
        )
    return getattr(module, name)


def import_for(config: Any, attribute: str, place: Any, meaning: str) -> ModuleType:
    """Import a module that a part of a configuration names.

    Args:
        config: The part, or its class.
        attribute: The attribute that names the module.
        place: The module's name.
        meaning: What the attribute has to be, for the message.

    Raises:
        ConfigError: There is no such module.
    """
    missing = None
    if isinstance(place, str) and all(name.isidentifier() for name in place.split(".")):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            missing = error.name
            if missing is None or not f"{place}.".startswith(f"{missing}."):
                raise  # something that the module itself imports
    owner = config if isinstance(config, type) else type(config)
    reason = f"and there is no module {missing}" if missing else "which is no name of a module"
    value = getattr(config, attribute)
    raise ConfigError(f"{owner.__name__}.{attribute} is {value!r}, {reason}; give {meaning}.")
