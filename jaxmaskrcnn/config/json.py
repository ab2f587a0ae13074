"""A ModelConfig as json: the part of a model directory's ``model.json`` that is not about arrays."""

import dataclasses
import json
from typing import Any

from jaxmaskrcnn.config.model import ModelConfig
from jaxmaskrcnn.config.paths import part_classes
from jaxmaskrcnn.config.version1 import from_flat
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

FORMAT_VERSION = 2  # 1 had 81 flat fields, see version1.py
_FORMAT_NAME = "jaxmaskrcnn model"


def config_to_json(config: ModelConfig) -> str:
    """A ModelConfig as json text; `config_from_json` makes an equal one of it.

    Example:
        >>> from jaxmaskrcnn.zoo.lookup import model_config
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
    return {"format": _FORMAT_NAME, "format_version": FORMAT_VERSION, "config": _plain(config)}


def _plain(value: Any) -> Any:
    """Dictionaries of parts, each with its kind where it has one."""
    if isinstance(value, Category):
        return value._asdict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    kind = getattr(value, "kind", None)
    return fields if kind is None else {"kind": kind, **fields}


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
    try:
        if content["format_version"] == 1:
            values = dict(values)
            categories = _categories(values.pop("categories", ()))
            return ModelConfig().replace({**from_flat(values), "categories": categories})
        return _part(ModelConfig(), {**values, "categories": _categories(values.get("categories", ()))}, "")
    except UserError as error:  # before ValueError, which it is one of
        raise UserError(f"{source}: {error}") from None
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{source} is damaged: its config cannot be used ({error!r}).") from None


def _categories(values: Any) -> tuple[Category, ...]:
    return tuple(Category(c["id"], c["name"]) for c in values)


def _part(default: Any, values: dict[str, Any], place: str) -> Any:
    """A part from plain values; what they lack has its default, which is what the code did before."""
    fields = {field.name: field for field in dataclasses.fields(default)}
    unknown = sorted(set(values) - {*fields, "kind"})
    if unknown:
        names = ", ".join(place + name for name in unknown)
        raise UserError(f"it has settings that this release does not know: {names}; update jaxmaskrcnn.")
    changes = {}
    for name, value in values.items():
        if name == "kind":
            continue
        now = getattr(default, name)
        if isinstance(value, dict):
            kinds = part_classes(fields[name].type)
            if kinds:
                kind = value.get("kind", next(iter(kinds)))
                if kind not in kinds:
                    raise UserError(
                        f"this release knows no part {kind!r} for {place}{name}; update jaxmaskrcnn."
                    )
                now = now if isinstance(now, kinds[kind]) else kinds[kind]()
            changes[name] = _part(now, value, f"{place}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            changes[name] = tuple(_part(now[0], item, f"{place}{name}.") for item in value)
        else:
            changes[name] = value
    return dataclasses.replace(default, **changes)
