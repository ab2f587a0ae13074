"""Builds modules from the parts of a configuration."""

import importlib
from typing import Any


def build(config: Any, *arguments: Any, **keywords: Any) -> Any:
    """Builds the module that a part of a configuration describes.

    Args:
        config: A part whose class names its module, such as `ResNetConfig`.
        *arguments: Further arguments of the module.
        **keywords: Further keyword arguments of the module.

    Example:
        >>> body = nnx.eval_shape(lambda: build(model.config.backbone, rngs=nnx.Rngs(0)))
        >>> type(body).__name__
        'ResNet'
    """
    module, _, name = config.module.partition(":")
    return getattr(importlib.import_module(module), name)(config, *arguments, **keywords)
