"""Read and write a ModelConfig as JSON, the part of a model directory's ``model.json`` without arrays."""

import dataclasses
import json
import sys
from typing import Any

from jaxmaskrcnn.config.model import ModelConfig
from jaxmaskrcnn.config.parts import default_part, item_types, members, part_classes
from jaxmaskrcnn.config.version1 import from_flat
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.utils.checksums import check_content
from jaxmaskrcnn.utils.json_values import parse_json

FORMAT_VERSION = 2  # 1 had 81 flat fields, see version1.py
_FORMAT_NAME = "jaxmaskrcnn model"
_KEYS = {"format", "format_version", "config", "array_folder", "arrays", "checksums"}
_IMPORT = "import"  # beside "kind": the module that has to be imported for a part of that kind


def config_to_json(config: ModelConfig) -> str:
    """Write a ModelConfig as JSON text, which `config_from_json` reads back as an equal one.

    Example:
        >>> from jaxmaskrcnn.zoo.lookup import model_config
        >>> config = model_config("detectron2/mask_rcnn_R_50_FPN_3x")
        >>> config_from_json(config_to_json(config)) == config
        True
    """
    return json.dumps(describe(config), indent=1) + "\n"


def config_from_json(text: str | bytes, source: str = "the model's json") -> ModelConfig:
    """Read a ModelConfig from JSON text.

    Args:
        text: Written by `config_to_json`, or the content of a ``model.json``.
        source: Names the text in an error.

    Returns:
        The configuration. A missing field was added after the text was written; it has its default,
        which matches the previous behaviour.

    Raises:
        UserError: The text is not JSON, has a newer format, or has unknown fields.
    """
    return to_config(parse(text, source), source)


def describe(config: ModelConfig) -> dict[str, Any]:
    """Return a ModelConfig with the format's name and version, as plain values."""
    return {"format": _FORMAT_NAME, "format_version": FORMAT_VERSION, "config": _plain(config)}


def _plain(value: Any) -> Any:
    """Convert parts to dictionaries, each with its kind if it has one, and a part of another package with the
    module in which its class is."""
    if isinstance(value, Category):
        return value._asdict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    kind, module = getattr(value, "kind", None), type(value).__module__
    if kind is None:
        return fields
    own = module.split(".")[0] == __name__.split(".")[0]
    return {"kind": kind, **fields} if own else {"kind": kind, _IMPORT: module, **fields}


def parse(text: str | bytes, source: str) -> dict[str, Any]:
    """Read the plain values from JSON text of this format; arguments as in `config_from_json`."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source} is damaged: it is not JSON ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT_NAME:
        raise UserError(f"{source} does not describe a model (its format is not {_FORMAT_NAME!r}).")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"{source} has the format version {version!r}, but this release reads versions up to "
            f"{FORMAT_VERSION}; update jaxmaskrcnn."
        )
    content = check_content(content, source)
    if unknown := sorted(content.keys() - _KEYS):
        raise UserError(f"{source} has {unknown[0]!r}, which is unknown to this release; update jaxmaskrcnn.")
    return content


def to_config(content: dict[str, Any], source: str) -> ModelConfig:
    """Return the ModelConfig in the result of `parse`."""
    values = content.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{source} is damaged: it has no config.")
    try:
        if content["format_version"] == 1:
            values = dict(values)
            categories = _categories(values.pop("categories", ()))
            return ModelConfig().replace({**from_flat(values), "categories": categories})
        config = _build_part(
            ModelConfig(), {**values, "categories": _categories(values.get("categories", ()))}, ""
        )
    except UserError as error:  # before ValueError, its base class
        raise UserError(f"{source}: {error}") from None
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{source} is damaged: its config cannot be used ({error!r}).") from None
    module = config.build_model.partition(":")[0]
    if module and module not in sys.modules:  # a file may come from anybody, and imports nothing
        raise UserError(
            f"{source}: the model is made by {config.build_model}, whose module is not imported; import that "
            f"first (for a command: --import={module}, or the path of its file)."
        )
    return config


def _categories(values: Any) -> tuple[Category, ...]:
    return tuple(Category(c["id"], c["name"]) for c in values)


def _build_part(default: Any, values: dict[str, Any], place: str) -> Any:
    """Build a part from plain values; missing fields have defaults, which match the previous behaviour."""
    fields = {field.name: field for field in dataclasses.fields(default)}
    unknown = sorted(set(values) - {*fields, "kind", _IMPORT})
    if unknown:
        names = ", ".join(place + name for name in unknown)
        raise UserError(f"it has settings unknown to this release: {names}; update jaxmaskrcnn.")
    changes = {}
    for name, value in values.items():
        if name in ("kind", _IMPORT):
            continue
        now = getattr(default, name)
        if isinstance(value, dict):
            changes[name] = _build_field(now, fields[name].type, value, f"{place}{name}")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            defaults, expected = now or (None,), item_types(fields[name].type)
            changes[name] = tuple(
                _build_field(
                    defaults[min(i, len(defaults) - 1)],
                    expected[min(i, len(expected) - 1)],
                    item,
                    f"{place}{name}.{i}",
                )
                for i, item in enumerate(value)
            )
        else:
            changes[name] = value
    return dataclasses.replace(default, **changes)


def _build_field(now: Any, expected: Any, values: dict[str, Any], place: str) -> Any:
    """Build the part in a field or a tuple from plain values; ``now`` is the default or None."""
    kinds = part_classes(expected)
    if kinds:
        kind = values.get("kind", next(iter(kinds)))
        if kind not in kinds:
            raise UserError(_unknown_kind(place, kind, values.get(_IMPORT)))
        now = now if type(now) is kinds[kind] else default_part(kinds[kind])
    elif now is None:
        now = default_part(next(member for member in members(expected) if member is not type(None)))
    return _build_part(now, values, f"{place}.")


def _unknown_kind(place: str, kind: Any, module: Any) -> str:
    """Return a sentence about a kind of part that is not known, and about how it comes to be known."""
    if not isinstance(module, str):
        return f"{place} is a {kind!r}, unknown to this release; update jaxmaskrcnn."
    if module == "__main__":
        return (
            f"{place} is a {kind!r}, whose class was in the script that saved the model; put the class into "
            "a module and import that first (for a command: --import=MODULE)."
        )
    return (
        f"{place} is a {kind!r}, whose class is in the module {module}; import that first (for a command: "
        f"--import={module})."
    )
