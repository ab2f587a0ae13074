"""Another library's settings as a table, which is read in both directions.

A row says for one setting what the library's default is, which setting of ModelConfig it corresponds to, by
dotted path, and how values are converted, from the library's to that one's and back. Reading a config file
collects whatever cannot be reproduced here, so that one error lists all of it. Writing one leaves out what
the library has no value for; `Library.read_settings` of the result then shows how it differs.
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ConfigError, Level, ModelConfig
from jaxmaskrcnn.config.paths import part_classes, replace, type_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.conversions import Conversion, only, short

log = logging.getLogger(__name__)

MISSING = object()  # the default of a setting that has none


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        key: Its place in the config, e.g. "MODEL.RPN.NMS_THRESH".
        default: The library's, where a config does not set it; MISSING if it must be set.
        conversion: What can be reproduced, and its value here.
        field: Dotted path of the setting in ModelConfig, such as "rpn.nms_threshold"; a tuple where the
            value is one for several of them, None where it is only checked, or used together with others.
            Rows with the same path have to agree. The path of a part stands for whether there is one.
        training: Whether it makes no difference to a trained model's detections.
        written: For a row without a path, the value that an exported config has; MISSING if none.
    """

    key: str
    default: Any
    conversion: Conversion
    field: str | tuple[str, ...] | None = None
    training: bool = False
    written: Any = MISSING


class Settings:
    """The settings of one config file, and what is wrong with them.

    Args:
        values: By dotted key, as `flatten` makes them.
        library: For messages.
        path: Of the file, for messages.
    """

    def __init__(self, values: dict[str, Any], library: str, path: str):
        self.values, self.library, self.path = values, library, path
        self._problems: list[tuple[str, str, bool]] = []  # key, text, whether of training only
        self._first: dict[str, tuple[Setting, Any]] = {}  # by path, what gave it first

    def get(self, setting: Setting) -> Any:
        """The converted value of a setting; None, with a note of the problem, where it has none."""
        value, conversion = self.given(setting), setting.conversion
        if value is MISSING:
            text = f"{setting.key} is not set; give {conversion.text}"
            self.problem(setting.key, text, setting.training)
            return None
        try:
            return conversion.read(value)
        except (ValueError, OverflowError):
            self.refuse(setting.key, value, conversion.text, setting.training)
            return None

    def given(self, setting: Setting) -> Any:
        """The value in the file, or the library's default."""
        return self.values.get(setting.key, setting.default)

    def fields(self, table: Iterable[Setting]) -> dict[str, Any]:
        """What a table's rows give, by dotted path; those without a path are checked.

        A value that cannot be reproduced is None.
        """
        found: dict[str, Any] = {}
        for setting in table:
            value = self.get(setting)
            if isinstance(setting.field, tuple):
                values = [None] * len(setting.field) if value is None else value
                found |= dict(zip(setting.field, values, strict=True))
            elif setting.field is not None:
                found[setting.field] = self._agreed(setting, value)
        return found

    def _agreed(self, setting: Setting, value: Any) -> Any:
        """The value for a path; a later row of it that differs from the first is noted."""
        first, wanted = self._first.setdefault(setting.field, (setting, value))
        if value != wanted and None not in (value, wanted):
            as_first = f"the same as {first.key}, {short(self.given(first))}"
            self.refuse(setting.key, self.given(setting), as_first, setting.training)
        return wanted

    def refuse(self, key: str, value: Any, supported: str, training: bool = False) -> None:
        """Note a value that cannot be reproduced."""
        self.problem(key, f"{key} is {short(value)}; supported: {supported}", training)

    def problem(self, key: str, text: str, training: bool = False) -> None:
        """Note anything else that is wrong with a setting."""
        self._problems.append((key, text, training))

    def unknown(self, known: Iterable[str], keys: Iterable[str]) -> None:
        """Note keys that the library does not have."""
        known = sorted(known)
        for key in keys:
            # A part that has to be None here, but is one.
            part = next((part for part in known if key.startswith(f"{part}.")), None)
            if part is not None:
                self.refuse(key, self.values[key], f"no {part}")
                continue
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.problem(key, f"{key} is no setting of {self.library}'s that is known{hint}")

    def finish(self, training: bool, hint: str = "") -> None:
        """Raise what was noted.

        Args:
            training: Whether settings that change training only count; a warning in the log otherwise.
            hint: The end of the error's first sentence.

        Raises:
            UserError: A setting cannot be reproduced; lists all of them.
        """
        # Of a part whose type is unknown here the other settings mean nothing.
        parts = [key.removesuffix("type") for key, _, _ in self._problems if key.endswith(".type")]
        problems = {
            text: of_training
            for key, text, of_training in self._problems
            if not any(key.startswith(part) and key != f"{part}type" for part in parts)
        }
        passed = [text for text, of_training in problems.items() if of_training and not training]
        if passed:
            log.warning("%s: training here would differ: %s.", self.path, "; ".join(passed))
        wrong = [text for text in problems if text not in passed]
        if wrong:
            what = "a setting" if len(wrong) == 1 else f"{len(wrong)} settings"
            raise UserError(
                f"{self.path} has {what} that cannot be reproduced here{hint}:\n  " + "\n  ".join(wrong)
            )


