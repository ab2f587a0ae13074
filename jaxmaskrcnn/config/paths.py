"""Access settings by dotted path, such as ``rpn.nms_threshold``, in a tree of frozen dataclasses."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxmaskrcnn.config.parts import chosen_kind, default_part, members, part_classes
from jaxmaskrcnn.config.values import ConfigError, checked, shown
from jaxmaskrcnn.config.version1 import PATHS

__all__ = ["absent", "get_path", "part_classes", "replace", "settings", "type_of", "unknown"]


def get_path(config: Any, path: str) -> Any:
    """Return the value of a setting.

    Args:
        config: A dataclass of dataclasses.
        path: Names separated by dots; a number is an index of a tuple.

    Returns:
        The value; None for a setting of a part that the model could have and does not have.

    Raises:
        ConfigError: There is no such setting.

    Example:
        >>> get_path(jmr.ModelConfig(), "box.stages.0.foreground_iou")
        0.5
    """
    value, names = config, path.split(".")
    expected = None  # the type of the field that holds the value
    for i, name in enumerate(names):
        if value is None:
            place, rest = ".".join(names[:i]), ".".join(names[i:])
            if not _kinds_have(expected, rest):
                raise ConfigError(absent(expected, place, rest))
            return None
        if isinstance(value, tuple) and (index := _index(name, value)) is not None:
            value, expected = value[index], None
        elif dataclasses.is_dataclass(value) and name in (fields := _fields(value)):
            value, expected = getattr(value, name), fields[name].type
        elif dataclasses.is_dataclass(value) and name == "kind" and hasattr(value, "kind"):
            value, expected = getattr(value, name), None
        else:
            raise ConfigError(unknown(config, ".".join(names[: i + 1])))
    return value


def replace(config: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    """Return a copy with some settings changed.

    Args:
        config: A frozen dataclass of dataclasses.
        changes: Values by dotted path. A part can be replaced by another one, by None, or by the defaults of
            one of its kinds, as in ``{"backbone.kind": "regnet"}``; settings of the new part may be changed
            at the same time.
        prefix: Put in front of every path in messages, such as ``--config.model.``.

    Returns:
        The copy. Every changed part is checked again.

    Raises:
        ConfigError: There is no such setting, or its value is not allowed.

    Example:
        >>> replace(jmr.ModelConfig(), {"rpn.post_nms_test": 500}).rpn.post_nms_test
        500
    """
    if not isinstance(changes, Mapping) or not all(isinstance(path, str) for path in changes):
        raise ConfigError(
            f"{shown(changes)} does not say which settings to change; give values by path, such as "
            "{'rpn.post_nms_test': 500}."
        )
    for path in changes:
        if path.endswith("."):  # it would be taken for the part itself
            raise ConfigError(
                f"There is no setting {prefix}{path}; remove the dot at the end, or name a setting behind it."
            )
    return _changed_part(config, changes, prefix)


def _changed_part(part: Any, changes: Mapping[str, Any], prefix: str) -> Any:
    """Return a part with changed settings.

    Args:
        part: A frozen dataclass.
        changes: Values by path within the part.
        prefix: The part's own path, with a dot at its end.
    """
    whole, inner = _by_first_name(changes)
    fields = _fields(part)
    for path in changes:
        if path.split(".")[0] not in fields:
            raise ConfigError(unknown(part, path, prefix))
    values = {}
    for name in {**whole, **inner}:
        value, expected, place = getattr(part, name), fields[name].type, f"{prefix}{name}"
        below = dict(inner.get(name, {}))
        if "kind" in below and part_classes(expected):
            kind = below.pop("kind")
            if name in whole and whole[name] != kind:
                raise ConfigError(
                    f"{place} is {shown(whole[name])} and {place}.kind is {shown(kind)}; give one of them."
                )
            value = _chosen_part(value, kind, expected, place)
        elif name in whole:
            value = _chosen_part(value, whole[name], expected, place)
        if below:
            value = _changed_value(value, below, expected, place)
        values[name] = checked(value, expected, place)
    return dataclasses.replace(part, **values)


def _changed_value(value: Any, changes: Mapping[str, Any], expected: Any, place: str) -> Any:
    """Return the value of a field, a part or a tuple of parts, with changes inside of it."""
    if dataclasses.is_dataclass(value):
        return _changed_part(value, changes, f"{place}.")
    if isinstance(value, list | tuple) and value and all(map(dataclasses.is_dataclass, value)):
        return _changed_items(value, changes, place)
    path = next(iter(changes))
    if value is None:
        raise ConfigError(absent(expected, place, path))
    raise ConfigError(f"There is no setting {place}.{path}; {place} is a value, which is set as a whole.")


def _changed_items(items: Sequence[Any], changes: Mapping[str, Any], place: str) -> tuple[Any, ...]:
    """Return a tuple of parts with changes by index."""
    whole, inner = _by_first_name(changes)
    changed = list(items)
    for path in changes:
        if _index(path.split(".")[0], items) is None:
            raise ConfigError(
                f"There is no setting {place}.{path}; use an index of {place} from 0 to {len(items) - 1}."
            )
    for number, value in whole.items():
        changed[int(number)] = value
    for number, below in inner.items():
        changed[int(number)] = _changed_value(changed[int(number)], below, None, f"{place}.{number}")
    return tuple(changed)


def _by_first_name(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separate changes of whole fields from changes inside of them, which are grouped by field."""
    whole, inner = {}, {}
    for path, value in changes.items():
        first, _, rest = path.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            whole[first] = value
    return whole, inner


