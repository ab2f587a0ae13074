"""Reading and changing fields of a configuration by their names, as the tables of settings name them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig


def field_names() -> tuple[str, ...]:
    """The names of all fields of a configuration, in their order."""
    return tuple(field.name for field in dataclasses.fields(ModelConfig))


def get_field(config: ModelConfig, name: str) -> Any:
    """The value of a field.

    Example:
        >>> get_field(ModelConfig(), "mask_pool_size")
        14
    """
    return getattr(config, name)


def with_fields(config: ModelConfig, values: Mapping[str, Any]) -> ModelConfig:
    """A copy of a configuration with other values of some fields.

    Raises:
        ConfigError: A value is outside of its field's choices.

    Example:
        >>> with_fields(ModelConfig(), {"mask_pool_size": 7}).mask_pool_size
        7
    """
    return dataclasses.replace(config, **values)
