"""A ModelConfig as json: the part of a model directory's ``model.json`` that is not about arrays."""

import dataclasses
import json
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

FORMAT_VERSION = 1
_FORMAT_NAME = "jaxmaskrcnn model"


def config_to_json(config: ModelConfig) -> str:
    """A ModelConfig as json text; `config_from_json` makes an equal one of it.

    Example:
        >>> from jaxmaskrcnn.presets import model_config
        >>> config = model_config("detectron2/mask_rcnn_R_50_FPN_3x")
        >>> config_from_json(config_to_json(config)) == config
        True
    """
    return json.dumps(describe(config), indent=1) + "\n"


def config_from_json(text: str, source: str = "the model's json") -> ModelConfig:
    """The ModelConfig in a json text.

    Args:
        text: Made by `config_to_json`, or the content of a ``model.json``.
        source: Names the text in an error.

    Returns:
        The configuration. A field that the text lacks was added after it was written and has
        its default, which is what the code did before.

    Raises:
        UserError: The text is no json, of a newer format, or has fields unknown here.
    """
    return to_config(parse(text, source), source)


def describe(config: ModelConfig) -> dict[str, Any]:
    """A ModelConfig with the format's name and version, as plain values."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    fields["categories"] = [category._asdict() for category in config.categories]
    return {"format": _FORMAT_NAME, "format_version": FORMAT_VERSION, "config": fields}


def parse(text: str | bytes, source: str) -> dict[str, Any]:
    """The plain values in a json text of this format; arguments as in `config_from_json`."""
    try:
        content = json.loads(text)
    except ValueError as error:  # bad json, or bytes that are no UTF-8
        raise UserError(f"{source} is damaged: it is no json ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT_NAME:
        raise UserError(f"{source} does not describe a model (its format is not {_FORMAT_NAME!r}).")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"{source} has the format version {version!r}, and this release reads versions up to "
            f"{FORMAT_VERSION}; update jaxmaskrcnn."
        )
    return content


def to_config(content: dict[str, Any], source: str) -> ModelConfig:
    """The ModelConfig in what `parse` returned."""
    values = content.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{source} is damaged: it has no config.")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(
            f"{source} has fields that this release's ModelConfig does not know: {', '.join(unknown)}; "
            "update jaxmaskrcnn."
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        categories = tuple(Category(c["id"], c["name"]) for c in values.pop("categories", ()))
        return ModelConfig(**values, categories=categories)
    except (TypeError, KeyError) as error:
        raise UserError(f"{source} is damaged: its config cannot be used ({error!r}).") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