def _chosen_part(now: Any, choice: Any, expected: Any, place: str) -> Any:
    """Return the part that a user chose by the name of a kind, by True, or by "none" or False.

    Args:
        now: The present part, which stays if it is of the chosen kind.
        choice: The choice; a part is returned as it is, as is any value for a field without kinds.
        expected: The field's type.
        place: The field's path, for the message.
    """
    kinds, optional = part_classes(expected), type(None) in members(expected)
    if not kinds or isinstance(choice, tuple(kinds.values())):
        return choice
    choice = chosen_kind(choice, expected, place)
    kinds = part_classes(expected)  # an import may have brought one
    nothing = choice is None or choice is False or (isinstance(choice, str) and choice.lower() == "none")
    if optional and nothing:
        return None
    if choice is True and (optional or len(kinds) == 1):  # the first kind is the usual one
        return now if now is not None else default_part(next(iter(kinds.values())))
    if not isinstance(choice, str) or choice not in kinds:
        known = " or ".join([*map(repr, kinds), *(["None"] if optional else [])])
        raise ConfigError(f"{place} is {shown(choice)}; give {known}.")
    return now if type(now) is kinds[choice] else default_part(kinds[choice])


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
    """Return a sentence that says that a setting does not exist and suggests similar ones.

    Args:
        config: A dataclass of dataclasses.
        path: The path within it.
        prefix: Put in front of every path in the sentence.
    """
    full = prefix + path
    if path in PATHS and all(new.split(".")[0] in _fields(config) for new in PATHS[path]):
        new = " and ".join(prefix + name for name in PATHS[path])
        these = "that name" if len(PATHS[path]) == 1 else "these names"
        return f"The setting {full} is called {new} now; use {these}."
    known = [name for name, _, _ in settings(config)]
    last = path.rsplit(".", 1)[-1]
    close = [name for name in known if name.rsplit(".", 1)[-1] == last][:3]
    close = close or difflib.get_close_matches(path, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else "."
    return f"There is no setting {full}{hint}"


def absent(expected: Any, place: str, path: str) -> str:
    """Return a sentence that says why a setting of a part that is None cannot be set.

    Args:
        expected: The type of the part's field.
        place: The part's path.
        path: The setting's path within the part.
    """
    kinds = list(part_classes(expected).values())
    if kinds and not _kinds_have(expected, path):
        return unknown(default_part(kinds[0]), path, f"{place}.")
    return f"{place} is None, so {place}.{path} cannot be set; set {place} first."


def _kinds_have(expected: Any, path: str) -> bool:
    """Return whether a kind of part that a field can hold has a setting."""
    for part_class in part_classes(expected).values():
        try:
            get_path(default_part(part_class), path)
        except ConfigError:
            continue
        return True
    return False


def _fields(config: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(config)}


def _index(name: str, items: Sequence[Any]) -> int | None:
    """Return the index of an item that a path names, or None if there is no such item."""
    # str.isdigit alone also accepts digits that int cannot read, such as a superscript two.
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else len(items)
    return number if number < len(items) else None


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
        while "." in place and get_path(config, place.rpartition(".")[0]) is None:
            place = place.rpartition(".")[0]  # the part that is None, not one within it
        raise ConfigError(absent(type_of(config, place), place, path.removeprefix(f"{place}.")))
    fields = _fields(owner) if dataclasses.is_dataclass(owner) else {}
    if name not in fields:
        raise ConfigError(unknown(config, path))
    return fields[name].type
