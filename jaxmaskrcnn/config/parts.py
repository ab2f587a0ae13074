"""The parts of a model's configuration, and the kinds of those that differ in their layers.

A part is a frozen dataclass that checks its fields when it is made. Parts of one family, such as the
backbones, have different kinds; `part_classes` finds the classes that a field can hold. Nothing here imports
JAX.
"""

import dataclasses
import functools
import importlib
import inspect
import re
import typing
from typing import Annotated, Any, ClassVar, Literal

from jaxmaskrcnn.config.values import ConfigError, Range, Rule, checked, shown, type_name

# The classes of each family of parts, by their kind; a family is a class directly below `Part`.
_FAMILIES: dict[type, dict[str, type["Part"]]] = {}


class Part:
    """Base class of the parts of a `ModelConfig`; checks the type and range of every field when created.

    A part whose fields depend on each other extends ``__post_init__``. A class with a ``kind`` becomes one of
    the kinds that fields of its base class can hold.

    Raises:
        ConfigError: A field has a value that it cannot hold, the class lacks something that its family needs,
            or another class has its kind.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every part is a dataclass
    written_apart: ClassVar[tuple[str, ...]] = ()  # fields of types that config/json.py has code for

    def __init_subclass__(cls, **arguments: Any):
        super().__init_subclass__(**arguments)
        kind = getattr(cls, "kind", None)
        if kind is None:
            return
        if (
            not isinstance(kind, str)
            or not re.fullmatch(r"\w[\w-]*", kind)
            or kind in ("none", "true", "false")
        ):
            raise ConfigError(
                f"{_full_name(cls)} has the kind {shown(kind)}; give it a name of letters, digits and "
                "underscores."
            )
        kinds = _FAMILIES.setdefault(_family(cls), {})
        other = kinds.get(kind, cls)
        # A class that is defined again, by a notebook's cell for example, takes the place of its old version.
        if _full_name(other) != _full_name(cls):
            raise ConfigError(
                f"{_full_name(cls)} and {_full_name(other)} both have the kind {kind!r}; give {cls.__name__} "
                f"a kind of its own, such as kind: ClassVar[str] = {_snake_case(cls.__name__)!r}."
            )
        kinds[kind] = cls

    def __post_init__(self):
        _check_class(type(self))
        name = type(self).__name__
        for field in dataclasses.fields(self):
            value = checked(getattr(self, field.name), field.type, f"{name}.{field.name}")
            object.__setattr__(self, field.name, value)


def part_classes(expected: Any) -> dict[str, type[Any]]:
    """Return the classes that a field can hold, by the name of their kind; {} for a field without parts.

    Args:
        expected: The field's type.

    Example:
        >>> from jaxmaskrcnn.config import KeypointConfig
        >>> list(part_classes(KeypointConfig | None))
        ['heatmap']
    """
    return {
        kind: part_class
        for member in members(expected)
        if _is_part(member)
        for kind, part_class in _FAMILIES.get(_family(member), {}).items()
        if issubclass(part_class, member)
    }


def chosen_kind(choice: Any, expected: Any, place: str) -> Any:
    """Return the kind of a class of settings that is given by its place, as "package.module:Class".

    Args:
        choice: The place; anything else, such as the name of a kind, is returned as it is.
        expected: The field's type.
        place: The field's path, for the message.

    Raises:
        ConfigError: There is no such class, or the field cannot hold it.

    Example:
        >>> from jaxmaskrcnn.config import BackboneConfig
        >>> chosen_kind("jaxmaskrcnn.config:SwinConfig", BackboneConfig, "backbone")
        'swin'
    """
    if not isinstance(choice, str) or ":" not in choice:
        return choice
    module, _, name = choice.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ModuleNotFoundError, ValueError, TypeError) as error:
        missing = getattr(error, "name", None)
        if missing is not None and not f"{module}.".startswith(f"{missing}."):
            raise  # something that the module itself imports
        raise ConfigError(
            f"{place} is {choice!r}, and there is no module {missing or module}; give the place of a class "
            "of settings as 'package.module:Class'."
        ) from None
    classes = part_classes(expected)
    kind = getattr(found, "kind", "")
    if found is None or classes.get(kind) is not found:
        families = " or ".join(member.__name__ for member in members(expected) if _is_part(member))
        raise ConfigError(
            f"{place} is {choice!r}, which is no class of settings for it; give a class that is derived from "
            f"{families} and has a kind."
        )
    return kind


def members(expected: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself.

    Example:
        >>> members(int | None) == (int, type(None)), members(int)
        (True, (<class 'int'>,))
    """
    return typing.get_args(expected) if _is_union(expected) else (expected,)