def configuration(usual: ModelConfig, found: Mapping[str, Any]) -> ModelConfig:
    """A configuration of what was read.

    Args:
        usual: Of the library's convention, for what is not in ``found``.
        found: Values by dotted path; None where there is none. "neck", "trunk" and "mask" say whether there
            is such a part.
    """
    absent = tuple(f"{part}." for part in ("neck", "trunk", "mask") if found.get(part) is False)
    changes = {path: value for path, value in found.items() if not path.startswith(absent or "/")}
    return usual.replace({path: value for path, value in changes.items() if value is not None})


def levels(usual: ModelConfig, found: Mapping[str, Any]) -> tuple[Level, ...]:
    """The levels of the backbone and the neck that were read; arguments as in `configuration`."""

    def part(name: str) -> Any:
        own = {path: value for path, value in found.items() if path.startswith(f"{name}.")}
        changes = {path.removeprefix(f"{name}."): x for path, x in own.items() if x is not None}
        kind = found.get(name)
        part = part_classes(type_of(usual, name))[kind]() if isinstance(kind, str) else getattr(usual, name)
        return replace(part, changes)

    backbone = part("backbone").levels
    return backbone if found.get("neck") is False else part("neck").levels(backbone)


def flatten(values: Mapping[str, Any], path: str, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys; an empty one stays as it is.

    Args:
        values: Of the file.
        path: Of the file, for the error.
        prefix: In front of every key.
        depth: Of the recursion.

    Raises:
        UserError: The nesting has no end (an alias of YAML can point to what it is in).
    """
    if depth > 20:
        raise UserError(f"{path} nests its settings too deeply at {prefix[:80]}; give a config file.")
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, path, f"{prefix}{key}.", depth + 1)
        else:
            flat[f"{prefix}{key}"] = value
        if len(flat) > 20_000:
            raise UserError(f"{path} has more than 20,000 settings at {prefix[:80]}; give a config file.")
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dictionaries: `flatten` backwards.

    Example:
        >>> nest({"a.b": 1, "a.c": 2})
        {'a': {'b': 1, 'c': 2}}
    """
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *parts, last = key.split(".")
        section = values
        for part in parts:
            section = section.setdefault(part, {})
        section[last] = value
    return values


def write(table: Iterable[Setting], config: ModelConfig, usual: ModelConfig) -> dict[str, Any]:
    """A table's settings for a configuration.

    Args:
        table: The rows.
        config: Whose settings are written.
        usual: Whose value a setting gets where the library has none for the configuration's; of the
            library's own convention.

    Returns:
        Values by dotted key, of all rows that have a path or a ``written``.
    """
    values = {setting.key: _write(setting, config, usual) for setting in table}
    return {key: value for key, value in values.items() if value is not MISSING}


def _write(setting: Setting, config: ModelConfig, usual: ModelConfig) -> Any:
    if setting.field is None:
        return setting.written
    for source in (config, usual):
        try:
            if isinstance(setting.field, tuple):
                value = tuple(source.get(path) for path in setting.field)
            else:
                value = source.get(setting.field)
            written = setting.conversion.write(value)
            setting.conversion.read(written)
        except (ValueError, OverflowError, ZeroDivisionError, ConfigError):  # another kind of part
            continue
        return written
    return MISSING


def fixed(key: str, default: Any, *supported: Any, training: bool = False, always: bool = False) -> Setting:
    """A setting of which other values than these cannot be reproduced.

    It is written if the default is none of them, or ``always``.
    """
    conversion = only(*supported)
    written = MISSING
    if always or default is MISSING or not conversion.reads(default):
        written = supported[0]
    return Setting(key, default, conversion, training=training, written=written)
