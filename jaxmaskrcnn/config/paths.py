"""Access settings by dotted path, such as ``rpn.nms_threshold``, in a tree of frozen dataclasses."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.config.version1 import PATHS


def get_path(config: Any, path: str) -> Any:
    """Return the value of a setting.

    Args:
        config: A dataclass of dataclasses.
        path: Names separated by dots; a number is an index of a tuple.

    Returns:
        The value; None if a part on the path is None, as that part has no settings.

    Raises:
        ConfigError: There is no such setting.

    Example:
        >>> get_path(jmr.ModelConfig(), "box.stages.0.foreground_iou")
        0.5
    """
    value = config
    for i, name in enumerate(parts := path.split(".")):
        if value is None:
            return None
        if isinstance(value, tuple) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif dataclasses.is_dataclass(value) and (
            name in _names(value) or (name == "kind" and hasattr(value, "kind"))
        ):
            value = getattr(value, name)
        else:
            raise ConfigError(unknown(config, ".".join(parts[: i + 1])))
    return value


def replace(config: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy with some settings changed.

    Args:
        config: A frozen dataclass of dataclasses.
        changes: Values by dotted path. A part can be replaced by another one, by None, or by the defaults of
            one of its kinds, as in ``{"backbone.kind": "regnet"}``; settings of the new part may be changed
            at the same time.

    Returns:
        The copy. Every changed part is checked again.

    Raises:
        ConfigError: There is no such setting, or its value is not allowed.

    Example:
        >>> replace(jmr.ModelConfig(), {"rpn.post_nms_test": 500}).rpn.post_nms_test
        500
    """
    for path in changes:
        _check(config, path)
    return _replace(config, dict(changes), "")


def _check(root: Any, path: str) -> None:
    if path.split(".")[0] not in _names(root):
        raise ConfigError(unknown(root, path))


def _replace(config: Any, changes: dict[str, Any], prefix: str) -> Any:
    own, inner = {}, {}
    for path, value in changes.items():
        first, _, rest = path.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    fields = {field.name: field for field in dataclasses.fields(config)}
    for name in (*own, *inner):
        if name not in fields:
            raise ConfigError(unknown(config, name, prefix))
    values = {
        name: _part(getattr(config, name), value, fields[name].type, f"{prefix}{name}")
        for name, value in own.items()
    }
    for name, settings in inner.items():
        part, place = values.get(name, getattr(config, name)), f"{prefix}{name}"
        if "kind" in settings and part_classes(fields[name].type):
            settings = dict(settings)
            part = _part(part, settings.pop("kind"), fields[name].type, place)
            if not settings:
                values[name] = part
                continue
        if isinstance(part, tuple):
            values[name] = _replace_items(part, settings, place)
        elif dataclasses.is_dataclass(part):
            values[name] = _replace(part, settings, f"{place}.")
        elif part is None:
            raise ConfigError(
                f"{place} is None, so {place}.{next(iter(settings))} cannot be set; set {place} first."
            )
        else:
            raise ConfigError(f"There is no setting {place}.{next(iter(settings))}; {place} is a value.")
    return dataclasses.replace(config, **values)


def _replace_items(items: tuple, settings: Mapping[str, Any], place: str) -> tuple:
    changed, by_index = list(items), {}
    for path, value in settings.items():
        number, _, rest = path.partition(".")
        if not number.isdigit() or int(number) >= len(items):
            raise ConfigError(
                f"There is no setting {place}.{path}; use an index of {place} from 0 to {len(items) - 1}."
            )
        by_index.setdefault(int(number), {})[rest] = value
    for number, inner in by_index.items():
        if "" in inner:
            changed[number] = inner.pop("")
        if inner:
            changed[number] = _replace(changed[number], inner, f"{place}.{number}.")
    return tuple(changed)


def _part(now: Any, value: Any, expected: Any, place: str) -> Any:
    """Return the part of a kind given by name; other values are not changed."""
    if not isinstance(value, str | bool):
        return value
    kinds = part_classes(expected)
    if not kinds or (isinstance(value, bool) and len(kinds) > 1):
        return value
    if value is True:
        return now if now is not None else next(iter(kinds.values()))()
    if value is False:
        return None
    if value.lower() == "none" and type(None) in _members(expected):
        return None
    if value not in kinds:
        nothing = " or None" if type(None) in _members(expected) else ""
        raise ConfigError(f"{place} is {value!r}; give {' or '.join(map(repr, kinds))}{nothing}.")
    return now if type(now) is kinds[value] else kinds[value]()


def part_classes(expected: Any) -> dict[str, type]:
    """Return the classes that a field can hold, by the name of their kind; {} for a field without parts.

    Example:
        >>> from jaxmaskrcnn.config import MaskConfig
        >>> list(part_classes(MaskConfig | None))
        ['fcn']
    """
    return {c.kind: c for member in _members(expected) for c in _kinds(member)}


def _kinds(member: Any) -> list[type]:
    """List a class of parts and its subclasses that have a kind."""
    if not isinstance(member, type) or not dataclasses.is_dataclass(member):
        return []
    below = [c for child in member.__subclasses__() for c in _kinds(child)]
    return [member, *below] if isinstance(getattr(member, "kind", None), str) else below


def _members(expected: Any) -> tuple:
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        return typing.get_args(expected)
    return (expected,)


def settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every setting of a tree.

    Args:
        config: A dataclass of dataclasses.
        prefix: Prefix of every path.

    Yields:
        Path, value and type. A part with several kinds also has the path ``....kind``; a part that is
        None is a setting itself.

    Example:
        >>> dict((path, value) for path, value, _ in settings(jmr.ModelConfig()))["rpn.nms_threshold"]
        0.7
    """
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            if len(part_classes(field.type)) > 1:
                yield f"{path}.kind", get_path(value, "kind"), str
            yield from settings(value, f"{path}.")
        elif isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            for i, item in enumerate(value):
                yield from settings(item, f"{path}.{i}.")
        else:
            yield path, value, field.type


def unknown(config: Any, path: str, prefix: str = "") -> str:
    """Return a sentence that says that a setting does not exist and suggests similar ones."""
    full = prefix + path
    if full in PATHS:
        new, these = " and ".join(PATHS[full]), "that name" if len(PATHS[full]) == 1 else "these names"
        return f"The setting {full} is called {new} now; use {these}."
    known = [name for name, _, _ in settings(config)]
    last = path.rsplit(".", 1)[-1]
    close = [name for name in known if name.rsplit(".", 1)[-1] == last][:3]
    close = close or difflib.get_close_matches(path, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else "."
    return f"There is no setting {full}{hint}"


def _names(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def type_of(config: Any, path: str) -> Any:
    """Return the type of a setting.

    Args:
        config: A dataclass of dataclasses.
        path: As in `get_path`.

    Returns:
        The annotation of the field.

    Raises:
        ConfigError: There is no such setting.

    Example:
        >>> type_of(jmr.ModelConfig(), "compute.remat")
        <class 'bool'>
    """
    place, _, name = path.rpartition(".")
    owner = get_path(config, place) if place else config
    if owner is None:
        raise ConfigError(f"{place} is None, so it has no setting {name}; set {place} first.")
    fields = (
        {field.name: field.type for field in dataclasses.fields(owner)}
        if dataclasses.is_dataclass(owner)
        else {}
    )
    if name not in fields:
        raise ConfigError(unknown(config, path))
    return fields[name]
