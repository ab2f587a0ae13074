"""Apply ``--config.section.field=value`` arguments of a command line, by the types of the fields."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.config import paths
from jaxmaskrcnn.config.parts import chosen_kind, default_part, part_classes
from jaxmaskrcnn.config.run import Config
from jaxmaskrcnn.config.values import ConfigError, parse
from jaxmaskrcnn.errors import UserError

_FLAG = "--config."


def override(config: Config, arguments: Sequence[str]) -> Config:
    """Change settings of a run's config.

    Args:
        config: The run's config; changed in place.
        arguments: ``--config.section.field=value`` as typed; the value may be the next argument.

    Returns:
        The config.

    Raises:
        UserError: An argument is not a setting, or its value has the wrong type.

    Example:
        >>> arguments = ["--config.train.steps=5", "--config.model.rpn.nms_threshold=0.8"]
        >>> config = override(Config(), arguments)
        >>> config.train.steps, config.model.architecture.rpn.nms_threshold
        (5, 0.8)
    """
    architecture = {}
    for path, text in _pairs(config, arguments):
        section, _, name = path.partition(".")
        if section == "model" and name and name not in ("weights", "weights_in_part", "num_classes"):
            architecture[name] = text
        else:
            _set(config, path, text)
    try:
        if architecture:
            config.model.architecture = _architecture(config.model.architecture, architecture)
        config.check()
    except ConfigError as error:
        # What does not go together is named by its class or section; a single setting by its flag.
        raise UserError(str(error) if _FLAG in str(error) else f"--config: {error}") from None
    return config


def _pairs(config: Config, arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Split arguments into paths and the texts of the values."""
    pairs, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        found = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if found is None:
            raise UserError(f"{argument!r} is not an argument; {_meant(config, argument)}")
        path, text = found.groups()
        if text is None:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{_FLAG}{path} has no value; give {_FLAG}{path}=VALUE.")
            text = rest.pop(0)
        pairs.append((path, text))
    return pairs


def _meant(config: Config, argument: str) -> str:
    """Suggest what was meant by an unknown argument."""
    flag = argument.split("=")[0]
    # On a command line, settings of the architecture follow "model." directly.
    names = [f"{_FLAG}{path}".replace(".architecture.", ".") for path, _, _ in paths.settings(config)]
    close = difflib.get_close_matches(flag, names, n=1, cutoff=0.8) if flag.startswith("-") else []
    return f"did you mean {close[0]}?" if close else "see --help."


def _set(config: Config, path: str, text: str) -> None:
    """Give a setting outside of the architecture the value of a text."""
    place, _, name = path.rpartition(".")
    try:
        owner = paths.get_path(config, place) if place else config
        expected = paths.type_of(config, path)
    except ConfigError:
        raise UserError(_unknown(config, path)) from None
    if dataclasses.is_dataclass(getattr(owner, name)):
        raise UserError(_section(path))
    value = parse(text, expected, f"{_FLAG}{path}")
    try:
        setattr(owner, name, value)
    except ConfigError as error:  # its message begins with the path
        raise UserError(f"{_FLAG}{error}") from None


def _section(path: str) -> str:
    return f"{_FLAG}{path} is a section; set one of its fields, {_FLAG}{path}.FIELD=VALUE."


def _architecture(model: Any, texts: dict[str, str]) -> Any:
    """Return a model's configuration with settings from texts, which are changed together."""
    changes: dict[str, Any] = {}
    chosen: dict[str, Any] = {}  # the parts that the texts put in the places of the model's
    for path, text in sorted(texts.items(), key=lambda item: not _holds_part(model, item[0])):
        if path in ("categories", "label_order"):
            raise UserError(
                f"{_FLAG}model.{path} cannot be set, as a run has the categories of its training "
                f"annotations; rename them there, or make all objects one class by {_FLAG}data.class_name."
            )
        if _holds_part(model, path):
            place = path.removesuffix(".kind")
            choice = chosen_kind(text, paths.type_of(model, place), f"{_FLAG}model.{place}")
            changes[path] = {"true": True, "false": False}.get(choice.lower(), choice)
            chosen[place] = _part_of_choice(model, place, changes[path])
            continue
        place = next((place for place in chosen if path.startswith(f"{place}.")), None)
        if place is not None and chosen[place] is None:
            changes[path] = text  # refused by `replace`: there is no such part
            continue
        owner, rest = (model, path) if place is None else (chosen[place], path.removeprefix(f"{place}."))
        try:
            expected = paths.type_of(owner, rest)
        except ConfigError:
            changes[path] = text  # refused by `replace`, whose message has the flag
            continue
        if dataclasses.is_dataclass(expected):
            raise UserError(_section(f"model.{path}"))
        changes[path] = parse(text, expected, f"{_FLAG}model.{path}")
    return paths.replace(model, changes, f"{_FLAG}model.")


def _part_of_choice(model: Any, place: str, choice: str | bool) -> Any:
    """Return the part of a kind, or None for no part; the present one for a kind that does not exist."""
    now, classes = paths.get_path(model, place), part_classes(paths.type_of(model, place))
    if choice is False or (isinstance(choice, str) and choice.lower() == "none"):
        return None
    kind = classes.get(choice) if isinstance(choice, str) else None
    if kind is None or type(now) is kind:
        return now if now is not None else default_part(next(iter(classes.values())))
    return default_part(kind)


def _holds_part(model: Any, path: str) -> bool:
    """Return whether a path leads to a field for a part that has kinds, or to the kind itself."""
    try:
        return bool(part_classes(paths.type_of(model, path.removesuffix(".kind"))))
    except ConfigError:
        return False


def _unknown(config: Config, path: str) -> str:
    """Return a sentence about a setting outside of the architecture that does not exist."""
    sections = [field.name for field in dataclasses.fields(config)]
    section, _, name = path.partition(".")
    if section in sections and name:
        return paths.unknown(getattr(config, section), name, f"{_FLAG}{section}.")
    known = [name.replace(".architecture.", ".") for name, _, _ in paths.settings(config)]
    last = path.rsplit(".", 1)[-1]
    close = [name for name in known if name.rsplit(".", 1)[-1] == last][:3]
    close = close or difflib.get_close_matches(path, known, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(f'{_FLAG}{name}' for name in close)}?" if close else (
        f"the sections are {', '.join(sections)}."
    )  # fmt: skip
    return f"There is no setting {_FLAG}{path}; {hint}"