def item_types(expected: Any) -> tuple[Any, ...]:
    """Return the types of a tuple's items; the last one goes on for items that follow.

    Args:
        expected: The type of the tuple, with or without limits.

    Example:
        >>> item_types(tuple[int, ...]), item_types(tuple[int, str])
        ((<class 'int'>,), (<class 'int'>, <class 'str'>))
    """
    base = typing.get_args(expected)[0] if typing.get_origin(expected) is Annotated else expected
    found = [member for member in members(base) if typing.get_origin(member) is tuple]
    return tuple(item for item in typing.get_args(found[0]) if item is not Ellipsis) if found else (base,)


def default_part(part_class: type[Any]) -> Any:
    """Return a part with its default settings.

    Args:
        part_class: A class of parts.

    Raises:
        ConfigError: A setting has no default, which every setting needs.
    """
    if dataclasses.is_dataclass(part_class):
        missing = [
            field.name
            for field in dataclasses.fields(part_class)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ConfigError(
                f"{_full_name(part_class)} has no default for {', '.join(missing)}; give every setting one, "
                "since a kind is chosen by its name and has its defaults then."
            )
    return part_class()


def _is_union(expected: Any) -> bool:
    return typing.get_origin(expected) in (typing.Union, type(int | None))


def _family(part_class: type) -> type:
    """Return the class directly below `Part` from which a class of parts inherits."""
    order = part_class.__mro__
    return order[order.index(Part) - 1]


def _full_name(part_class: type) -> str:
    return f"{part_class.__module__}.{part_class.__qualname__}"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.removesuffix("Config")).lower() or "mine"


def _can_be_written(expected: Any, inside: bool = False) -> bool:
    """Return whether values of a type are checked, and read back from json as they were written.

    Args:
        expected: The type.
        inside: Whether it is the type of a tuple's items.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is Annotated:
        base, *limits = arguments
        fits = len(limits) == 1 and (
            isinstance(limits[0], Rule) or (isinstance(limits[0], Range) and base in (int, float))
        )
        return fits and _can_be_written(base, inside)
    if origin is Literal:
        return all(value is None or isinstance(value, str | int | float) for value in arguments)
    if origin is tuple:
        items = arguments[:1] if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return bool(items) and all(_can_be_written(item, inside=True) for item in items)
    if _is_union(expected):
        # A dictionary in json does not say which of several parts it is, unless they are kinds of a family.
        several = [member for member in arguments if _is_part(member)]
        return len(several) <= 1 and not (inside and several) and all(map(_can_be_written, arguments))
    return expected in (bool, int, float, str, type(None)) or _is_part(expected)


def _is_part(expected: Any) -> bool:
    return isinstance(expected, type) and issubclass(expected, Part) and expected is not Part


@functools.cache
def _check_class(part_class: type[Part]) -> None:
    """Check that a class of parts is complete, as classes outside of this package may not be."""
    family, name = _family(part_class), _full_name(part_class)
    if "__dataclass_fields__" not in vars(part_class):
        raise ConfigError(
            f"{name} is not a dataclass; write @dataclasses.dataclass(frozen=True, kw_only=True) above it."
        )
    texts = [field.name for field in dataclasses.fields(part_class) if isinstance(field.type, str)]
    if texts:
        raise ConfigError(
            f"The types of {name}'s fields are texts ({', '.join(texts)}), with which values cannot be "
            "checked; remove `from __future__ import annotations` from its module."
        )
    if not part_class.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError(
            f"{name} can be changed after it is made, and would not be checked again; write "
            "@dataclasses.dataclass(frozen=True, kw_only=True) above it."
        )
    for field in dataclasses.fields(part_class):
        if field.name not in part_class.written_apart and not _can_be_written(field.type):
            raise ConfigError(
                f"{name}.{field.name} has the type {type_name(field.type)}, which model.json cannot hold; "
                "give it bool, int, float, str, a Literal of these, a class of parts, a tuple with the types "
                "of its items, such as tuple[int, ...], or one of these or None, such as int | None."
            )
    if "kind" not in inspect.get_annotations(family) or hasattr(family, "kind"):
        return  # a family without kinds, or whose own class is one of them
    fields = {field.name for field in dataclasses.fields(part_class)}
    for attribute, meaning in (("kind", "its name in files"), ("module", "the class that it builds")):
        example = {"kind": _snake_case(part_class.__name__), "module": "package.module:Class"}[attribute]
        value = getattr(part_class, attribute, None)
        if attribute in fields or not isinstance(value, str) or (attribute == "module" and ":" not in value):
            has = f"has the {attribute} {shown(value)}" if value is not None else f"has no {attribute}"
            raise ConfigError(f"{name} {has}; give it {meaning}: {attribute}: ClassVar[str] = {example!r}.")
    for method, value in vars(family).items():
        if getattr(value, "__isabstractmethod__", False) and getattr(part_class, method) is value:
            raise ConfigError(f"{name} has no `{method}`; define it as {family.__name__} describes it.")
